// A gateway that does what a test tells it, and programs that use the client as built.
import { execFile } from "node:child_process";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

export const KEY = "sf_000000000000_0000";
export const CLIENT = new URL("../src/index.js", import.meta.url);

export type Event = Record<string, unknown> & { event_id: string; type: string };
type Answering = (events: Event[], response: ServerResponse) => void;

/** Listens on loopback: `POST /v1/events`, `GET /v1/control`, `GET /v1/key`. */
export class ScriptedGateway {
  /** Events taken, each as often as it came, and the ids of each request. */
  readonly received: Event[] = [];
  readonly requests: string[][] = [];
  /** What answers the next requests to `/v1/events`, before they are taken again. */
  readonly answers: Answering[] = [];
  readonly commands: { value: string; operator: boolean }[] = [];
  /** With what each control stream began. */
  readonly lastIds: (string | undefined)[] = [];
  mostBytes = Infinity;
  tenantId = "acme";
  /** By how much its clock has gone on while its client slept. */
  aheadMs = 0;
  lineEnd = "\n";
  /** Answers of the next control streams, before they are answered again; when each was asked for. */
  readonly streamAnswers: ((response: ServerResponse) => void)[] = [];
  readonly askedMs: number[] = [];
  /** Whether control streams are answered. */
  isHeard = true;
  readonly #streams = new Set<ServerResponse>();
  readonly #sent = new Map<ServerResponse, number>();
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  readonly #beat = setInterval(() => this.#streams.forEach((stream) => this.#tell(stream)), 20);

  static async listening(): Promise<ScriptedGateway> {
    const gateway = new ScriptedGateway();
    await new Promise<void>((resolve) => gateway.#server.listen(0, "127.0.0.1", resolve));
    return gateway;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Cut every control stream. */
  cut(): void {
    this.#streams.forEach((stream) => stream.destroy());
  }

  /** Close every connection, as one that is started anew does. */
  restart(): void {
    this.#server.closeAllConnections();
  }

  close(): void {
    clearInterval(this.#beat);
    this.#server.close();
    this.#server.closeAllConnections();
  }

  ofType(type: string): Event[] {
    return this.received.filter((event) => event.type === type);
  }

  /** Have a command stand from now on. */
  command(action: string, target: [type: string, id: string], fields: Record<string, unknown> = {}, operator = false): string {
    const seq = this.commands.length + 1;
    const command_id = `c${seq}`;
    const [type, id] = target;
    const command = { command_id, action, tenant_id: "acme", target: { type, id }, seq, issued_ms: Date.now(), expires_ms: Date.now() + 600_000, reason: "given by the test", ...fields };
    this.commands.push({ value: JSON.stringify(command), operator });
    return command_id;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    if (request.headers.authorization !== `Bearer ${KEY}`) return json(response, 401, { error: "this key is not known here" });
    if (request.url === "/v1/key") return json(response, 200, { tenant_id: this.tenantId, when_blind: "stop" });
    if (request.url === "/v1/control") return this.#stream(request, response);
    const body = Buffer.concat(parts);
    const events = body.toString().split("\n").map((line) => JSON.parse(line) as Event);
    this.requests.push(events.map((event) => event.event_id));
    if (body.length > this.mostBytes) return json(response, 413, {});
    const answer = this.answers.shift();
    if (answer) return answer(events, response);
    this.received.push(...events);
    json(response, 200, { accepted: events.length, rejected: [] });
  }

  #stream(request: IncomingMessage, response: ServerResponse): void {
    if (!this.isHeard) return;
    this.askedMs.push(performance.now());
    const refusal = this.streamAnswers.shift();
    if (refusal) return refusal(response);
    const lastId = request.headers["last-event-id"] as string | undefined;
    this.lastIds.push(lastId);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    this.#event(response, "hello", { tenant_id: this.tenantId, at_s: performance.now() / 1000 });
    this.#sent.set(response, Number(lastId ?? 0));
    this.#streams.add(response);
    response.on("close", () => this.#streams.delete(response));
    this.#tell(response);
  }

  #tell(stream: ServerResponse): void {
    for (let at = this.#sent.get(stream) ?? 0; at < this.commands.length; at++) {
      const { value, operator } = this.commands[at] as { value: string; operator: boolean };
      this.#event(stream, "command", { value, headers: [["spendfuse-kid", operator ? "operator" : "engine"]] }, at + 1);
      this.#sent.set(stream, at + 1);
    }
    this.#event(stream, "fresh", { at_s: (performance.now() + this.aheadMs) / 1000, age_s: 0, blind: null });
  }

  #event(stream: ServerResponse, name: string, data: unknown, id?: number): void {
    stream.write([...(id ? [`id: ${id}`] : []), `event: ${name}`, `data: ${JSON.stringify(data)}`, "", ""].join(this.lineEnd));
  }
}

export function json(response: ServerResponse, status: number, answer: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(answer));
}

/** Wait until it holds, half a minute at most. */
export async function until<T>(find: () => T | null | undefined | false, what = "it"): Promise<T> {
  for (const endMs = performance.now() + 30_000; performance.now() < endMs; await pause(5)) {
    const found = find();
    if (found) return found;
  }
  throw new Error(`${what} did not come true in time`);
}

export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** Run a program to its end: `source` is a module, in which the client is `spendfuse` and its parts are imported. */
export function program(source: string, gateway: { url: string }, ...flags: string[]): Promise<Ended> {
  const head = `import { Spendfuse, Stopped } from ${JSON.stringify(CLIENT.href)};\nconst CLIENT = ${JSON.stringify(CLIENT.href)};\n`;
  return node([...flags, "--input-type=module", "--eval", head + source], { SPENDFUSE_URL: gateway.url, SPENDFUSE_KEY: KEY });
}

/** Run Node to its end. */
export function node(args: string[], env: Record<string, string> = {}, cwd = process.cwd()): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, args, { cwd, env: { PATH: process.env["PATH"], ...env }, timeout: 60_000 }, (_, out, err) =>
      resolve({ code: child.exitCode, out, err }));
  });
}

