import { StandingCommands, reaches, type CallDimensions, type Command, type RunIdentity, type WhenBlind } from "./control/standing.js";
import { ControlStream } from "./control/stream.js";
import { Watchlist } from "./control/watchlist.js";
import type { Emitter } from "./emitter.js";
import { Paused, Stopped } from "./errors.js";
import type { Gateway } from "./http/gateway.js";
import { monotonicMs, sleep } from "./process/clock.js";
import { RareWarning, quietly, said, toConsole, type Warn } from "./process/warnings.js";
import { ackId } from "./usage/hashing.js";

/** What a run should do short of stopping. */
export interface Advice {
  downgrade: boolean;
  reason: string | null;
}

/** Who hears that a run must stop; what it throws or rejects with is warned of, and keeps nobody else from hearing. */
export type OnStop = (run: RunIdentity, stopped: Stopped) => unknown;

export interface GuardOptions {
  whenBlind: WhenBlind;
  tenantId?: string | undefined;
  blindAfterMs?: number | undefined;
  deniedBy?: string | undefined;
  warn?: Warn | undefined;
}

type Acted = "stopped" | "paused" | "resumed" | "downgraded" | "already_finished" | "ignored" | "delivered";

const LOOK_AGAIN_MS = 1_000;
const MOST_REMEMBERED = 10_000;
const PRUNE_EVERY_MS = 60_000;

/**
 * Follows the gateway's commands and tells runs what stands against them. `check` costs a few look-ups: call it before
 * every model and tool call. It is blind before everything that stands was heard, and whenever the gateway's own
 * knowledge is more than `blindAfterMs` old. Nothing of it keeps a process alive.
 */
export class Guard {
  readonly #emitter: Emitter;
  readonly #whenBlind: WhenBlind;
  readonly #blindAfterMs: number;
  readonly #deniedBy: string;
  readonly #warn: Warn;
  readonly #callbackWarning: RareWarning;
  readonly #recordWarning: RareWarning;
  readonly #stream: ControlStream;
  readonly #standing = new StandingCommands();
  readonly #watchlist: Watchlist;
  readonly #given = new Set<string>();
  readonly #callbacks = new Set<OnStop>();
  readonly #waiting = new Set<() => void>();
  #pruneAtMs = monotonicMs() + PRUNE_EVERY_MS;

