// A run says what it was, and how it ended, whatever the program around it does.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { InvalidEvent, Paused, Spendfuse, Stopped, currentRun, type Run } from "../src/index.js";
import { KEY, ScriptedGateway, until } from "./support.js";

async function connected(context: TestContext): Promise<{ gateway: ScriptedGateway; spendfuse: Spendfuse }> {
  const gateway = await ScriptedGateway.listening();
  const spendfuse = await Spendfuse.connect({ url: gateway.url, key: KEY });
  context.after(async () => {
    await spendfuse.close(100);
    gateway.close();
  });
  return { gateway, spendfuse };
}

const named = (name: string): Error => Object.assign(new Error("their own"), { name });
class APIUserAbortError extends Error {}

const ENDS: [unknown, string][] = [
  [new Error("their own"), "failed"],
  ["a text", "failed"],
  [undefined, "failed"],
  [AbortSignal.timeout(0).reason ?? named("TimeoutError"), "failed"],
  [AbortSignal.abort().reason, "cancelled"],
  [new APIUserAbortError(), "cancelled"],
  [new Paused("wait", 0), "cancelled"],
  [new Stopped("enough"), "killed"],
  [named("Stopped"), "killed"], // of another copy of this package
  [new AggregateError([named("AbortError"), new AggregateError([new Error("their own")])]), "failed"],
  [new AggregateError([new Error("their own"), new Stopped("enough")]), "killed"],
];

test("how work ended is told by what it threw", async (context) => {
  const { gateway, spendfuse } = await connected(context);
  for (const [error] of ENDS) await assert.rejects(spendfuse.run().around(() => { throw error; }), (thrown) => thrown === error);
  await spendfuse.run().around(() => "done");
  await spendfuse.emitter.flush();
  assert.deepEqual(gateway.ofType("run_finished").map((event) => event["status"]), [...ENDS.map(([, end]) => end), "completed"]);
});

test("a request that a kill has cut off is a run that was killed, and has obeyed", async (context) => {
  const { gateway, spendfuse } = await connected(context);
  const run = spendfuse.run({ runId: "r1" });
  const work = run.around((same) => fetch(`${gateway.url}/v1/control`, { headers: { authorization: `Bearer ${KEY}` }, signal: same.signal }).then((answer) => answer.text()));
  gateway.command("kill", ["run", "r1"]);
  await assert.rejects(work, Stopped);
  await spendfuse.emitter.flush();
  assert.deepEqual([gateway.ofType("run_finished")[0]?.["status"], gateway.ofType("command_ack")[0]?.["acted"]], ["killed", "stopped"]);
});

test("a run that is entered again ends once, with its last block, and one that had ended goes on", async (context) => {
  const { gateway, spendfuse } = await connected(context);
  const run = spendfuse.run({ runId: "r1" });
  let letGo = (): void => undefined;
  const long = run.around(() => new Promise<void>((resolve) => (letGo = resolve)));
  await run.around((same) => same.around(() => same.outcome("accepted")));
  await assert.rejects(run.around(() => { throw new Error("one of several"); }));
  await spendfuse.emitter.flush();
  assert.deepEqual(gateway.ofType("run_finished"), []);
  letGo();
  await long;
  await run.around((same) => same.llmCall({ model: "m" }));
  await spendfuse.emitter.flush();
  assert.deepEqual(gateway.received.map((event) => event.type), ["run_started", "outcome", "run_finished", "run_started", "llm_call", "run_finished"]);
  assert.deepEqual(gateway.received.map((event) => event["seq"]), [1, 2, 3, 4, 5, 6]);
  gateway.command("kill", ["run", "r1"]);
  await until(() => gateway.ofType("command_ack").length);
});

