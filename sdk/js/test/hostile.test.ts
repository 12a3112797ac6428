// Whatever an agent calls a tool with, its call is reported, and two calls look alike only if they say the same.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { canonical, hashOf, shapeHashOf } from "../src/usage/hashing.js";
import { FIELDS } from "../src/usage/wire.js";

const circle = (name: string): object => {
  const value: Record<string, unknown> = { name };
  value["self"] = value;
  return value;
};
const deep = (end: string): unknown => Array.from({ length: 50_000 }).reduce((inner) => [inner], end as unknown);
class Hidden {
  readonly #of: string;
  constructor(of: string) {
    this.#of = of;
  }
  get of(): string {
    return this.#of;
  }
}

/** Two values that differ, made anew. */
const APART: Record<string, () => [unknown, unknown]> = {
  "large numbers": () => [{ id: 1n << 70n }, { id: (1n << 70n) + 1n }],
  "whole numbers": () => [{ id: 1n }, { id: 2n }],
  "not numbers": () => [NaN, null],
  "endless numbers": () => [Infinity, -Infinity],
  circles: () => [circle("a"), circle("b")],
  maps: () => [new Map([["a", 1]]), new Map([["a", 2]])],
  "maps of objects": () => [new Map([[{ a: 1 }, 1]]), new Map([[{ a: 2 }, 1]])],
  sets: () => [new Set([1]), new Set([2])],
  errors: () => [new Error("a"), new Error("b")],
  "errors of two kinds": () => [new TypeError("a"), new RangeError("a")],
  causes: () => [new Error("a", { cause: "b" }), new Error("a", { cause: "c" })],
  bytes: () => [new Uint8Array([1]), new Uint8Array([2])],
  buffers: () => [new Uint8Array([1]).buffer, new Uint8Array([2]).buffer],
  patterns: () => [/a/, /b/],
  symbols: () => [Symbol("a"), Symbol("b")],
  "halves of a letter": () => ["\ud800", "\ud801"],
  dates: () => [new Date(1), new Date(2)],
  "addresses of the web": () => [new URL("http://a"), new URL("http://b")],
  "texts of megabytes": () => [["é".repeat(5_000_000)], [`${"é".repeat(4_999_999)}e`]],
};
/** Two values of which nobody can say that they are the same. */
const UNKNOWN: Record<string, () => [unknown, unknown]> = {
  promises: () => [Promise.resolve(1), Promise.resolve(1)],
  functions: () => [() => 1, () => 1],
  "what hides its fields": () => [new Hidden("a"), new Hidden("a")],
  "what is too deep": () => [deep("a"), deep("a")],
  getters: () => [1, 2].map(() => ({ get a() { throw new Error("theirs"); } })) as [unknown, unknown],
  toJSON: () => [1, 2].map(() => ({ toJSON: () => { throw new Error("theirs"); } })) as [unknown, unknown],
  proxies: () => [1, 2].map(() => new Proxy({}, { ownKeys: () => { throw new Error("theirs"); } })) as [unknown, unknown],
  "proxies that were revoked": () => [1, 2].map(() => { const made = Proxy.revocable({}, {}); made.revoke(); return made.proxy; }) as [unknown, unknown],
};
/** Two values that say the same. */
const ALIKE: [unknown, unknown][] = [
  [circle("a"), circle("a")], [new Map([["a", 1]]), { a: 1 }], [new Set([1, 2]), new Set([2, 1])], [new Error("a"), new Error("a")],
  [{ a: 1, b: undefined }, { a: 1 }], [{ a: 5n }, { a: 5 }], [Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
];

test("two that differ look apart", () => {
  for (const [what, make] of Object.entries(APART)) {
    const [one, other] = make();
    assert.notEqual(hashOf(one), hashOf(other), what);
    assert.equal(hashOf(one), hashOf(make()[0]), `${what}, made anew`);
    shapeHashOf(one);
  }
});

test("what nobody can look into looks like itself alone, and has no shape", () => {
  for (const [what, make] of Object.entries(UNKNOWN)) {
    const [one, other] = make();
    assert.notEqual(hashOf(one), hashOf(other), what);
    assert.notEqual(hashOf([one]), hashOf([other]), what);
    assert.equal(hashOf(one), hashOf(one), what);
    assert.equal(shapeHashOf(one), null, what);
  }
});

test("what says the same looks alike", () => {
  for (const [one, other] of ALIKE) assert.equal(hashOf(one), hashOf(other));
});

test("names are in the order of their letters, as everywhere", () => {
  assert.equal(canonical({ "\u{1f600}": 1, "\uff5e": 2 }), '{"\\uff5e":2,"\\ud83d\\ude00":1}');
});

test("fields are those of the contract", () => {
  const path = new URL("../../../../schemas/json/usage.v1.json", import.meta.url);
  const { $defs } = JSON.parse(readFileSync(path, "utf8")) as { $defs: Record<string, { properties: Record<string, { enum?: string[] }> }> };
  const contract = Object.values($defs).flatMap(({ properties }) => (properties["type"]?.enum ?? []).map((type) => [type, Object.keys(properties).sort()]));
  assert.deepEqual(Object.fromEntries(Object.entries(FIELDS).map(([type, names]) => [type, [...names].sort()])), Object.fromEntries(contract));
});
