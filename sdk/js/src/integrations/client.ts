import { endedBy, inTheirKind, type ErrorClass } from "../errors.js";
import { RareWarning } from "../process/warnings.js";
import { currentRun, type Run, type RunOptions } from "../run.js";
import type { Spendfuse } from "../spendfuse.js";
import { ModelCall, Reporter } from "./call.js";
import { Seen, text, type Body, type Words } from "./words.js";

/** Whose spend the calls outside of any run are, and which model to take in place of another while a downgrade stands. */
export interface GuardedOptions extends RunOptions {
  cheaper?: Readonly<Record<string, string>> | undefined;
}

/** As much of the clients of OpenAI and Anthropic as is needed: every call to a model goes through `post`. */
export interface ModelClient {
  post: (path: string, options?: never) => unknown;
  withOptions: (options: never) => unknown;
}

interface PostOptions {
  body?: unknown;
  stream?: boolean;
  signal?: AbortSignal | null;
}

/** What `post` returns: a promise that parses the answer when somebody asks for that. */
interface Answer {
  parse: () => Promise<unknown>;
  parsedPromise?: unknown;
  asResponse: () => Promise<unknown>;
  _thenUnwrap: (transform: (data: unknown) => unknown) => Answer;
}

interface Parts {
  iterator: () => AsyncIterator<unknown>;
  controller: AbortController;
}

/** A call that was allowed. */
interface Asked {
  call: ModelCall;
  seen: Seen;
  /** What a kill aborts while a stream is under way. */
  killed: AbortSignal;
  /** What the client's own errors are. */
  Theirs: ErrorClass | undefined;
  isStream: boolean;
  /** Whether a chunk that only tells the usage is kept from whoever reads the stream: it was not asked for. */
  dropsAdded: boolean;
}

/** Tools that a model has asked for, and nobody has shown the result of yet. */
const MOST_ASKED = 1_000;

/** Calls whose streams nobody has any more. */
const abandoned = new FinalizationRegistry<Asked>(({ call, seen }) => call.ended(seen));

/** Asks before each call of a client to a model, and reports it. */
export class GuardedClient {
  readonly #spendfuse: Spendfuse;
  readonly #words: Words;
  readonly #cheaper: Readonly<Record<string, string>>;
  readonly #attribution: RunOptions;
  readonly #reporter: Reporter;
  readonly #unseen: RareWarning;
  /** Call -> the tool that a model has asked for. A conversation that its provider keeps does not say it again. */
  readonly #asked = new Map<string, unknown>();

  constructor(spendfuse: Spendfuse, words: Words, name: string, { cheaper = {}, ...attribution }: GuardedOptions) {
    this.#spendfuse = spendfuse;
    this.#words = words;
    this.#cheaper = cheaper;
    this.#attribution = attribution;
    this.#reporter = new Reporter(spendfuse.warn, name);
    this.#unseen = new RareWarning(spendfuse.warn, (calls) => `${calls} calls of ${name} were made whose usage is not seen, as their answers are read unparsed`);
  }

  /** Have the client ask, and whatever is made of it by `withOptions`; the same client is returned. */
  guard<C extends ModelClient>(client: C): C {
    const post = client.post.bind(client) as (path: string, options?: unknown) => unknown;
    const withOptions = client.withOptions.bind(client) as (options: unknown) => C;
    const Theirs = errorsOf(client);
    const guarded = {
      post: (path: string, options?: unknown): unknown => this.#post(post, Theirs, path, options),
      withOptions: (options: unknown): C => this.guard(withOptions(options)),
    };
    return Object.assign(client, guarded);
  }

