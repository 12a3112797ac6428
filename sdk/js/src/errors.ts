/**
 * The run must make no further call. `commandId` is null where the guard stopped it by itself, being blind. Of a guarded
 * client it is an error of that client's as well.
 */
export class Stopped extends Error {
  override readonly name = "Stopped";

  static override [Symbol.hasInstance](error: unknown): error is Stopped {
    return isOf(this, Stopped, error);
  }

  constructor(
    readonly reason: string,
    readonly rule: string | null = null,
    readonly commandId: string | null = null,
    readonly incidentId: string | null = null,
  ) {
    super(reason);
  }
}

/** The run must make no call before `untilMs` (epoch milliseconds), or before a resume, whichever is first. */
export class Paused extends Error {
  override readonly name = "Paused";

  static override [Symbol.hasInstance](error: unknown): error is Paused {
    return isOf(this, Paused, error);
  }

  constructor(
    readonly reason: string,
    readonly untilMs: number,
    readonly rule: string | null = null,
    readonly commandId: string | null = null,
    readonly incidentId: string | null = null,
  ) {
    super(reason);
  }
}

/** A class of errors that takes a text. */
export type ErrorClass = new (text: string) => Error;

/**
 * The same as an error of `Theirs`, where it is a Stopped or Paused: the clients of OpenAI and Anthropic let those through
 * their helpers, and put any other into one of their own.
 */
export function inTheirKind(error: unknown, Theirs: ErrorClass | undefined): unknown {
  if (Theirs === undefined || !(error instanceof Stopped || error instanceof Paused)) return error;
  return Object.defineProperties(new Theirs(error.message), Object.getOwnPropertyDescriptors(error));
}

/** By its name and what it says, because a program may hold two copies of this package; by its class of what is made of ours. */
function isOf(asked: object, ours: typeof Stopped | typeof Paused, error: unknown): boolean {
  if (asked !== ours) return Function.prototype[Symbol.hasInstance].call(asked as () => void, error);
  return error instanceof Error && error.name === (ours === Stopped ? "Stopped" : "Paused") && "commandId" in error;
}

/** An event that the log would refuse. The text names the field, never the value. */
export class InvalidEvent extends Error {
  override readonly name = "InvalidEvent";
}

export type FinishStatus = "completed" | "failed" | "cancelled" | "killed";

const ENDS: Readonly<Record<string, FinishStatus>> = {
  Stopped: "killed", Paused: "cancelled", AbortError: "cancelled",
  APIUserAbortError: "cancelled", // of the clients of OpenAI and Anthropic
};
const WORST_FIRST = ["killed", "failed", "cancelled"] as const;

/** How work ended that threw this. What somebody has aborted is nobody's failure; several at once count by the worst. */
export function endedBy(error: unknown): FinishStatus {
  const ends = new Set<FinishStatus>();
  const seen = new Set<unknown>();
  const look = (each: unknown): void => {
    if (seen.has(each)) return;
    seen.add(each);
    if (each instanceof AggregateError && each.errors.length) each.errors.forEach(look);
    else ends.add(endOf(each));
  };
  look(error);
  return WORST_FIRST.find((end) => ends.has(end)) ?? "failed";
}

/** By its name, because a program may hold two copies of this package. */
function endOf(error: unknown): FinishStatus {
  if (!(error instanceof Error)) return "failed";
  return ENDS[error.name] ?? ENDS[error.constructor.name] ?? "failed";
}
