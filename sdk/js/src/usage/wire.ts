import { InvalidEvent } from "../errors.js";

/** The messages of usage.v1: which fields, how long, how large. The service refuses what breaks these bounds. */

/** A message by the contract's field names; `event_id` and `ts_ms` are filled in where missing. */
export type UsageEvent = { type: string; run_id: string; event_id?: string; ts_ms?: number } & Record<string, unknown>;
/** A message that has been looked at. */
export type CheckedEvent = Record<string, unknown> & { type: string; run_id: string; event_id: string; ts_ms: number };

const MOST_BYTES = 64 * 1024;
const MOST_TAGS = 16;
const MOST_OF_AN_EVENT_NANOUSD = 10 ** 15;
const MOST_OF_A_CAP_NANOUSD = 10 ** 18;
const FIRST_MS = 10 ** 12;
const END_MS = 7_258_118_400_000;

type Field = (name: string, value: unknown) => unknown;

function text(mostChars: number, leastChars = 0): Field {
  return (name, value) => {
    if (typeof value !== "string") throw new InvalidEvent(`${name} must be a string, not ${kindOf(value)}`);
    // Half of a pair, as where a name was cut: UTF-8 cannot carry it.
    const whole = value.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");
    const length = whole.length > mostChars ? [...whole].length : whole.length;
    if (length < leastChars || length > mostChars) throw new InvalidEvent(`${name} must have ${leastChars} to ${mostChars} characters, has ${length}`);
    return whole;
  };
}

function whole(low: number, high: number): Field {
  return (name, value) => {
    const number = typeof value === "bigint" ? Number(value) : value;
    if (typeof number !== "number" || !Number.isInteger(number)) throw new InvalidEvent(`${name} must be a whole number, not ${kindOf(value)}`);
    if (number < low || number > high) throw new InvalidEvent(`${name} must be from ${low} to ${high}`);
    return number;
  };
}

/** Milliseconds, of which `performance.now()` gives fractions; a Date is the moment that it names. */
function milliseconds(low: number, high: number): Field {
  const bounded = whole(low, high);
  return (name, value) => bounded(name, value instanceof Date ? value.getTime() : typeof value === "number" ? Math.round(value) : value);
}

function oneOf(...words: string[]): Field {
  return (name, value) => {
    if (typeof value !== "string" || !words.includes(value)) throw new InvalidEvent(`${name} must be one of ${words.join(", ")}`);
    return value;
  };
}

const flag: Field = (name, value) => {
  if (typeof value !== "boolean") throw new InvalidEvent(`${name} must be true or false, not ${kindOf(value)}`);
  return value;
};

const ID = text(128, 1);
const NAME = text(256);
const HASH = text(128);
const COUNT = whole(0, 10 ** 12);
const MONEY = whole(0, MOST_OF_AN_EVENT_NANOUSD);
const LENGTH_MS = milliseconds(0, 10 ** 12);
const EPOCH_MS = milliseconds(0, Number.MAX_SAFE_INTEGER);
const CALL_STATUS = oneOf("ok", "error", "cancelled");

const tags: Field = (name, value) => {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new InvalidEvent(`${name} must be an object of strings`);
  const given = Object.entries(value).filter(([, item]) => item !== "" && item !== undefined && item !== null);
  if (given.length > MOST_TAGS) throw new InvalidEvent(`${name} may hold ${MOST_TAGS} pairs, holds ${given.length}`);
  return Object.fromEntries(given.map(([key, item]) => [NAME(`a key of ${name}`, key), NAME(`a value of ${name}`, item)]));
};

/** Whose spend it is. A run says so once, on `run_started`. */
export const ATTRIBUTION = [
  "workflow", "owner", "project", "environment", "agent", "user", "feature", "tier", "task_category", "feature_flag", "prompt_version",
] as const;

const EVERY: Record<string, Field> = {
  event_id: ID, ts_ms: milliseconds(FIRST_MS, END_MS - 1), tenant_id: ID, run_id: ID, seq: whole(1, Number.MAX_SAFE_INTEGER),
  session_id: ID, root_run_id: ID, parent_run_id: ID, ...Object.fromEntries(ATTRIBUTION.map((name) => [name, NAME])), tags, backfill: flag,
};