test("code finds its run however deep and asynchronous it is, and others' runs are not mixed up", async (context) => {
  const { gateway, spendfuse } = await connected(context);
  const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));
  const tool = async (): Promise<void> => {
    await pause();
    currentRun()?.toolCall("search", { args: {} });
  };
  const agent = async (run: Run): Promise<void> => {
    await tool();
    await run.child({ agent: "writer" }).around(() => Promise.all([tool(), tool()]));
    await tool();
  };
  await Promise.all(["a", "b"].map((runId) => spendfuse.run({ runId, workflow: runId, sessionId: `of ${runId}`, capUsd: 1 }).around(agent)));
  assert.equal(currentRun(), undefined);
  await spendfuse.emitter.flush();
  for (const runId of ["a", "b"]) {
    const children = gateway.ofType("run_started").filter((event) => event["root_run_id"] === runId);
    const [child] = children;
    assert.ok(child && children.length === 1);
    const { parent_run_id, session_id, workflow, agent: name, cap_nanousd } = child;
    assert.deepEqual([parent_run_id, session_id, workflow, name, cap_nanousd], [runId, `of ${runId}`, runId, "writer", undefined]);
    const calls = (id: unknown): number => gateway.ofType("tool_call").filter((event) => event["run_id"] === id).length;
    assert.deepEqual([calls(runId), calls(child["run_id"])], [2, 2]);
  }
});

test("a kill of a tree reaches the child, and a grandchild", async (context) => {
  const { gateway, spendfuse } = await connected(context);
  const root = spendfuse.run({ runId: "root" });
  const grandchild = root.child().child();
  gateway.command("kill", ["run_tree", "root"]);
  await until(() => grandchild.signal.aborted);
  assert.throws(() => grandchild.check(), Stopped);
});

test("a stream that is left reports what came of it", async (context) => {
  const { gateway, spendfuse } = await connected(context);
  const run = spendfuse.run();
  async function* stream(): AsyncGenerator<string> {
    let parts = 0;
    try {
      for (;;) {
        parts += 1;
        yield "part";
      }
    } finally {
      run.llmCall({ model: "m", outputTokens: parts, status: "cancelled" });
    }
  }
  for await (const _ of stream()) break;
  await spendfuse.emitter.flush();
  assert.equal(gateway.ofType("llm_call")[0]?.["output_tokens"], 1);
});

test("what is no event is refused where the mistake was made, and takes no number", async (context) => {
  const { gateway, spendfuse } = await connected(context);
  const run = spendfuse.run();
  const wrong: Record<string, unknown>[] = [
    { inputTokens: NaN }, { inputTokens: 1.5 }, { inputTokens: -1 }, { inputTokens: "12" }, { inputTokens: 2n ** 70n }, { costUsd: NaN },
    { costUsd: Infinity }, { costUsd: -1 }, { costUsd: "a dollar" }, { costUsd: "" }, { costUsd: 2_000_000 }, { model: Symbol("m") },
    { model: "m".repeat(257) }, { model: undefined }, { status: "done" }, { cacheHit: "yes" }, { inputTokes: 5 }, { messages: ["a prompt"] },
    { tsMs: 12 }, { latencyMs: {} },
  ];
  for (const fields of wrong) assert.throws(() => run.llmCall({ model: "m", ...fields } as never), InvalidEvent, String(Object.keys(fields)));
  assert.throws(() => spendfuse.run({ tags: { team: 5 } as never }), InvalidEvent);
  assert.throws(() => spendfuse.run({ workflow: 5 as never }), InvalidEvent);
  run.llmCall({ model: "m", inputTokens: 12n as never, latencyMs: performance.now(), startedMs: new Date(), costUsd: "0.0041", provider: undefined, route: "" });
  await spendfuse.emitter.flush();
  const [call] = gateway.ofType("llm_call");
  assert.deepEqual([call?.["seq"], call?.["input_tokens"], call?.["cost_nanousd"], call?.["route"]], [2, 12, 4_100_000, undefined]);
  assert.ok(Number.isInteger(call?.["latency_ms"]) && Number.isInteger(call?.["started_ms"]));
});

test("a name that was cut in the middle of a letter is no reason to fail, and is what commands name", async (context) => {
  const { gateway, spendfuse } = await connected(context);
  const run = spendfuse.run({ sessionId: "with 😀".slice(0, -1), user: "ana \udc00" });
  await spendfuse.emitter.flush();
  const [started] = gateway.ofType("run_started");
  assert.deepEqual([started?.["session_id"], started?.["user"]], ["with \ufffd", "ana \ufffd"]);
  gateway.command("kill", ["session", String(started?.["session_id"])]);
  await until(() => run.signal.aborted);
});
