// A guard knows what stands before the first check, hears what comes, and answers once.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Paused, Spendfuse, Stopped, type ConnectOptions } from "../src/index.js";
import { KEY, ScriptedGateway, json, until } from "./support.js";

interface World {
  gateway: ScriptedGateway;
  warnings: string[];
  connect: (options?: ConnectOptions) => Promise<Spendfuse>;
}

async function world(context: TestContext): Promise<World> {
  const gateway = await ScriptedGateway.listening();
  const warnings: string[] = [];
  const made: Spendfuse[] = [];
  context.after(async () => {
    for (const each of made) await each.close(100);
    gateway.close();
  });
  const connect = async (options: ConnectOptions = {}): Promise<Spendfuse> => {
    const spendfuse = await Spendfuse.connect({ url: gateway.url, key: KEY, warn: (text) => warnings.push(text), ...options });
    made.push(spendfuse);
    return spendfuse;
  };
  return { gateway, warnings, connect };
}

function acks(gateway: ScriptedGateway): unknown[] {
  return gateway.ofType("command_ack").map((ack) => [ack["run_id"], ack["command_id"], ack["acted"]]);
}

test("the first check knows what stood before, in two lines", async (context) => {
  const { gateway, connect } = await world(context);
  gateway.command("kill", ["run", "r1"]);
  const spendfuse = await connect({ whenBlind: "continue" });
  assert.throws(() => spendfuse.run({ runId: "r1" }).check(), Stopped);
  spendfuse.run({ runId: "r2" }).check();
});

test("a gateway that says nothing is not waited for without end, and is told", async (context) => {
  const { gateway, warnings, connect } = await world(context);
  gateway.isHeard = false;
  const going = await connect({ whenBlind: "continue", readyMs: 50 });
  going.run().check();
  const careful = await connect({ whenBlind: "stop", readyMs: 50 });
  assert.throws(() => careful.run().check(), (error) => error instanceof Stopped && error.commandId === null);
  assert.match(warnings.join(), /not ready/);
});

test("a key of another tenant is told, for nobody could stop these runs", async (context) => {
  const { gateway, warnings, connect } = await world(context);
  gateway.tenantId = "initech";
  const spendfuse = await connect({ tenantId: "acme", whenBlind: "stop", readyMs: 100 });
  assert.throws(() => spendfuse.run().check(), /tenant initech, and these are runs of acme/);
  assert.match(warnings.join(), /tenant initech/);
  await spendfuse.emitter.flush();
  assert.deepEqual(gateway.ofType("run_started").map((event) => event["tenant_id"]), ["acme"], "so that the gateway can refuse it");
});

test("whatever callbacks do, every run hears of its kill and a command is heard after it", async (context) => {
  const { gateway, warnings, connect } = await world(context);
  const spendfuse = await connect();
  const heard: string[] = [];
  spendfuse.guard.onStop(() => { throw new Error("their callback"); });
  spendfuse.guard.onStop(async () => { await Promise.resolve(); throw new Error("their callback"); });
  const end = spendfuse.guard.onStop((run, stopped) => heard.push(`${run.runId} ${stopped.reason}`));
  const runs = ["r1", "r2", "r3"].map((runId) => spendfuse.run({ runId }));
  const signals = runs.map((run) => run.signal);
  for (const run of runs.slice(0, 2)) gateway.command("kill", ["run", run.runId]);
  await until(() => signals[0]?.aborted && signals[1]?.aborted);
  end();
  gateway.command("kill", ["run", "r3"]);
  await until(() => signals[2]?.aborted);
  assert.deepEqual(heard, ["r1 given by the test", "r2 given by the test"]);
  assert.match(warnings.join(), /callbacks of the guard failed: their callback/);
});

test("two objects of one run each hear, and one that ends does not end the other", async (context) => {
  const { gateway, connect } = await world(context);
  const spendfuse = await connect();
  const [ended, first, second] = [1, 2, 3].map(() => spendfuse.run({ runId: "r1" }));
  assert.ok(ended && first && second);
  ended.finish("completed");
  gateway.command("kill", ["run", "r1"]);
  await until(() => first.signal.aborted && second.signal.aborted);
  first.finish("completed");
  assert.throws(() => second.check(), Stopped);
  second.finish("killed");
  await spendfuse.emitter.flush();
  assert.deepEqual(acks(gateway), [["r1", "c1", "stopped"]]);
});

test("a run that ended before its kill came says so, once", async (context) => {
  const { gateway, connect } = await world(context);
  const spendfuse = await connect();
  const run = spendfuse.run({ runId: "r1" });
  run.finish("completed");
  assert.equal(run.signal.aborted, false);
  gateway.command("kill", ["run", "r1"]);
  gateway.command("kill", ["tenant", "acme"], { expires_ms: Date.now() - 1 });
  await until(() => acks(gateway).length);
  assert.deepEqual(acks(gateway), [["r1", "c1", "already_finished"]]);
});

