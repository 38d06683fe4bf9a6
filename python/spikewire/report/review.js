// The page of a review: what is drawn, the mouse, the keys.

const $ = (id) => document.getElementById(`review-${id}`), root = document.getElementById("review");
const head = JSON.parse($("head").textContent), NEAR_PX = 12, SHORTEST_S = 0.05, TOP_RATE = 50;
const source = $("source"), overview = $("rate");
let units = [], edits = null, unit = null, which = [], odd = [], cursor = 0, corner = null, box = null, colours = {};
let from = 0, to = head.samples, shown = [], exported = 0, notice = "", redraws = [];

/* what is said */

const s = (sample) => (sample / head.fs_hz).toFixed(3);
const number = (v, digits = 2) => (Number.isFinite(v) ? v.toFixed(digits) : "–");
function say(words) { $("at").textContent = words; }
function warn(words) {
  notice = words;
  status();
}
function status() {
  const lost = !edits || edits.record.length && edits.record.length === exported ? "" : !edits.store ? "This browser keeps nothing for this page: the edits are in this tab only. Export before you close it."
    : edits.unsaved ? `This browser has no room for ${edits.unsaved} edits: they are in this tab only. Export before you close it.` : "";
  const words = [lost, notice].filter(Boolean).join(" ");
  if ($("alert").textContent !== words) $("alert").textContent = words;
  $("alert").hidden = !words;
  const count = edits ? edits.record.length : 0;
  $("saved").textContent = !count ? "" : !edits.store || edits.unsaved ? `${count} edits, not kept` : `${count} edits, kept in this browser`;
}

/* what is shown in words */

const change = (a, b, digits) => (number(a, digits) === number(b, digits) ? number(b, digits) : `${number(a, digits)} → ${number(b, digits)}`);
function row(u) {
  const tr = $("units").rows[u.number], f = u.now = figures(u, head), g = u.first, turns = edits.record.filter((e) => e.unit === u.number).length;
  const words = [`${u.number}${u.kept ? "" : " dropped"}`, change(g.sil, f.sil, 3), number(f.pnr, 1), change(g.cov, f.cov, 3), number(f.rate, 1), f.count, turns || ""];
  words.forEach((v, k) => { tr.cells[k].textContent = v; });
  tr.className = u.kept ? "" : "dropped";
}

function words(e) {
  const what = e.action === "undo" || e.action === "redo" ? `${e.action} ${e.of}` : e.samples ? `${e.action} ${e.samples.length === 1 ? `${s(e.samples[0])} s` : `${e.samples.length} at ${s(e.samples[0])} to ${s(e.samples[e.samples.length - 1])} s`}` : e.action;
  return `unit ${e.unit}: ${what}${e.sil ? `, SIL ${change(e.sil[0] ?? NaN, e.sil[1] ?? NaN, 4)}` : ""} (${String(e.when).slice(0, 19).replace("T", " ")})`;
}

/** After an edit: its unit's figures, and what shows it. */
function after(numbers) {
  for (const k of numbers) row(units[k]);
  which = discharges(unit);
  odd = oddities(unit, which, head);
  const f = unit.now, g = unit.first;
  $("title").textContent = `Unit ${unit.number}${unit.kept ? "" : " (dropped)"}`;
  $("figures").textContent = `SIL ${change(g.sil, f.sil, 4)} · PNR ${change(g.pnr, f.pnr, 1)} dB · CoV ${change(g.cov, f.cov, 3)} · ${change(g.rate, f.rate, 1)} pulse/s · ${change(g.count, f.count, 0)} discharges · ${odd.filter(Boolean).length} odd intervals${unit.clean ? " · source without the other units' crosstalk" : ""}`;
  $("keep").firstChild.nodeValue = unit.kept ? "Drop unit " : "Keep unit ";
  root.querySelector('[data-key="z"]').disabled = !edits.done.length;
  root.querySelector('[data-key="Z"]').disabled = !edits.undone.length;
  $("count").textContent = `(${edits.record.length}${head.rounds.length ? `, after ${head.rounds.reduce((n, r) => n + r.record.length, 0)} of earlier reviews` : ""})`;
  for (const b of $("alike").querySelectorAll("button")) b.className = units[b.dataset.a].kept && units[b.dataset.b].kept ? "" : "settled";
  if (root.querySelector("details").open) list();
  draw();
  status();
}

