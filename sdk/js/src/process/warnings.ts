import { monotonicMs } from "./clock.js";

/** Who is told what goes wrong. Whatever it throws, or rejects with, is nobody's trouble. */
export type Warn = (text: string) => unknown;

const WARN_EVERY_MS = 60_000;

/** Where nobody says otherwise, warnings go to the console. */
export function toConsole(text: string): void {
  console.warn(`spendfuse: ${text}`);
}

/** Call somebody else's function; what it throws or rejects with goes to `failed`, and no further. */
export function quietly(call: () => unknown, failed: (error: unknown) => void = () => undefined): void {
  const tell = (error: unknown): void => {
    try {
      failed(error);
    } catch {
      // it has been told once
    }
  };
  try {
    Promise.resolve(call()).catch(tell);
  } catch (error) {
    tell(error);
  }
}

/** Says one kind of thing at most once a minute, and how often it happened in between. */
export class RareWarning {
  #count = 0;
  #nextMs = -Infinity;

  constructor(
    readonly warn: Warn,
    readonly text: (count: number, detail: string) => string,
  ) {}

  happened(detail = ""): void {
    this.#count += 1;
    const nowMs = monotonicMs();
    if (nowMs < this.#nextMs) return;
    const text = this.text(this.#count, detail);
    this.#count = 0;
    this.#nextMs = nowMs + WARN_EVERY_MS;
    quietly(() => this.warn(text));
  }
}

/** An error in words. Never throws. */
export function said(error: unknown): string {
  try {
    const cause = error instanceof Error ? (error.cause ?? error) : error;
    const first = cause instanceof AggregateError && cause.errors.length ? (cause.errors[0] as unknown) : cause;
    return first instanceof Error ? first.message || first.name : String(first);
  } catch {
    return "an error that cannot be put into words";
  }
}
