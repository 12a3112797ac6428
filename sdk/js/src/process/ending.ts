import { Worker } from "node:worker_threads";

/** What is sent one after the other by somebody who shares nothing with this thread. */
export interface Parcel {
  url: string;
  headers: Record<string, string>;
  bodies: Buffer[];
}

/** Somebody who may still have something to send when the process ends. */
export interface AtExit {
  /** What waits. */
  parcel(): Parcel;
  /** How many of the bodies have arrived; the rest never will. */
  sentAtExit(bodies: number): void;
}

const EXIT_MS = 2_000;
const waiting = new Set<AtExit>();
let isListening = false;

/** Send what `each` has left when the process ends: by itself, by `process.exit` or by an error that nobody has caught. */
export function sendAtExit(each: AtExit): void {
  waiting.add(each);
  if (isListening) return;
  isListening = true;
  process.on("exit", () => waiting.forEach(endNow));
  const { Deno, addEventListener } = globalThis as { Deno?: unknown; addEventListener?: (kind: string, hear: () => void) => void };
  if (Deno !== undefined) for (const kind of ["error", "unhandledrejection"]) addEventListener?.(kind, sendAll);
}

/**
 * Deno gives no `exit` event after an error that nobody has caught. Somebody may yet have caught it, so that nothing is
 * taken for sent: what goes again has the same id, and counts once.
 */
function sendAll(): void {
  waiting.forEach(sendNow);
}

function endNow(each: AtExit): void {
  const sent = sendNow(each);
  if (sent !== null) each.sentAtExit(sent);
}

/** It has nothing to send any more. */
export function forgetAtExit(each: AtExit): void {
  waiting.delete(each);
}

/** Send what waits by another thread, for nothing of this one runs any more at its exit; how many bodies have arrived. Null if nothing waits. */
function sendNow(each: AtExit): number | null {
  const parcel = each.parcel();
  if (!parcel.bodies.length) return null;
  const count = new Int32Array(new SharedArrayBuffer(8)); // bodies that have arrived; 1 once it has ended
  try {
    new Worker(SENDER, { eval: true, execArgv: [], workerData: { ...parcel, count } });
    Atomics.wait(count, 1, 0, EXIT_MS);
  } catch {
    // no threads are allowed here
  }
  return Atomics.load(count, 0);
}

/** A text, so that whatever bundles a program need not know of a second file. */
const SENDER = `
const { workerData: { url, headers, bodies, count } } = require("node:worker_threads");
const { request } = url.startsWith("https:") ? require("node:https") : require("node:http");
const send = (body) => new Promise((resolve) => {
  const asked = request(url + "/v1/events", { method: "POST", headers: { ...headers, "Content-Length": body.length } }, (response) => {
    response.resume().on("end", () => resolve([200, 400].includes(response.statusCode)));
  });
  asked.on("error", () => resolve(false)).end(body);
});
(async () => {
  for (const body of bodies) {
    if (!(await send(Buffer.from(body)))) break;
    Atomics.add(count, 0, 1);
  }
  Atomics.store(count, 1, 1);
  Atomics.notify(count, 1);
})();
`;
