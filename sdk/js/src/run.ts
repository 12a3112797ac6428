import { randomUUID } from "node:crypto";
import type { Emitter } from "./emitter.js";
import { Paused, Stopped } from "./errors.js";
import type { Guard } from "./guard.js";
import { derivedId, hashOf, shapeHashOf } from "./hashing.js";
import type { CallDimensions, RunIdentity } from "./standing.js";

export type CallStatus = "ok" | "error" | "cancelled";
export type Outcome = "accepted" | "edited" | "rejected" | "escalated";

/** Who a run is for, and when it must stop: its limits can only be stricter than the service's policy. */
export interface RunOptions {
  runId?: string;
  sessionId?: string;
  rootRunId?: string;
  parentRunId?: string;
  workflow?: string;
  owner?: string;
  project?: string;
  environment?: string;
  agent?: string;
  user?: string;
  feature?: string;
  tier?: string;
  taskCategory?: string;
  featureFlag?: string;
  promptVersion?: string;
  tags?: Record<string, string>;
  expectedRoute?: string;
  expectedOutcome?: string;
  capUsd?: number;
  maxRetries?: number;
  maxToolCalls?: number;
  maxDurationS?: number;
}

/** One attempt at one model call. `inputTokens` is the total, cached ones included; without a cost it is priced. */
export interface LlmCall {
  model: string;
  inputTokens?: number;
  outputTokens?: number;
  cacheReadTokens?: number;
  cacheWriteTokens?: number;
  cacheWrite1hTokens?: number;
  reasoningTokens?: number;
  costUsd?: number;
  provider?: string;
  route?: string;
  attempt?: number;
  status?: CallStatus;
  errorType?: string;
  latencyMs?: number;
  startedMs?: number;
  /** Hashed here; goes no further. */
  prompt?: unknown;
  cacheHit?: boolean;
  serviceTier?: "standard" | "batch" | "flex" | "priority";
  /** The provider's id of the answer: a call that is reported twice counts once. */
  responseId?: string;
}

/** One use of a tool. `args` and `result` are hashed here and go no further. */
export interface ToolCall {
  args?: unknown;
  result?: unknown;
  status?: CallStatus;
  errorType?: string;
  latencyMs?: number;
  startedMs?: number;
  writes?: boolean;
  costUsd?: number;
}

const ATTRIBUTION = ["workflow", "owner", "project", "environment", "agent", "user", "feature", "tier", "taskCategory", "featureFlag", "promptVersion"] as const;

/** One execution of an agent, from its introduction to how it ended. Made by `Spendfuse.run`. */
export class Run implements RunIdentity {
  readonly runId: string;
  readonly sessionId: string | undefined;
  readonly rootRunId: string | undefined;
  readonly workflow: string | undefined;
  readonly attribution: Readonly<Record<string, unknown>>;
  readonly #emitter: Emitter;
  readonly #guard: Guard;
  readonly #ids: Record<string, unknown>;
  #seq = 0;
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
    this.runId = options.runId ?? randomUUID().replaceAll("-", "");
    this.sessionId = options.sessionId;
    this.rootRunId = options.rootRunId;
    this.workflow = options.workflow;
    this.#ids = { run_id: this.runId, session_id: options.sessionId, root_run_id: options.rootRunId, parent_run_id: options.parentRunId };
    this.attribution = Object.fromEntries([
      ...ATTRIBUTION.map((name) => [snake(name), options[name]] as const).filter(([, value]) => value !== undefined),
      ...(options.tags ? [["tags", options.tags] as const] : []),
    ]);
    const own = {
      expected_route: options.expectedRoute, expected_outcome: options.expectedOutcome, cap_nanousd: nanousd(options.capUsd),
      max_retries: options.maxRetries, max_tool_calls: options.maxToolCalls, max_duration_s: options.maxDurationS,
    };
    this.#isIntroduced = this.#report({ type: "run_started", ...own }) !== null;
    guard.watch(this);
  }

  /** Aborted, with a Stopped as its reason, as soon as a kill arrives: give it to the calls that you make. */
  get signal(): AbortSignal {
    return this.#guard.watch(this);
  }

  /** Throw Stopped or Paused while the run may not make that call. */
  check(call: CallDimensions = {}): void {
    this.#guard.check(this, call);
  }

  /** Report a call to a model; the event's id, or null when it was dropped. */
  llmCall({ prompt, costUsd, responseId, ...call }: LlmCall): string | null {
    const known = responseId !== undefined && responseId.length >= 16;
    return this.#report({
      type: "llm_call",
      ...Object.fromEntries(Object.entries(call).map(([name, value]) => [snake(name), value])),
      ...(costUsd === undefined ? {} : { cost_nanousd: nanousd(costUsd) }),
      ...(prompt === undefined ? {} : { prompt_hash: hashOf(prompt) }),
      ...(known ? { event_id: derivedId("response", responseId) } : {}),
    });
  }

  /** Report one use of a tool. Of a call that failed, give the error's text as `result`. */
  toolCall(tool: string, { args, result, costUsd, ...call }: ToolCall = {}): string | null {
    return this.#report({
      type: "tool_call",
      tool,
      ...Object.fromEntries(Object.entries(call).map(([name, value]) => [snake(name), value])),
      ...(costUsd === undefined ? {} : { cost_nanousd: nanousd(costUsd) }),
      ...(args === undefined ? {} : { args_hash: hashOf(args) }),
      ...(result === undefined ? {} : { result_hash: hashOf(result), result_shape_hash: shapeHashOf(result) }),
    });
  }

  /** Report what became of the run's output. */
  outcome(outcome: Outcome): string | null {
    return this.#report({ type: "outcome", outcome });
  }

  /** Report the end, once. */
  finish(status: "completed" | "failed" | "cancelled" | "killed"): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#guard.unwatch(this, status !== "completed");
    this.#report({ type: "run_finished", status });
  }

  /** Run `work`, and report how it ended. */
  async around<T>(work: (run: this) => Promise<T> | T): Promise<T> {
    try {
      const result = await work(this);
      this.finish("completed");
      return result;
    } catch (error) {
      this.finish(error instanceof Stopped || this.signal.aborted ? "killed" : error instanceof Paused ? "cancelled" : "failed");
      throw error;
    }
  }

  #report(event: { type: string } & Record<string, unknown>): string | null {
    // The service inherits attribution from run_started; while that one is not accepted, each event says it itself.
    const attribution = this.#isIntroduced ? {} : this.attribution;
    this.#seq += 1;
    return this.#emitter.emit({ ...attribution, ...event, ...this.#ids, run_id: this.runId, seq: this.#seq });
  }
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replace(/(?<=[a-z])(?=\d)/g, "_");
}

function nanousd(usd: number | undefined): number | undefined {
  return usd === undefined ? undefined : Math.round(usd * 1e9);
}
