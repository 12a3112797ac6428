import { randomUUID } from "node:crypto";
import { Gateway, GatewayError, retryAfterMs, type Answer } from "./http/gateway.js";
import { sleep } from "./process/clock.js";
import { forgetAtExit, sendAtExit, type AtExit, type Parcel } from "./process/ending.js";
import { RareWarning, quietly, said, toConsole, type Warn } from "./process/warnings.js";
import type { HashKey } from "./usage/hashing.js";
import { checked, encoded, type CheckedEvent, type UsageEvent } from "./usage/wire.js";

/** Counts since the start. `dropped` events never left this process; `refused` ones the gateway will not take. */
export interface EmitterStats {
  accepted: number;
  sent: number;
  dropped: number;
  refused: number;
}

export interface EmitterOptions {
  tenantId?: string | undefined;
  mostBuffered?: number | undefined;
  mostBytes?: number | undefined;
  hashKey?: HashKey | undefined;
  warn?: Warn | undefined;
}

const LINGER_MS = 10;
const REST_MS = 1_000;
const MOST_REST_MS = 60_000;
const MOST_OF_A_REQUEST = 500;
const MOST_BYTES_OF_A_REQUEST = 1024 * 1024;
const TOO_LARGE = 413;
const NEW_LINE = Buffer.from("\n");

interface Waiting {
  eventId: string;
  value: Buffer;
}

/**
 * Sends usage events, several in one request, each under its first id until the gateway has it. No method but `flush` and
 * `close` waits for it, and none throws because of it; what finds no room is counted and warned about once a minute.
 * Nothing of it keeps a process alive: what waits when the process ends is sent then, for two seconds at most.
 */
export class Emitter implements AtExit {
  readonly stats: EmitterStats = { accepted: 0, sent: 0, dropped: 0, refused: 0 };
  /** Of the hashes of prompts, arguments and results. */
  readonly hashKey: HashKey | undefined;
  readonly #gateway: Gateway;
  readonly #tenantId: string | undefined;
  readonly #mostBuffered: number;
  readonly #mostBytes: number;
  readonly #warn: Warn;
  readonly #full: RareWarning;
  readonly #trouble: RareWarning;
  readonly #refusal: RareWarning;
  readonly #lostTags: RareWarning;
  readonly #idle = new Set<() => void>();
  #waiting: Waiting[] = [];
  #bytes = 0;
  /** Of a request; fewer where somebody in between takes fewer. */
  #mostOfARequest = MOST_BYTES_OF_A_REQUEST;
  #refusedSinceFlush = 0;
  #isSending = false;
  #isClosing = false;
  #isClosed = false;
  #hurry: (() => void) | null = null;

  constructor(gateway: Gateway, options: EmitterOptions = {}) {
    this.hashKey = options.hashKey;
    this.#gateway = gateway;
    this.#tenantId = options.tenantId;
    this.#mostBuffered = options.mostBuffered ?? 10_000;
    this.#mostBytes = options.mostBytes ?? 32 * 1024 * 1024;
    this.#warn = options.warn ?? toConsole;
    this.#full = new RareWarning(this.#warn, (count, why) => `${count} usage events dropped, spend goes unrecorded: ${why}`);
    this.#trouble = new RareWarning(this.#warn, (_, why) => `usage events are not delivered, and will be sent again: ${why}`);
    this.#refusal = new RareWarning(this.#warn, (count, why) => `${count} usage events refused, spend goes unrecorded: ${why}`);
    this.#lostTags = new RareWarning(this.#warn, (count) => `${count} usage events sent without their tags, to fit the size limit`);
    sendAtExit(this);
  }

  /** Queue an event; its id, or null when it was dropped. Throws InvalidEvent for one that the log would refuse. */
  emit(event: UsageEvent): string | null {
    return this.send(this.prepared(event));
  }

