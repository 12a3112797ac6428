// An independent reader of docs/connect/wire.md: Node's standard library, none of our code. Says where it disagrees with
// the vectors; ends with 0 if nowhere.
import { createHash, createHmac, createPrivateKey, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const faults = [];

function same(what, got, expected) {
  if (got !== expected) faults.push(`${what}: ${JSON.stringify(got)} instead of ${JSON.stringify(expected)}`);
}

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const hmac = (key, bytes) => createHmac("sha256", key).update(bytes).digest();

// Percent-encoding: everything but A-Z a-z 0-9 - . _ ~
function part(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
}

// Keys
const root = Buffer.from(vectors.root_key, "hex");
const SEED_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex"); // PKCS 8 of an Ed25519 seed
const PUBLIC_PREFIX = Buffer.from("302a300506032b6570032100", "hex"); // SPKI of an Ed25519 public key

function deriveKeys(tenantId) {
  const der = Buffer.concat([SEED_PREFIX, hmac(root, "lift")]);
  const pair = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const spki = createPublicKey(pair).export({ format: "der", type: "spki" });
  return { engine: hmac(root, "control|" + tenantId), lift: spki.subarray(PUBLIC_PREFIX.length) };
}

function lifts(publicKey, signature, text) {
  const key = createPublicKey({ key: Buffer.concat([PUBLIC_PREFIX, publicKey]), format: "der", type: "spki" });
  return signature.length === 64 && verify(null, Buffer.from(text), key, signature);
}

// Murmur 2, as Kafka's Java clients have it
function murmur2(bytes) {
  const m = 0x5bd1e995;
  let h = (0x9747b28c ^ bytes.length) | 0;
  let at = 0;
  for (; bytes.length - at >= 4; at += 4) {
    let k = Math.imul(bytes.readInt32LE(at), m);
    k = Math.imul(k ^ (k >>> 24), m);
    h = Math.imul(h, m) ^ k;
  }
  const left = bytes.length - at;
  if (left >= 3) h ^= bytes[at + 2] << 16;
  if (left >= 2) h ^= bytes[at + 1] << 8;
  if (left >= 1) h = Math.imul(h ^ bytes[at], m);
  h = Math.imul(h ^ (h >>> 13), m);
  return h ^ (h >>> 15);
}

// Canonical JSON: keys sorted, no spaces, ASCII
function canonical(value) {
  if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
  if (value !== null && typeof value === "object") {
    const names = Object.keys(value).sort();
    return "{" + names.map((name) => canonical(name) + ":" + canonical(value[name])).join(",") + "}";
  }
  const escape = (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0");
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, escape);
}

// The shape of a result
const { shapes } = vectors;
const TEXT = new RegExp(shapes.text_patterns.join("|"), "g");
const KEY = new RegExp(shapes.key_pattern);
const GONE = "\0";

function shaped(value) {
  if (typeof value === "string") return value.replace(TEXT, GONE).replace(/[ \t\n\r\f\v]+/g, " ").replace(/^ | $/g, "");
  if (Array.isArray(value)) return value.map(shaped);
  if (value === null || typeof value !== "object") return value;
  const isGone = (name, item) => item !== null && !["boolean", "object"].includes(typeof item) && KEY.test(name);
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, isGone(name, item) ? GONE : shaped(item)]),
  );
}

