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