function list() {
  const earlier = head.rounds.flatMap((r) => r.record), standing = new Set(edits.done);
  $("record").replaceChildren(...[...earlier, ...edits.record].reverse().slice(0, 500).map((e) => {
    const item = document.createElement("li"), back = e.samples || ["keep", "drop"].includes(e.action);
    item.textContent = words(e);
    if (back && edits.record.includes(e) && !standing.has(e)) item.className = "undone";
    return item;
  }));
  $("record").start = earlier.length + edits.record.length;
}

/* what is done */

function look(first, last) {
  const span = Math.min(Math.max(last - first, SHORTEST_S * head.fs_hz), head.samples), middle = (first + last) / 2;
  from = Math.min(Math.max(middle - span / 2, 0), head.samples - span);
  to = from + span;
  draw();
}
function zoom(factor, at = cursor >= shown[0] && cursor < shown[1] ? unit.at[cursor] : (from + to) / 2) {
  look(at - (at - from) * factor, at + (to - at) * factor);
}
function choose(k) {
  unit = units[Math.min(Math.max(k, 0), units.length - 1)];
  [...$("units").rows].forEach((tr, n) => { n === unit.number ? tr.setAttribute("aria-current", "true") : tr.removeAttribute("aria-current"); });
  const tr = $("units").rows[unit.number], frame = tr.closest(".scroll"), top = tr.offsetTop;  // scrollIntoView moves the page, too
  frame.scrollTop = Math.min(Math.max(frame.scrollTop, top + 2 * tr.offsetHeight - frame.clientHeight), Math.max(top - 2 * tr.offsetHeight, 0));
  corner = box = null;
  cursor = Math.max(0, Math.min(find(unit, (from + to) / 2), unit.n - 1));
  after([]);
  say(`Unit ${unit.number}: SIL ${number(unit.now.sil, 3)}, ${unit.now.count} discharges`);
}
function point(k) {
  if (k < 0 || k >= unit.n) return;
  cursor = k;
  const at = unit.at[k], span = to - from, i = which.indexOf(k);
  if (corner !== null) {
    const low = Math.min(unit.height[corner], unit.height[k]);
    box = [Math.min(unit.at[corner], at), Math.max(unit.at[corner], at), low, TALLEST];
  }
  if (at < from || at >= to) look(at - span / 2, at + span / 2); else draw();
  const side = (a, b) => (a === undefined || b === undefined ? "–" : `${((unit.at[b] - unit.at[a]) / head.fs_hz * 1e3).toFixed(0)} ms`);
  const kind = ["", ", after a short interval", ", after a long interval", ", after an interval unlike its neighbours"][i < 0 ? 0 : odd[i]];
  say(`${s(at)} s (sample ${at}), height ${unit.height[k].toFixed(2)}: ${i < 0 ? "no discharge" : `discharge${kind}; intervals ${side(which[i - 1], k)} before, ${side(k, which[i + 1])} after`}`);
}
function step(direction, any) {
  let k = cursor + direction;
  while (k >= 0 && k < unit.n && !(unit.fires[k] || (any && (unit.peak[k] || unit.given[k])))) k += direction;
  point(k);
}
function stray(direction) {
  const ahead = which.filter((k, i) => odd[i] && (k - cursor) * direction > 0);
  if (!ahead.length) return say("No odd interval further on");
  const k = direction > 0 ? ahead[0] : ahead[ahead.length - 1];
  if (to - from > 5 * head.fs_hz) {
    from = unit.at[k] - head.fs_hz;
    to = from + 2 * head.fs_hz;
    look(from, to);
  }
  return point(k);
}
function edit(action, samples, stamp = performance.now()) {
  const began = performance.now(), before = edits.record.length, made = edits.add(action, unit.number, samples);
  const fresh = edits.record.slice(before), others = fresh.length - (made ? 1 : 0);
  if (others) warn(`Another tab edits this decomposition: ${others} of its edits came in.`);
  if (!fresh.length) return say({ undo: "Nothing to undo", redo: "Nothing to redo" }[action] || "Nothing changes");
  if (made && made.unit !== unit.number) choose(made.unit);
  box = corner = null;
  const at = made && (edits.done.includes(made) ? made : edits.record[made.of - 1])?.samples;
  if (at && at.length === 1) cursor = find(unit, at[0]);
  after(new Set(fresh.map((e) => e.unit)));
  if (at && (at[0] < from || at[0] >= to)) look(at[0] - (to - from) / 2, at[0] + (to - from) / 2);
  say(made ? `${made.number}. ${words(made)}` : "Nothing changes");
  const worked = performance.now() - began;
  requestAnimationFrame(() => setTimeout(() => { redraws = [...redraws.slice(-999), [performance.now() - stamp, worked]]; }));
  return made;
}
function toggle(k, stamp) {
  if (k < 0 || k >= unit.n) return;
  const meant = unit.fires[k] ? k : near(unit, k, unit.fires, head);  // two discharges within a millisecond are none
  cursor = meant < 0 ? k : meant;
  edit(meant < 0 ? "add" : "delete", [unit.at[cursor]], stamp);
}

