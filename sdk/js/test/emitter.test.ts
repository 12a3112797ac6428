// An emitter keeps what it was given until the gateway has it, and says what it could not keep.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { Emitter, type EmitterOptions } from "../src/emitter.js";
import { Gateway, retryAfterMs } from "../src/http/gateway.js";
import { Spendfuse } from "../src/index.js";
import { KEY, ScriptedGateway, json, type Event } from "./support.js";

const CALL = { type: "llm_call", run_id: "r1", model: "m" };

async function begun(context: TestContext, options: EmitterOptions = {}): Promise<{ gateway: ScriptedGateway; emitter: Emitter; warnings: string[] }> {
  const gateway = await ScriptedGateway.listening();
  const warnings: string[] = [];
  const emitter = new Emitter(new Gateway(gateway.url, KEY), { warn: (text) => warnings.push(text), ...options });
  context.after(async () => {
    await emitter.close(0);
    gateway.close();
  });
  return { gateway, emitter, warnings };
}

/** An address at which nobody listens. */
async function nowhere(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  server.close();
  return `http://127.0.0.1:${port}`;
}

test("what fails for the moment is sent again under its id, what is wrong in itself is refused alone", async (context) => {
  const { gateway, emitter, warnings } = await begun(context);
  const rejecting = (events: Event[]): object[] => [{ index: events.findIndex((event) => event.event_id === "wrong"), reason: "wrong_value", detail: "scripted" }];
  gateway.answers.push(
    (_, response) => json(response, 503, { error: "send this again" }),
    (events, response) => json(response, 200, { accepted: 2, rejected: rejecting(events) }),
  );
  for (const event_id of ["before", "wrong", "after"]) emitter.emit({ ...CALL, event_id });
  assert.equal(await emitter.flush(10_000), 1);
  assert.deepEqual(gateway.requests, [["before", "wrong", "after"], ["before", "wrong", "after"]]);
  assert.deepEqual([emitter.stats.sent, emitter.stats.refused], [2, 1]);
  assert.equal(warnings.length, 2);
});

