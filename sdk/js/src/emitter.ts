import { randomUUID } from "node:crypto";
import { InvalidEvent } from "./errors.js";
import { Gateway, GatewayError, answered } from "./gateway.js";

/** A message of usage.v1 by the contract's field names; `event_id` and `ts_ms` are filled in where missing. */
export type UsageEvent = { type: string; run_id: string; event_id?: string; ts_ms?: number } & Record<string, unknown>;

/** Counts since the start. `dropped` events never left this process; `refused` ones the gateway will not take. */
export interface EmitterStats {
  accepted: number;
  sent: number;
  dropped: number;
  refused: number;
}

const LINGER_MS = 10;
const REST_MS = 1_000;
const MOST_OF_A_REQUEST = 500;
const MOST_BYTES_OF_A_REQUEST = 1024 * 1024;
const MOST_BYTES_OF_AN_EVENT = 64 * 1024;
const WARN_EVERY_MS = 60_000;

interface Waiting {
  eventId: string;
  value: string;
}

/**
 * Sends usage events, several in one request, each under its first id until the gateway has it. No method but `flush` and
 * `close` waits for it, and none throws because of it; what finds no room is counted and warned about once a minute.
 */
export class Emitter {
  readonly stats: EmitterStats = { accepted: 0, sent: 0, dropped: 0, refused: 0 };
  readonly #gateway: Gateway;
  readonly #mostBuffered: number;
  readonly #mostBytes: number;
  readonly #warn: (text: string) => void;
  readonly #warnedAt = new Map<string, number>();
  #waiting: Waiting[] = [];
  #bytes = 0;
  #refusedSinceFlush = 0;
  #sending: Promise<void> | null = null;
  #closed = false;
  #idle: (() => void)[] = [];
  #hurry: (() => void) | null = null;

  constructor(gateway: Gateway, options: { mostBuffered?: number; mostBytes?: number; warn?: (text: string) => void } = {}) {
    this.#gateway = gateway;
    this.#mostBuffered = options.mostBuffered ?? 10_000;
    this.#mostBytes = options.mostBytes ?? 32 * 1024 * 1024;
    this.#warn = options.warn ?? ((text) => console.warn(`spendfuse: ${text}`));
  }

  /** Queue an event; its id, or null when it was dropped. Throws InvalidEvent for one that is too large. */
  emit(event: UsageEvent): string | null {
    const eventId = event.event_id ?? randomUUID().replaceAll("-", "");
    const whole = { ...event, event_id: eventId, ts_ms: event.ts_ms ?? Date.now() };
    const value = JSON.stringify(whole, (_, item: unknown) => (item === null ? undefined : item));
    if (value.length > MOST_BYTES_OF_AN_EVENT) throw new InvalidEvent("the event takes more than 64 KiB: shorten its names");
    if (this.#closed || this.#waiting.length >= this.#mostBuffered || this.#bytes + value.length > this.#mostBytes) {
      this.stats.dropped += 1;
      this.#warnRarely("dropped", `usage events are dropped, spend goes unrecorded: ${this.#closed ? "the emitter is closed" : `${this.#waiting.length} wait for the gateway already`}`);
      return null;
    }
    this.stats.accepted += 1;
    this.#waiting.push({ eventId, value });
    this.#bytes += value.length;
    this.#sending ??= this.#send();
    return eventId;
  }

  /** Wait for the gateway, at most so long; how many events it does not have: unsent, or refused since the last flush. */
  async flush(timeoutMs = 5_000): Promise<number> {
    if (this.#waiting.length) {
      const timer = new AbortController();
      const idle = new Promise<void>((resolve) => this.#idle.push(resolve));
      this.#hurry?.();
      await Promise.race([idle, sleep(timeoutMs, timer.signal)]);
      timer.abort();
    }
    const refused = this.#refusedSinceFlush;
    this.#refusedSinceFlush = 0;
    return this.#waiting.length + refused;
  }

  /** Flush and end; what `flush` does. Later events are dropped and counted. */
  async close(timeoutMs = 5_000): Promise<number> {
    const missing = await this.flush(timeoutMs);
    this.#closed = true;
    this.#hurry?.();
    const lost = this.#waiting.length + this.stats.refused + this.stats.dropped;
    if (lost) this.#warn(`${lost} of ${this.stats.accepted + this.stats.dropped} usage events are not in the log, and their spend is not counted`);
    return missing;
  }

  async #send(): Promise<void> {
    await this.#rest(LINGER_MS);
    while (this.#waiting.length && !this.#closed) {
      const batch = this.#batch();
      if (!(await this.#sent(batch))) await this.#rest(REST_MS);
    }
    this.#sending = null;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #batch(): Waiting[] {
    const batch: Waiting[] = [];
    let bytes = 0;
    for (const each of this.#waiting) {
      if (batch.length >= MOST_OF_A_REQUEST || bytes > MOST_BYTES_OF_A_REQUEST) break;
      batch.push(each);
      bytes += each.value.length;
    }
    return batch;
  }

  /** Whether the gateway has answered for each of them. */
  async #sent(batch: Waiting[]): Promise<boolean> {
    let rejected: unknown;
    try {
      const response = await this.#gateway.request("/v1/events", { method: "POST", body: batch.map((each) => each.value).join("\n") });
      const answer = await answered(response);
      rejected = answer["rejected"];
      if (![200, 400].includes(response.status) || !Array.isArray(rejected)) throw this.#gateway.refused(response.status, answer);
    } catch (error) {
      this.#warnRarely("trouble", `usage events are not delivered, and will be sent again: ${error instanceof GatewayError ? error.message : String(error)}`);
      return false;
    }
    this.#waiting.splice(0, batch.length);
    this.#bytes -= batch.reduce((sum, each) => sum + each.value.length, 0);
    const refused = rejected as { reason: string; detail: string }[];
    this.stats.sent += batch.length - refused.length;
    this.stats.refused += refused.length;
    this.#refusedSinceFlush += refused.length;
    if (refused[0]) this.#warnRarely("refused", `usage events are refused, spend goes unrecorded: ${refused[0].reason}: ${refused[0].detail}`);
    return true;
  }

  async #rest(lengthMs: number): Promise<void> {
    const timer = new AbortController();
    this.#hurry = () => timer.abort();
    await sleep(lengthMs, timer.signal);
    this.#hurry = null;
  }

  #warnRarely(kind: string, text: string): void {
    const nowMs = Date.now();
    if (nowMs - (this.#warnedAt.get(kind) ?? 0) < WARN_EVERY_MS) return;
    this.#warnedAt.set(kind, nowMs);
    this.#warn(text);
  }
}

/** Wait, or until somebody aborts. Keeps no process alive. */
export function sleep(lengthMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, lengthMs);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
