// OpenAI's and Anthropic's interfaces on loopback, for whoever has no key: fixed answers, counted calls.
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "./support.js";

export const WORDS = "somebody's own words";
type Body = Record<string, unknown>;
type Part = [name: string, data: Body];

const CHAT_USAGE = {
  prompt_tokens: 100, completion_tokens: 20, total_tokens: 120,
  prompt_tokens_details: { cached_tokens: 40 }, completion_tokens_details: { reasoning_tokens: 5 },
};
const RESPONSE_USAGE = {
  input_tokens: 100, output_tokens: 20, total_tokens: 120,
  input_tokens_details: { cached_tokens: 40 }, output_tokens_details: { reasoning_tokens: 5 },
};
const MESSAGE_USAGE = {
  input_tokens: 50, cache_read_input_tokens: 40, cache_creation_input_tokens: 10, output_tokens: 20, service_tier: "standard",
  cache_creation: { ephemeral_1h_input_tokens: 4, ephemeral_5m_input_tokens: 6 },
};

export class Provider {
  readonly asked: Body[] = [];
  readonly ids: string[] = [];
  status = 200;
  /** After how many parts a stream says no more; then it ends if it `breaksOff`, else it stays open. */
  mostParts = Infinity;
  breaksOff = false;
  /** What responses hold in place of words. */
  output: Body[] | undefined;
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  static async listening(): Promise<Provider> {
    const provider = new Provider();
    await new Promise<void>((resolve) => provider.#server.listen(0, "127.0.0.1", resolve));
    return provider;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const received: Buffer[] = [];
    for await (const part of request) received.push(part as Buffer);
    const body = JSON.parse(Buffer.concat(received).toString()) as Body;
    this.asked.push(body);
    if (this.status !== 200) return json(response, this.status, { error: { message: WORDS, type: "server_error" } });
    const kind = (request.url ?? "").split("?")[0]?.split("/").at(-1) ?? "";
    const { answer, parts } = this.#said(kind, body);
    if (body["stream"] !== true) return json(response, 200, answer);
    response.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders();
    for (const [name, data] of parts.slice(0, this.mostParts)) response.write(`${name && `event: ${name}\n`}data: ${JSON.stringify(data)}\n\n`);
    if (parts.length <= this.mostParts) response.end(kind === "completions" ? "data: [DONE]\n\n" : "");
    else if (this.breaksOff) setTimeout(() => response.destroy(), 50); // once what was written is read
  }

  #said(kind: string, body: Body): { answer: Body; parts: Part[] } {
    const made = { completions: () => this.#chat(body), responses: () => this.#response(), messages: () => this.#message(), embeddings: embedding }[kind];
    if (!made) throw new Error(`nobody has asked for ${kind} before`);
    return made();
  }

  #id(kind: string): string {
    const id = `${kind}${randomUUID()}`;
    this.ids.push(id);
    return id;
  }

  #chat(body: Body): { answer: Body; parts: Part[] } {
    const head = { id: this.#id("chatcmpl-"), created: 1, model: "gpt-5-2025-08-07", service_tier: "default" };
    const message = { role: "assistant", content: WORDS, refusal: null };
    const answer = { ...head, object: "chat.completion", choices: [{ index: 0, message, finish_reason: "stop", logprobs: null }], usage: CHAT_USAGE };
    const chunk = (delta: Body, finish_reason: string | null = null): Part =>
      ["", { ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] }];
    const parts = [chunk({ role: "assistant" }), chunk({ content: WORDS }), chunk({ content: WORDS }), chunk({}, "stop")];
    const options = body["stream_options"] as { include_usage?: boolean } | undefined;
    if (options?.include_usage) parts.push(["", { ...head, object: "chat.completion.chunk", choices: [], usage: CHAT_USAGE }]);
    return { answer, parts };
  }

  #response(): { answer: Body; parts: Part[] } {
    const content = [{ type: "output_text", text: WORDS, annotations: [] }];
    const answer = {
      id: this.#id("resp_"), object: "response", created_at: 1, model: "gpt-5-2025-08-07", service_tier: "default", status: "completed",
      output: this.output ?? [{ type: "message", id: "m", role: "assistant", status: "completed", content }], tools: [], usage: RESPONSE_USAGE,
    };
    const delta = { type: "response.output_text.delta", item_id: "m", output_index: 0, content_index: 0, delta: WORDS };
    return {
      answer,
      parts: [
        ["response.created", { type: "response.created", response: { ...answer, status: "in_progress", output: [], usage: null } }],
        ["response.output_text.delta", delta], ["response.output_text.delta", delta],
        ["response.completed", { type: "response.completed", response: answer }],
      ],
    };
  }

  #message(): { answer: Body; parts: Part[] } {
    const answer = {
      id: this.#id("msg_"), type: "message", role: "assistant", model: "claude-sonnet-4-5", content: [{ type: "text", text: WORDS }],
      stop_reason: "end_turn", stop_sequence: null, usage: MESSAGE_USAGE,
    };
    const delta = { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: WORDS } };
    return {
      answer,
      parts: [
        ["message_start", { type: "message_start", message: { ...answer, content: [], usage: { ...MESSAGE_USAGE, output_tokens: 1 } } }],
        ["content_block_start", { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } }],
        ["content_block_delta", delta], ["content_block_delta", delta],
        ["content_block_stop", { type: "content_block_stop", index: 0 }],
        ["message_delta", { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 20 } }],
        ["message_stop", { type: "message_stop" }],
      ],
    };
  }
}

function embedding(): { answer: Body; parts: Part[] } {
  const data = [{ object: "embedding", index: 0, embedding: [0.1, 0.2] }];
  return { answer: { object: "list", model: "text-embedding-3-small", data, usage: { prompt_tokens: 100, total_tokens: 100 } }, parts: [] };
}
