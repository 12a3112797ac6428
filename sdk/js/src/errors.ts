/** The run must make no further call. `commandId` is null where the guard stopped it by itself, being blind. */
export class Stopped extends Error {
  override readonly name = "Stopped";

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