async function save() {
  if (!units.some((u) => u.kept && discharges(u).length)) return say("Every unit is dropped or empty: there is nothing to export");
  const count = edits.record.length, link = document.createElement("a"), blob = await file(head, units, edits.record);
  link.href = URL.createObjectURL(blob);
  link.download = `${head.out}_edited.npz`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  exported = count;
  status();
  const dropped = units.filter((u) => !u.kept).length;
  return say(`${link.download}: ${units.length - dropped} units${dropped ? `, without ${dropped} dropped ones` : ""}, and the record of ${count} edits, where this browser keeps downloads`);
}

/* mouse and keys */

const where = (event, canvas) => { const r = canvas.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
const sampleAt = (px) => from + (px - LEFT) / (width - LEFT) * (to - from);
const heightAt = (py) => TALLEST * (1 - (py - 6) / (tall - FOOT - 6));
function nearest(px, py) {
  const reach = NEAR_PX * (to - from) / width;
  let best = -1, least = NEAR_PX;
  for (let k = find(unit, sampleAt(px) - reach); k < unit.n && unit.at[k] <= sampleAt(px) + reach; k++) {
    const far = Math.hypot(x(unit.at[k]) - px, y(unit.height[k]) - py);
    if (far < least) [best, least] = [k, far];
  }
  return best;
}

let drag = null;
source.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  drag = where(event, source);
  source.setPointerCapture(event.pointerId);
});
source.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [px, py] = where(event, source);
  if (Math.hypot(px - drag[0], py - drag[1]) < 6 && !box) return;
  corner = null;
  box = [sampleAt(Math.min(px, drag[0])), sampleAt(Math.max(px, drag[0])), Math.max(heightAt(Math.max(py, drag[1])), 0), Math.max(heightAt(Math.min(py, drag[1])), 0)];
  draw();
});
source.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const [px, py] = where(event, source), moved = Math.hypot(px - drag[0], py - drag[1]) >= 6;
  drag = null;
  if (moved) {
    const inside = boxed();
    return say(`Box: A adds ${inside.add.length} peaks, D deletes ${inside.delete.length} discharges, Esc forgets it`);
  }
  box = corner = null;
  const k = nearest(px, py);
  if (k < 0) { draw(); return say("No peak there; click nearer to the top of one"); }
  return toggle(k, event.timeStamp);
});
source.addEventListener("pointercancel", () => { drag = null; });
source.addEventListener("wheel", (event) => {
  event.preventDefault();
  const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY), by = (event.deltaX || event.deltaY) / 500 * (to - from);
  if (sideways) look(from + by, to + by); else zoom(2 ** (event.deltaY / 250), sampleAt(where(event, source)[0]));
}, { passive: false });
function pan(event) {
  const at = (where(event, overview)[0] - LEFT) / (overview.clientWidth - LEFT) * head.samples, half = (to - from) / 2;
  look(at - half, at + half);
}
overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); pan(event); });
overview.addEventListener("pointermove", (event) => { if (event.buttons & 1) pan(event); });

const KEYS = {
  ArrowUp: () => choose(unit.number - 1), ArrowDown: () => choose(unit.number + 1),
  ArrowLeft: (e) => step(-1, e.shiftKey), ArrowRight: (e) => step(1, e.shiftKey),
  Home: () => point(which.length ? which[0] : 0), End: () => point(which.length ? which[which.length - 1] : unit.n - 1),
  Enter: (e) => toggle(cursor, e.timeStamp), " ": (e) => toggle(cursor, e.timeStamp),
  z: (e) => edit("undo", undefined, e.timeStamp), Z: (e) => edit("redo", undefined, e.timeStamp),
  k: (e) => edit(unit.kept ? "drop" : "keep", undefined, e.timeStamp),
  a: (e) => box && edit("add", boxed().add, e.timeStamp), d: (e) => box && edit("delete", boxed().delete, e.timeStamp),
  b: () => { corner = cursor; point(cursor); }, Escape: () => { box = corner = null; draw(); },
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => look(0, head.samples),
  "[": () => stray(-1), "]": () => stray(1), e: save, "?": () => $("keys").showModal(),
};
function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.target.closest("dialog, input, summary")) return;
  const letter = event.key.toLowerCase(), name = letter === "z" ? (event.shiftKey ? "Z" : "z") : event.key.length === 1 ? letter : event.key;
  if (!Object.hasOwn(KEYS, name) || (event.target.closest("button") && (name === " " || name === "Enter"))) return;
  event.preventDefault();
  KEYS[name](event);
}

