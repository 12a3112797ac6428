import { endedBy, type FinishStatus } from "../errors.js";
import { monotonicMs } from "../process/clock.js";
import { RareWarning, said } from "../process/warnings.js";
import type { Run } from "../run.js";
import { derivedId } from "../usage/hashing.js";
import type { Seen, ToolResult, Usage } from "./words.js";

const MOST_OF_A_NAME = 256;
const MOST_TOOLS_REMEMBERED = 10_000;

/** Reports what an integration sees. What the contract refuses is warned of, and breaks nothing. */
export class Reporter {
  readonly #trouble: RareWarning;
  readonly #tools = new Set<string>();

  constructor(warn: RareWarning["warn"], name: string) {
    this.#trouble = new RareWarning(warn, (count, why) => `${count} calls of ${name} could not be reported as they were: ${why}`);
  }

  /** Do something that reports. Never throws. */
  quietly(report: () => unknown): void {
    try {
      report();
    } catch (error) {
      this.#trouble.happened(said(error));
    }
  }

  /** Report a tool, once however often a conversation shows it. */
  tool(run: Run, { callId, tool, args, result, status }: ToolResult): void {
    const eventId = derivedId("tool", run.runId, callId);
    if (this.#tools.has(eventId)) return;
    this.#tools.add(eventId);
    if (this.#tools.size > MOST_TOOLS_REMEMBERED) this.#tools.delete(this.#tools.values().next().value ?? "");
    run.toolCall(tool.slice(0, MOST_OF_A_NAME), { args: args ?? {}, result: result ?? undefined, status, eventId });
  }
}

/** One call to a model, from before it is made to its report, which is given once. */
export class ModelCall {
  readonly #startedMs = Date.now();
  readonly #begunMs = monotonicMs();
  #isReported = false;

  constructor(
    readonly run: Run,
    /** Whether the run is this call's own, and ends with it. */
    readonly isWholeRun: boolean,
    readonly asked: { model: string; route: string; provider: string; prompt: unknown },
    readonly reporter: Reporter,
  ) {}

  /** It was answered. */
  done(seen: Seen): void {
    this.#report(seen, seen.usage, "completed");
  }

  /** It was not answered to its end: because of `error`, or, without one, because nobody wanted the rest. */
  ended(seen: Seen, error?: unknown): void {
    const end = error === undefined ? "cancelled" : endedBy(error);
    this.#report(seen, { ...seen.soFar, ...statusAfter(end, error) }, end);
  }

  /** It was refused, or nobody has answered: a failure costs nothing. */
  failed(seen: Seen, error: unknown): void {
    const end = endedBy(error);
    this.#report(seen, { ...(end === "failed" ? { costUsd: 0 } : {}), ...statusAfter(end, error) }, end);
  }

  /** It goes on out of sight. */
  unseen(): void {
    this.#isReported = true;
    this.#finish("completed");
  }

  #report({ model, responseId }: Seen, usage: Usage, end: FinishStatus): void {
    if (this.#isReported) return;
    this.#isReported = true;
    const name = (model ?? this.asked.model).slice(0, MOST_OF_A_NAME);
    const latencyMs = monotonicMs() - this.#begunMs;
    this.reporter.quietly(() => this.run.llmCall({ ...this.asked, ...usage, model: name, responseId, startedMs: this.#startedMs, latencyMs }));
    this.#finish(end);
  }

  #finish(end: FinishStatus): void {
    if (this.isWholeRun) this.reporter.quietly(() => this.run.finish(end));
  }
}

function statusAfter(end: FinishStatus, error: unknown): Usage {
  return end === "failed" ? { status: "error", errorType: kindOf(error) } : { status: "cancelled" };
}

/** The clients' errors are told apart by their classes: all have the name `Error`. */
function kindOf(error: unknown): string {
  return error instanceof Error ? error.constructor.name.slice(0, MOST_OF_A_NAME) : typeof error;
}
