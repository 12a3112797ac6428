// What `npm pack` makes is all that a program needs, whichever way it imports it, under the strictest settings of types;
// and what docs/connect/typescript.md says to write runs with it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Provider, WORDS } from "./provider.js";
import { KEY, ScriptedGateway, node, until } from "./support.js";

const HOME = fileURLToPath(new URL("../../", import.meta.url));
const PAGE = fileURLToPath(new URL("../../../../docs/connect/typescript.md", import.meta.url));
const STRICT = {
  strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false,
  module: "nodenext", target: "es2022", types: ["node"],
  paths: { openai: ["./client.d.mts"], "@anthropic-ai/sdk": ["./client.d.mts"] },
};
const USES = `if (typeof spendfuse.Spendfuse.connect !== "function" || !(new spendfuse.Stopped("x") instanceof Error)) process.exitCode = 1;`;
const TYPED = `
import Anthropic from "@anthropic-ai/sdk";
import { Spendfuse, Stopped, currentRun, type LlmCall, type Run } from "spendfuse";
import { guarded } from "spendfuse/anthropic";
const sessionId: string | undefined = process.env["SESSION"];
const spendfuse: Spendfuse = await Spendfuse.connect({ url: undefined, hashKey: "k" });
const run: Run = spendfuse.run({ workflow: "support", sessionId, capUsd: "2.50", tags: { team: "red" } });
const call: LlmCall = { model: "gpt-5", inputTokens: 12, responseId: sessionId };
const answer: number = await run.around(async (same) => { same.check({ model: "gpt-5" }); same.llmCall(call); return 5; });
const anthropic: Anthropic = guarded(new Anthropic({ apiKey: "none" }), spendfuse, { workflow: sessionId, cheaper: { a: "b" } });
// @ts-expect-error what is no client
guarded({}, spendfuse);
const end: () => void = spendfuse.guard.onStop((of, stopped: Stopped) => console.log(of.runId, stopped.reason));
// @ts-expect-error a word that is none of the outcomes
currentRun()?.outcome("done");
// @ts-expect-error a count that nobody knows
run.llmCall({ model: "gpt-5", inputTokes: answer });
end();
export const used = anthropic;
`;
/** As much of the official clients as is used here: to look through all of their types takes minutes. */
const CLIENT_TYPES = `
type Part = { type: "response.output_text.delta"; delta: string } | { type: "response.completed" };
export default class Client {
  constructor(options?: { apiKey?: string });
  post<T>(path: string, options?: { body?: unknown } | Promise<{ body?: unknown }>): Promise<T>;
  withOptions(options: { timeout?: number }): this;
  responses: { create(body: { model: string; input: string; stream: true }): Promise<AsyncIterable<Part>> };
}
`;

let folder = "";

function put(path: string, text: string | object): void {
  const whole = join(folder, path);
  mkdirSync(join(whole, ".."), { recursive: true });
  writeFileSync(whole, typeof text === "string" ? text : JSON.stringify(text));
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), "spendfuse-pack-"));
  mkdirSync(join(folder, "node_modules", "spendfuse"), { recursive: true });
  for (const name of ["@types", "undici-types", "openai", "@anthropic-ai"]) symlinkSync(join(HOME, "node_modules", name), join(folder, "node_modules", name));
});
after(() => rmSync(folder, { recursive: true, force: true }));

test("what is packed can be imported, required and compiled against, and what the page says runs", async (context) => {
  const packed = execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], { cwd: HOME, encoding: "utf8" });
  const [{ filename, files }] = JSON.parse(packed) as [{ filename: string; files: { path: string }[] }];
  assert.deepEqual(files.filter(({ path }) => !/^(dist\/src\/.*\.(js|d\.ts)|package\.json|README\.md)$/.test(path)), []);
  execFileSync("tar", ["-xzf", join(folder, filename), "-C", join(folder, "node_modules", "spendfuse"), "--strip-components=1"]);
  const examples = [...readFileSync(PAGE, "utf8").matchAll(/^```ts\n(.*?)^```/gms)].map(([, text]) => text ?? "");
  assert.equal(examples.length, 3);
  examples.forEach((text, at) => put(`page${at}.mts`, text));
  put("imports.mjs", `import * as spendfuse from "spendfuse";\n${USES}`);
  put("requires.cjs", `const spendfuse = require("spendfuse");\n${USES}`);
  put("typed.mts", TYPED);
  put("client.d.mts", CLIENT_TYPES);
  put("tsconfig.json", { compilerOptions: STRICT, include: ["*.mts"] });
  const compiled = await node([join(HOME, "node_modules", "typescript", "bin", "tsc"), "--project", folder], {}, folder);
  assert.equal(compiled.code, 0, compiled.out);
  for (const script of ["imports.mjs", "requires.cjs"]) {
    const done = await node([script], {}, folder);
    assert.equal(done.code, 0, `${script}: ${done.err}`);
  }
  const [gateway, provider] = [await ScriptedGateway.listening(), await Provider.listening()];
  context.after(() => [gateway, provider].forEach((each) => each.close()));
  const env = { SPENDFUSE_URL: gateway.url, SPENDFUSE_KEY: KEY, OPENAI_API_KEY: "none", OPENAI_BASE_URL: `${provider.url}/v1` };
  for (const [page, out] of [["page0.mjs", WORDS + WORDS], ["page1.mjs", ""]] as const) assert.deepEqual(await node([page], env, folder), { code: 0, out, err: "" });
  assert.deepEqual(gateway.ofType("llm_call").map((call) => [call["input_tokens"], call["output_tokens"]]), [[100, 20], [1_200, 150]]);
  const loop = node(["page2.mjs"], env, folder);
  const first = await until(() => gateway.ofType("llm_call")[2]);
  gateway.command("kill", ["run", String(first["run_id"])]);
  const { out, code } = await loop;
  assert.deepEqual([code, out], [0, `${String(first["run_id"])} was stopped by null: given by the test\n`]);
});
