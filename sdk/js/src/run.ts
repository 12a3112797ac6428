import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";
import type { CallDimensions, RunIdentity } from "./control/standing.js";
import type { Emitter } from "./emitter.js";
import { endedBy, type FinishStatus } from "./errors.js";
import type { Advice, Guard } from "./guard.js";
import { derivedId, hashOf, shapeHashOf } from "./usage/hashing.js";
import { ATTRIBUTION, nanousd, type UsageEvent } from "./usage/wire.js";

export type CallStatus = "ok" | "error" | "cancelled";
export type Outcome = "accepted" | "edited" | "rejected" | "escalated";
/** US dollars, as a number or a text of one. */
export type Usd = number | string;

/** Who a run is for, and when it must stop: its limits can only be stricter than the service's policy. */
export interface RunOptions {
  runId?: string | undefined;
  sessionId?: string | undefined;
  rootRunId?: string | undefined;
  parentRunId?: string | undefined;
  workflow?: string | undefined;
  owner?: string | undefined;
  project?: string | undefined;
  environment?: string | undefined;
  agent?: string | undefined;
  user?: string | undefined;
  feature?: string | undefined;
  tier?: string | undefined;
  taskCategory?: string | undefined;
  featureFlag?: string | undefined;
  promptVersion?: string | undefined;
  tags?: Record<string, string> | undefined;
  expectedRoute?: string | undefined;
  expectedOutcome?: string | undefined;
  capUsd?: Usd | undefined;
  maxRetries?: number | undefined;
  maxToolCalls?: number | undefined;
  maxDurationS?: number | undefined;
}

/** What any call may say. Times are rounded to milliseconds. */
interface AnyCall {
  status?: CallStatus | undefined;
  errorType?: string | undefined;
  latencyMs?: number | undefined;
  startedMs?: number | Date | undefined;
  costUsd?: Usd | undefined;
  /** When it happened, unless it is now. */
  tsMs?: number | Date | undefined;
  eventId?: string | undefined;
}

/** One attempt at one model call. `inputTokens` is the total, cached ones included; without a cost it is priced. */
export interface LlmCall extends AnyCall {
  model: string;
  inputTokens?: number | undefined;
  outputTokens?: number | undefined;
  cacheReadTokens?: number | undefined;
  cacheWriteTokens?: number | undefined;
  cacheWrite1hTokens?: number | undefined;
  reasoningTokens?: number | undefined;
  inputAudioTokens?: number | undefined;
  outputAudioTokens?: number | undefined;
  outputImageTokens?: number | undefined;
  images?: number | undefined;
  webSearches?: number | undefined;
  provider?: string | undefined;
  route?: string | undefined;
  priceSource?: string | undefined;
  attempt?: number | undefined;
  fallbackFrom?: string | undefined;
  contextReload?: boolean | undefined;
  /** Why the run goes on with a premium model, in a word such as `low_confidence`. */
  escalationReason?: string | undefined;
  /** Hashed here; goes no further. */
  prompt?: unknown;
  cacheHit?: boolean | undefined;
  serviceTier?: "standard" | "batch" | "flex" | "priority" | undefined;
  /** The provider's id of the answer: a call that is reported twice counts once. */
  responseId?: string | undefined;
}

/** One use of a tool. `args` and `result` are hashed here and go no further. */
export interface ToolCall extends AnyCall {
  args?: unknown;
  result?: unknown;
  writes?: boolean | undefined;
}

const LEAST_OF_A_RESPONSE_ID = 16;
const current = new AsyncLocalStorage<Run>();

/** The run in whose `around` the code is, however deep and however asynchronous; undefined outside of any. */
export function currentRun(): Run | undefined {
  return current.getStore();
}

/** One execution of an agent, from its introduction to how it ended. Made by `Spendfuse.run` or `Run.child`. */
export class Run implements RunIdentity {
  readonly runId: string;
  readonly sessionId: string | undefined;
  readonly rootRunId: string | undefined;
  readonly workflow: string | undefined;
  readonly attribution: Readonly<Record<string, unknown>>;
  readonly #emitter: Emitter;
  readonly #guard: Guard;
  readonly #options: RunOptions;
  readonly #ids: Record<string, unknown>;
  readonly #own: Record<string, unknown>;
  #signal: AbortSignal;
  #seq = 0;
  #entered = 0;
  #isIntroduced = false;
  #isFinished = false;

  constructor(
    emitter: Emitter,
    guard: Guard,
    readonly tenantId: string,
    options: RunOptions,
  ) {
    this.#emitter = emitter;
    this.#guard = guard;
    this.#options = options;
    const { capUsd, ...given } = options;
    const introduction = emitter.prepared({
      ...inSnakeCase(given), cap_nanousd: nanousd(capUsd, "capUsd"), type: "run_started", tenant_id: tenantId,
      run_id: options.runId ?? randomUUID().replaceAll("-", ""),
    });
    const of = (names: readonly string[]): Record<string, unknown> =>
      Object.fromEntries(names.filter((name) => name in introduction).map((name) => [name, introduction[name]]));
    this.#ids = of(["tenant_id", "run_id", "session_id", "root_run_id", "parent_run_id"]);
    this.#own = of(["expected_route", "expected_outcome", "cap_nanousd", "max_retries", "max_tool_calls", "max_duration_s"]);
    this.attribution = of([...ATTRIBUTION, "tags"]);
    this.runId = introduction.run_id;
    this.sessionId = introduction["session_id"] as string | undefined;
    this.rootRunId = introduction["root_run_id"] as string | undefined;
    this.workflow = introduction["workflow"] as string | undefined;
    this.#signal = this.#start();
  }

