import type { WhenBlind } from "./standing.js";

const TIMEOUT_MS = 10_000;

/** The gateway did not do what it was asked for. `status` is null where nobody answered. */
export class GatewayError extends Error {
  constructor(
    text: string,
    readonly status: number | null = null,
  ) {
    super(text);
  }
}

/** A gateway's address and the key to show there. */
export class Gateway {
  readonly url: string;
  readonly #key: string;

  constructor(url: string | undefined, key: string | undefined) {
    if (!url) throw new Error("nobody says where the gateway is: give its address, or set SPENDFUSE_URL");
    if (!key) throw new Error("no key for the gateway: set SPENDFUSE_KEY to what `python -m streams keys create` prints");
    if (!/^https?:\/\/[^/?#]+(\/[^?#]*)?$/.test(url)) throw new Error("the address of a gateway is https://host or http://host:port");
    this.url = url.replace(/\/+$/, "");
    this.#key = key.trim();
  }

  /** A request. Rejects with a GatewayError where nobody answers. */
  async request(path: string, options: { method?: string; body?: string; headers?: Record<string, string>; signal?: AbortSignal } = {}): Promise<Response> {
    const { signal = AbortSignal.timeout(TIMEOUT_MS), ...given } = options;
    const headers = { Authorization: `Bearer ${this.#key}`, ...(given.body === undefined ? {} : { "Content-Type": "application/json" }), ...given.headers };
    try {
      return await fetch(this.url + path, { ...given, headers, signal });
    } catch (error) {
      throw new GatewayError(`${this.url} does not answer: ${said(error)}`);
    }
  }

  /** Whose key that is. */
  async keyInfo(): Promise<{ tenantId: string; whenBlind: WhenBlind }> {
    const response = await this.request("/v1/key");
    const answer = await answered(response);
    if (response.status !== 200) throw this.refused(response.status, answer);
    return { tenantId: String(answer["tenant_id"]), whenBlind: answer["when_blind"] === "stop" ? "stop" : "continue" };
  }

  /** What a refusal means, for people. */
  refused(status: number, answer: Record<string, unknown>): GatewayError {
    const why = typeof answer["error"] === "string" ? answer["error"] : "is it a gateway of Spendfuse?";
    return new GatewayError(`${this.url} answers ${status}: ${why}`, status);
  }
}

/** What a body says as a JSON object; an empty one for anything else. */
export async function answered(response: Response): Promise<Record<string, unknown>> {
  try {
    const answer: unknown = await response.json();
    return answer !== null && typeof answer === "object" ? (answer as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** An error in words. */
export function said(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
