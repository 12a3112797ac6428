/** What a guard does while it cannot hear: go on with what it knows, or stop. */
export type WhenBlind = "continue" | "stop";

/** What is known of the next call. A budget of a model stops its calls only then. */
export interface CallDimensions {
  model?: string | undefined;
  provider?: string | undefined;
  route?: string | undefined;
}

/** What a guard needs to know of a run. */
export interface RunIdentity {
  readonly tenantId: string;
  readonly runId: string;
  readonly sessionId?: string | undefined;
  readonly rootRunId?: string | undefined;
  readonly workflow?: string | undefined;
  /** `owner`, `project` and so on, with `tags` an object of its own. */
  readonly attribution?: Readonly<Record<string, unknown>> | undefined;
}

export type Action = "kill" | "pause" | "downgrade";

/** A command, as the log has it. */
export interface Command {
  command_id: string;
  action: Action | "resume" | "nudge";
  tenant_id: string;
  target: { type: string; id: string };
  seq: number;
  expires_ms: number;
  reason?: string | null;
  rule?: string | null;
  incident_id?: string | null;
  scope?: Record<string, string[]> | null;
}

/** What became of a command, and which earlier ones it lifted. */
export interface Applied {
  verdict: "applied" | "replayed" | "expired" | "not_entitled";
  lifted: Command[];
}

const ALL_TENANTS = "spendfuse/all-tenants";
const ACTIONS = ["kill", "pause", "resume", "downgrade", "nudge"];
const TARGETS = ["run", "session", "run_tree", "workflow", "tenant", "scope"];
const CALL = ["model", "provider", "route"];
/** How long what has expired is kept, by a clock that nobody sets. */
const EXPIRED_KEPT_MS = 3_600_000;
/** What had expired for longer when it came is not kept: a compacted topic may be full of it. */
const EXPIRED_TAKEN_MS = 86_400_000;

interface Standing {
  seq: number;
  latestExpiryMs: number;
  /** When all was first seen to have expired, by a clock that nobody sets. */
  expiredAtMs: number | null;
  kill?: Command | undefined;
  pause?: Command | undefined;
  downgrade?: Command | undefined;
  /** An operator's resume that nothing has been commanded since. */
  resumed?: Command | undefined;
}

/**
 * The commands that stand, by their targets. They have been verified: nothing of signatures is looked at here. What has
 * expired is kept for a while, and judged again whenever somebody asks: a clock that was ahead and is set right lets no
 * run go on that was told to stop.
 */
export class StandingCommands {
  readonly #byTarget = new Map<string, Standing>();
  /** Those of `#byTarget` whose target is a scope. */
  readonly #scopes = new Map<string, Standing>();
  readonly #nudges = new Map<string, { last: Command; isTaken: boolean }>();

  /** The command in a record's value; null if it is none. */
  static parse(value: string): Command | null {
    let body: Partial<Command> | null;
    try {
      body = JSON.parse(value) as Partial<Command> | null;
    } catch {
      return null;
    }
    const isText = (text: unknown): boolean => typeof text === "string" && text !== "";
    const mayBeText = (text: unknown): boolean => text === undefined || text === null || typeof text === "string";
    const isWhole = (number: unknown): boolean => Number.isInteger(number) && (number as number) >= 0;
    const target = body?.target;
    const holds =
      body !== null && target !== null && typeof target === "object" && ACTIONS.includes(String(body.action)) && TARGETS.includes(target.type) &&
      [target.id, body.command_id, body.tenant_id].every(isText) && [body.seq, body.expires_ms].every(isWhole) &&
      [body.reason, body.rule, body.incident_id].every(mayBeText) &&
      (body.action !== "nudge" || target.type === "run") &&
      (body.tenant_id !== ALL_TENANTS || target.type === "scope") &&
      (target.type !== "scope" || isScope(body.scope) || (body.action === "resume" && (body.scope ?? null) === null));
    return holds ? (body as Command) : null;
  }

  /** Take in a command. */
  apply(command: Command, byOperator: boolean, nowMs: number): Applied {
    if (command.action === "nudge") return this.#note(command, nowMs);
    const name = key(command.tenant_id, command.target.type, command.target.id);
    const standing = this.#byTarget.get(name) ?? { seq: -1, latestExpiryMs: 0, expiredAtMs: null };
    this.#byTarget.set(name, standing);
    if (command.target.type === "scope") this.#scopes.set(name, standing);
    if (command.seq <= standing.seq) return { verdict: "replayed", lifted: [] };
    standing.seq = command.seq;
    standing.latestExpiryMs = Math.max(standing.latestExpiryMs, command.expires_ms);
    const isExpired = command.expires_ms <= nowMs;
    if (command.action === "resume") return isExpired ? { verdict: "expired", lifted: [] } : resume(standing, command, byOperator, nowMs);
    const held = standing[command.action];
    const isKept = !isExpired || (command.expires_ms + EXPIRED_TAKEN_MS > nowMs && (held?.expires_ms ?? 0) < command.expires_ms);
    if (isKept) standing[command.action] = command;
    if (isExpired) return { verdict: "expired", lifted: [] };
    standing.resumed = undefined;
    return { verdict: "applied", lifted: [] };
  }