  /** The event complete and checked, without sending it. Throws InvalidEvent. */
  prepared(event: UsageEvent): CheckedEvent {
    const event_id = event.event_id ?? randomUUID().replaceAll("-", "");
    return checked({ ...event, event_id, ts_ms: event.ts_ms ?? Date.now(), tenant_id: event["tenant_id"] ?? this.#tenantId });
  }

  /** Queue a prepared event; its id, or null when it was dropped. */
  send(event: CheckedEvent): string | null {
    const { value, lostTags } = encoded(event);
    if (lostTags) this.#lostTags.happened();
    if (this.#isClosed || this.#waiting.length >= this.#mostBuffered || this.#bytes + value.length > this.#mostBytes) {
      this.stats.dropped += 1;
      this.#full.happened(this.#isClosed ? "the emitter is closed" : `${this.#waiting.length} wait for the gateway already`);
      return null;
    }
    this.stats.accepted += 1;
    this.#waiting.push({ eventId: event.event_id, value });
    this.#bytes += value.length;
    if (!this.#isSending) void this.#sendAll();
    return event.event_id;
  }

  /** Wait for the gateway, at most so long; how many events it does not have: unsent, or refused since the last flush. */
  async flush(timeoutMs = 5_000): Promise<number> {
    if (this.#waiting.length && this.#isSending) {
      const timer = new AbortController();
      const isIdle = (): void => timer.abort();
      this.#idle.add(isIdle);
      this.#hurry?.();
      await sleep(timeoutMs, timer.signal, true);
      this.#idle.delete(isIdle);
    }
    const refused = this.#refusedSinceFlush;
    this.#refusedSinceFlush = 0;
    return this.#waiting.length + refused;
  }

  /** Flush and end; what `flush` does. Later events are dropped and counted. */
  async close(timeoutMs = 5_000): Promise<number> {
    if (this.#isClosed) return this.#waiting.length;
    this.#isClosing = true;
    const missing = await this.flush(timeoutMs);
    this.#end();
    return missing;
  }

  parcel(): Parcel {
    const bodies: Buffer[] = [];
    for (let at = 0; at < this.#waiting.length; ) {
      const batch = this.#batch(at);
      at += batch.length;
      bodies.push(bodyOf(batch));
    }
    return { ...this.#gateway.forOthers, bodies };
  }

  sentAtExit(bodies: number): void {
    for (let body = 0; body < bodies; body++) this.#settle(this.#batch(0), new Map());
    this.#end();
  }

  #end(): void {
    this.#isClosed = true;
    forgetAtExit(this);
    this.#hurry?.();
    const { accepted, dropped, refused } = this.stats;
    const unsent = this.#waiting.length;
    if (unsent + refused + dropped === 0) return;
    const lost = `${unsent + refused + dropped} of ${accepted + dropped} usage events are not in the log, and their spend is not counted`;
    quietly(() => this.#warn(`${lost}; waiting for the gateway at the end: ${unsent}, refused by it: ${refused}, dropped for want of room: ${dropped}`));
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true;
    let restMs = LINGER_MS;
    do {
      await this.#rest(restMs);
      restMs = this.#isClosed ? 0 : await this.#sendOne(this.#batch(0));
    } while (this.#waiting.length && !this.#isClosed);
    this.#isSending = false;
    for (const isIdle of this.#idle) isIdle();
  }

  #batch(from: number): Waiting[] {
    const batch: Waiting[] = [];
    let bytes = 0;
    for (let at = from; at < this.#waiting.length && batch.length < MOST_OF_A_REQUEST && bytes < this.#mostOfARequest; at++) {
      const each = this.#waiting[at] as Waiting;
      batch.push(each);
      bytes += each.value.length;
    }
    return batch;
  }

  /** Send a request, and see what has become of each; how long to wait before the next one. Never throws. */
  async #sendOne(batch: Waiting[]): Promise<number> {
    let restMs = REST_MS;
    try {
      const answer = await this.#gateway.request("/v1/events", { method: "POST", body: bodyOf(batch) });
      if (answer.status === TOO_LARGE) return this.#split(batch);
      if (!this.#isClosing) restMs = Math.min(Math.max(retryAfterMs(answer.headers), REST_MS), MOST_REST_MS);
      const refused = refusedIn(answer, batch.length);
      if (refused === null) throw this.#gateway.refused(answer);
      this.#settle(batch, refused);
      return 0;
    } catch (error) {
      this.#trouble.happened(error instanceof GatewayError ? error.message : said(error));
      return restMs;
    }
  }

  /** Have events go in smaller requests from now on: a proxy may take less than the gateway does. */
  #split(batch: Waiting[]): number {
    if (batch.length === 1) {
      this.#settle(batch, new Map([[0, "the request is too large for the gateway, or for a proxy before it"]]));
      return 0;
    }
    const sizes = batch.map((each) => each.value.length);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    this.#mostOfARequest = Math.max(Math.floor(bytes / 2) - Math.max(...sizes), 1);
    return 0;
  }

  /** These were the first that waited, and have been answered for. */
  #settle(batch: Waiting[], refused: ReadonlyMap<number, string>): void {
    this.#waiting.splice(0, batch.length);
    this.#bytes -= batch.reduce((sum, each) => sum + each.value.length, 0);
    this.stats.sent += batch.length - refused.size;
    this.stats.refused += refused.size;
    this.#refusedSinceFlush += refused.size;
    for (const why of refused.values()) this.#refusal.happened(why);
  }

  async #rest(lengthMs: number): Promise<void> {
    if (lengthMs <= 0) return;
    const timer = new AbortController();
    this.#hurry = () => timer.abort();
    await sleep(lengthMs, timer.signal);
    this.#hurry = null;
  }
}

/** One message a line. */
function bodyOf(batch: Waiting[]): Buffer {
  return Buffer.concat(batch.flatMap((each, at) => (at ? [NEW_LINE, each.value] : [each.value])));
}

/** Place -> why, of the events that the gateway will not take; null if that is no answer of a gateway's. */
function refusedIn({ status, body }: Answer, count: number): Map<number, string> | null {
  const rejected = body["rejected"];
  if ((status !== 200 && status !== 400) || !Array.isArray(rejected)) return null;
  const refused = new Map<number, string>();
  for (const each of rejected as ({ index?: unknown; reason?: unknown; detail?: unknown } | null)[]) {
    const index = each?.index;
    if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= count) return null; // somebody in between has made it up
    refused.set(index, `${String(each?.reason)}: ${String(each?.detail)}`);
  }
  return refused;
}