test("whatever somebody in between answers, nothing is lost and nothing counts twice", async (context) => {
  const { gateway, emitter } = await begun(context);
  const made_up = [[null], [{}], [{ index: 7, reason: "?", detail: "?" }], [{ index: -1 }], "all"];
  gateway.answers.push(
    ...[401, 403, 404, 429, 500, 502].map((status) => (_: Event[], response: Parameters<typeof json>[0]) => json(response, status, {})),
    ...made_up.map((rejected) => (_: Event[], response: Parameters<typeof json>[0]) => json(response, 200, { rejected })),
    (_, response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<html>sign in</html>"),
    (_, response) => response.writeHead(302, { Location: "https://elsewhere.example/" }).end(),
    (_, response) => response.destroy(),
  );
  const id = emitter.emit(CALL);
  while (gateway.received.length === 0) await emitter.flush(20); // a flush does not wait for the pause between two attempts
  assert.equal(await emitter.flush(), 0);
  assert.deepEqual([gateway.received.map((event) => event.event_id), emitter.stats], [[id], { accepted: 1, sent: 1, dropped: 0, refused: 0 }]);
});

test("a proxy that takes less than the gateway holds nothing up", async (context) => {
  const { gateway, emitter, warnings } = await begun(context);
  gateway.mostBytes = 2_000;
  const ids = Array.from({ length: 200 }, () => emitter.emit(CALL));
  const large = emitter.emit({ ...CALL, tags: Object.fromEntries(Array.from({ length: 10 }, (_, at) => [`t${at}`, "x".repeat(200)])) });
  assert.equal(await emitter.flush(20_000), 1, "the one that is too large by itself");
  assert.deepEqual(gateway.received.map((event) => event.event_id), ids);
  assert.ok(!ids.includes(large) && warnings.some((text) => /too large/.test(text)), String(warnings));
});

test("who asks to be left alone for a while is", async (context) => {
  const { gateway, emitter } = await begun(context);
  gateway.answers.push((_, response) => json(response, 429, {}, { "Retry-After": "2" }));
  emitter.emit(CALL);
  const begunMs = performance.now();
  while (gateway.received.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(performance.now() - begunMs >= 1_900);
});

test("who closes asks again while there is time, whatever a refusal says", async (context) => {
  const { gateway, emitter } = await begun(context);
  for (let time = 0; time < 2; time++) gateway.answers.push((_, response) => json(response, 429, {}, { "Retry-After": "60" }));
  emitter.emit(CALL);
  assert.equal(await emitter.close(30_000), 0);
});

const DATE = "Sat, 28 Nov 2026 14:00:00 GMT";
const SAID: [headers: Record<string, string>, restMs: number][] = [
  [{}, 0], [{ "retry-after": " 120 " }, 120_000], [{ "retry-after": "1.5" }, 0], [{ "retry-after": "-5" }, 0], [{ "retry-after": "later" }, 0],
  [{ "retry-after": "Sat, 28 Nov 2026 14:00:30 GMT", date: DATE }, 30_000], [{ "retry-after": "Sat, 28 Nov 2026 13:00:00 GMT", date: DATE }, 0],
  [{ "retry-after": "Thu, 01 Jan 1970 00:00:00 GMT" }, 0],
];

test("when to come again is said in seconds, or as a date by the clock of who says it", () => {
  for (const [headers, restMs] of SAID) assert.equal(retryAfterMs(headers), restMs, JSON.stringify(headers));
});

test("a gateway that is started anew is asked again at once", async (context) => {
  const { gateway, emitter, warnings } = await begun(context);
  for (let time = 0; time < 3; time++) {
    emitter.emit(CALL);
    assert.equal(await emitter.flush(10_000), 0);
    gateway.restart();
  }
  assert.equal(gateway.received.length, 3);
  assert.deepEqual(warnings, []);
});

test("what finds no room is counted and told, and nobody waits", async () => {
  const warnings: string[] = [];
  const emitter = new Emitter(new Gateway(await nowhere(), KEY), { mostBuffered: 2, warn: (text) => warnings.push(text) });
  const ids = [1, 2, 3].map(() => emitter.emit(CALL));
  assert.deepEqual(ids.map((id) => id === null), [false, false, true]);
  assert.equal(await emitter.close(50), 2);
  assert.equal(emitter.stats.dropped, 1);
  assert.match(warnings.at(-1) ?? "", /3 of 3 usage events are not in the log/);
  assert.equal(await emitter.close(10_000), 2, "closed is closed");
});

test("memory is bounded by bytes as they are sent", async () => {
  const emitter = new Emitter(new Gateway(await nowhere(), KEY), { mostBytes: 1_000, warn: () => undefined });
  const ids = Array.from({ length: 3 }, () => emitter.emit({ ...CALL, workflow: "日".repeat(150) }));
  assert.deepEqual(ids.map((id) => id === null), [false, true, true], "150 characters, 450 bytes");
  await emitter.close(0);
});

test("a warning that fails, now or later, breaks nothing", async (context) => {
  for (const warn of [() => { throw new Error("their log"); }, () => Promise.reject(new Error("their log"))]) {
    const { gateway, emitter } = await begun(context, { warn, mostBuffered: 1 });
    gateway.answers.push((_, response) => json(response, 503, {}));
    emitter.emit(CALL);
    assert.equal(emitter.emit(CALL), null);
    await emitter.flush(100);
    assert.equal(await emitter.flush(10_000), 0, "it is sent all the same");
  }
});

test("a flush may wait for ever", async (context) => {
  const { emitter } = await begun(context);
  emitter.emit(CALL);
  assert.equal(await emitter.flush(Infinity), 0);
});

test("what nobody says is named", async () => {
  await assert.rejects(Spendfuse.connect({ key: "k" }), /SPENDFUSE_URL/);
  await assert.rejects(Spendfuse.connect({ url: "http://127.0.0.1:9" }), /SPENDFUSE_KEY/);
  await assert.rejects(Spendfuse.connect({ url: "http://127.0.0.1:9", key: "k\nX: y" }), /SPENDFUSE_KEY/);
  await assert.rejects(Spendfuse.connect({ url: "ftp://127.0.0.1", key: "k" }), /https:\/\/host/);
  await assert.rejects(Spendfuse.connect({ url: await nowhere(), key: "k" }), /does not answer.*SPENDFUSE_TENANT and SPENDFUSE_WHEN_BLIND/);
  const said = { url: await nowhere(), key: "k", tenantId: "acme", whenBlind: "sometimes" as "stop" };
  await assert.rejects(Spendfuse.connect(said), /"continue" or "stop"/);
});
