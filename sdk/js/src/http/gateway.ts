import http from "node:http";
import https from "node:https";
import { clearTimeout, setTimeout } from "node:timers";
import type { WhenBlind } from "../control/standing.js";
import { said } from "../process/warnings.js";

const TIMEOUT_MS = 10_000;
const MOST_BYTES_OF_AN_ANSWER = 16 * 1024 * 1024;
/** How a connection ends that nobody has used for a while. */
const STALE = ["ECONNRESET", "EPIPE"];

/** What a proxy answers, too, in words of HTTP's own where it says no more. */
const BUSY = [408, 413, 429, 500, 502, 503, 504];

/** The gateway did not do what it was asked for. `status` is null where nobody answered; `restMs` is how long it asks to be left alone. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";

  constructor(
    text: string,
    readonly status: number | null = null,
    readonly restMs: number = 0,
  ) {
    super(text);
  }
}

/** What a gateway, or somebody in between, has answered. `body` is empty for anything but a JSON object. */
export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Record<string, unknown>;
}

interface Asked {
  method?: string;
  body?: Buffer;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** Whether the process stays for the answer, because somebody awaits it. */
  keepsProcess?: boolean;
}

/** A gateway's address and the key to show there. Redirections are not followed: they would take the key along. */
export class Gateway {
  readonly url: string;
  readonly #key: string;
  readonly #http: typeof http | typeof https;
  readonly #agent: http.Agent;

  constructor(url: string | undefined, key: string | undefined) {
    if (!url) throw new Error("nobody says where the gateway is: give its address, or set SPENDFUSE_URL");
    if (!/^https?:\/\/[^/?#]+(\/[^?#]*)?$/.test(url) || !URL.canParse(url))
      throw new Error("the address of a gateway is https://host or http://host:port");
    if (!key || !/^[\x20-\x7e]+$/.test(key.trim()))
      throw new Error("no key for the gateway: set SPENDFUSE_KEY to what `python -m streams keys create` prints");
    this.url = url.replace(/\/+$/, "");
    this.#key = key.trim();
    this.#http = url.startsWith("https:") ? https : http;
    this.#agent = new this.#http.Agent({ keepAlive: true });
  }

  /** Ask, and read the answer. Rejects with a GatewayError where nobody answers within ten seconds. */
  async request(path: string, asked: Asked = {}): Promise<Answer> {
    for (let isNew = false; ; isNew = true) {
      try {
        return await this.#ask(path, asked);
      } catch (error) {
        if (!isNew && error instanceof StaleConnection) continue;
        throw new GatewayError(this.#unreachable(error));
      }
    }
  }

  /** Ask, and leave the answer to be read as it comes, over a connection of its own. */
  async stream(path: string, headers: Record<string, string>, signal: AbortSignal): Promise<http.IncomingMessage> {
    try {
      return await this.#begin(path, { headers, signal }, false);
    } catch (error) {
      throw new GatewayError(this.#unreachable(signal.aborted ? signal.reason : error));
    }
  }

  /** Whose key that is. */
  async keyInfo(): Promise<{ tenantId: string; whenBlind: WhenBlind }> {
    const answer = await this.request("/v1/key", { keepsProcess: true });
    if (answer.status !== 200 || typeof answer.body["tenant_id"] !== "string") throw this.refused(answer);
    return { tenantId: answer.body["tenant_id"], whenBlind: answer.body["when_blind"] === "stop" ? "stop" : "continue" };
  }

  /** What it takes to send to it without this object: see process/ending. */
  get forOthers(): { url: string; headers: Record<string, string> } {
    return { url: this.url, headers: { ...this.#headers, "Content-Type": "application/json" } };
  }

  /** What a refusal means, for people. */
  refused({ status, headers, body }: Answer): GatewayError {
    const moved = status >= 300 && status < 400 && headers.location ? `it has moved to ${headers.location}` : undefined;
    const busy = BUSY.includes(status) ? http.STATUS_CODES[status] : undefined;
    const why = typeof body["error"] === "string" ? body["error"] : (moved ?? busy ?? "is it a gateway of Spendfuse?");
    return new GatewayError(`${this.url} answers ${status}: ${why}`, status, retryAfterMs(headers));
  }

  /** Let go of connections that nobody uses. */
  close(): void {
    this.#agent.destroy();
  }

  /** What a missing answer means, for people. */
  #unreachable(error: unknown): string {
    const code = (error as NodeJS.ErrnoException | null)?.code ?? "";
    const hint = /CERT|UNABLE_TO/.test(code) ? "; NODE_EXTRA_CA_CERTS names a certificate authority of your own" : "";
    return `${this.url} does not answer: ${code === "EPROTO" ? "it speaks no https://" : said(error)}${hint}`;
  }

  get #headers(): Record<string, string> {
    return { Authorization: `Bearer ${this.#key}`, "User-Agent": "spendfuse-js" };
  }

  async #ask(path: string, asked: Asked): Promise<Answer> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(new Error(`nothing came within ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
    if (!asked.keepsProcess) timer.unref();
    try {
      const response = await this.#begin(path, { ...asked, signal: late.signal }, true);
      return { status: response.statusCode ?? 0, headers: response.headers, body: await objectIn(response) };
    } catch (error) {
      throw late.signal.aborted ? late.signal.reason : error;
    } finally {
      clearTimeout(timer);
    }
  }

  #begin(path: string, { method = "GET", body, headers = {}, signal, keepsProcess = false }: Asked, isKept: boolean): Promise<http.IncomingMessage> {
    const own = body === undefined ? {} : { "Content-Type": "application/json", "Content-Length": String(body.length) };
    const options = { method, agent: isKept ? this.#agent : false, headers: { ...this.#headers, ...own, ...headers }, ...(signal ? { signal } : {}) };
    return new Promise((resolve, reject) => {
      const request = this.#http.request(this.url + path, options, resolve);
      request.on("socket", (socket) => (keepsProcess ? socket.ref() : socket.unref()));
      request.on("error", (error: NodeJS.ErrnoException) =>
        reject(request.reusedSocket && STALE.includes(error.code ?? "") ? new StaleConnection() : error));
      request.end(body);
    });
  }
}

/** For how many milliseconds an answer asks to be left alone: `Retry-After` (RFC 9110, 10.2.3), a date by its own clock. */
export function retryAfterMs(headers: http.IncomingHttpHeaders): number {
  const said = headers["retry-after"]?.trim() ?? "";
  if (/^\d+$/.test(said)) return 1_000 * Number(said);
  const [untilMs, nowMs] = /GMT$/.test(said) ? [Date.parse(said), Date.parse(headers.date ?? "")] : [NaN, NaN]; // it parses "-5"
  return Math.max(untilMs - (Number.isNaN(nowMs) ? Date.now() : nowMs), 0) || 0;
}

class StaleConnection extends Error {
  override readonly message = "the connection was closed";
}

/** The JSON object that an answer holds; an empty one for anything else. */
export async function objectIn(response: http.IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MOST_BYTES_OF_AN_ANSWER) return {};
    parts.push(part);
  }
  try {
    const answer: unknown = JSON.parse(Buffer.concat(parts).toString("utf8"));
    return answer !== null && typeof answer === "object" ? (answer as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