function shapeOf(result) {
  if (canonical(result).length > shapes.most_characters) return null;
  let whole = result;
  if (typeof result === "string" && /^\s*[{[]/.test(result)) {
    try {
      whole = JSON.parse(result);
    } catch {
      // a text that only begins like JSON
    }
  }
  const text = canonical(shaped(whole));
  return /[0-9A-Za-z]/.test(text.replaceAll("\\u0000", "")) ? text : null;
}

// A guard
const ACTIONS = ["kill", "pause", "resume", "downgrade", "nudge"];
const TARGETS = ["run", "session", "run_tree", "workflow", "tenant", "scope"];

function parsed(value) {
  let body;
  try {
    body = JSON.parse(value);
  } catch {
    return null;
  }
  const isText = (text) => typeof text === "string" && text !== "";
  const isWhole = (number) => Number.isInteger(number) && number >= 0;
  const target = body?.target;
  const holds =
    ACTIONS.includes(body?.action) && TARGETS.includes(target?.type) && isText(target.id) && isText(body.command_id) &&
    isText(body.tenant_id) && [body.seq, body.issued_ms, body.expires_ms].every(isWhole) &&
    (body.action !== "nudge" || target.type === "run") &&
    (target.type !== "scope" || body.action === "resume" || (body.scope && typeof body.scope === "object"));
  return holds ? body : null;
}

class Guard {
  constructor(tenantId, keys, nowMs) {
    Object.assign(this, { tenantId, keys, nowMs, standing: new Map(), nudgeSeqs: new Map(), nudges: new Map() });
  }

  take(record) {
    this.signedText = null;
    if (record.value === null) return "tombstone";
    const headers = (name) => record.headers.filter(([each]) => each === name).map(([, text]) => text);
    const one = (name) => (headers(name).length === 1 ? headers(name)[0] : "");
    const mac = (text) => one("spendfuse-signature") === hmac(this.keys.engine, text).toString("hex");
    const lift = (text) => lifts(this.keys.lift, Buffer.from(one("spendfuse-lift"), "hex"), text);
    const digest = sha256(record.value);
    if (/"key_check"/.test(record.value) && JSON.parse(record.value).type === "key_check") {
      const tenantId = JSON.parse(record.value).tenant_id;
      if (tenantId !== this.tenantId) return "other_tenant";
      this.signedText = `v1|engine|key_check|${part(tenantId)}|${digest}`;
      return mac(this.signedText) && lift(this.signedText) ? "keys_hold" : "keys_wrong";
    }
    const body = parsed(record.value);
    if (body === null) return "malformed";
    if (body.tenant_id !== this.tenantId) return "other_tenant";
    const kid = one("spendfuse-kid");
    const target = `${body.target.type}/${part(body.target.id)}`;
    const numbers = [body.seq, body.issued_ms, body.expires_ms].join("|");
    const text = `v1|${kid}|${body.action}|${part(body.tenant_id)}|${target}|${numbers}|${digest}`;
    if (!["engine", "operator"].includes(kid) || !mac(text)) return "forged";
    if (body.action === "resume" && !lift(text)) return "forged";
    this.signedText = text;
    return this.apply(body, kid === "operator");
  }

  applyNudge(body) {
    const runId = body.target.id;
    if (body.seq <= (this.nudgeSeqs.get(runId) ?? -1)) return "replayed";
    this.nudgeSeqs.set(runId, body.seq);
    if (body.expires_ms <= this.nowMs) return "expired";
    this.nudges.set(runId, body.reason);
    return "applied";
  }

  tell(run) {
    const sentence = this.nudges.get(run.run_id) ?? null;
    this.nudges.delete(run.run_id);
    return sentence;
  }

  apply(body, byOperator) {
    if (body.action === "nudge") return this.applyNudge(body);
    const name = `${body.target.type}/${body.target.id}`;
    const standing = this.standing.get(name) ?? { seq: -1 };
    this.standing.set(name, standing);
    if (body.seq <= standing.seq) return "replayed";
    standing.seq = body.seq;
    if (body.expires_ms <= this.nowMs) return "expired";
    if (body.action !== "resume") {
      standing[body.action] = body;
      standing.resumed = null;
      return "applied";
    }
    standing.pause = standing.downgrade = null;
    if (byOperator) standing.resumed = body;
    if (standing.kill && standing.kill.expires_ms > this.nowMs && !byOperator) return "not_entitled";
    standing.kill = null;
    return "applied";
  }

  stands(run) {
    const own = [["run", run.run_id], ["run_tree", run.root_run_id ?? run.run_id], ["tenant", run.tenant_id]];
    if (run.session_id) own.push(["session", run.session_id]);
    if (run.workflow) own.push(["workflow", run.workflow]);
    const names = own.map(([type, id]) => `${type}/${id}`);
    const resumed = this.standing.get(`run/${run.run_id}`)?.resumed;
    const isExempt = resumed && resumed.expires_ms > this.nowMs;
    const value = (dimension) =>
      dimension === "tenant_id" ? run.tenant_id
        : dimension.startsWith("tags.") ? run.attribution.tags?.[dimension.slice(5)] ?? "unattributed"
          : run.attribution[dimension] ?? "unattributed";
    const reaches = (name, command) =>
      name.startsWith("scope/")
        ? !isExempt && Object.entries(command.scope).every(([dimension, allowed]) => allowed.includes(value(dimension)))
        : names.includes(name);
    for (const action of ["kill", "pause", "downgrade"]) {
      for (const [name, standing] of this.standing) {
        const command = standing[action];
        if (command && command.expires_ms > this.nowMs && reaches(name, command)) return action;
      }
    }
    return null;
  }
}

for (const { tenant_id, engine, lift } of vectors.keys) {
  const keys = deriveKeys(tenant_id);
  same(`engine key of ${tenant_id}`, keys.engine.toString("hex"), engine);
  same(`lift key of ${tenant_id}`, keys.lift.toString("hex"), lift);
}
for (const { tenant_id, target, key } of vectors.record_keys)
  same(`record key of ${tenant_id}`, [tenant_id, ...target].map(part).join("/"), key);
for (const { key, partitions, partition } of vectors.partitions)
  same(`partition of ${key}`, (murmur2(Buffer.from(key)) & 0x7fffffff) % partitions, partition);
for (const { tenant_id, run_id, command_id, event_id } of vectors.acks)
  same(`ack of ${tenant_id}`, sha256(["ack", tenant_id, run_id, command_id].join("\0")).slice(0, 32), event_id);
for (const { forged, cause_event_id } of vectors.denials) same("denial", "forged/" + sha256(forged), cause_event_id);
for (const { value, hash, keyed } of vectors.hashes) {
  same(`hash of ${canonical(value)}`, sha256(canonical(value)).slice(0, 32), hash);
  same(`keyed hash of ${canonical(value)}`, hmac(root, canonical(value)).toString("hex").slice(0, 32), keyed);
}
for (const { result, shape, hash } of shapes.results) {
  const found = shapeOf(result);
  same(`shape of ${canonical(result)}`, found, shape);
  same(`hash of that shape`, found && `${shapes.version}:${sha256(canonical(found)).slice(0, 32)}`, hash);
}
const { tenant_id: tenantId, now_ms: nowMs, run, records } = vectors.guard;
const guard = new Guard(tenantId, deriveKeys(tenantId), nowMs);
for (const record of records) {
  same(record.what, guard.take(record), record.verdict);
  same(`${record.what}: signed text`, guard.signedText ?? record.signed_text, record.signed_text);
  same(`${record.what}: what stands`, guard.stands(run), record.stands);
  if ("told" in record) same(`${record.what}: what the agent is told`, guard.tell(run), record.told);
}
console.log(faults.length ? faults.join("\n") : `${records.length} records and all else agree`);
process.exit(faults.length ? 1 : 0);
