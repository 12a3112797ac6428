import type { WhenBlind } from "./control/standing.js";
import { Emitter } from "./emitter.js";
import { Guard } from "./guard.js";
import { Gateway, GatewayError } from "./http/gateway.js";
import { Run, type RunOptions } from "./run.js";
import { toConsole, type Warn } from "./process/warnings.js";
import type { HashKey } from "./usage/hashing.js";

/** What is left out comes from SPENDFUSE_URL, SPENDFUSE_KEY, SPENDFUSE_TENANT and SPENDFUSE_WHEN_BLIND, or the key. */
export interface ConnectOptions {
  url?: string | undefined;
  key?: string | undefined;
  tenantId?: string | undefined;
  whenBlind?: WhenBlind | undefined;
  blindAfterMs?: number | undefined;
  /** How long `connect` waits until it is known what stands; 10,000 unless given. */
  readyMs?: number | undefined;
  mostBuffered?: number | undefined;
  /** Of the hashes of prompts, arguments and results: without one, short ones can be guessed. */
  hashKey?: HashKey | undefined;
  warn?: Warn | undefined;
}

/** What one tenant's agents report with and ask. */
export class Spendfuse {
  readonly #gateway: Gateway;

  private constructor(
    gateway: Gateway,
    readonly tenantId: string,
    readonly emitter: Emitter,
    readonly guard: Guard,
    /** Who is told what goes wrong. */
    readonly warn: Warn,
  ) {
    this.#gateway = gateway;
  }

  /**
   * Asks the gateway whose key that is, unless tenant and `whenBlind` are said, and waits until it is known what stands,
   * so that the first check knows it; where nothing could be heard by then, a check does as `whenBlind` says. Rejects for
   * what nobody has said, and if the gateway has to be asked and does not answer.
   */
  static async connect(options: ConnectOptions = {}): Promise<Spendfuse> {
    const gateway = new Gateway(options.url ?? setting("SPENDFUSE_URL"), options.key ?? setting("SPENDFUSE_KEY"));
    let tenantId = options.tenantId ?? setting("SPENDFUSE_TENANT");
    let whenBlind = options.whenBlind ?? (setting("SPENDFUSE_WHEN_BLIND") as WhenBlind | undefined);
    if (whenBlind !== undefined && whenBlind !== "continue" && whenBlind !== "stop")
      throw new Error(`SPENDFUSE_WHEN_BLIND, or whenBlind, is "continue" or "stop", and not ${JSON.stringify(whenBlind)}`);
    if (tenantId === undefined || whenBlind === undefined) {
      const info = await gateway.keyInfo().catch(explained);
      tenantId ??= info.tenantId;
      whenBlind ??= info.whenBlind;
    }
    const emitter = new Emitter(gateway, { ...options, tenantId });
    const guard = new Guard(gateway, emitter, { ...options, tenantId, whenBlind });
    await guard.ready(options.readyMs);
    return new Spendfuse(gateway, tenantId, emitter, guard, options.warn ?? toConsole);
  }

  /** A run, begun. End it with `finish`, or have `around` do it. */
  run(options: RunOptions = {}): Run {
    return new Run(this.emitter, this.guard, this.tenantId, options);
  }

  /** End both; how many events did not get there. */
  async close(timeoutMs = 10_000): Promise<number> {
    this.guard.close();
    const missing = await this.emitter.close(timeoutMs);
    this.#gateway.close();
    return missing;
  }
}

/** A variable without what a file leaves around it, such as a line's end of Windows; undefined if it is empty. */
function setting(name: string): string | undefined {
  return process.env[name]?.trim() || undefined;
}

function explained(error: unknown): never {
  if (!(error instanceof GatewayError) || error.status !== null) throw error;
  throw new GatewayError(`${error.message}; with SPENDFUSE_TENANT and SPENDFUSE_WHEN_BLIND set it need not be there at the start`);
}
