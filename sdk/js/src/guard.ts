import type { Emitter } from "./emitter.js";
import { sleep } from "./emitter.js";
import { Paused, Stopped } from "./errors.js";
import { Gateway, answered, said } from "./gateway.js";
import { ackId } from "./hashing.js";
import { StandingCommands, type CallDimensions, type Command, type RunIdentity, type WhenBlind } from "./standing.js";

/** What a run should do short of stopping. */
export interface Advice {
  downgrade: boolean;
  reason: string | null;
}

type Acted = "stopped" | "paused" | "resumed" | "downgraded" | "already_finished" | "ignored" | "delivered";

const SILENCE_MS = 5_000;
const AGAIN_MS = 200;
const MOST_AGAIN_MS = 3_000;
const MOST_REMEMBERED = 10_000;
const PRUNE_EVERY = 1_000;

/**
 * Follows the gateway's commands and tells runs what stands against them. `check` costs a few look-ups: call it before
 * every model and tool call. It is blind before everything that stands was heard, and whenever the gateway's own
 * knowledge is more than `blindAfterMs` old.
 */
export class Guard {
  readonly #gateway: Gateway;
  readonly #emitter: Emitter;
  readonly #whenBlind: WhenBlind;
  readonly #blindAfterMs: number;
  readonly #deniedBy: string;
  readonly #standing = new StandingCommands();
  readonly #given = new Map<string, Acted>();
  readonly #watched = new Map<string, { run: RunIdentity; controller: AbortController }>();
  readonly #begunMs = performance.now();
  readonly #closing = new AbortController();
  #freshAtMs: number | null = null;
  #lastId = "";
  #failure: string | null;
  #wakers: (() => void)[] = [];
  #taken = 0;

  constructor(gateway: Gateway, emitter: Emitter, options: { whenBlind: WhenBlind; blindAfterMs?: number; deniedBy?: string }) {
    this.#gateway = gateway;
    this.#emitter = emitter;
    this.#whenBlind = options.whenBlind;
    this.#blindAfterMs = options.blindAfterMs ?? 10_000;
    this.#deniedBy = options.deniedBy ?? "spendfuse-js";
    this.#failure = `an answer of ${gateway.url}`;
    void this.#follow();
  }