function recolour() {
  const style = getComputedStyle(root);
  for (const name of ["ink", "soft", "line", "band", "edge", "accent", "b0", "b1", "b2", "b3"]) colours[name] = style.getPropertyValue(`--${name}`).trim();
  if (unit) draw();
}

function others(event) {  // what another tab has done to the same decomposition
  if (event.key === null) { edits.saved = 0; edits.save(); status(); return; }  // someone emptied the browser
  if (!event.key.startsWith(edits.key)) return;
  const came = edits.pull(), mine = came ? edits.record.slice(-came) : [];
  warn(`This decomposition is also open in another tab. Both tabs write one record, and each shows the edits of both${came ? `; ${came} came in just now` : ""}.`);
  if (came) after(new Set(mine.map((e) => e.unit)));
}

async function begin() {
  units = await unpack(head, $("data").textContent);
  for (const u of units) {
    u.first = figures(u, head);
    const tr = $("units").insertRow();
    for (let k = 0; k < 7; k++) tr.insertCell();
    tr.addEventListener("click", () => choose(u.number));
  }
  edits = new Edits(head, units, warn);
  edits.pull();
  for (const u of units) row(u);
  $("alike").replaceChildren(head.alike.length ? "Alike, one of each pair is enough: " : "No two units are alike.", ...head.alike.map(([a, b, rate]) => {
    const button = Object.assign(document.createElement("button"), { textContent: `${a} = ${b}: ${rate.toFixed(2)}` });
    Object.assign(button.dataset, { a, b });
    button.addEventListener("click", () => choose(unit.number === a ? b : a));
    return button;
  }));
  $("note").textContent = `${head.name}: ${units.length} units, ${number(head.samples / head.fs_hz, 1)} s at ${head.fs_hz} Hz. The highest discharge of a unit was 1 when it came. ${head.floor ? `Peaks below ${head.floor} are not on this page, for its size; SIL counts them. ` : ""}Between its peaks the signal is drawn smoothly. Edits do not change the source.`;
  for (const button of root.querySelectorAll("button[data-key]")) button.addEventListener("click", (e) => KEYS[button.dataset.key](e));
  root.addEventListener("keydown", press);
  const alone = document.querySelectorAll("h2").length < 2;  // else arrows and space scroll the report
  if (alone) document.addEventListener("keydown", (e) => { if (e.target === document.body) press(e); });
  root.querySelector("details").addEventListener("toggle", list);
  addEventListener("storage", others);
  addEventListener("beforeunload", (e) => { if ((!edits.store || edits.unsaved) && edits.record.length > exported) e.preventDefault(); });
  new ResizeObserver(() => draw()).observe(source);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  recolour();
  unit = units[0];
  if (which.length === 0) which = discharges(unit);
  choose(0);
  look(unit.at[which[0]] || 0, (unit.at[which[0]] || 0) + 4 * head.fs_hz);
  if (alone) source.focus({ preventScroll: true });
}
begin().catch((error) => {
  $("alert").hidden = false;
  $("alert").textContent = `This page cannot show the decomposition (${error.message}); a browser of 2023 or later is needed.`;
});

/* for tests and for the curious: the page's own figures */
globalThis.spikewireReview = {
  facts: () => ({
    unit: unit && unit.number, units: units.map((u) => ({ ...u.now, kept: u.kept, times: discharges(u).map((k) => u.at[k]) })), record: edits ? edits.record : [],
    view: [from, to], cursor: unit && unit.at[cursor], box, odd: odd.filter(Boolean).length, redraws_ms: redraws, ready: Boolean(unit && edits), dropped: units.filter((u) => !u.kept).map((u) => u.number),
  }),
  place: (number, sample) => { const u = units[number], k = find(u, sample); choose(number); look(sample - head.fs_hz, sample + head.fs_hz); return [x(u.at[k]), y(u.height[k])]; },
  maxima: (number) => Array.from(units[number].at),
};