  /** Aborted, with a Stopped as its reason, as soon as a kill arrives: give it to the calls that you make. */
  get signal(): AbortSignal {
    if (!this.#isFinished) this.#signal = this.#guard.watch(this);
    return this.#signal;
  }

  /** Throw Stopped or Paused while the run may not make that call. */
  check(call: CallDimensions = {}): void {
    this.#guard.check(this, call);
  }

  /** Whether the run should go on with a cheaper model. Asking while it should acknowledges that: follow the answer. */
  advice(call: CallDimensions = {}): Advice {
    return this.#guard.advice(this, call);
  }

  /** A sentence to put before the model, if there is one; each once, and nearly always null. */
  nudge(): string | null {
    return this.#guard.nudge(this);
  }

  /** A run started by this one: same tree, session and attribution unless told otherwise; limits are not inherited. */
  child(options: RunOptions = {}): Run {
    const { capUsd, maxRetries, maxToolCalls, maxDurationS, expectedRoute, expectedOutcome, ...inherited } = this.#options;
    const tree = { runId: undefined, parentRunId: this.runId, rootRunId: this.rootRunId ?? this.runId };
    return new Run(this.#emitter, this.#guard, this.tenantId, { ...inherited, ...tree, ...options });
  }

  /** Report a call to a model; the event's id, or null when it was dropped. Throws InvalidEvent for what is no call. */
  llmCall({ prompt, costUsd, responseId, eventId, ...call }: LlmCall): string | null {
    const isKnown = typeof responseId === "string" && responseId.length >= LEAST_OF_A_RESPONSE_ID;
    return this.#report({
      ...inSnakeCase(call),
      type: "llm_call",
      cost_nanousd: nanousd(costUsd, "costUsd"),
      prompt_hash: isNothing(prompt) ? undefined : hashOf(prompt, this.#emitter.hashKey),
      event_id: eventId ?? (isKnown ? derivedId("response", responseId) : undefined),
    });
  }

  /** Report one use of a tool. Of a call that failed, give the error, or its text, as `result`. */
  toolCall(tool: string, { args, result, costUsd, ...call }: ToolCall = {}): string | null {
    const { hashKey } = this.#emitter;
    return this.#report({
      ...inSnakeCase(call),
      type: "tool_call",
      tool,
      cost_nanousd: nanousd(costUsd, "costUsd"),
      args_hash: isNothing(args) ? undefined : hashOf(args, hashKey),
      result_hash: result === undefined ? undefined : hashOf(result, hashKey),
      result_shape_hash: result === undefined ? undefined : shapeHashOf(result, hashKey),
    });
  }

  /** Report what became of the run's output. */
  outcome(outcome: Outcome): string | null {
    return this.#report({ type: "outcome", outcome });
  }

  /** Report the end, once. */
  finish(status: FinishStatus): void {
    if (this.#isFinished) return;
    this.#report({ type: "run_finished", status }, () => this.#guard.unwatch(this, status !== "completed"));
    this.#isFinished = true;
  }

  /**
   * Run `work`, and report how it ended once nobody is in it any more: a run may be entered again, further in or at the
   * same time. One that had ended goes on.
   */
  async around<T>(work: (run: this) => Promise<T> | T): Promise<T> {
    if (this.#isFinished) this.#signal = this.#start();
    this.#entered += 1;
    let status: FinishStatus = "completed";
    try {
      return await current.run(this, () => work(this));
    } catch (error) {
      status = this.signal.aborted ? "killed" : endedBy(error);
      throw error;
    } finally {
      this.#entered -= 1;
      if (this.#entered === 0) this.finish(status);
    }
  }

  #start(): AbortSignal {
    this.#isFinished = false;
    this.#isIntroduced = this.#report({ type: "run_started", ...this.#own }) !== null;
    return this.#guard.watch(this);
  }

  /** Number the event within its run, and send it; `before` happens once it is known to be one. */
  #report(event: Record<string, unknown> & { type: string }, before: () => void = () => undefined): string | null {
    // The service inherits attribution from run_started; while that one is not accepted, each event says it itself.
    const attribution = this.#isIntroduced ? {} : this.attribution;
    const prepared = this.#emitter.prepared({ ...attribution, ...event, ...this.#ids } as UsageEvent);
    before();
    this.#seq += 1;
    return this.#emitter.send({ ...prepared, seq: this.#seq });
  }
}

function isNothing(value: unknown): boolean {
  return value === undefined || value === null;
}

function inSnakeCase(given: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(given).map(([name, value]) => [snake(name), value]));
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replace(/(?<=[a-z])(?=\d)/g, "_");
}