test("who is let go on says so, after a kill and after a pause, and a resume that may not is answered", async (context) => {
  const { gateway, connect } = await world(context);
  const spendfuse = await connect();
  const [killed, paused] = ["killed", "paused"].map((runId) => spendfuse.run({ runId }));
  assert.ok(killed && paused);
  const stopped = killed.signal;
  gateway.command("kill", ["run", "killed"]);
  gateway.command("pause", ["run", "paused"]);
  await until(() => stopped.aborted);
  assert.throws(() => killed.check(), Stopped);
  await until(() => { try { paused.check(); return false; } catch (error) { return error instanceof Paused; } });
  const goesOn = spendfuse.guard.waitWhilePaused(paused);
  gateway.command("resume", ["run", "killed"]);
  gateway.command("resume", ["run", "paused"]);
  assert.equal(await goesOn, true);
  assert.throws(() => killed.check(), Stopped, "the engine alone lifts no kill");
  gateway.command("resume", ["run", "killed"], {}, true);
  await until(() => !killed.signal.aborted);
  killed.check();
  await spendfuse.emitter.flush();
  assert.deepEqual(acks(gateway), [
    ["killed", "c1", "stopped"], ["paused", "c2", "paused"], ["killed", "c3", "ignored"], ["paused", "c4", "resumed"], ["killed", "c5", "resumed"],
  ]);
});

test("a clock that is ahead for a while forgets no kill", async (context) => {
  const { gateway, connect } = await world(context);
  const spendfuse = await connect();
  const real = Date.now;
  context.after(() => (Date.now = real));
  Date.now = () => real() + 3_600_000;
  gateway.command("kill", ["run", "r1"], { expires_ms: real() + 600_000 });
  gateway.command("kill", ["run", "heard"], { expires_ms: real() + 7_200_000 });
  const heard = spendfuse.run({ runId: "heard" });
  await until(() => heard.signal.aborted);
  const run = spendfuse.run({ runId: "r1" });
  run.check(); // by this clock it has expired
  Date.now = real;
  assert.throws(() => run.check(), Stopped);
});

test("knowledge is never newer than now, however long the machine slept", async (context) => {
  const { gateway, connect } = await world(context);
  const spendfuse = await connect({ whenBlind: "stop", blindAfterMs: 200 });
  gateway.aheadMs = 3_600_000;
  await new Promise((resolve) => setTimeout(resolve, 100));
  gateway.isHeard = false;
  gateway.cut();
  await until(() => spendfuse.guard.waitingFor !== null, "blindness");
  assert.throws(() => spendfuse.run().check(), /nobody knows what stands/);
});

test("a stream is taken up where it ended, whatever ends its lines", async (context) => {
  const { gateway, connect } = await world(context);
  gateway.lineEnd = "\r\n";
  gateway.command("kill", ["run", "r1"]);
  const spendfuse = await connect();
  const run = spendfuse.run({ runId: "r2" });
  gateway.cut();
  gateway.command("kill", ["run", "r2"]);
  await until(() => run.signal.aborted);
  assert.deepEqual(gateway.lastIds, [undefined, "1"]);
});

test("the commands of a gateway that asks to be left alone are asked for later", async (context) => {
  const { gateway, connect } = await world(context);
  gateway.streamAnswers.push((response) => json(response, 429, {}, { "Retry-After": "1" }));
  const spendfuse = await connect({ whenBlind: "continue" });
  assert.equal(spendfuse.guard.waitingFor, null);
  const [first = 0, second = 0] = gateway.askedMs;
  assert.ok(second - first >= 999, "timers of Node may be a fraction early");
});

test("a command that makes no sense hides no other, and breaks no check", async (context) => {
  const { gateway, connect } = await world(context);
  gateway.command("kill", ["scope", "s"], { scope: { workflow: "docs" } });
  gateway.command("kill", ["scope", "t"], { scope: [] });
  gateway.command("kill", ["run", "r1"], { reason: { of: "a kind" } });
  gateway.commands.push({ value: "[]", operator: false }, { value: "null", operator: false });
  gateway.command("pause", ["scope", "u"], { scope: { workflow: ["docs"] } });
  const spendfuse = await connect();
  spendfuse.run({ runId: "r1", workflow: "support" }).check();
  assert.throws(() => spendfuse.run({ workflow: "docs" }).check(), Paused);
});

test("two clients in one process are two", async (context) => {
  const [here, there] = [await world(context), await world(context)];
  there.gateway.command("kill", ["run", "r1"]);
  const [first, second] = [await here.connect(), await there.connect()];
  first.run({ runId: "r1" }).check();
  assert.throws(() => second.run({ runId: "r1" }).check(), Stopped);
  await first.close();
  second.run({ runId: "r2" }).check();
  assert.equal(await second.emitter.flush(), 0);
  assert.deepEqual(here.gateway.ofType("run_started").length, 1);
});

test("runs that nobody ends fill no memory, and are told of", async (context) => {
  const { gateway, warnings, connect } = await world(context);
  const { guard } = await connect();
  const signals = Array.from({ length: 10_001 }, (_, at) => guard.watch({ tenantId: "acme", runId: `r${at}` }));
  gateway.command("kill", ["tenant", "acme"]);
  await until(() => signals.at(-1)?.aborted);
  assert.equal(signals.filter((signal) => signal.aborted).length, 9_901);
  assert.match(warnings.join(), /runs are not watched any more/);
  assert.throws(() => guard.check({ tenantId: "acme", runId: "r0" }), Stopped, "a check stops them all the same");
});
