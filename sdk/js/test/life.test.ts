// A program ends when it has nothing more to do, however it ends, and what it has reported is there.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { ScriptedGateway, json, program } from "./support.js";

async function gatewayOf(context: TestContext): Promise<ScriptedGateway> {
  const gateway = await ScriptedGateway.listening();
  context.after(() => gateway.close());
  return gateway;
}

/** Types of the events that have come, each event once: what was on its way when a program ended is sent again. */
function counted(gateway: ScriptedGateway): string[] {
  return [...new Map(gateway.received.map((event) => [event.event_id, event.type])).values()];
}

const REPORTS = `
const spendfuse = await Spendfuse.connect();
const run = spendfuse.run();
run.check();
run.llmCall({ model: "m" });
`;
/** How a program ends that has not closed its connection -> its exit code. */
const ENDINGS: Record<string, [string, number]> = {
  "by itself": ["", 0],
  "by itself, a while after": ["await new Promise((resolve) => setTimeout(resolve, 100));", 0],
  "by process.exit": ["process.exit(3);", 3],
  "by an error that nobody catches": ["throw new Error('their own');", 1],
  "by a rejection that nobody catches": ["Promise.reject(new Error('their own'));", 1],
  "by a signal that it takes for an end": ["process.on('SIGTERM', () => process.exit(5)); process.kill(process.pid, 'SIGTERM'); setTimeout(() => undefined, 60000);", 5],
  "with a run that goes on": ["void run.around(() => new Promise(() => undefined));", 0],
};

for (const [how, [end, code]] of Object.entries(ENDINGS))
  test(`a program that ends ${how} ends, and its calls are there`, async (context) => {
    const gateway = await gatewayOf(context);
    const ended = await program(REPORTS + end, gateway);
    assert.equal(ended.code, code, ended.err);
    assert.deepEqual(counted(gateway), ["run_started", "llm_call"]);
    assert.doesNotMatch(ended.err, /spendfuse/);
  });

/** What Deno 2.9 does at an error that nobody has caught: it tells of the error, and of no exit. */
const AS_DENO = `
globalThis.Deno = {};
globalThis.addEventListener = (kind, hear) => kind === "error" && process.on("uncaughtExceptionMonitor", hear);
`;

test("a program whose runtime tells of an error and of no exit leaves its calls", async (context) => {
  const gateway = await gatewayOf(context);
  const ended = await program(`${AS_DENO}${REPORTS}process.on("uncaughtExceptionMonitor", () => process.reallyExit(7)); throw new Error("their own");`, gateway);
  assert.equal(ended.code, 7, ended.err);
  assert.deepEqual(counted(gateway), ["run_started", "llm_call"]);
});

test("a program that has caught such an error goes on, and what was sent then counts once", async (context) => {
  const gateway = await gatewayOf(context);
  const caught = `process.on("uncaughtException", async () => { run.llmCall({ model: "m" }); process.exitCode = await spendfuse.close(); });`;
  const ended = await program(`${AS_DENO}${REPORTS}${caught} setTimeout(() => { throw new Error("their own"); }, 1);`, gateway);
  assert.equal(ended.code, 0, ended.err);
  assert.deepEqual(counted(gateway), ["run_started", "llm_call", "llm_call"]);
});

test("a worker thread is a program of its own", async (context) => {
  const gateway = await gatewayOf(context);
  const worker = (end: string): string => `
    import { Worker } from "node:worker_threads";
    const code = \`import(\${JSON.stringify(CLIENT)}).then(async ({ Spendfuse }) => { ${REPORTS.replaceAll("`", "")} ${end} })\`;
    const worker = new Worker(code, { eval: true });
    await new Promise((resolve) => worker.on("exit", resolve));
  `;
  for (const end of ["", "process.exit(0);"]) {
    const ended = await program(worker(end), gateway);
    assert.equal(ended.code, 0, ended.err);
  }
  assert.deepEqual(counted(gateway), ["run_started", "llm_call", "run_started", "llm_call"]);
});

test("a program whose gateway is away ends soon, and says what is lost", async (context) => {
  const gateway = await gatewayOf(context);
  const away = `
    const spendfuse = await Spendfuse.connect({ url: "http://127.0.0.1:9", tenantId: "acme", whenBlind: "continue", readyMs: 10 });
    spendfuse.run().check();
  `;
  for (const end of ["", "process.exit(0);", "await spendfuse.close(10);"]) {
    const ended = await program(away + end, gateway);
    assert.equal(ended.code, 0, ended.err);
    assert.match(ended.err, /1 of 1 usage events are not in the log/);
  }
});

test("a gateway that takes requests and never answers holds no program up", async (context) => {
  const gateway = await gatewayOf(context);
  gateway.isHeard = false;
  gateway.answers.push(...Array.from({ length: 50 }, () => () => undefined));
  const ended = await program(`const spendfuse = await Spendfuse.connect({ readyMs: 10 }); spendfuse.run(); setTimeout(() => undefined, 100);`, gateway);
  assert.equal(ended.code, 0, ended.err);
  assert.match(ended.err, /1 of 1 usage events are not in the log/);
});

test("nothing of the client is an error that nobody catches", async (context) => {
  const gateway = await gatewayOf(context);
  gateway.answers.push((_, response) => json(response, 200, { rejected: [null] }));
  const ended = await program(
    `
    process.on("unhandledRejection", (error) => { console.log("unhandled", error); });
    process.on("uncaughtException", (error) => { console.log("uncaught", error); });
    console.warn = () => { throw new Error("their console"); };
    const spendfuse = await Spendfuse.connect({ readyMs: 10_000 });
    spendfuse.guard.onStop(async () => { throw new Error("their callback"); });
    spendfuse.run();
    await spendfuse.emitter.flush(100);
    process.exitCode = await spendfuse.close();
    `,
    gateway,
  );
  assert.deepEqual([ended.code, ended.out], [0, ""]);
});