  /** The command of that kind that stands for a run and its next call; a pause that stands longest. */
  reaching(action: Action, run: RunIdentity, nowMs: number, call: CallDimensions = {}): Command | null {
    if (!this.#byTarget.size) return null; // nearly always
    const found = this.#own(action, run).concat(this.#scopes.size && !this.#isExempt(run, nowMs) ? this.#scoped(action, run, call) : []);
    const standing = found.filter((command) => command.expires_ms > nowMs);
    if (action === "pause") standing.sort((a, b) => b.expires_ms - a.expires_ms);
    return standing[0] ?? null;
  }

  /** The sentence that waits for a run's model, once. */
  takeNudge(run: RunIdentity, nowMs: number): Command | null {
    const nudge = this.#nudges.get(key(run.tenantId, "run", run.runId));
    if (!nudge || nudge.isTaken) return null;
    nudge.isTaken = true;
    return nudge.last.expires_ms > nowMs ? nudge.last : null;
  }

  /** Forget what has expired for long enough: a replay of that is ignored for being expired. */
  prune(nowMs: number, monotonicMs: number): void {
    for (const [name, standing] of this.#byTarget)
      if (isForgettable(standing, nowMs, monotonicMs)) {
        this.#byTarget.delete(name);
        this.#scopes.delete(name);
      }
    for (const [name, { last }] of this.#nudges) if (last.expires_ms <= nowMs) this.#nudges.delete(name);
  }

  #note(nudge: Command, nowMs: number): Applied {
    const name = key(nudge.tenant_id, "run", nudge.target.id);
    const before = this.#nudges.get(name);
    if (before && nudge.seq <= before.last.seq) return { verdict: "replayed", lifted: [] };
    const isExpired = nudge.expires_ms <= nowMs;
    this.#nudges.set(name, { last: nudge, isTaken: isExpired });
    return { verdict: isExpired ? "expired" : "applied", lifted: [] };
  }

  #own(action: Action, run: RunIdentity): Command[] {
    return targetsOf(run).flatMap(([type, id]) => this.#byTarget.get(key(run.tenantId, type, id))?.[action] ?? []);
  }

  #scoped(action: Action, run: RunIdentity, call: CallDimensions): Command[] {
    const commands = [...this.#scopes.values()].flatMap((standing) => standing[action] ?? []);
    return commands.filter((command) => reaches(command, run, call));
  }

  #isExempt(run: RunIdentity, nowMs: number): boolean {
    const resumed = this.#byTarget.get(key(run.tenantId, "run", run.runId))?.resumed;
    return resumed !== undefined && resumed.expires_ms > nowMs;
  }
}

/** Whether a command is about a run, or about the next call of one. */
export function reaches({ tenant_id, target, scope }: Command, run: RunIdentity, call: CallDimensions = {}): boolean {
  if (tenant_id !== run.tenantId && tenant_id !== ALL_TENANTS) return false;
  if (target.type !== "scope") return targetsOf(run).some(([type, id]) => type === target.type && id === target.id);
  return Object.entries(scope ?? {}).every(([name, allowed]) => allowed.includes(dimension(name, run, call) ?? "\0"));
}

/** Everything but scopes that a command may name to reach the run, the narrowest first. */
function targetsOf(run: RunIdentity): [string, string][] {
  const targets = [
    ["run", run.runId], ["run_tree", run.rootRunId ?? run.runId], ["session", run.sessionId],
    ["workflow", run.workflow], ["tenant", run.tenantId],
  ] as const;
  return targets.flatMap(([type, id]) => (id === undefined ? [] : [[type, id] as [string, string]]));
}

function resume(standing: Standing, command: Command, byOperator: boolean, nowMs: number): Applied {
  const lifted = [standing.pause, standing.downgrade].filter((each) => each !== undefined);
  standing.pause = standing.downgrade = undefined;
  if (byOperator) standing.resumed = command;
  if (standing.kill && standing.kill.expires_ms > nowMs && !byOperator) return { verdict: "not_entitled", lifted };
  if (standing.kill) lifted.push(standing.kill);
  standing.kill = undefined;
  return { verdict: "applied", lifted };
}

function isForgettable(standing: Standing, nowMs: number, monotonicMs: number): boolean {
  if (standing.latestExpiryMs > nowMs) {
    standing.expiredAtMs = null;
    return false;
  }
  standing.expiredAtMs ??= monotonicMs;
  const holdsNothing = !standing.kill && !standing.pause && !standing.downgrade;
  return holdsNothing || monotonicMs - standing.expiredAtMs >= EXPIRED_KEPT_MS;
}

function isScope(scope: unknown): boolean {
  const isList = (allowed: unknown): boolean => Array.isArray(allowed) && allowed.every((value) => typeof value === "string");
  return scope !== null && typeof scope === "object" && !Array.isArray(scope) && Object.values(scope).every(isList);
}

function key(tenantId: string, type: string, id: string): string {
  return [tenantId, type, id].join("\0");
}

/** The value of a dimension; undefined if it is one of a call that is not known. */
function dimension(name: string, run: RunIdentity, call: CallDimensions): string | undefined {
  if (CALL.includes(name)) return call[name as keyof CallDimensions];
  if (name === "tenant_id") return run.tenantId;
  const tags = run.attribution?.["tags"] as Record<string, unknown> | undefined;
  const value = name.startsWith("tags.") ? tags?.[name.slice(5)] : (run.attribution?.[name] ?? (name === "workflow" ? run.workflow : undefined));
  return typeof value === "string" && value ? value : "unattributed";
}