  /** What keeps it from knowing what stands, for people; null if nothing does. */
  get waitingFor(): string | null {
    const at = this.#freshAtMs;
    if (at !== null && performance.now() - at <= this.#blindAfterMs) return null;
    return `the control stream ${at === null ? "was never read" : "has not been readable"}; it waits for ${this.#failure ?? "nothing that is known"}`;
  }

  /** Wait until everything that stands has been heard; false when that took longer: `waitingFor` says why. */
  async ready(timeoutMs = 10_000): Promise<boolean> {
    const untilMs = performance.now() + timeoutMs;
    while (this.waitingFor !== null && performance.now() < untilMs) await this.#changed(untilMs - performance.now());
    return this.waitingFor === null;
  }

  /** Return when the run may make its next call; throw Stopped or Paused when it may not. */
  check(run: RunIdentity, call: CallDimensions = {}): void {
    const nowMs = Date.now();
    const kill = this.#standing.reaching("kill", run, nowMs, call);
    if (kill) {
      this.#answer(run, kill, "stopped");
      throw stopped(kill);
    }
    const pause = this.#standing.reaching("pause", run, nowMs, call);
    if (pause) {
      this.#answer(run, pause, "paused");
      throw new Paused(reasonOf(pause), pause.expires_ms, pause.rule ?? null, pause.command_id, pause.incident_id ?? null);
    }
    const why = this.#whenBlind === "stop" ? this.waitingFor : null;
    if (why !== null) throw new Stopped(`nobody knows what stands against this run: ${why}`);
  }

  /** Like `check`, but wait a pause out; false when it still stands after `timeoutMs`. Rejects with Stopped. */
  async waitWhilePaused(run: RunIdentity, timeoutMs = Infinity, call: CallDimensions = {}): Promise<boolean> {
    const untilMs = performance.now() + timeoutMs;
    for (;;) {
      try {
        this.check(run, call);
        return true;
      } catch (error) {
        if (!(error instanceof Paused)) throw error;
        const leftMs = Math.min(error.untilMs - Date.now() + 1, untilMs - performance.now());
        if (leftMs <= 0 && performance.now() >= untilMs) return false;
        await this.#changed(Math.max(1, leftMs));
      }
    }
  }

  /** What the run should do. Asking while a downgrade stands acknowledges it: follow the answer. */
  advice(run: RunIdentity, call: CallDimensions = {}): Advice {
    const command = this.#standing.reaching("downgrade", run, Date.now(), call);
    if (!command) return { downgrade: false, reason: null };
    this.#answer(run, command, "downgraded");
    return { downgrade: true, reason: reasonOf(command) };
  }

  /** A sentence to put before the model, if there is one; each once, and nearly always null. */
  nudge(run: RunIdentity): string | null {
    const command = this.#standing.takeNudge(run, Date.now());
    if (!command) return null;
    this.#answer(run, command, "delivered");
    return reasonOf(command);
  }

  /** A signal that is aborted, with a Stopped as its reason, as soon as a kill for the run arrives. End with `unwatch`. */
  watch(run: RunIdentity): AbortSignal {
    const controller = this.#watched.get(run.runId)?.controller ?? new AbortController();
    this.#watched.set(run.runId, { run, controller });
    this.#push(run, controller);
    return controller.signal;
  }

  /** The run has ended; a kill that it never met is answered. */
  unwatch(run: RunIdentity, failed = false): void {
    this.#watched.delete(run.runId);
    const kill = this.#standing.reaching("kill", run, Date.now());
    if (kill) this.#answer(run, kill, failed ? "stopped" : "already_finished");
  }

  /** Stop following. */
  close(): void {
    this.#closing.abort();
    this.#wake();
  }

  async #follow(): Promise<void> {
    let againMs = AGAIN_MS;
    while (!this.#closing.signal.aborted) {
      const begunMs = performance.now();
      try {
        await this.#read(begunMs);
        this.#failure = `${this.#gateway.url} has ended the stream`;
      } catch (error) {
        this.#failure = said(error);
      }
      againMs = performance.now() - begunMs > SILENCE_MS ? AGAIN_MS : Math.min(2 * againMs, MOST_AGAIN_MS);
      await sleep(againMs, this.#closing.signal);
    }
  }

  /** Read one stream to its end. */
  async #read(begunMs: number): Promise<void> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const headers = { Accept: "text/event-stream", ...(this.#lastId ? { "Last-Event-ID": this.#lastId } : {}) };
      const signal = AbortSignal.any([silence.signal, this.#closing.signal]);
      const response = await this.#gateway.request("/v1/control", { headers, signal });
      if (response.status !== 200 || !response.body) throw this.#gateway.refused(response.status, await answered(response));
      let aheadMs: number | null = null;
      for await (const { name, id, data } of events(response.body)) {
        timer.refresh();
        if (name === "command") {
          this.#take(String(data["value"]), data["headers"] as [string, string][]);
          this.#lastId = id || this.#lastId;
        } else if (name === "hello" || name === "fresh") {
          // The gateway has read its clock after this connection was begun: nothing is taken for newer than it is.
          aheadMs ??= Number(data["at_s"]) * 1000 - begunMs;
          if (name === "fresh") this.#noteFresh(data, aheadMs);
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #noteFresh(data: Record<string, unknown>, aheadMs: number): void {
    const blind = typeof data["blind"] === "string" ? data["blind"] : null;
    const atMs = blind === null ? (Number(data["at_s"]) - Number(data["age_s"])) * 1000 - aheadMs : null;
    if (atMs !== null && atMs < this.#begunMs) return;
    this.#failure = blind;
    this.#freshAtMs = atMs;
    this.#wake();
  }

  #take(value: string, headers: [string, string][]): void {
    const command = StandingCommands.parse(value);
    if (!command) return;
    const byOperator = headers.some(([name, text]) => name === "spendfuse-kid" && text === "operator");
    const verdict = this.#standing.apply(command, byOperator, Date.now());
    if (++this.#taken % PRUNE_EVERY === 0) this.#standing.prune(Date.now());
    if (verdict === "applied" && command.action === "kill") for (const { run, controller } of this.#watched.values()) this.#push(run, controller);
    if (verdict === "applied" && command.action === "resume") this.#release(command);
    this.#wake();
  }

  #push(run: RunIdentity, controller: AbortController): void {
    const kill = this.#standing.reaching("kill", run, Date.now());
    if (kill && !controller.signal.aborted) controller.abort(stopped(kill));
  }

  /** Runs that a resume lets go on say so, if they had obeyed, and get a signal that is not aborted. */
  #release(resume: Command): void {
    for (const watched of this.#watched.values()) {
      const { run, controller } = watched;
      if (!controller.signal.aborted || this.#standing.reaching("kill", run, Date.now())) continue;
      watched.controller = new AbortController();
      this.#answer(run, resume, "resumed");
    }
  }

  #answer(run: RunIdentity, command: Command, acted: Acted): void {
    const eventId = ackId(run.tenantId, run.runId, command.command_id);
    if (this.#given.has(eventId)) return;
    const ack = { type: "command_ack", event_id: eventId, run_id: run.runId, command_id: command.command_id, acted };
    const of = { session_id: run.sessionId, root_run_id: run.rootRunId };
    if (this.#emitter.emit({ ...ack, ...of, denied_by: this.#deniedBy }) === null) return;
    this.#given.set(eventId, acted);
    if (this.#given.size > MOST_REMEMBERED) this.#given.delete(this.#given.keys().next().value ?? "");
  }

  async #changed(timeoutMs: number): Promise<void> {
    const timer = new AbortController();
    this.#wakers.push(() => timer.abort());
    await sleep(Math.min(timeoutMs, 1_000), timer.signal);
  }

  #wake(): void {
    for (const wake of this.#wakers.splice(0)) wake();
  }
}

function reasonOf(command: Command): string {
  return command.reason ?? "no reason given";
}

function stopped(kill: Command): Stopped {
  return new Stopped(reasonOf(kill), kill.rule ?? null, kill.command_id, kill.incident_id ?? null);
}

/** Server-sent events out of a body. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<{ name: string; id: string; data: Record<string, unknown> }> {
  let rest = "";
  for await (const part of body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + part).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (fields.has("data")) yield { name: fields.get("event") ?? "", id: fields.get("id") ?? "", data: JSON.parse(fields.get("data") ?? "{}") as Record<string, unknown> };
    }
  }
}
