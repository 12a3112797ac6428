// The official clients, guarded: asked before each call, reported after it, streams too, however they end.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { test, type TestContext } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { guarded as guardedAnthropic } from "../src/anthropic.js";
import { Paused, Spendfuse, Stopped, type Run } from "../src/index.js";
import { guarded as guardedOpenAI, type GuardedOptions } from "../src/openai.js";
import { Provider, WORDS } from "./provider.js";
import { KEY, ScriptedGateway, until, type Event } from "./support.js";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

class World {
  readonly warnings: string[] = [];

  constructor(
    readonly gateway: ScriptedGateway,
    readonly provider: Provider,
  ) {}

  spendfuse!: Spendfuse;

  openai(options: GuardedOptions = {}): OpenAI {
    return guardedOpenAI(new OpenAI({ baseURL: `${this.provider.url}/v1`, apiKey: "none", maxRetries: 0 }), this.spendfuse, options);
  }

  anthropic(options: GuardedOptions = {}): Anthropic {
    return guardedAnthropic(new Anthropic({ baseURL: this.provider.url, apiKey: "none", maxRetries: 0 }), this.spendfuse, options);
  }

  /** What was reported of a type, for the first time each. */
  async reported(type: string): Promise<Event[]> {
    assert.equal(await this.spendfuse.emitter.flush(30_000), 0);
    assert.ok(!JSON.stringify(this.gateway.received).includes(WORDS), "nobody's words are sent");
    return this.gateway.ofType(type);
  }
}

async function world(context: TestContext): Promise<World> {
  const made = new World(await ScriptedGateway.listening(), await Provider.listening());
  made.spendfuse = await Spendfuse.connect({ url: made.gateway.url, key: KEY, warn: (text) => made.warnings.push(text) });
  context.after(async () => {
    await made.spendfuse.close(100);
    made.gateway.close();
    made.provider.close();
  });
  return made;
}

