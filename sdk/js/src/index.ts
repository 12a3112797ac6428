/**
 * Report what an agent spends to a Spendfuse gateway, and obey a stop.
 *
 *     const spendfuse = await Spendfuse.connect();           // SPENDFUSE_URL and SPENDFUSE_KEY
 *     const run = spendfuse.run({ workflow: "support" });
 */
export type { CallDimensions, RunIdentity, WhenBlind } from "./control/standing.js";
export type { Emitter, EmitterStats } from "./emitter.js";
export { InvalidEvent, Paused, Stopped, type FinishStatus } from "./errors.js";
export type { Advice, Guard, OnStop } from "./guard.js";
export { GatewayError } from "./http/gateway.js";
export { Run, currentRun, type CallStatus, type LlmCall, type Outcome, type RunOptions, type ToolCall, type Usd } from "./run.js";
export { Spendfuse, type ConnectOptions } from "./spendfuse.js";
export { hashOf, shapeHashOf, type HashKey } from "./usage/hashing.js";
export type { UsageEvent } from "./usage/wire.js";
