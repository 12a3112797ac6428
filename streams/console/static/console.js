// The live page: takes changes from the server and puts them in their places. No library, no build step.
"use strict";

const QUIET_MS = 4000; // A server that says nothing for so long is not live: it says something every second.
const ROW_PX = 44;
const SPARE_ROWS = 8;
const STEP_ROWS = 8;

// ---- putting content in its place -------------------------------------------------------------

/** Make `old` what `next` is, touching only what differs: focus, selection and scrolling stay where they are. */
function morph(old, next) {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName) return void old.replaceWith(next.cloneNode(true));
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  if (old.tagName === "TIME" && old.dataset.since === next.dataset.since && old.dataset.ms === next.dataset.ms) return;
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  morphChildren(old, next);
}

function morphChildren(old, next) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset?.key) keyed.set(child.dataset.key, child);
  let place = old.firstChild;
  for (const wanted of [...next.childNodes]) {
    const key = wanted.dataset?.key;
    const found = key ? keyed.get(key) : place?.dataset?.key ? null : place;
    if (!found) {
      old.insertBefore(document.importNode(wanted, true), place);
      continue;
    }
    if (found === place) place = place.nextSibling;
    else old.insertBefore(found, place);
    morph(found, wanted);
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

/** Have whatever is focused be so again after a change that has moved it: a browser takes what moves for gone. */
function keepingFocus(change) {
  const focused = document.activeElement;
  change();
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

function put(id, content) {
  let home = document.getElementById(id);
  if (!home) {
    const table = document.getElementById("calls");
    if (!table || !/^calls-\d+$/.test(id)) return;
    home = table.createTBody();
    home.id = id;
  }
  // A table's rows are parsed in a table, a drawing's in a drawing.
  const parsed = document.createElement("template");
  parsed.innerHTML = home.nodeName === "TBODY" ? `<table><tbody>${content}</tbody></table>` : content;
  const next = home.nodeName === "TBODY" ? parsed.content.querySelector("tbody") : parsed.content;
  const followsEnd = followsItsEnd(home);
  keepingFocus(() => morphChildren(home, next));
  if (followsEnd) followsEnd.scrollTop = followsEnd.scrollHeight;
  for (const time of home.querySelectorAll("time")) showTime(time);
}

/** The scrolling box around it, if it is scrolled to its end and more than it holds: then it stays there. */
function followsItsEnd(home) {
  const box = home.closest(".scroll");
  if (!box || box.id === "runs-scroll" || box.scrollHeight <= box.clientHeight + 4 || box.scrollTop === 0) return null;
  return box.scrollTop + box.clientHeight >= box.scrollHeight - 8 ? box : null;
}

// ---- time ---------------------------------------------------------------------------------------

const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const dayAndTime = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });

function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

function showTime(time) {
  const { since, ms } = time.dataset;
  const at = Number(since ?? ms);
  if (!at) return;
  const isToday = new Date(at).toDateString() === new Date().toDateString();
  const text = since ? ago(Date.now() - at) : (isToday ? clockTime : dayAndTime).format(at);
  if (time.textContent !== text) time.textContent = text;
  if (!time.title) time.title = new Date(at).toISOString().replace("T", " ").slice(0, 19) + " UTC";
}

// ---- live runs ----------------------------------------------------------------------------------

const [HREF, RUN, TENANT, WHOSE, MODEL, COST, COST_N, SHARE, NEAR, WORD, CALLS] = Array(11).keys();

