/**
 * Report what an agent spends to a Spendfuse gateway, and obey a stop.
 *
 *     const spendfuse = await Spendfuse.connect();           // SPENDFUSE_URL and SPENDFUSE_KEY
 *     const run = spendfuse.run({ workflow: "support" });
 */
export { Emitter, type EmitterStats, type UsageEvent } from "./emitter.js";
export { InvalidEvent, Paused, Stopped } from "./errors.js";
export { Guard, type Advice } from "./guard.js";
export { hashOf, shapeHashOf } from "./hashing.js";
export { Run, type CallStatus, type LlmCall, type Outcome, type RunOptions, type ToolCall } from "./run.js";
export { Spendfuse, type ConnectOptions } from "./spendfuse.js";
export type { CallDimensions, RunIdentity, WhenBlind } from "./standing.js";
