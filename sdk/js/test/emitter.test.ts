// An emitter keeps what it was given until the gateway has it, and says what it could not keep.
import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Emitter } from "../src/emitter.js";
import { Gateway } from "../src/gateway.js";
import { Spendfuse } from "../src/index.js";

async function listening(answer: RequestListener): Promise<{ url: string; close: () => void }> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, close: () => (server.close(), server.closeAllConnections()) };
}

test("what fails for the moment is sent again under its id, what is wrong in itself is refused alone", async () => {
  const received: string[][] = [];
  const server = await listening(async (request, response) => {
    let body = "";
    for await (const part of request) body += String(part);
    const ids = body.split("\n").map((line) => (JSON.parse(line) as { event_id: string }).event_id);
    received.push(ids);
    const isFirst = received.length === 1;
    const wrong = ids.indexOf("wrong");
    const rejected = wrong < 0 ? [] : [{ index: wrong, reason: "wrong_value", detail: "scripted" }];
    response.writeHead(isFirst ? 503 : 200, { "Content-Type": "application/json" });
    response.end(JSON.stringify(isFirst ? { error: "send this again" } : { accepted: 2, rejected }));
  });
  const warnings: string[] = [];
  const emitter = new Emitter(new Gateway(server.url, "key"), { warn: (text) => warnings.push(text) });
  for (const event_id of ["before", "wrong", "after"]) emitter.emit({ type: "llm_call", run_id: "r1", model: "m", event_id });
  assert.equal(await emitter.flush(10_000), 1);
  assert.deepEqual(received, [["before", "wrong", "after"], ["before", "wrong", "after"]]);
  assert.deepEqual([emitter.stats.sent, emitter.stats.refused], [2, 1]);
  assert.equal(warnings.length, 2);
  await emitter.close();
  server.close();
});

test("what finds no room is counted and told, and nobody waits", async () => {
  const server = await listening(() => undefined);
  server.close();
  const warnings: string[] = [];
  const emitter = new Emitter(new Gateway(server.url, "key"), { mostBuffered: 2, warn: (text) => warnings.push(text) });
  const ids = [1, 2, 3].map(() => emitter.emit({ type: "llm_call", run_id: "r1", model: "m" }));
  assert.deepEqual(ids.map((id) => id === null), [false, false, true]);
  assert.equal(await emitter.close(50), 2);
  assert.equal(emitter.stats.dropped, 1);
  assert.match(warnings.at(-1) ?? "", /3 of 3 usage events are not in the log/);
});

test("what nobody says is named", async () => {
  await assert.rejects(Spendfuse.connect({ key: "k" }), /SPENDFUSE_URL/);
  await assert.rejects(Spendfuse.connect({ url: "http://127.0.0.1:9" }), /SPENDFUSE_KEY/);
  await assert.rejects(Spendfuse.connect({ url: "http://127.0.0.1:9", key: "k" }), /does not answer/);
});