/** Thousands of rows of which only those are in the page that can be seen. */
class Runs {
  constructor(box) {
    this.box = box;
    this.body = box.querySelector("tbody");
    this.table = box.querySelector("table");
    this.rows = new Map();
    this.order = [];
    this.by = COST_N;
    this.wanted = "";
    this.leftOut = 0;
    this.due = 0;
    this.top = spacer();
    this.bottom = spacer();
    this.body.append(this.top, this.bottom);
    this.shown = new Map();
    this.boxRows = box.clientHeight / ROW_PX;
    this.drawn = [0, 0];
    this.frame = 0;
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => { this.boxRows = box.clientHeight / ROW_PX; this.drawSoon(); }).observe(box);
    for (const radio of document.querySelectorAll("input[name=order]"))
      radio.addEventListener("change", () => { this.by = radio.value === "near" ? SHARE : COST_N; this.sort(); });
    document.getElementById("find").addEventListener("input", (event) => { this.wanted = event.target.value.trim().toLowerCase(); this.sort(); });
  }

  take({ all, rows, gone, left_out }) {
    if (all) this.rows.clear();
    for (const key of gone) this.rows.delete(key);
    for (const key in rows) this.rows.set(key, rows[key]);
    this.leftOut = left_out;
    if (all) return this.sort();
    // The order follows once a second at most, so that what is read stays in its place that long.
    if (!this.due) this.due = setTimeout(() => { this.due = 0; this.sort(); }, 1000);
    this.drawSoon();
  }

  sort() {
    const by = this.by, wanted = this.wanted;
    const found = [];
    for (const [key, row] of this.rows)
      if (!wanted || `${row[RUN]} ${row[TENANT]} ${row[WHOSE]} ${row[MODEL]}`.toLowerCase().includes(wanted)) found.push([key, row[by]]);
    found.sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
    this.order = found.map((one) => one[0]);
    const more = this.leftOut ? `, ${this.leftOut.toLocaleString()} more are not kept` : "";
    const of = wanted ? ` of ${this.rows.size.toLocaleString()}` : "";
    document.getElementById("runs-count").textContent = ` ${this.order.length.toLocaleString()}${of}${more}`;
    this.table.setAttribute("aria-rowcount", String(this.order.length + 1));
    this.drawSoon();
  }

  /** Which rows are drawn: those that can be seen and some before and after, in steps, so that not every pixel counts. */
  window() {
    const seen = Math.floor(this.box.scrollTop / ROW_PX / STEP_ROWS) * STEP_ROWS;
    const first = Math.max(0, seen - SPARE_ROWS);
    return [first, Math.min(this.order.length, seen + Math.ceil(this.boxRows) + STEP_ROWS + SPARE_ROWS)];
  }

  scrolled() {
    const [first, last] = this.window();
    if (first !== this.drawn[0] || last !== this.drawn[1]) this.drawSoon();
  }

  /** Once a frame, whatever has changed until then: the browser lays the table out each time it is asked for a place. */
  drawSoon() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  draw() {
    this.drawn = this.window();
    keepingFocus(() => this.drawRows(...this.drawn));
  }

  drawRows(first, last) {
    const wanted = this.order.slice(first, last).filter((key) => this.rows.has(key));
    const keep = new Map(), free = [];
    const isWanted = new Set(wanted);
    for (const [key, line] of this.shown)
      if (isWanted.has(key)) keep.set(key, line);
      // Rows are used again for others, but for one that somebody is at: it would be another run under their hands.
      else if (line.tr.contains(document.activeElement)) line.tr.remove();
      else free.push(line);
    this.shown = new Map();
    // Those that stay are one after another once the others are out: only what is new has to be put in.
    for (const line of free) line.tr.remove();
    let before = this.top;
    for (const [at, key] of wanted.entries()) {
      const line = keep.get(key) ?? free.pop() ?? newRow();
      fill(line, this.rows.get(key), first + at);
      this.shown.set(key, line);
      if (before.nextSibling !== line.tr) before.after(line.tr);
      before = line.tr;
    }
    this.top.firstChild.style.height = `${first * ROW_PX}px`;
    this.bottom.firstChild.style.height = `${Math.max(0, this.order.length - last) * ROW_PX}px`;
    const nothing = this.order.length === 0;
    this.box.classList.toggle("nothing", nothing);
    this.box.dataset.empty = this.wanted ? "No live run is called so." : "No run is live.";
  }
}

function spacer() {
  const tr = document.createElement("tr"), td = document.createElement("td");
  tr.className = "spacer";
  tr.setAttribute("aria-hidden", "true");
  tr.append(td);
  return tr;
}

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  return made;
}

