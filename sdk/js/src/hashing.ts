import { createHash } from "node:crypto";
import { KEY_PATTERN, MOST_CHARACTERS, TEXT_PATTERNS, VERSION } from "./shapes.js";

const TEXT = new RegExp(TEXT_PATTERNS.join("|"), "g");
const KEY = new RegExp(KEY_PATTERN);
const GONE = "\0";

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 32);

/** 32 hexadecimal characters that are the same for the same value, whatever the order of its keys. */
export function hashOf(value: unknown): string {
  return sha256(canonical(plain(value)));
}

/** The hash of a result without its times, durations, counters, ids and white space; null if it has none to compare by. */
export function shapeHashOf(result: unknown): string | null {
  const shape = shapeOf(result);
  return shape === null ? null : `${VERSION}:${sha256(canonical(shape))}`;
}

/** The text of that shape. */
export function shapeOf(result: unknown): string | null {
  const whole = plain(result);
  if (canonical(whole).length > MOST_CHARACTERS) return null;
  const text = canonical(shaped(parsed(whole)));
  return /[0-9A-Za-z]/.test(text.replaceAll("\\u0000", "")) ? text : null;
}

/** The id of a run's answer to a command: the same from whoever gives it, so that it counts once. */
export function ackId(tenantId: string, runId: string, commandId: string): string {
  return derivedId("ack", tenantId, runId, commandId);
}

/** An id that follows from others: the same wherever they are known. */
export function derivedId(...parts: string[]): string {
  return sha256(parts.join("\0"));
}

/** JSON with sorted keys, no spaces, and ASCII only. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, item]) => `${canonical(name)}:${canonical(item)}`).join(",")}}`;
  }
  const escaped = (unit: string): string => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0");
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, escaped);
}

/** The value as JSON has it. */
function plain(value: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(value) ?? "null") as unknown;
  } catch {
    return String(value); // a circle
  }
}

function parsed(value: unknown): unknown {
  if (typeof value !== "string" || !/^\s*[{[]/.test(value)) return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}

function shaped(value: unknown): unknown {
  if (typeof value === "string") return value.replace(TEXT, GONE).replace(/[ \t\n\r\f\v]+/g, " ").replace(/^ | $/g, "");
  if (Array.isArray(value)) return value.map(shaped);
  if (value === null || typeof value !== "object") return value;
  const isGone = (name: string, item: unknown): boolean => item !== null && !["boolean", "object"].includes(typeof item) && KEY.test(name);
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, isGone(name, item) ? GONE : shaped(item)]));
}
