import { createHash, createHmac } from "node:crypto";
import { OPAQUE, opaque, plain } from "./plain.js";
import { KEY_PATTERN, MOST_CHARACTERS, TEXT_PATTERNS, VERSION } from "./shapes.js";

const TEXT = new RegExp(TEXT_PATTERNS.join("|"), "g");
const KEY = new RegExp(KEY_PATTERN);
const GONE = "\0";

/** Of one's own, so that short values cannot be found by trying. */
export type HashKey = string | Uint8Array;

function digest(text: string, key?: HashKey): string {
  const hash = key === undefined ? createHash("sha256") : createHmac("sha256", key);
  return hash.update(text).digest("hex").slice(0, 32);
}

/**
 * 32 hexadecimal characters that are the same for the same value, whatever the order of its keys. Never throws: what
 * cannot be read has a hash that equals no other's.
 */
export function hashOf(value: unknown, key?: HashKey): string {
  try {
    return digest(canonical(plain(value)), key);
  } catch {
    return digest(opaque(value), key); // too large, too deep, a getter's fault
  }
}

/** The hash of a result without its times, durations, counters, ids and white space; null if it has none to compare by. */
export function shapeHashOf(result: unknown, key?: HashKey): string | null {
  const shape = shapeOf(result);
  return shape === null ? null : `${VERSION}:${digest(canonical(shape), key)}`;
}

/** The text of that shape. Never throws. */
export function shapeOf(result: unknown): string | null {
  try {
    const whole = plain(result);
    if (canonical(whole).length > MOST_CHARACTERS) return null;
    const text = canonical(shaped(parsed(whole)));
    return /[0-9A-Za-z]/.test(text.replaceAll("\\u0000", "")) ? text : null;
  } catch {
    return null;
  }
}

/** The id of a run's answer to a command: the same from whoever gives it, so that it counts once. */
export function ackId(tenantId: string, runId: string, commandId: string): string {
  return derivedId("ack", tenantId, runId, commandId);
}

/** An id that follows from others: the same wherever they are known. */
export function derivedId(...parts: string[]): string {
  return digest(parts.join("\0"));
}

/** JSON with sorted keys, no spaces, and ASCII only. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value).sort(([a], [b]) => byCodePoint(a, b));
    return `{${members.map(([name, item]) => `${canonical(name)}:${canonical(item)}`).join(",")}}`;
  }
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"));
}

/** JavaScript's own order is that of UTF-16, in which pairs stand before some that are less. */
function byCodePoint(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let at = 0; at < left.length && at < right.length; at++) {
    const apart = (left[at]?.codePointAt(0) ?? 0) - (right[at]?.codePointAt(0) ?? 0);
    if (apart) return apart;
  }
  return left.length - right.length;
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
  if (typeof value === "string") {
    if (value.startsWith(OPAQUE)) throw new TypeError("it has no shape");
    return value.replace(TEXT, GONE).replace(/[ \t\n\r\f\v]+/g, " ").replace(/^ | $/g, "");
  }
  if (Array.isArray(value)) return value.map(shaped);
  if (value === null || typeof value !== "object") return value;
  const isGone = (name: string, item: unknown): boolean => item !== null && !["boolean", "object"].includes(typeof item) && KEY.test(name);
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, isGone(name, item) ? GONE : shaped(item)]));
}
