import { clearTimeout, setTimeout } from "node:timers";

const LONGEST_MS = 2 ** 31 - 1;

/** Milliseconds by a clock that nobody sets. */
export function monotonicMs(): number {
  return performance.now();
}

/** Wait so long, or until somebody aborts. Keeps the process alive only if told to. */
export function sleep(lengthMs: number, signal?: AbortSignal, keepsProcess = false): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, Math.min(Math.max(lengthMs, 0), LONGEST_MS)); // beyond that Node waits a millisecond
    if (!keepsProcess) timer.unref();
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end);
  });
}