  constructor(gateway: Gateway, emitter: Emitter, options: GuardOptions) {
    const { whenBlind, tenantId, blindAfterMs = 10_000, deniedBy = "spendfuse-js", warn = toConsole } = options;
    if (whenBlind !== "stop" && whenBlind !== "continue") throw new Error('whenBlind must be "continue" or "stop"');
    this.#emitter = emitter;
    this.#whenBlind = whenBlind;
    this.#blindAfterMs = blindAfterMs;
    this.#deniedBy = deniedBy;
    this.#warn = warn;
    this.#callbackWarning = new RareWarning(warn, (count, why) => `${count} callbacks of the guard failed: ${why}`);
    this.#recordWarning = new RareWarning(warn, (count, why) => `${count} commands could not be taken in, or be answered: ${why}`);
    const unended = new RareWarning(warn, (count, runId) => `${count} runs are not watched any more, too many go on: end each by \`around\` or \`finish\`, such as ${runId}`);
    this.#watchlist = new Watchlist((run) => unended.happened(run.runId));
    const listener = {
      command: (value: string, headers: [string, string][]) => quietly(() => this.#take(value, headers), (error) => this.#recordWarning.happened(said(error))),
      changed: () => this.#wake(),
    };
    this.#stream = new ControlStream(gateway, tenantId, listener, warn);
  }

  /** What keeps it from knowing what stands, for people; null if nothing does. */
  get waitingFor(): string | null {
    const at = this.#stream.freshAtMs;
    if (at !== null && monotonicMs() - at <= this.#blindAfterMs) return null;
    return `the control stream ${at === null ? "was never read" : "has not been readable"}; it waits for ${this.#stream.failure ?? "nothing that is known"}`;
  }

  /** Wait until everything that stands has been heard; false when that took longer: `waitingFor`, and a warning, say why. */
  async ready(timeoutMs = 10_000): Promise<boolean> {
    const untilMs = monotonicMs() + timeoutMs;
    while (this.waitingFor !== null && monotonicMs() < untilMs) await this.#changed(untilMs - monotonicMs());
    const why = this.waitingFor;
    if (why !== null) quietly(() => this.#warn(`the guard is not ready: ${why}`));
    return why === null;
  }

  /** Return when the run may make its next call; throw Stopped or Paused when it may not. */
  check(run: RunIdentity, call: CallDimensions = {}): void {
    const nowMs = Date.now();
    const kill = this.#standing.reaching("kill", run, nowMs, call);
    if (kill) {
      this.#answer(run, kill, "stopped");
      throw stoppedBy(kill);
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
    const untilMs = monotonicMs() + timeoutMs;
    for (;;) {
      try {
        this.check(run, call);
        return true;
      } catch (error) {
        if (!(error instanceof Paused)) throw error;
        const leftMs = Math.min(error.untilMs - Date.now() + 1, untilMs - monotonicMs());
        if (leftMs <= 0 && monotonicMs() >= untilMs) return false;
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

  /** Call `callback` once a kill for a watched run arrives; what ends that. */
  onStop(callback: OnStop): () => void {
    this.#callbacks.add(callback);
    return () => void this.#callbacks.delete(callback);
  }

  /** A signal that is aborted, with a Stopped as its reason, as soon as a kill for the run arrives. End with `unwatch`. */
  watch(run: RunIdentity): AbortSignal {
    const controller = this.#watchlist.add(run);
    this.#push(run, controller);
    return controller.signal;
  }

  /** The run has ended; a kill that it never met is answered. */
  unwatch(run: RunIdentity, failed = false): void {
    const isOver = this.#watchlist.remove(run);
    const kill = this.#standing.reaching("kill", run, Date.now());
    if (kill && (isOver || failed)) this.#answer(run, kill, failed ? "stopped" : "already_finished");
  }

  /** Stop following. `check` goes on with what is known, and by `whenBlind` once that is old. */
  close(): void {
    this.#stream.close();
    this.#wake();
  }

  #take(value: string, headers: [string, string][]): void {
    const command = StandingCommands.parse(value);
    if (!command) return;
    const byOperator = headers.some(([name, text]) => name === "spendfuse-kid" && text === "operator");
    const { verdict, lifted } = this.#standing.apply(command, byOperator, Date.now());
    if (command.action !== "nudge") {
      for (const [run, controller] of this.#watchlist.watched) {
        if (![command, ...lifted].some((each) => reaches(each, run))) continue;
        this.#release(run, controller, command, lifted);
        if (verdict === "expired" || verdict === "not_entitled") this.#answer(run, command, "ignored");
        else if (verdict === "applied" && command.action === "kill") this.#push(run, controller);
      }
      const finished = command.target.type === "run" && verdict === "applied" && this.#watchlist.finished(command.tenant_id, command.target.id);
      if (finished) this.#answer(finished, command, "already_finished");
    }
    this.#wake();
  }

  #push(run: RunIdentity, controller: AbortController): void {
    const kill = this.#standing.reaching("kill", run, Date.now());
    if (!kill || controller.signal.aborted) return;
    const stopped = stoppedBy(kill);
    controller.abort(stopped);
    for (const callback of this.#callbacks) quietly(() => callback(run, stopped), (error) => this.#callbackWarning.happened(said(error)));
  }

  /** A run whose command was lifted gets a signal that is not aborted, and says that it goes on if it had obeyed. */
  #release(run: RunIdentity, controller: AbortController, resume: Command, lifted: Command[]): void {
    if (resume.action !== "resume") return;
    if (controller.signal.aborted && !this.#standing.reaching("kill", run, Date.now())) this.#watchlist.renew(run);
    if (lifted.some((command) => this.#given.has(ackOf(run, command)))) this.#answer(run, resume, "resumed");
  }

  /** Answer once. Never throws: an agent must stop even when it cannot say so. */
  #answer(run: RunIdentity, command: Command, acted: Acted): void {
    const eventId = ackOf(run, command);
    if (this.#given.has(eventId)) return;
    const ack = { type: "command_ack", event_id: eventId, tenant_id: run.tenantId, run_id: run.runId, command_id: command.command_id, acted };
    try {
      if (this.#emitter.emit({ ...ack, session_id: run.sessionId, root_run_id: run.rootRunId, denied_by: this.#deniedBy }) === null) return;
    } catch (error) {
      this.#recordWarning.happened(said(error));
      return;
    }
    this.#given.add(eventId);
    if (this.#given.size > MOST_REMEMBERED) this.#given.delete(this.#given.values().next().value ?? "");
  }

  async #changed(timeoutMs: number): Promise<void> {
    const timer = new AbortController();
    const wake = (): void => timer.abort();
    this.#waiting.add(wake);
    await sleep(Math.min(timeoutMs, LOOK_AGAIN_MS), timer.signal, true);
    this.#waiting.delete(wake);
  }

  #wake(): void {
    if (monotonicMs() >= this.#pruneAtMs) {
      this.#standing.prune(Date.now(), monotonicMs());
      this.#pruneAtMs = monotonicMs() + PRUNE_EVERY_MS;
    }
    for (const wake of this.#waiting) wake();
  }
}

function ackOf(run: RunIdentity, command: Command): string {
  return ackId(run.tenantId, run.runId, command.command_id);
}

function reasonOf(command: Command): string {
  return command.reason ?? "no reason given";
}

function stoppedBy(kill: Command): Stopped {
  return new Stopped(reasonOf(kill), kill.rule ?? null, kill.command_id, kill.incident_id ?? null);
}
