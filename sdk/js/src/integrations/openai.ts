import { at, count, list, text, type Body, type ToolResult, type Usage, type Words } from "./words.js";

const KINDS: Readonly<Record<string, string>> = {
  "/chat/completions": "chat", "/responses": "responses", "/embeddings": "embeddings", "/completions": "completions",
};
const TIERS: Readonly<Record<string, Usage["serviceTier"]>> = {
  default: "standard", standard: "standard", flex: "flex", priority: "priority", batch: "batch",
};
const FINAL_EVENTS = ["response.completed", "response.incomplete", "response.failed"];
/** Where a part of a chat has what the model has written, by OpenAI and by others who speak its interface. */
const WRITTEN = ["content", "tool_calls", "function_call", "refusal", "reasoning", "reasoning_content"];

/** OpenAI's interface, which many providers speak: chat completions, responses, embeddings. */
export class OpenAIWords implements Words {
  constructor(readonly provider: string) {}

  kind(path: string): string | null {
    return KINDS[path.split("?")[0] ?? ""] ?? null;
  }

  prompt(kind: string, body: Body): unknown {
    return body[kind === "chat" ? "messages" : kind === "completions" ? "prompt" : "input"];
  }

  takesNudges(kind: string): boolean {
    return kind === "chat" || kind === "responses";
  }

  told(kind: string, body: Body, sentence: string): Body {
    const said = { role: "user", content: sentence };
    if (kind === "chat") return { ...body, messages: [...list(body, "messages"), said] };
    const before = typeof body["input"] === "string" ? [{ role: "user", content: body["input"] }] : list(body, "input");
    return { ...body, input: [...before, said] };
  }

  streamed(kind: string, body: Body): { body: Body; addsChunk: boolean } {
    const isAsked = at(body, "stream_options", "include_usage") === true;
    if (isAsked || (kind !== "chat" && kind !== "completions")) return { body, addsChunk: false };
    return { body: { ...body, stream_options: { ...(body["stream_options"] as Body | undefined), include_usage: true } }, addsChunk: true };
  }

  isAdded(chunk: unknown): boolean {
    return (at(chunk, "usage") ?? null) !== null && list(chunk, "choices").length === 0;
  }

  isOutput(part: unknown): boolean {
    if (text(part, "type")?.endsWith(".delta")) return true;
    return list(part, "choices").some((choice) => at(choice, "text") || WRITTEN.some((name) => at(choice, "delta", name)));
  }

  usage(answer: unknown): Usage | null {
    const whole = FINAL_EVENTS.includes(text(answer, "type") ?? "") ? at(answer, "response") : answer;
    const usage = at(whole, "usage") ?? null;
    return usage === null ? null : usageOf(usage, text(whole, "service_tier"));
  }

  responseId(answer: unknown): string | undefined {
    return text(answer, "response", "id") ?? text(answer, "id");
  }

  model(answer: unknown): string | undefined {
    return text(answer, "response", "model") ?? text(answer, "model");
  }

  asked(answer: unknown): [string, unknown][] {
    const whole = FINAL_EVENTS.includes(text(answer, "type") ?? "") ? at(answer, "response") : answer;
    return list(whole, "output").flatMap((item) => {
      const callId = text(item, "call_id");
      return at(item, "type") === "function_call" && callId !== undefined ? [[callId, item]] : [];
    });
  }

  tools(kind: string, body: Body, asked: ReadonlyMap<string, unknown>): ToolResult[] {
    if (kind === "chat") return toolsOfMessages(list(body, "messages"));
    return kind === "responses" ? toolsOfItems(list(body, "input"), asked) : [];
  }
}

/** Usage as chat completions, responses and embeddings write it. */
function usageOf(usage: unknown, tier: string | undefined): Usage {
  const inputs = at(usage, "prompt_tokens_details") ?? at(usage, "input_tokens_details");
  const outputs = at(usage, "completion_tokens_details") ?? at(usage, "output_tokens_details");
  return {
    inputTokens: count(usage, "prompt_tokens") || count(usage, "input_tokens"),
    outputTokens: count(usage, "completion_tokens") || count(usage, "output_tokens"),
    cacheReadTokens: count(inputs, "cached_tokens"),
    cacheWriteTokens: count(inputs, "cache_write_tokens"),
    reasoningTokens: count(outputs, "reasoning_tokens"),
    inputAudioTokens: count(inputs, "audio_tokens"),
    outputAudioTokens: count(outputs, "audio_tokens"),
    ...(tier !== undefined && Object.hasOwn(TIERS, tier) ? { serviceTier: TIERS[tier] } : {}),
  };
}

function toolsOfMessages(messages: unknown[]): ToolResult[] {
  const asked = new Map<string, unknown>();
  return messages.flatMap((message) => {
    for (const call of list(message, "tool_calls")) asked.set(text(call, "id") ?? "", at(call, "function"));
    const callId = text(message, "tool_call_id");
    return callId !== undefined && asked.has(callId) ? [used(callId, asked.get(callId), at(message, "content"))] : [];
  });
}

function toolsOfItems(items: unknown[], before: ReadonlyMap<string, unknown>): ToolResult[] {
  const asked = new Map<string, unknown>();
  return items.flatMap((item) => {
    const callId = text(item, "call_id") ?? "";
    if (at(item, "type") === "function_call") asked.set(callId, item);
    const call = asked.get(callId) ?? before.get(callId);
    const isResult = at(item, "type") === "function_call_output" && callId !== "" && call !== undefined;
    return isResult ? [used(callId, call, at(item, "output"))] : [];
  });
}

function used(callId: string, call: unknown, result: unknown): ToolResult {
  return { callId, tool: text(call, "name") ?? "unnamed", args: parsed(at(call, "arguments")), result, status: "ok" };
}

/** Arguments as what they say: two ways to write the same are the same. */
function parsed(args: unknown): unknown {
  if (typeof args !== "string") return args;
  try {
    return JSON.parse(args) as unknown;
  } catch {
    return args;
  }
}