async function read(stream: AsyncIterable<unknown>): Promise<unknown[]> {
  const parts: unknown[] = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const CHAT = { model: "gpt-5", messages: [{ role: "user" as const, content: WORDS }] };
const ASKED = { model: "gpt-5", input: WORDS };
const MESSAGES = { model: "claude-sonnet-4-5", max_tokens: 10, messages: [{ role: "user" as const, content: WORDS }] };

test("every way to ask OpenAI is reported once, with what it cost, and shows what it would show anybody", async (context) => {
  const all = await world(context);
  const openai = all.openai();
  await all.spendfuse.run({ workflow: "docs" }).around(async () => {
    await openai.chat.completions.create(CHAT);
    await openai.withOptions({ timeout: 20_000 }).chat.completions.create(CHAT);
    assert.equal((await openai.chat.completions.parse(CHAT)).choices[0]?.message.content, WORDS);
    const { data, response } = await openai.chat.completions.create(CHAT).withResponse();
    assert.deepEqual([data.choices[0]?.message.content, response.status], [WORDS, 200]);
    assert.equal((await read(await openai.chat.completions.create({ ...CHAT, stream: true }))).length, 4, "no chunk that nobody has asked for");
    const asked = { ...CHAT, stream: true as const, stream_options: { include_usage: true } };
    assert.equal((await read(await openai.chat.completions.create(asked))).length, 5, "and every one that somebody has");
    assert.equal((await openai.chat.completions.stream(CHAT).finalChatCompletion()).choices[0]?.message.content, WORDS + WORDS);
    assert.equal((await openai.responses.create(ASKED)).output_text, WORDS);
    assert.equal((await read(await openai.responses.create({ ...ASKED, stream: true }))).length, 4);
    await openai.embeddings.create({ model: "text-embedding-3-small", input: WORDS, encoding_format: "float" });
  });
  const calls = await all.reported("llm_call");
  const embedded = calls.filter((call) => call["model"] === "text-embedding-3-small");
  const answered = calls.filter((call) => !embedded.includes(call));
  assert.deepEqual(embedded.map((call) => call["input_tokens"]), [100]);
  assert.equal(answered.length, all.provider.ids.length);
  const kinds = ["model", "route", "provider", "status", "service_tier", "input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens"];
  for (const call of answered) assert.deepEqual(kinds.map((kind) => call[kind]), ["gpt-5-2025-08-07", "gpt-5", "openai", undefined, "standard", 100, 40, 20, 5]);
  assert.equal((await all.reported("run_started")).length, 1);
  assert.deepEqual(all.warnings, []);
});

test("every way to ask Anthropic is reported once, with all of its input", async (context) => {
  const all = await world(context);
  const anthropic = all.anthropic();
  await all.spendfuse.run().around(async () => {
    await anthropic.messages.create(MESSAGES);
    await anthropic.withOptions({ timeout: 20_000 }).beta.messages.create(MESSAGES);
    assert.equal((await read(await anthropic.messages.create({ ...MESSAGES, stream: true }))).length, 7);
    assert.equal(await anthropic.messages.stream(MESSAGES).finalText(), WORDS + WORDS);
  });
  const calls = await all.reported("llm_call");
  const kinds = ["model", "provider", "service_tier", "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens"];
  assert.deepEqual(calls.map((call) => kinds.map((kind) => call[kind])), Array(4).fill(["claude-sonnet-4-5", "anthropic", "standard", 100, 40, 10, 4, 20]));
  assert.deepEqual(all.warnings, []);
});

type Streaming = { controller: AbortController } & AsyncIterable<unknown>;

/** What somebody, or something, does to a stream after three parts -> how its call ended. */
const ENDS: Record<string, [does: (stream: Streaming, all: World, run: Run) => Promise<void>, status: string]> = {
  "is left": [async (stream) => { for await (const part of stream) if (isWritten(part)) break; }, "cancelled"],
  "is aborted": [async (stream) => { for await (const part of stream) if (isWritten(part)) stream.controller.abort(); }, "cancelled"],
  "is followed by a failure": [async (stream) => { for await (const part of stream) if (isWritten(part)) throw new Error("their own"); }, "cancelled"],
  "is cut by its provider": [async (stream, { provider }) => { provider.breaksOff = true; await read(stream); }, "error"],
  "is killed while it says nothing": [
    async (stream, { gateway }, run) => {
      for await (const part of stream) {
        if (!isWritten(part)) continue;
        setImmediate(() => { // the answer is awaited by then
          gc(); // what the kill aborts is held by nobody but the request
          gateway.command("kill", ["run", run.runId]);
        });
      }
    },
    "cancelled",
  ],
};

function isWritten(part: unknown): boolean {
  return /"(delta|content_block_delta|response\.output_text\.delta)"/.test(JSON.stringify(part)) && JSON.stringify(part).includes(WORDS);
}

const STREAMS: Record<string, (all: World) => Promise<Streaming>> = {
  "a chat": (all) => all.openai().chat.completions.create({ ...CHAT, stream: true }),
  "a response": (all) => all.openai().responses.create({ ...ASKED, stream: true }),
  "a message": (all) => all.anthropic().messages.create({ ...MESSAGES, stream: true }),
};

for (const [how, [does, status]] of Object.entries(ENDS))
  for (const [what, opened] of Object.entries(STREAMS))
    test(`of ${what} that ${how}, what has come counts`, async (context) => {
      const all = await world(context);
      all.provider.mostParts = what === "a message" ? 3 : 2;
      all.provider.breaksOff = how === "is cut by its provider";
      const run = all.spendfuse.run({ runId: "r1" });
      const work = run.around(async (same) => does(await opened(all), all, same));
      if (how === "is killed while it says nothing") await assert.rejects(work, (error) => error instanceof Stopped && error.reason === "given by the test");
      else await work.catch(() => undefined);
      const [call, ...others] = await all.reported("llm_call");
      assert.deepEqual([others.length, call?.["status"], call?.["output_tokens"]], [0, status, 1]);
      assert.equal(call?.["input_tokens"], what === "a message" ? 100 : undefined, "known only where the provider has said it");
      const acks = await all.reported("command_ack");
      assert.deepEqual(acks.map((ack) => ack["acted"]), how.startsWith("is killed") ? ["stopped"] : []);
    });

test("a stream that nobody read is reported when nobody has it any more", async (context) => {
  const all = await world(context);
  const openai = all.openai();
  const run = all.spendfuse.run();
  await run.around(async () => void (await openai.chat.completions.create({ ...CHAT, stream: true })));
  await until(() => { gc(); return all.gateway.ofType("llm_call").length; });
  assert.deepEqual((await all.reported("llm_call")).map((call) => [call["status"], call["output_tokens"]]), [["cancelled", 0]]);
});

test("who reads a stream slowly keeps it, whatever is collected meanwhile", async (context) => {
  const all = await world(context);
  const openai = all.openai();
  await all.spendfuse.run().around(async () => {
    for await (const _ of await openai.chat.completions.create({ ...CHAT, stream: true })) {
      gc();
      await pause(5);
    }
  });
  assert.deepEqual((await all.reported("llm_call")).map((call) => [call["status"], call["output_tokens"]]), [[undefined, 20]]);
});

test("no call is made for a run that is killed or paused, in whatever way it asks", async (context) => {
  const all = await world(context);
  const [openai, anthropic] = [all.openai(), all.anthropic()];
  const ways = [
    () => openai.chat.completions.create(CHAT), () => openai.responses.create({ ...ASKED, stream: true }),
    () => openai.chat.completions.create(CHAT).withResponse(), () => anthropic.messages.create(MESSAGES),
  ];
  for (const [action, kind] of [["pause", Paused], ["kill", Stopped]] as const) {
    const run = all.spendfuse.run({ runId: action });
    all.gateway.command(action, ["run", action]);
    await until(() => { try { run.check(); return false; } catch { return true; } });
    await assert.rejects(run.around(async () => {
      for (const way of ways) await assert.rejects(way(), kind);
      await openai.chat.completions.create(CHAT);
    }), kind);
  }
  assert.equal(all.provider.asked.length, 0);
  assert.deepEqual(await all.reported("llm_call"), []);
});

/** The clients' own helpers, read by their events or to their end. */
const HELPERS: Record<string, (all: World) => { stream: AsyncIterable<unknown>; end: () => Promise<unknown>; kind: typeof OpenAI.OpenAIError }> = {
  "a chat": (all) => helped(all.openai().chat.completions.stream(CHAT), (stream) => stream.finalContent(), OpenAI.OpenAIError),
  "a response": (all) => helped(all.openai().responses.stream({ model: "gpt-5", input: WORDS }), (stream) => stream.finalResponse(), OpenAI.OpenAIError),
  "a message": (all) => helped(all.anthropic().messages.stream(MESSAGES), (stream) => stream.finalText(), Anthropic.AnthropicError),
};

function helped<S extends AsyncIterable<unknown>, K>(stream: S, end: (stream: S) => Promise<unknown>, kind: K): { stream: S; end: () => Promise<unknown>; kind: K } {
  return { stream, end: () => end(stream), kind };
}

for (const [what, opened] of Object.entries(HELPERS))
  for (const when of ["before it begins", "under way"])
    test(`whoever reads ${what} by the client's helper catches a Stopped that came ${when}`, async (context) => {
      const all = await world(context);
      if (when === "under way") all.provider.mostParts = what === "a message" ? 3 : what === "a chat" ? 2 : 1;
      const kill = async (run: Run): Promise<void> => {
        all.gateway.command("kill", ["run", run.runId]);
        await until(() => run.signal.aborted);
      };
      const isOurs = (kind: typeof OpenAI.OpenAIError) => (error: unknown): boolean =>
        error instanceof Stopped && error.reason === "given by the test" && error instanceof kind && error.stack !== undefined;
      for (const reads of ["by its parts", "to its end"]) {
        const run = all.spendfuse.run();
        await assert.rejects(run.around(async () => {
          if (when === "before it begins") await kill(run);
          const before = all.provider.asked.length;
          const { stream, end, kind } = opened(all);
          if (reads === "to its end" && when === "under way") void until(() => all.provider.asked.length > before).then(() => kill(run));
          await assert.rejects(reads === "to its end" ? end() : (async () => {
            for await (const _ of stream) void kill(run); // whoever is busy then is told of no error, by the helpers
          })(), isOurs(kind));
          run.check();
        }), Stopped);
      }
      assert.deepEqual((await all.reported("run_finished")).map((run) => run["status"]), ["killed", "killed"]);
    });

test("a budget of a model stops the calls of that model alone", async (context) => {
  const all = await world(context);
  const openai = all.openai();
  all.gateway.command("pause", ["scope", "s1"], { scope: { model: ["gpt-5"] } });
  const run = all.spendfuse.run();
  await until(() => { try { run.check({ model: "gpt-5" }); return false; } catch { return true; } });
  await run.around(async () => {
    await assert.rejects(async () => openai.chat.completions.create(CHAT), Paused);
    await openai.chat.completions.create({ ...CHAT, model: "gpt-5-mini" });
  });
});

test("a sentence is put before the model once, a cheaper one is asked while that is wanted, and both are answered", async (context) => {
  const all = await world(context);
  const openai = all.openai({ cheaper: { "gpt-5": "gpt-5-mini" } });
  const run = all.spendfuse.run({ runId: "r1" });
  all.gateway.command("nudge", ["run", "r1"], { reason: "you have done this before" });
  all.gateway.command("downgrade", ["run", "r1"]);
  await until(() => run.advice().downgrade);
  await run.around(async () => {
    await openai.responses.create(ASKED);
    await openai.chat.completions.create(CHAT);
  });
  assert.deepEqual(all.provider.asked.map((body) => body["model"]), ["gpt-5-mini", "gpt-5-mini"]);
  const told = [{ role: "user", content: WORDS }, { role: "user", content: "you have done this before" }];
  assert.deepEqual([all.provider.asked[0]?.["input"], all.provider.asked[1]?.["messages"]], [told, CHAT.messages]);
  assert.deepEqual((await all.reported("command_ack")).map((ack) => ack["acted"]).sort(), ["delivered", "downgraded"]);
  assert.deepEqual((await all.reported("llm_call")).map((call) => call["route"]), ["gpt-5", "gpt-5"]);
});

test("a call in nobody's block is a run of its own, with the client's attribution, and ends with it", async (context) => {
  const all = await world(context);
  const openai = all.openai({ workflow: "support" });
  await openai.chat.completions.create(CHAT);
  await read(await openai.chat.completions.create({ ...CHAT, stream: true }));
  all.provider.status = 500;
  await assert.rejects(async () => openai.chat.completions.create(CHAT), OpenAI.InternalServerError);
  const calls = await all.reported("llm_call");
  assert.deepEqual(calls.map((call) => [call["status"], call["error_type"], call["cost_nanousd"]]), [[undefined, undefined, undefined], [undefined, undefined, undefined], ["error", "InternalServerError", 0]]);
  assert.deepEqual((await all.reported("run_started")).map((run) => run["workflow"]), Array(3).fill("support"));
  assert.deepEqual((await all.reported("run_finished")).map((run) => run["status"]), ["completed", "completed", "failed"]);
});

test("tools are seen in the conversation that goes to the model, each once, and their loops", async (context) => {
  const all = await world(context);
  const [openai, anthropic] = [all.openai(), all.anthropic()];
  const chat: OpenAI.Chat.ChatCompletionMessageParam[] = [...CHAT.messages];
  const input: OpenAI.Responses.ResponseInput = [{ role: "user", content: WORDS }];
  const messages: Anthropic.MessageParam[] = [...MESSAGES.messages];
  await all.spendfuse.run().around(async () => {
    for (const id of ["1", "2"]) {
      chat.push({ role: "assistant", tool_calls: [{ id, type: "function", function: { name: "search", arguments: '{"q": 1}' } }] }, { role: "tool", tool_call_id: id, content: WORDS });
      input.push({ type: "function_call", call_id: `r${id}`, name: "search", arguments: '{"q":1}' }, { type: "function_call_output", call_id: `r${id}`, output: WORDS });
      messages.push({ role: "assistant", content: [{ type: "tool_use", id: `m${id}`, name: "search", input: { q: 1 } }] });
      messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: `m${id}`, content: WORDS, is_error: id === "2" }] });
      await openai.chat.completions.create({ ...CHAT, messages: chat });
      await openai.responses.create({ model: "gpt-5", input });
      await anthropic.messages.create({ ...MESSAGES, messages });
    }
  });
  const tools = await all.reported("tool_call");
  assert.deepEqual(tools.map((tool) => [tool["tool"], tool["status"]]), [...Array(5).fill(["search", "ok"]), ["search", "error"]]);
  assert.equal(new Set(tools.map((tool) => `${String(tool["args_hash"])} ${String(tool["result_hash"])}`)).size, 1);
});

test("tools are seen in a conversation that its provider keeps, which shows their results alone", async (context) => {
  const all = await world(context);
  const openai = all.openai();
  await all.spendfuse.run().around(async () => {
    for (const query of [1, 2]) {
      const call = { type: "function_call", call_id: `r${query}`, name: "search", arguments: `{"q":${query}}` };
      all.provider.output = [call];
      const { id } = await openai.responses.create(ASKED);
      all.provider.output = undefined;
      await openai.responses.create({ ...ASKED, previous_response_id: id, input: [{ type: "function_call_output", call_id: `r${query}`, output: WORDS }] });
    }
  });
  const tools = await all.reported("tool_call");
  assert.deepEqual(tools.map((tool) => tool["tool"]), ["search", "search"]);
  assert.equal(new Set(tools.map((tool) => tool["args_hash"])).size, 2, "two questions are two");
});

test("an answer that is read unparsed is asked for before, and warned of", async (context) => {
  const all = await world(context);
  const openai = all.openai();
  assert.equal((await openai.responses.create(ASKED).asResponse()).status, 200);
  assert.match(all.warnings.join(), /usage is not seen/);
  assert.deepEqual((await all.reported("run_finished")).map((run) => run["status"]), ["completed"]);
});
