// The participant's page: a target that comes from the right, and the own neural drive against it.
import { Stream } from "./stream.js";
import { colours, fit } from "./panels.js";

const $ = (id) => document.getElementById(id);
const AHEAD_S = 8, PAST_S = 6, SMOOTH_S = 0.25, SLOTS = 4096;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let plan = null, slot = 0, full = null, began = null, c = colours([]), heard = 0, offset = null, live = false;
let smooth = null, peak = 0, last = null, previous = "";
const time = new Float64Array(SLOTS), effort = new Float32Array(SLOTS);
let count = 0;

fetch(`/plan${location.search}`).then(async (answer) => {
  if (!answer.ok) throw new Error((await answer.text()).trim());
  plan = await answer.json();
  slot = plan.slot;
  full = plan.full;
}).catch((error) => {
  $("cue").textContent = "This address cannot be used";
  $("left").textContent = error.message;
  $("start").disabled = true;
});

new Stream({
  welcome() {}, answer() {}, open() {}, lost() { live = false; },
  record(name, f) {
    if (name === "NOTE") live = f.live === 1;
    if (name !== "STEP") return;
    heard = performance.now() / 1e3;
    const ahead = f.now_s - heard;
    offset = offset === null || Math.abs(ahead - offset) > 5 ? ahead : Math.max(ahead, offset - 1e-5);
    if (last !== null && f.now_s < last) { smooth = null; count = 0; }
    const drive = f.drive[slot], passed = last === null ? 0 : Math.max(f.now_s - last, 0);
    last = f.now_s;
    if (drive !== drive) { smooth = null; } else {
      smooth = smooth === null ? drive : smooth + (1 - Math.exp(-passed / SMOOTH_S)) * (drive - smooth);
    }
    if (began !== null && plan && stageAt(f.now_s - began)[0] === "maximum" && smooth !== null) {
      peak = Math.max(peak, smooth);
    }
    time[count % SLOTS] = f.now_s;
    effort[count++ % SLOTS] = smooth === null ? NaN : smooth;
  },
});

const stageAt = (t) => plan.stages.find(([, , stop]) => t < stop) || plan.stages[plan.stages.length - 1];

function target(t) {
  const corners = plan.corners;
  if (t <= 0 || t >= plan.seconds) return 0;
  for (let k = 1; k < corners.length; k++) {
    const [t0, v0] = corners[k - 1], [t1, v1] = corners[k];
    if (t < t1) return t1 > t0 ? v0 + (v1 - v0) * (t - t0) / (t1 - t0) : v1;
  }
  return 0;
}

/** Drive in percent of a full effort; before that is known, of the loudest so far. */
const percent = (drive) => 100 * drive / (full || Math.max(peak, 1));

function begin() {
  if (!plan || last === null) return;
  began = performance.now() / 1e3 + offset;
  peak = 0;
  $("start").firstChild.nodeValue = "Start again ";
}

let next = 0;
function frame(ms) {
  requestAnimationFrame(frame);
  if (!plan || ms < next) return;
  next = ms + (calm.matches ? 200 : 0);
  const now = offset === null ? 0 : performance.now() / 1e3 + offset - 0.06, t = began === null ? -1e9 : now - began;
  words(t);
  draw(now, t);
}
requestAnimationFrame(frame);

function words(t) {
  const [kind, , stop] = stageAt(t), over = began !== null && t >= plan.seconds;
  let cue = began === null ? (live && last !== null ? "Ready?" : "Waiting for the signal") : over ? "Done. Thank you" : plan.words[kind];
  if (began !== null && !over && !live) cue = "The signal is lost; relax";
  cue = cue[0].toUpperCase() + cue.slice(1);
  if (cue !== previous) { previous = cue; $("cue").textContent = cue; }
  const left = began === null || over ? "\u00a0" : `${Math.ceil(stop - t)} s`;
  if ($("left").textContent !== left) $("left").textContent = left;
}

function draw(now, t) {
  const [pen, w, h] = fit($("field")), kind = began === null ? "rest" : stageAt(t)[0];
  const hard = kind === "maximum", top = hard ? 130 : 1.6 * plan.level, foot = 24;
  const x = (s) => w * (PAST_S + s) / (PAST_S + AHEAD_S), y = (p) => foot / 2 + (h - foot) * (1 - Math.min(Math.max(p, 0), top) / top);
  const from = -PAST_S, to = AHEAD_S, points = [];
  for (let s = from; s <= to; s += 0.05) points.push([x(s), y(began === null ? 0 : target(t + s))]);
  const path = () => { pen.beginPath(); points.forEach(([px, py], k) => (k ? pen.lineTo(px, py) : pen.moveTo(px, py))); };
  pen.lineJoin = pen.lineCap = "round";
  pen.strokeStyle = c.band;
  pen.lineWidth = Math.max(2 * (h - foot) * 0.1 * plan.level / top, 14);  // a tenth of the level to either side
  path();
  pen.stroke();
  pen.strokeStyle = c.target;
  pen.lineWidth = 3;
  pen.setLineDash([10, 10]);
  path();
  pen.stroke();
  pen.setLineDash([]);
  pen.fillStyle = c.line;
  pen.fillRect(x(0) - 1, 0, 2, h);
  if (began === null || (full === null && !peak)) return;
  pen.strokeStyle = c.accent;
  pen.lineWidth = 6;
  pen.beginPath();
  let down = false, end = null;
  for (let k = Math.max(0, count - SLOTS); k < count; k++) {
    const s = time[k % SLOTS] - now, v = effort[k % SLOTS];
    if (s < from || s > 0 || v !== v) { down = down && v === v; continue; }
    end = [x(s), y(percent(v))];
    if (down) pen.lineTo(...end); else pen.moveTo(...end);
    down = true;
  }
  pen.stroke();
  if (end && live) {
    pen.fillStyle = c.accent;
    pen.beginPath();
    pen.arc(...end, 13, 0, 2 * Math.PI);
    pen.fill();
    pen.fillStyle = c.panel;
    pen.beginPath();
    pen.arc(...end, 5, 0, 2 * Math.PI);
    pen.fill();
  }
  $("facts").textContent = full || peak ? `${(full || peak).toFixed(0)} pulse/s is full effort` : "";
}

const fullScreen = () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.());
$("start").addEventListener("click", begin);
$("full").addEventListener("click", fullScreen);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button")) return;
  if (event.key === " " || event.key === "Enter") { event.preventDefault(); begin(); }
  if (event.key.toLowerCase() === "f") fullScreen();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { c = colours([]); });
globalThis.spikewire = { facts: () => ({ count, began, peak, live, plan }) };
