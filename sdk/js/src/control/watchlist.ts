import type { RunIdentity } from "./standing.js";

const MOST_WATCHED = 10_000;
const MOST_FINISHED = 1_000;

/**
 * Runs between their start and their end, each object by itself, and the last thousand that ended. Of more than ten
 * thousand the oldest are let go: somebody forgets to end them.
 */
export class Watchlist {
  readonly #watched = new Map<RunIdentity, AbortController>();
  readonly #finished = new Map<string, RunIdentity>();

  constructor(readonly letGo: (run: RunIdentity) => void) {}

  /** Watch a run; what tells it to stop. */
  add(run: RunIdentity): AbortController {
    const controller = this.#watched.get(run) ?? new AbortController();
    this.#watched.set(run, controller);
    if (this.#watched.size > MOST_WATCHED)
      for (const oldest of [...this.#watched.keys()].slice(0, MOST_WATCHED / 100)) {
        this.#watched.delete(oldest);
        this.letGo(oldest);
      }
    return controller;
  }

  /** What tells a run to stop that was told before, and may go on. */
  renew(run: RunIdentity): void {
    this.#watched.set(run, new AbortController());
  }

  /** Take it as finished; whether the run is, or another object of it goes on. */
  remove(run: RunIdentity): boolean {
    if (!this.#watched.delete(run)) for (const same of this.#objectsOf(run)) this.#watched.delete(same);
    if (this.#objectsOf(run).length) return false;
    this.#finished.set(key(run.tenantId, run.runId), run);
    if (this.#finished.size > MOST_FINISHED) this.#finished.delete(this.#finished.keys().next().value ?? "");
    return true;
  }

  get watched(): [RunIdentity, AbortController][] {
    return [...this.#watched];
  }

  /** The run of that id if it has ended, and does not go on. */
  finished(tenantId: string, runId: string): RunIdentity | null {
    return this.#objectsOf({ tenantId, runId }).length ? null : (this.#finished.get(key(tenantId, runId)) ?? null);
  }

  #objectsOf({ tenantId, runId }: RunIdentity): RunIdentity[] {
    return [...this.#watched.keys()].filter((run) => run.runId === runId && run.tenantId === tenantId);
  }
}

function key(tenantId: string, runId: string): string {
  return `${tenantId}\0${runId}`;
}
