/** The client of Anthropic, guarded. */
import { AnthropicWords } from "./integrations/anthropic.js";
import { GuardedClient, type GuardedOptions, type ModelClient } from "./integrations/client.js";
import type { Spendfuse } from "./spendfuse.js";

export type { GuardedOptions } from "./integrations/client.js";

/**
 * Have a client ask before each call to a model, and report it, streams too; the same client is returned. A call belongs
 * to the run in whose `around` it is made, else to a run of its own with these options. It rejects with Stopped or Paused
 * while the run may not go on; a stream under way ends with Stopped.
 *
 *     const anthropic = guarded(new Anthropic(), spendfuse, { workflow: "support" });
 */
export function guarded<C extends ModelClient>(client: C, spendfuse: Spendfuse, options: GuardedOptions = {}): C {
  return new GuardedClient(spendfuse, new AnthropicWords(), "spendfuse/anthropic", options).guard(client);
}
