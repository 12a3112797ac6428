import { at, count, list, text, type Body, type ToolResult, type Usage, type Words } from "./words.js";

const TIERS = ["standard", "priority", "batch"];

/** Anthropic's Messages interface. */
export class AnthropicWords implements Words {
  readonly provider = "anthropic";

  kind(path: string): string | null {
    return path.split("?")[0] === "/v1/messages" ? "messages" : null;
  }

  prompt(_: string, body: Body): unknown {
    return body["messages"];
  }

  takesNudges(): boolean {
    return true;
  }

  told(_: string, body: Body, sentence: string): Body {
    return { ...body, messages: [...list(body, "messages"), { role: "user", content: sentence }] };
  }

  /** A stream tells its usage by itself. */
  streamed(_: string, body: Body): { body: Body; addsChunk: boolean } {
    return { body, addsChunk: false };
  }

  isAdded(): boolean {
    return false;
  }

  isOutput(part: unknown): boolean {
    return at(part, "type") === "content_block_delta";
  }

  usage(answer: unknown): Usage | null {
    const usage = usageIn(answer);
    return usage === undefined ? null : usageOf(usage);
  }

  responseId(answer: unknown): string | undefined {
    return text(answer, "message", "id") ?? text(answer, "id");
  }

  /** Fast mode has prices of its own: it is in the name, as gateways write it. */
  model(answer: unknown): string | undefined {
    const model = text(answer, "message", "model") ?? text(answer, "model");
    return model !== undefined && at(usageIn(answer), "speed") === "fast" ? `${model}-fast` : model;
  }

  asked(answer: unknown): [string, unknown][] {
    return list(answer, "content").flatMap((block) => {
      const callId = text(block, "id");
      return at(block, "type") === "tool_use" && callId !== undefined ? [[callId, block]] : [];
    });
  }

  tools(_: string, body: Body, asked: ReadonlyMap<string, unknown>): ToolResult[] {
    const shown = new Map<string, unknown>();
    return list(body, "messages").flatMap((message) => list(message, "content").flatMap((block) => {
      if (at(block, "type") === "tool_use") shown.set(text(block, "id") ?? "", block);
      const callId = text(block, "tool_use_id");
      const call = callId === undefined ? undefined : (shown.get(callId) ?? asked.get(callId));
      if (at(block, "type") !== "tool_result" || callId === undefined || call === undefined) return [];
      const status = at(block, "is_error") === true ? "error" : "ok";
      return [{ callId, tool: text(call, "name") ?? "unnamed", args: at(call, "input"), result: at(block, "content"), status }];
    }));
  }
}

function usageIn(answer: unknown): unknown {
  return at(answer, "message", "usage") ?? at(answer, "usage") ?? undefined;
}

/**
 * Usage as the Messages interface writes it, whose input tokens are without the cached ones. A stream tells the input at
 * its beginning and the output at its end: only what is said is in the answer.
 */
function usageOf(usage: unknown): Usage {
  const found: Usage = {};
  if (typeof at(usage, "input_tokens") === "number") {
    const [read, written] = [count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")];
    found.inputTokens = count(usage, "input_tokens") + read + written;
    found.cacheReadTokens = read;
    found.cacheWriteTokens = written;
    found.cacheWrite1hTokens = count(usage, "cache_creation", "ephemeral_1h_input_tokens");
  }
  if (typeof at(usage, "output_tokens") === "number") found.outputTokens = count(usage, "output_tokens");
  const searches = count(usage, "server_tool_use", "web_search_requests");
  if (searches) found.webSearches = searches;
  const tier = text(usage, "service_tier");
  if (tier !== undefined && TIERS.includes(tier)) found.serviceTier = tier as NonNullable<Usage["serviceTier"]>;
  return found;
}
