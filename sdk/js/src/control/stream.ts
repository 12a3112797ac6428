import { clearTimeout, setTimeout } from "node:timers";
import { Gateway, GatewayError, objectIn } from "../http/gateway.js";
import { monotonicMs, sleep } from "../process/clock.js";
import { RareWarning, said, type Warn } from "../process/warnings.js";

const SILENCE_MS = 5_000;
const AGAIN_MS = 200;
const MOST_AGAIN_MS = 3_000;
/** For how long nobody asks at most, whoever wants to be left alone: a kill may wait there. */
const MOST_REST_MS = 10_000;
const MOST_CHARACTERS_OF_AN_EVENT = 1024 * 1024;

/** Who hears what a gateway says. */
export interface Listener {
  /** A record of control.v1, with the names and values of its headers. */
  command(value: string, headers: [string, string][]): void;
  /** Something may be known that was not, or the other way round. */
  changed(): void;
}

/**
 * Follows `GET /v1/control`, and takes it up again where it ended. Freshness is evidence: the gateway says with each
 * beat what its clock is and how old its knowledge; it has read its clock after this process began to connect, so that
 * what it tells is never taken for newer than it is, however long that was on its way.
 */
export class ControlStream {
  /** The time, by a clock that nobody sets, up to which all that was commanded has been heard; null before the first. */
  freshAtMs: number | null = null;
  /** What keeps it from knowing what stands; null if nothing does. */
  failure: string | null;
  readonly #gateway: Gateway;
  readonly #tenantId: string | undefined;
  readonly #listener: Listener;
  readonly #trouble: RareWarning;
  readonly #begunMs = monotonicMs();
  readonly #closing = new AbortController();
  #reading: AbortController | null = null;
  #lastId = "";

  constructor(gateway: Gateway, tenantId: string | undefined, listener: Listener, warn: Warn) {
    this.#gateway = gateway;
    this.#tenantId = tenantId;
    this.#listener = listener;
    this.#trouble = new RareWarning(warn, (count, why) => `${count} failures to follow the gateway's commands: ${why}`);
    this.failure = `an answer of ${gateway.url}`;
    void this.#follow();
  }

  close(): void {
    this.#closing.abort();
    this.#reading?.abort();
  }

  async #follow(): Promise<void> {
    let againMs = AGAIN_MS;
    while (!this.#closing.signal.aborted) {
      const begunMs = monotonicMs();
      let restMs = 0;
      try {
        await this.#read(begunMs);
        this.failure = `${this.#gateway.url} has ended the stream`;
      } catch (error) {
        this.failure = error instanceof GatewayError ? error.message : said(error);
        if (error instanceof GatewayError) restMs = Math.min(error.restMs, MOST_REST_MS);
      }
      if (this.#closing.signal.aborted) return;
      const wasThere = monotonicMs() - begunMs > SILENCE_MS; // streams end now and then
      againMs = wasThere ? AGAIN_MS : Math.min(2 * againMs, MOST_AGAIN_MS);
      if (!wasThere) this.#trouble.happened(this.failure);
      await sleep(Math.max(againMs, restMs), this.#closing.signal);
    }
  }

  /** Read one connection to its end. */
  async #read(begunMs: number): Promise<void> {
    const reading = (this.#reading = new AbortController());
    const late = new Error(`nothing came within ${SILENCE_MS / 1000} s`);
    const timer = setTimeout(() => reading.abort(late), SILENCE_MS).unref();
    try {
      const headers = { Accept: "text/event-stream", ...(this.#lastId ? { "Last-Event-ID": this.#lastId } : {}) };
      const response = await this.#gateway.stream("/v1/control", headers, reading.signal);
      const status = response.statusCode ?? 0;
      if (status !== 200) throw this.#gateway.refused({ status, headers: response.headers, body: await objectIn(response) });
      let aheadMs: number | null = null;
      for await (const { name, id, data } of events(response.setEncoding("utf8"))) {
        timer.refresh();
        if (name === "command") this.#hear(id, data);
        if (name === "hello") this.#meet(data);
        if (name !== "hello" && name !== "fresh") continue;
        aheadMs ??= Number(data["at_s"]) * 1000 - begunMs;
        if (name === "fresh") this.#note(data, aheadMs);
      }
    } catch (error) {
      throw reading.signal.aborted ? new GatewayError(`${this.#gateway.url} does not answer: ${said(reading.signal.reason)}`) : error;
    } finally {
      clearTimeout(timer);
      reading.abort(); // what is left of the answer is nobody's
    }
  }

  /** Commands are those of the key's tenant: to another one's runs nothing would ever be said. */
  #meet(hello: Record<string, unknown>): void {
    const theirs = hello["tenant_id"];
    if (this.#tenantId !== undefined && typeof theirs === "string" && theirs !== this.#tenantId)
      throw new GatewayError(`the key is one of the tenant ${theirs}, and these are runs of ${this.#tenantId}`);
  }

  #hear(id: string, data: Record<string, unknown>): void {
    const headers = data["headers"];
    if (typeof data["value"] !== "string" || !Array.isArray(headers)) throw new GatewayError(`${this.#gateway.url} sends what is no command`);
    this.#listener.command(data["value"], headers as [string, string][]);
    this.#lastId = id || this.#lastId;
  }

  #note(data: Record<string, unknown>, aheadMs: number): void {
    const blind = typeof data["blind"] === "string" ? data["blind"] : null;
    const atMs = blind === null ? (Number(data["at_s"]) - Number(data["age_s"])) * 1000 - aheadMs : null;
    if (atMs !== null && !(atMs >= this.#begunMs)) return; // not yet all that stood when this process began
    this.failure = blind;
    // A machine that slept while it was connected is behind the gateway's clock: nothing is newer than now.
    this.freshAtMs = atMs === null ? null : Math.min(atMs, monotonicMs());
    this.#listener.changed();
  }
}

/** Server-sent events out of a body. */
async function* events(body: AsyncIterable<string>): AsyncGenerator<{ name: string; id: string; data: Record<string, unknown> }> {
  let rest = "";
  for await (const part of body) {
    const blocks = (rest + part).split(/\r?\n\r?\n/);
    rest = blocks.pop() ?? "";
    if (rest.length > MOST_CHARACTERS_OF_AN_EVENT) throw new GatewayError("an endless line came: is it a gateway of Spendfuse?");
    for (const block of blocks) {
      const fields = new Map(block.split(/\r?\n/).map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).replace(/^ /, "")]));
      const data: unknown = JSON.parse(fields.get("data") ?? "null");
      if (data !== null && typeof data === "object") yield { name: fields.get("event") ?? "", id: fields.get("id") ?? "", data: data as Record<string, unknown> };
    }
  }
}
