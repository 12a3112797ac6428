import { createHash, randomUUID } from "node:crypto";

const MOST_DEPTH = 100;
/** A longer text is named by its hash, so that no result holds an agent up. */
const MOST_CHARACTERS = 1024 * 1024;
const PROCESS = randomUUID();
const numbers = new WeakMap<object, number>();
let lastNumber = 0;

/** What begins a text that stands for something else, which has no shape. */
export const OPAQUE = "opaque:";

/**
 * A value in JSON's own types, so that two are equal only if they say the same. What JSON leaves out or cannot say
 * (maps, sets, errors, bytes, whole numbers beyond 2^53, circles) is told apart by what it holds; an object that shows
 * nothing of what it holds, such as a promise, by itself: it equals no other. Throws for what is nested too deeply, and
 * whatever the value's own code throws.
 */
export function plain(value: unknown): unknown {
  return inJson(value, []);
}

/** A text that is the same for the same object, and for no other. */
export function opaque(value: unknown): string {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return `${OPAQUE}${randomUUID()}`;
  const number = numbers.get(value) ?? ++lastNumber;
  numbers.set(value, number);
  return `${OPAQUE}${PROCESS}/${number}`;
}

function inJson(value: unknown, parents: readonly object[]): unknown {
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      return value.length <= MOST_CHARACTERS ? value : `${OPAQUE}${sha256(value)}`;
    case "number":
      return Number.isFinite(value) ? value : `number:${value}`;
    case "bigint":
      return Number.isSafeInteger(Number(value)) ? Number(value) : `number:${value}`;
    case "undefined":
      return null;
    case "symbol":
      return String(value);
    case "function":
      return opaque(value);
    default:
      return value === null ? null : objectInJson(value as object, parents);
  }
}

function objectInJson(value: object, parents: readonly object[]): unknown {
  const up = parents.lastIndexOf(value);
  if (up >= 0) return `circle:${parents.length - up}`;
  if (parents.length >= MOST_DEPTH) throw new RangeError("nested too deeply");
  const around = [...parents, value];
  const inner = (item: unknown): unknown => inJson(item, around);
  if (Array.isArray(value)) return value.map(inner);
  if (value instanceof ArrayBuffer) return bytes(new Uint8Array(value));
  if (ArrayBuffer.isView(value)) return bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  if ("toJSON" in value && typeof value.toJSON === "function") return inner(value.toJSON());
  if (value instanceof Map) return isNamed(value) ? members(value, inner) : { map: [...value].map(inner) };
  if (value instanceof Set) return { set: [...value].map((item) => JSON.stringify(inner(item))).sort() };
  if (value instanceof Error) return { error: value.name, message: inner(value.message), cause: inner(value.cause), ...members(Object.entries(value), inner) };
  if (value instanceof RegExp) return String(value);
  if (value instanceof String || value instanceof Number || value instanceof Boolean) return inner(value.valueOf());
  const shown = members(Object.entries(value), inner);
  return Object.keys(shown).length === 0 && !isRecord(value) ? opaque(value) : shown;
}

/** As JSON has it, without what is not set. A `__proto__` is a name like any other. */
function members(entries: Iterable<[string, unknown]>, inner: (item: unknown) => unknown): object {
  const given = [...entries].filter(([, item]) => item !== undefined && typeof item !== "function" && typeof item !== "symbol");
  return Object.fromEntries(given.map(([name, item]) => [name, inner(item)]));
}

function isNamed(map: Map<unknown, unknown>): map is Map<string, unknown> {
  return [...map.keys()].every((name) => typeof name === "string");
}

function isRecord(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function bytes(value: Uint8Array): string {
  return `bytes:${sha256(value)}`;
}

function sha256(value: string | Uint8Array): string {
  return createHash("sha256").update(value).digest("hex");
}
