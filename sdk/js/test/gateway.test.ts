// Against a running gateway, which tests/connect/test_sdk_typescript.py starts: reported once, killed, told, let go on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Spendfuse, Stopped } from "../src/index.js";
import { until } from "./support.js";

const MARKER = "somebody-s-own-words-4711";
const { SPENDFUSE_URL: url, COMMANDS: commands = "" } = process.env;

async function command(action: string, runId: string, reason: string): Promise<void> {
  const answer = await fetch(commands, { method: "POST", body: JSON.stringify({ action, run_id: runId, reason }) });
  assert.equal(answer.status, 200);
}

test("an agent reports once, hears a sentence, and is stopped", { skip: url === undefined && "no gateway runs" }, async () => {
  const spendfuse = await Spendfuse.connect();
  assert.equal(spendfuse.tenantId, "acme");
  assert.ok(await spendfuse.guard.ready(30_000), spendfuse.guard.waitingFor ?? "");
  const run = spendfuse.run({ runId: "js", workflow: "docs", tags: { team: "red" }, capUsd: 2.5 });
  run.check({ model: "gpt-5" });
  for (const _ of [1, 2]) run.llmCall({ model: "gpt-5", provider: "openai", inputTokens: 100, cacheWrite1hTokens: 4, outputTokens: 20, costUsd: 0.0041, prompt: MARKER, responseId: "resp_0123456789abcdef" });
  run.toolCall("search", { args: { query: MARKER }, result: `${MARKER} at 2026-11-27T20:00:00Z`, writes: false });
  await command("nudge", "js", "you have done this before");
  assert.equal(await until(() => spendfuse.guard.nudge(run)), "you have done this before");
  assert.equal(spendfuse.guard.nudge(run), null, "once");
  const signal = run.signal;
  await command("kill", "js", "it is enough");
  await until(() => signal.aborted);
  await assert.rejects(run.around((same) => same.check()), (error) => error instanceof Stopped && error.reason === "it is enough");
  assert.equal(await spendfuse.close(), 0);
});
