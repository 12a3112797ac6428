// What this client computes is what every other one does: the vectors of docs/connect/wire.md.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ackId, canonical, hashOf, shapeHashOf, shapeOf } from "../src/usage/hashing.js";
import * as shapes from "../src/usage/shapes.js";
import { StandingCommands, type RunIdentity } from "../src/control/standing.js";

const path = new URL("../../../../docs/connect/wire-vectors.json", import.meta.url);
const vectors = JSON.parse(readFileSync(path, "utf8"));

test("hashes and shapes are the same as everywhere", () => {
  const key = Buffer.from(vectors.root_key, "hex");
  for (const { value, hash, keyed } of vectors.hashes) assert.deepEqual([hashOf(value), hashOf(value, key)], [hash, keyed], canonical(value));
  for (const { result, shape, hash } of vectors.shapes.results) {
    assert.equal(shapeOf(result), shape, canonical(result));
    assert.equal(shapeHashOf(result), hash);
  }
  const { version, most_characters, text_patterns, key_pattern } = vectors.shapes;
  const ours = [shapes.VERSION, shapes.MOST_CHARACTERS, shapes.TEXT_PATTERNS, shapes.KEY_PATTERN];
  assert.deepEqual(ours, [version, most_characters, text_patterns, key_pattern]);
});

test("an answer to a command has the same id from whoever gives it", () => {
  for (const { tenant_id, run_id, command_id, event_id } of vectors.acks) assert.equal(ackId(tenant_id, run_id, command_id), event_id);
});

test("what stands for a run is what stands for it everywhere", () => {
  const { now_ms: nowMs, run, records } = vectors.guard;
  const identity: RunIdentity = {
    tenantId: run.tenant_id, runId: run.run_id, sessionId: run.session_id ?? undefined, rootRunId: run.root_run_id ?? undefined,
    workflow: run.workflow, attribution: run.attribution,
  };
  const standing = new StandingCommands();
  const verified = records.filter((record: { verdict: string }) => ["applied", "replayed", "expired", "not_entitled"].includes(record.verdict));
  assert.ok(verified.length > 10);
  for (const record of verified) {
    const command = StandingCommands.parse(record.value);
    assert.ok(command, record.what);
    const byOperator = record.headers.some(([name, text]: [string, string]) => name === "spendfuse-kid" && text === "operator");
    assert.equal(standing.apply(command, byOperator, nowMs).verdict, record.verdict, record.what);
    const stands = (["kill", "pause", "downgrade"] as const).find((action) => standing.reaching(action, identity, nowMs));
    assert.equal(stands ?? null, record.stands, record.what);
    if ("told" in record) assert.equal(standing.takeNudge(identity, nowMs)?.reason ?? null, record.told, record.what);
  }
  for (const { value, verdict } of records) if (verdict === "malformed") assert.equal(StandingCommands.parse(value), null);
});
