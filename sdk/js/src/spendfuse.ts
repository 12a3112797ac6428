import { Emitter } from "./emitter.js";
import { Gateway } from "./gateway.js";
import { Guard } from "./guard.js";
import { Run, type RunOptions } from "./run.js";
import type { WhenBlind } from "./standing.js";

/** What is left out comes from SPENDFUSE_URL, SPENDFUSE_KEY, SPENDFUSE_TENANT and SPENDFUSE_WHEN_BLIND, or the key. */
export interface ConnectOptions {
  url?: string;
  key?: string;
  tenantId?: string;
  whenBlind?: WhenBlind;
  blindAfterMs?: number;
  mostBuffered?: number;
  warn?: (text: string) => void;
}

/** What one tenant's agents report with and ask. */
export class Spendfuse {
  private constructor(
    readonly tenantId: string,
    readonly emitter: Emitter,
    readonly guard: Guard,
  ) {}

  /** Asks the gateway whose key that is, unless tenant and `whenBlind` are said. */
  static async connect(options: ConnectOptions = {}): Promise<Spendfuse> {
    const env = process.env;
    const gateway = new Gateway(options.url ?? env["SPENDFUSE_URL"], options.key ?? env["SPENDFUSE_KEY"]);
    const said = env["SPENDFUSE_WHEN_BLIND"];
    let tenantId = options.tenantId ?? env["SPENDFUSE_TENANT"];
    let whenBlind = options.whenBlind ?? (said === "stop" || said === "continue" ? said : undefined);
    if (tenantId === undefined || whenBlind === undefined) {
      const info = await gateway.keyInfo();
      tenantId ??= info.tenantId;
      whenBlind ??= info.whenBlind;
    }
    const emitter = new Emitter(gateway, options);
    const { blindAfterMs } = options;
    return new Spendfuse(tenantId, emitter, new Guard(gateway, emitter, { whenBlind, ...(blindAfterMs === undefined ? {} : { blindAfterMs }) }));
  }

  /** A run, begun. End it with `finish`, or have `around` do it. */
  run(options: RunOptions = {}): Run {
    return new Run(this.emitter, this.guard, this.tenantId, options);
  }

  /** End both; how many events did not get there. */
  async close(timeoutMs = 10_000): Promise<number> {
    this.guard.close();
    return this.emitter.close(timeoutMs);
  }
}