function cell(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

function newRow() {
  const line = { tr: document.createElement("tr"), was: null };
  line.link = document.createElement("a");
  line.run = cell("bdi");
  line.link.append(line.run);
  line.word = cell("span", "badge");
  line.tenant = cell("bdi");
  line.whose = cell("bdi", "sub");
  line.model = cell("td", "model");
  line.calls = cell("td", "number calls-n");
  line.cost = cell("td", "number");
  line.near = cell("div", "sub");
  line.rect = svg("rect", { height: 6 });
  line.bar = svg("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
  line.bar.append(svg("rect", { width: 100, height: 6, class: "track" }), line.rect);
  const name = cell("th", "what", line.link, line.word);
  name.scope = "row";
  line.tr.append(name, cell("td", "whose-run", line.tenant, " ", line.whose), line.model, line.calls, line.cost, cell("td", "near-limit", line.bar, line.near));
  return line;
}

function fill(line, row, at) {
  line.tr.setAttribute("aria-rowindex", String(at + 2));
  if (line.was === row) return;
  line.was = row;
  line.link.href = row[HREF];
  text(line.run, row[RUN]);
  text(line.tenant, row[TENANT]);
  text(line.whose, row[WHOSE]);
  text(line.model, row[MODEL]);
  text(line.cost, row[COST]);
  text(line.calls, row[CALLS].toLocaleString());
  text(line.near, row[SHARE] < 0 ? "no limit" : `${Math.floor(100 * row[SHARE] + 1e-9)}% · ${row[NEAR]}`);
  const share = Math.max(0, row[SHARE]);
  line.rect.setAttribute("width", String(100 * Math.min(1, share)));
  line.rect.setAttribute("class", share >= 1 ? "over" : share >= 0.8 ? "near" : "far");
  line.bar.classList.toggle("none", row[SHARE] < 0);
  text(line.word, row[WORD]);
  line.word.className = `badge ${row[WORD] === "kill" ? "kill" : "pause"}`;
  line.word.hidden = !row[WORD];
}

function text(node, value) {
  const shown = node.firstChild;
  if (!shown) node.textContent = value;
  else if (shown.data !== value) shown.data = value;
}

// ---- following ----------------------------------------------------------------------------------

class Following {
  constructor(path, runs) {
    this.path = path;
    this.runs = runs;
    this.heard = Date.now();
    this.stale = 0;
    this.isOver = false;
    this.open();
    setInterval(() => this.look(), 500);
    addEventListener("pagehide", () => { this.isOver = true; this.source.close(); });
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.look(); });
  }

  open() {
    this.source = new EventSource(this.path);
    const on = (kind, take) => this.source.addEventListener(kind, (event) => {
      this.heard = Date.now();
      take(JSON.parse(event.data));
    });
    on("parts", (parts) => { for (const id in parts) put(id, parts[id]); });
    on("runs", (rows) => this.runs?.take(rows));
    on("say", (texts) => { document.getElementById("said").textContent = texts.join(". "); });
    on("beat", ({ stale }) => { this.stale = stale; this.show(); });
    on("over", () => this.leave());
    this.source.addEventListener("error", () => this.failed());
  }

  /** The browser connects again by itself, except where the answer was no stream: then the login may be over. */
  async failed() {
    if (this.source.readyState !== EventSource.CLOSED || this.isOver) return;
    this.source.close();
    try {
      const answer = await fetch("/live/ping", { cache: "no-store" });
      if (answer.status === 401 || answer.status === 403) return this.leave();
    } catch { /* nobody answers: try again */ }
    setTimeout(() => this.open(), 1000 + Math.random() * 1000);
  }

  leave() {
    this.isOver = true;
    this.source.close();
    location.assign(`/login?after=${encodeURIComponent(location.pathname + location.search)}`);
  }

  look() {
    for (const time of document.querySelectorAll("time[data-since]")) showTime(time);
    this.show();
  }

  show() {
    const since = this.stale || (Date.now() - this.heard > QUIET_MS ? this.heard : 0);
    const notice = document.getElementById("stale"), word = document.getElementById("live");
    document.body.classList.toggle("is-stale", Boolean(since));
    const why = this.stale ? "no broker answers" : "the console does not answer";
    text(word, since ? "not live" : "live");
    text(notice, since ? `Not live since ${clockTime.format(since)}: ${why}. It goes on by itself; what you see is from then.` : "");
  }
}

/** Which clock the times of the page are by: a phone has no pointer that would tell. */
function showZone(place) {
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "shortOffset" }).formatToParts();
  const offset = parts.find(({ type }) => type === "timeZoneName")?.value.replace("GMT", "UTC") ?? "";
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
  if (zone === "UTC") return;
  place.textContent = `Times are by this device's clock${zone ? `, ${zone}` : ""} (${offset}), where they do not say UTC.`;
}

// ---- beginning ----------------------------------------------------------------------------------

for (const time of document.querySelectorAll("time")) showTime(time);
const zone = document.getElementById("zone");
if (zone) showZone(zone);
const box = document.getElementById("runs-scroll");
const live = document.getElementById("main")?.dataset.live;
if (live) new Following(live, box ? new Runs(box) : null);
document.getElementById("file")?.addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file && file.size < 400_000) document.getElementById("policy").value = await file.text();
});
for (const form of document.querySelectorAll("form[data-once]"))
  form.addEventListener("submit", () => { for (const button of form.querySelectorAll("button")) button.disabled = true; });