  #post(post: (path: string, options?: unknown) => unknown, Theirs: ErrorClass | undefined, path: string, options: unknown): unknown {
    const kind = this.#words.kind(path);
    if (kind === null) return post(path, options);
    const run = currentRun();
    let asked: Asked | undefined;
    const changed = Promise.resolve(options as PostOptions).then((given) => {
      const begun = this.#begin(kind, run, given, Theirs);
      asked = begun.asked;
      return begun.options;
    });
    return this.#watch(post(path, changed) as Answer, () => asked);
  }

  /** Ask, and say how the call is to be made. Throws Stopped or Paused. */
  #begin(kind: string, current: Run | undefined, given: PostOptions, Theirs: ErrorClass | undefined): { asked: Asked; options: PostOptions } {
    const words = this.#words;
    const run = current ?? this.#spendfuse.run(this.#attribution);
    const wanted = (given.body ?? {}) as Body;
    const route = text(wanted, "model") ?? "unknown";
    const isStream = given.stream === true;
    // What the conversation shows of tools has happened, whatever comes next.
    this.#reporter.quietly(() => words.tools(kind, wanted, this.#asked).forEach((used) => {
      this.#asked.delete(used.callId);
      this.#reporter.tool(run, used);
    }));
    try {
      run.check({ provider: words.provider, model: route });
    } catch (error) {
      if (!current) run.finish(endedBy(error));
      throw inTheirKind(error, Theirs);
    }
    const told = this.#commanded(kind, run, wanted, route);
    const { body, addsChunk } = isStream ? words.streamed(kind, told) : { body: told, addsChunk: false };
    const model = text(body, "model") ?? route;
    const call = new ModelCall(run, !current, { model, route, provider: words.provider, prompt: words.prompt(kind, wanted) }, this.#reporter);
    const killed = run.signal;
    const cut = isStream ? { signal: AbortSignal.any(given.signal ? [given.signal, killed] : [killed]) } : {};
    return { asked: { call, seen: new Seen(words), killed, Theirs, isStream, dropsAdded: addsChunk }, options: { ...given, ...cut, body } };
  }

  /** The body with what has been commanded short of a stop: another model, a sentence before it. */
  #commanded(kind: string, run: Run, body: Body, route: string): Body {
    const words = this.#words;
    const cheaper = Object.hasOwn(this.#cheaper, route) ? this.#cheaper[route] : undefined;
    const isCheaper = cheaper !== undefined && run.advice({ provider: words.provider, model: route }).downgrade;
    const sentence = words.takesNudges(kind) ? run.nudge() : null;
    const chosen = isCheaper ? { ...body, model: cheaper } : body;
    return sentence === null ? chosen : words.told(kind, chosen, sentence);
  }

  /** See what becomes of it, when that is asked for. */
  #watch(answer: Answer, begun: () => Asked | undefined): Answer {
    if ([answer.parse, answer.asResponse, answer._thenUnwrap].some((each) => typeof each !== "function")) {
      this.#unseen.happened();
      return answer;
    }
    return this.#heard(answer._thenUnwrap((data) => this.#answered(data, begun() as Asked)), begun);
  }

  /** The same promise, and whatever the client derives of it: how it fails is seen, and whether it is never parsed. */
  #heard(answer: Answer, begun: () => Asked | undefined): Answer {
    const [parse, asResponse, thenUnwrap] = [answer.parse.bind(answer), answer.asResponse.bind(answer), answer._thenUnwrap.bind(answer)];
    answer.parse = () => parse().catch(async (error: unknown) => {
      const asked = begun();
      if (!asked) throw error; // it was not allowed
      const isAnswered = await asResponse().then(() => true, () => false);
      const why = asked.isStream ? (stopOf(asked) ?? error) : error;
      if (isAnswered) asked.call.ended(asked.seen, why);
      else asked.call.failed(asked.seen, why);
      throw why;
    });
    answer.asResponse = () => {
      const response = asResponse();
      if (answer.parsedPromise === undefined) {
        this.#unseen.happened();
        response.then(() => begun()?.call.unseen(), () => undefined);
      }
      return response;
    };
    answer._thenUnwrap = (transform) => this.#heard(thenUnwrap(transform), begun);
    return answer;
  }

  #answered(answer: unknown, asked: Asked): unknown {
    const parts = answer as Partial<Parts> | null;
    if (typeof parts?.iterator === "function" && parts.controller instanceof AbortController) {
      this.#follow(parts as Parts, asked);
      return answer;
    }
    asked.seen.take(answer);
    this.#noteAsked(answer);
    asked.call.done(asked.seen);
    return answer;
  }

  #noteAsked(answer: unknown): void {
    for (const [callId, tool] of this.#words.asked(answer)) {
      this.#asked.set(callId, tool);
      if (this.#asked.size > MOST_ASKED) this.#asked.delete(this.#asked.keys().next().value ?? "");
    }
  }

  #follow(parts: Parts, asked: Asked): void {
    const { iterator } = parts;
    abandoned.register(parts, asked);
    parts.iterator = () => this.#observed({ [Symbol.asyncIterator]: iterator }, parts, asked);
  }

  /** The parts of a stream as they come; after a kill its Stopped. `stream` lives for as long as somebody reads. */
  async *#observed(parts: AsyncIterable<unknown>, stream: Parts, asked: Asked): AsyncGenerator<unknown> {
    const { call, seen, dropsAdded } = asked;
    try {
      for await (const part of parts) {
        seen.take(part);
        this.#noteAsked(part);
        throwIfStopped(asked);
        if (!(dropsAdded && this.#words.isAdded(part))) yield part;
      }
      throwIfStopped(asked); // the clients end a stream that is aborted as one that is over
      if (!stream.controller.signal.aborted) call.done(seen);
    } catch (error) {
      call.ended(seen, error);
      throw error;
    } finally {
      call.ended(seen);
    }
  }
}

/** Why a call's run was stopped; null if it was not. The command is answered. */
function stopOf({ killed, call, Theirs }: Asked): unknown {
  if (!killed.aborted) return null;
  try {
    call.run.check();
    return inTheirKind(killed.reason, Theirs); // and was let go on by now
  } catch (stopped) {
    return inTheirKind(stopped, Theirs);
  }
}

/** What all errors of a client have in common, by the one that it names; undefined if it names none. */
function errorsOf(client: object): ErrorClass | undefined {
  const { APIError: named } = client.constructor as { APIError?: unknown };
  const root: unknown = typeof named === "function" ? Object.getPrototypeOf(named) : undefined;
  return typeof root === "function" && root.prototype instanceof Error ? (root as ErrorClass) : undefined;
}

function throwIfStopped(asked: Asked): void {
  const stopped = stopOf(asked);
  if (stopped !== null) throw stopped;
}
