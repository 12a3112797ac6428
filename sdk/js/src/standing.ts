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

type Action = "kill" | "pause" | "downgrade";

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

/** What became of a command. */
export type Verdict = "applied" | "replayed" | "expired" | "not_entitled" | "malformed";

const ALL_TENANTS = "spendfuse/all-tenants";
const ACTIONS = ["kill", "pause", "resume", "downgrade", "nudge"];
const TARGETS = ["run", "session", "run_tree", "workflow", "tenant", "scope"];
const CALL = ["model", "provider", "route"];

interface Standing {
  seq: number;
  kill?: Command | undefined;
  pause?: Command | undefined;
  downgrade?: Command | undefined;
  /** An operator's resume that nothing has been commanded since. */
  resumed?: Command | undefined;
}

/** The commands that stand, by their targets. They have been verified: nothing of signatures is looked at here. */
export class StandingCommands {
  readonly #byTarget = new Map<string, Standing>();
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
    const isWhole = (number: unknown): boolean => Number.isInteger(number) && (number as number) >= 0;
    const target = body?.target;
    const holds =
      body !== null && target !== undefined && ACTIONS.includes(String(body.action)) && TARGETS.includes(target.type) &&
      [target.id, body.command_id, body.tenant_id].every(isText) && [body.seq, body.expires_ms].every(isWhole) &&
      (body.action !== "nudge" || target.type === "run") &&
      (body.tenant_id !== ALL_TENANTS || target.type === "scope") &&
      (target.type !== "scope" || body.action === "resume" || (body.scope !== null && typeof body.scope === "object"));
    return holds ? (body as Command) : null;
  }

  /** Take in a command. */
  apply(command: Command, byOperator: boolean, nowMs: number): Verdict {
    if (command.action === "nudge") return this.#note(command, nowMs);
    const name = key(command.tenant_id, command.target.type, command.target.id);
    const standing = this.#byTarget.get(name) ?? { seq: -1 };
    this.#byTarget.set(name, standing);
    if (command.seq <= standing.seq) return "replayed";
    standing.seq = command.seq;
    if (command.expires_ms <= nowMs) return "expired";
    if (command.action !== "resume") {
      standing[command.action] = command;
      standing.resumed = undefined;
      return "applied";
    }
    standing.pause = standing.downgrade = undefined;
    if (byOperator) standing.resumed = command;
    if (standing.kill && standing.kill.expires_ms > nowMs && !byOperator) return "not_entitled";
    standing.kill = undefined;
    return "applied";
  }

  /** The command of that kind that stands for a run and its next call; a pause that stands longest. */
  reaching(action: Action, run: RunIdentity, nowMs: number, call: CallDimensions = {}): Command | null {
    const found = this.#own(action, run).concat(this.#isExempt(run, nowMs) ? [] : this.#scoped(action, run, call));
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

  /** Forget what has expired. */
  prune(nowMs: number): void {
    for (const [name, { kill, pause, downgrade, resumed }] of this.#byTarget)
      if ([kill, pause, downgrade, resumed].every((command) => !command || command.expires_ms <= nowMs)) this.#byTarget.delete(name);
    for (const [name, { last }] of this.#nudges) if (last.expires_ms <= nowMs) this.#nudges.delete(name);
  }

  #note(nudge: Command, nowMs: number): Verdict {
    const name = key(nudge.tenant_id, "run", nudge.target.id);
    const before = this.#nudges.get(name);
    if (before && nudge.seq <= before.last.seq) return "replayed";
    const isExpired = nudge.expires_ms <= nowMs;
    this.#nudges.set(name, { last: nudge, isTaken: isExpired });
    return isExpired ? "expired" : "applied";
  }

  #own(action: Action, run: RunIdentity): Command[] {
    const targets: [string, string | undefined][] = [
      ["run", run.runId], ["run_tree", run.rootRunId ?? run.runId], ["session", run.sessionId],
      ["workflow", run.workflow], ["tenant", run.tenantId],
    ];
    return targets.flatMap(([type, id]) => (id === undefined ? [] : (this.#byTarget.get(key(run.tenantId, type, id))?.[action] ?? [])));
  }

  #scoped(action: Action, run: RunIdentity, call: CallDimensions): Command[] {
    const found: Command[] = [];
    for (const standing of this.#byTarget.values()) {
      const command = standing[action];
      if (command?.target.type !== "scope" || ![run.tenantId, ALL_TENANTS].includes(command.tenant_id)) continue;
      const scope = Object.entries(command.scope ?? {});
      if (scope.every(([name, allowed]) => allowed.includes(dimension(name, run, call) ?? "\0"))) found.push(command);
    }
    return found;
  }

  #isExempt(run: RunIdentity, nowMs: number): boolean {
    const resumed = this.#byTarget.get(key(run.tenantId, "run", run.runId))?.resumed;
    return resumed !== undefined && resumed.expires_ms > nowMs;
  }
}

function key(tenantId: string, type: string, id: string): string {
  return [tenantId, type, id].map(encodeURIComponent).join("/");
}

/** The value of a dimension; undefined if it is one of a call that is not known. */
function dimension(name: string, run: RunIdentity, call: CallDimensions): string | undefined {
  if (CALL.includes(name)) return call[name as keyof CallDimensions];
  if (name === "tenant_id") return run.tenantId;
  const tags = run.attribution?.["tags"] as Record<string, unknown> | undefined;
  const value = name.startsWith("tags.") ? tags?.[name.slice(5)] : (run.attribution?.[name] ?? (name === "workflow" ? run.workflow : undefined));
  return typeof value === "string" && value ? value : "unattributed";
}