const OWN: Record<string, Record<string, Field>> = {
  llm_call: {
    model: NAME, provider: NAME, route: NAME, input_tokens: COUNT, cache_read_tokens: COUNT, cache_write_tokens: COUNT,
    output_tokens: COUNT, reasoning_tokens: COUNT, cost_nanousd: MONEY, price_source: NAME, attempt: whole(1, 10 ** 6),
    status: CALL_STATUS, error_type: NAME, latency_ms: LENGTH_MS, started_ms: EPOCH_MS, prompt_hash: HASH, images: COUNT,
    cache_hit: flag, cache_write_1h_tokens: COUNT, input_audio_tokens: COUNT, output_audio_tokens: COUNT,
    output_image_tokens: COUNT, service_tier: oneOf("standard", "batch", "flex", "priority"), web_searches: COUNT,
    fallback_from: NAME, context_reload: flag, escalation_reason: NAME,
  },
  tool_call: {
    tool: NAME, args_hash: HASH, result_hash: HASH, status: CALL_STATUS, latency_ms: LENGTH_MS, cost_nanousd: MONEY,
    result_shape_hash: HASH, started_ms: EPOCH_MS, writes: flag, error_type: NAME,
  },
  run_started: {
    expected_route: NAME, expected_outcome: NAME, cap_nanousd: whole(0, MOST_OF_A_CAP_NANOUSD), max_retries: COUNT,
    max_tool_calls: COUNT, max_duration_s: COUNT,
  },
  run_finished: { status: oneOf("completed", "failed", "cancelled", "killed") },
  outcome: { outcome: oneOf("accepted", "edited", "rejected", "escalated") },
  command_ack: {
    command_id: ID, denied_by: NAME,
    acted: oneOf("stopped", "paused", "resumed", "downgraded", "already_finished", "ignored", "delivered"),
  },
};

const NEEDED: Record<string, readonly string[]> = {
  llm_call: ["model"], tool_call: ["tool"], run_started: [], run_finished: ["status"], outcome: ["outcome"], command_ack: ["command_id", "acted"],
};

/** Message type -> the names of its fields. */
export const FIELDS: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  Object.entries(OWN).map(([type, own]) => [type, ["type", ...Object.keys(EVERY), ...Object.keys(own)]]),
);

/**
 * The event without what is not set, each value of the contract's type and within its bounds. Throws InvalidEvent, for a
 * field that the contract does not know too: no text slips out under a new name, and no count is lost under a wrong one.
 */
export function checked(event: UsageEvent): CheckedEvent {
  const own = OWN[event.type];
  const needed = NEEDED[event.type];
  if (!own || !needed) throw new InvalidEvent(`type must be one of ${Object.keys(OWN).join(", ")}`);
  const clean: Record<string, unknown> = { type: event.type };
  for (const [name, value] of Object.entries(event)) {
    if (name === "type" || value === undefined || value === null) continue;
    const field = own[name] ?? EVERY[name];
    if (!field) throw new InvalidEvent(`a ${event.type} has no field ${JSON.stringify(name.slice(0, 40))}; it has ${FIELDS[event.type]?.join(", ")}`);
    if (value === "" && ![...needed, "run_id", "event_id"].includes(name)) continue;
    clean[name] = field(name, value);
  }
  const missing = ["event_id", "ts_ms", "run_id", ...needed].filter((name) => !(name in clean));
  if (missing.length) throw new InvalidEvent(`a ${event.type} needs ${missing.join(", ")}`);
  return clean as CheckedEvent;
}

/** The event's JSON, and whether its tags had to go to make it fit. Throws InvalidEvent if that was not enough. */
export function encoded(event: CheckedEvent): { value: Buffer; lostTags: boolean } {
  const value = Buffer.from(JSON.stringify(event));
  if (value.length <= MOST_BYTES) return { value, lostTags: false };
  const { tags: gone, ...rest } = event;
  const shorter = Buffer.from(JSON.stringify(rest));
  if (shorter.length > MOST_BYTES) throw new InvalidEvent(`the event takes ${shorter.length} bytes, ${MOST_BYTES} are allowed: shorten its names`);
  return { value: shorter, lostTags: gone !== undefined };
}

/** US dollars in nano-dollars. Throws InvalidEvent for what is no amount. */
export function nanousd(usd: number | string | undefined | null, name: string): number | undefined {
  if (usd === undefined || usd === null) return undefined;
  const amount = typeof usd === "string" && usd.trim() !== "" ? Number(usd) : usd;
  if (typeof amount !== "number" || !Number.isFinite(amount) || amount < 0) throw new InvalidEvent(`${name} must be an amount of US dollars, such as 0.0041`);
  return Math.round(amount * 1e9);
}

function kindOf(value: unknown): string {
  if (typeof value === "number") return Number.isFinite(value) ? "a fraction" : String(value);
  if (value === null || typeof value !== "object") return `a ${typeof value}`;
  return Array.isArray(value) ? "an array" : "an object";
}
