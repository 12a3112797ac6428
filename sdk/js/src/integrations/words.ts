import type { LlmCall } from "../run.js";

/** How calls to one provider are read and changed. */
export interface Words {
  readonly provider: string;
  /** What is called at a path; null for what is no model. */
  kind(path: string): string | null;
  /** What the model is asked. */
  prompt(kind: string, body: Body): unknown;
  /** Whether a sentence can be put before the model. */
  takesNudges(kind: string): boolean;
  /** The body with a sentence before the model. */
  told(kind: string, body: Body, sentence: string): Body;
  /** The body with which a stream tells its usage, and whether that adds a chunk which nobody has asked for. */
  streamed(kind: string, body: Body): { body: Body; addsChunk: boolean };
  /** Whether it is the chunk that only tells the usage. */
  isAdded(chunk: unknown): boolean;
  /** Whether a part of a stream holds something that the model has written. */
  isOutput(part: unknown): boolean;
  /** What an answer, or a part of a stream, says of usage; null if it says nothing. */
  usage(answer: unknown): Usage | null;
  /** The provider's id of the answer. */
  responseId(answer: unknown): string | undefined;
  /** Which model has answered. */
  model(answer: unknown): string | undefined;
  /** The tools that an answer asks for, by the ids of their calls. */
  asked(answer: unknown): [callId: string, tool: unknown][];
  /** The tools whose results a conversation shows. What is `asked` was so in answers that it does not repeat. */
  tools(kind: string, body: Body, asked: ReadonlyMap<string, unknown>): ToolResult[];
}

export type Body = Record<string, unknown>;
/** What an answer says of its price. `inputTokens` is the total, cached ones included. */
export type Usage = Partial<Omit<LlmCall, "model" | "prompt" | "responseId">>;

/** A tool that was used, as a conversation shows it. */
export interface ToolResult {
  callId: string;
  tool: string;
  args: unknown;
  result: unknown;
  status: "ok" | "error";
}

/** What an answer, or what has come of a stream, says of itself. */
export class Seen {
  usage: Usage = {};
  responseId: string | undefined;
  model: string | undefined;
  readonly #words: Words;
  #outputs = 0;

  constructor(words: Words) {
    this.#words = words;
  }

  take(part: unknown): void {
    this.responseId ??= this.#words.responseId(part);
    this.model ??= this.#words.model(part);
    this.usage = { ...this.usage, ...this.#words.usage(part) };
    if (this.#words.isOutput(part)) this.#outputs += 1;
  }

  /** The usage of a stream that has broken off, from below: each part with output is a token at least. */
  get soFar(): Usage {
    return { ...this.usage, outputTokens: Math.max(this.usage.outputTokens ?? 0, this.#outputs) };
  }
}

/** A member of a member; undefined where there is none. */
export function at(thing: unknown, ...names: string[]): unknown {
  return names.reduce<unknown>((found, name) => (found !== null && typeof found === "object" ? (found as Body)[name] : undefined), thing);
}

/** A count of tokens; 0 where it is none. */
export function count(thing: unknown, ...names: string[]): number {
  const value = at(thing, ...names);
  return Number.isSafeInteger(value) && (value as number) > 0 ? (value as number) : 0;
}

/** A text; undefined where it is none. */
export function text(thing: unknown, ...names: string[]): string | undefined {
  const value = at(thing, ...names);
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** A list; an empty one where it is none. */
export function list(thing: unknown, ...names: string[]): unknown[] {
  const value = at(thing, ...names);
  return Array.isArray(value) ? value : [];
}
