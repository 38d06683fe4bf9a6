// The page: what comes in, what is drawn when, and the keys.
import { Stream } from "./stream.js";
import { History, KEPT_S } from "./history.js";
import { Raster } from "./raster.js";
import { bit } from "./decode.js";
import * as panels from "./panels.js";

const $ = (id) => document.getElementById(id);
const SPANS = [2, 5, 10, 20, 60], DELAY_S = 0.06, STALE_S = 1;
const calm = matchMedia("(prefers-reduced-motion: reduce)"), dark = matchMedia("(prefers-color-scheme: dark)");

const history = new History(), raster = new Raster($("spikes"), history);
let about = null, welcome = null, units = [], where = null, colours = panels.colours([]);
let rms = [], bad = [], heatTop = 1, unitRecord = null, links = [], run = null, note = null;
let offset = null, arrived = 0, pausedAt = null, live = false, connected = false, refused = false;
let saidState = "", frames = [], drivePlot = null;

/* what comes */

const takes = {
  STEP(s) {
    arrived = performance.now() / 1e3;
    const ahead = s.now_s - arrived;
    // the lower envelope of the delay, followed slowly upwards, is the page's clock
    offset = offset === null || Math.abs(ahead - offset) > 5 ? ahead : Math.max(ahead, offset - 1e-5);
    if (!history.add(s)) {
      raster.reset();
      pausedAt = null;
    }
  },
  EMG(e) { rms = e.rms_uv; },
  UNITS(u) { unitRecord = u; },
  CHANNELS(c) { bad = rms.map((_, k) => bit(c.bad, k)); },
  LINKS(l) { links = l.counts; },
  RUN(r) { run = r; },
  NOTE(n) { note = n; live = n.live === 1; },
  ABOUT(a) {
    const before = about && JSON.stringify(about);
    if (before === a.json) return;
    try { about = JSON.parse(a.json); } catch { return; }
    if (before !== JSON.stringify(about)) begin();
  },
};

function begin() {
  units = about.bundles.flatMap((b, k) => Array.from({ length: b.n_mu }, (_, u) => ({ bundle: k, own: u })));
  raster.units = Math.max(units.length, 1);
  where = panels.places(about.channels, (welcome && welcome.grid) || null);
  $("legend").replaceChildren(...about.bundles.map((b, k) => {
    const item = document.createElement("span"), key = document.createElement("i");
    key.className = `c${k}`;
    item.append(key, `${b.name}, ${b.n_mu} units`);
    return item;
  }));
  document.title = `${about.bundles.map((b) => b.name).join(", ")} · spikewire monitor`;
  recolour();
  resize();
}

const stream = new Stream({
  welcome(w) { welcome = w; if (about) begin(); },
  record(name, fields) { takes[name]?.(fields); },
  answer(said) {
    if (said.marked) {
      history.marks.push({ now_s: said.marked.now_s, label: said.marked.label });
      history.marks = history.marks.slice(-100);
      say(`Marked “${said.marked.label || "mark"}” at step ${said.marked.step}, written to ${said.file}`);
    } else if (said.refused) {
      say(`Not marked: ${said.refused}`);
    }
  },
  open() { connected = true; refused = false; },
  lost(never) { connected = false; live = false; refused = never; },
});

/* what is drawn */

function recolour() {
  colours = panels.colours(units);
  if (welcome) for (const [k, name] of welcome.states) colours.states[k] = colours.state(name);
  raster.colours = colours;
  raster.stale = true;
  makePlot();
}

function makePlot() {
  const box = $("drive");
  drivePlot?.destroy();
  drivePlot = null;
  if (!about) return;
  const axis = { stroke: colours.soft, grid: { stroke: colours.line, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const gutter = getComputedStyle($("raster")).gridTemplateColumns.split(" ").map(parseFloat);
  drivePlot = new uPlot({
    width: box.clientWidth, height: box.clientHeight, padding: [8, gutter[2], 0, 0],
    cursor: { show: false }, legend: { show: false },
    scales: { x: { time: false, range: () => [-raster.span - behind(), -behind()] }, y: { range: (_, low, high) => [0, Math.max(high * 1.15, 10)] } },
    axes: [{ ...axis, size: 28, incrs: [0.5, 1, 2, 5, 10].slice(raster.span > 2), values: (_, v) => v.map((t) => `${t} s`) }, { ...axis, size: gutter[0] }],
    series: [{}, ...about.bundles.map((b, k) => ({ label: b.name, stroke: colours.bundles[k], width: 2, spanGaps: false, points: { show: false } }))],
  }, [[0], ...about.bundles.map(() => [null])], box);
}

/** Seconds from the newest step to the right edge of what is shown. */
function behind() {
  return pausedAt === null || !history.newest ? 0 : history.newest.now_s - pausedAt;
}

function edge() {
  if (pausedAt !== null) return pausedAt;
  const newest = history.newest.now_s, guess = performance.now() / 1e3 + offset - DELAY_S;
  return performance.now() / 1e3 - arrived > STALE_S ? newest : Math.min(Math.max(guess, newest - 0.5), newest + 0.1);
}

function drawDrive(to) {
  if (!drivePlot) return;
  const [a, b] = history.range(to - raster.span - 0.1, to), each = Math.max(1, Math.floor((b - a) / 1200));
  const back = behind(), x = [], y = about.bundles.map(() => []);
  for (let k = a; k < b; k += each) {
    x.push(history.at(history.time, k) - to - back);
    y.forEach((line, n) => {
      const v = history.at(history.drive[n], k);
      line.push(v === v ? v : null);
    });
  }
  drivePlot.setData(x.length ? [x, ...y] : [[0], ...y.map(() => [null])]);
}

let nextDrive = 0, nextSlow = 0, nextFrame = 0;
function frame(ms) {
  requestAnimationFrame(frame);
  if (!history.newest || !about || !welcome || ms < nextFrame) return;
  if (calm.matches) nextFrame = ms + 500;
  frames.push(ms);
  if (frames.length > 600) frames.shift();
  const to = edge();
  if (pausedAt !== null && history.newest.now_s - pausedAt > KEPT_S) {
    pausedAt = history.newest.now_s - KEPT_S;  // older ones are gone
  }
  raster.show(to);
  if (ms >= nextDrive) { nextDrive = ms + (calm.matches ? 500 : 66); drawDrive(to); }
  if (ms >= nextSlow) { nextSlow = ms + 250; slow(to); }
}
requestAnimationFrame(frame);
setInterval(() => status(), 250);

const figure = (v, digits = 2) => (v === v && v !== null && v !== undefined ? v.toFixed(digits) : "–");
function big(id, value, unit) {
  const place = $(id);
  if (place.textContent !== value + (unit || "")) {
    place.textContent = value;
    if (unit) place.append(Object.assign(document.createElement("small"), { textContent: unit }));
  }
}

const factsOf = (u) => {
  const c = unitRecord ? unitRecord.confidence[u] : NaN;
  return { muted: unitRecord ? bit(unitRecord.muted, u) : 0, confidence: c === c && c !== undefined ? c : null };
};

let slowTurn = 0;
function slow(to) {
  const rates = history.rates(units.length, to, 2), step = history.newest;
  panels.values($("values"), raster, colours, units, rates, factsOf);
  if (rms.length && where) {
    const loud = rms.filter((v, k) => !bad[k] && v === v).sort((a, b) => a - b);
    const high = (loud[Math.floor(0.98 * (loud.length - 1))] || 1) * 1.1;
    heatTop = high > heatTop ? high : Math.max(high, 0.98 * heatTop);
    panels.heat($("grid"), colours, rms, bad, where, heatTop);
    $("emg-facts").textContent = `RMS, median ${(loud[loud.length >> 1] || 0).toPrecision(3)} µV`;
    const off = bad.flatMap((b, k) => (b ? [k] : []));
    $("bad").textContent = (off.length ? `not used: ${off.slice(0, 24).join(", ")}${off.length > 24 ? " …" : ""}` : "all in use")
      + (where.known ? "" : "; grid not known, in the order of channels");
    const read = rms.filter((v) => v === v).length;  // by any decoder
    big("t-good", String(read - off.length), `of ${read}`);
  }
  const drives = step.drive.slice(0, about.bundles.length);
  big("t-drive", drives.map((d) => (d === d ? d.toFixed(0) : "–")).join(" · "), "pulse/s");
  big("t-units", String(rates.filter((r) => r > 0).length), `of ${units.length}`);
  big("t-missed", String(step.missed), step.missed ? `of ${step.step}` : "");
  if (slowTurn++ % 4 === 0) timing(step, rates);
}

function timing(step, rates) {
  const age = history.sorted(history.age), compute = history.sorted(history.compute);
  const of = (sorted) => [0.5, 0.99, 1].map((q) => figure(panels.quantile(sorted, q)));
  const whole = run ? [["age, whole run", ...run.age_ms.map((v) => figure(v))], ["compute, whole run", ...run.compute_ms.map((v) => figure(v))]] : [];
  panels.rows($("times"), [[{ key: "age", text: "age, 60 s" }, ...of(age)], [{ key: "compute", text: "compute, 60 s" }, ...of(compute)], ...whole]);
  panels.histogram($("histogram"), colours, age, compute);
  big("t-age", figure(panels.quantile(age, 0.99), 1), "ms");
  panels.rows($("facts"), [
    ["steps, missed", `${step.step}, ${step.missed}`], ["gaps, silent periods", `${step.gaps}, ${step.silent}`],
    ["spikes", step.spikes], ["not shown here", `${history.lostSteps} steps, ${history.lostSpikes} spikes`],
    ...(run && run.temperature_c === run.temperature_c ? [["hottest part", `${run.temperature_c.toFixed(0)} °C`]] : []),
    ["source", about.source], ["engine", about.engine || "–"], ...(about.arm_id ? [["arm id", about.arm_id]] : []),
  ]);
  $("links-table").hidden = !about.links.length;
  panels.rows($("links"), about.links.map((uri, k) => [uri, ...[0, 1, 2].map((i) => links[3 * k + i] ?? "–")]));
  if ($("units").querySelector("details").open) {
    panels.rows($("unit-rows"), units.map((u, k) => {
      const f = factsOf(k);
      return [k, about.bundles[u.bundle].name, rates[k].toFixed(1), f.confidence === null ? "not known yet" : f.confidence.toFixed(3), f.muted ? "muted: its source is lost" : ""];
    }));
  }
  panels.labels($("labels"), raster, colours, units);
}

function status() {
  const step = history.newest;
  let name = "NA", words = refused ? "the monitor does not let this page in, or is not there" : "connecting to the monitor";
  if (connected) words = welcome ? `waiting for a run: mu-run … --monitor ${welcome.feed}` : "connected";
  if (step && welcome) {
    const state = welcome.states.find(([k]) => k === step.state) || [15, "NA", "unknown"];
    const faults = welcome.faults.filter(([k]) => (step.faults >> k) & 1).map(([, , w]) => w);
    name = state[1];
    words = [state[2], ...faults].join("; ");
    if (about?.log && !live) words += "; the log has ended";
    else if (!live) {
      name = "NA";
      words = connected ? "the run is not heard any more" : "the monitor is gone; trying again";
    }
  }
  if (saidState === name + words) return;
  saidState = name + words;
  const badge = $("state").firstElementChild;
  badge.dataset.state = name;
  badge.textContent = { NA: "NO RUN" }[name] || name;
  $("state").lastElementChild.textContent = words;
}

let sayTimer = 0;
function say(words) {
  $("said").textContent = words;
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => { $("said").textContent = ""; resizeSoon(); }, 8000);
  resizeSoon();
}

/* what a person does */

function pause(at) {
  if (!history.newest) return;
  pausedAt = at === null ? null : Math.min(Math.max(at, history.newest.now_s - KEPT_S + raster.span), history.newest.now_s);
  $("pause").setAttribute("aria-pressed", String(pausedAt !== null));
  $("pause").firstChild.nodeValue = pausedAt === null ? "Pause " : "Paused ";
  $("live").hidden = pausedAt === null;
}

function scroll(by) {
  if (history.newest) pause((pausedAt === null ? history.newest.now_s : pausedAt) + by * raster.span / 5);
}

function zoom(by) {
  const at = Math.min(Math.max(SPANS.indexOf(raster.span) + by, 0), SPANS.length - 1);
  raster.span = SPANS[at];
  $("span").textContent = `${SPANS[at]} s`;
  if (pausedAt !== null) pause(pausedAt);
  resize();
}

function mark() {
  if (!history.newest) return;
  // what is marked is what stands at the right edge of the picture when the key is pressed
  const to = pausedAt === null ? history.newest.now_s : pausedAt;
  const k = Math.max(history.range(0, to + 1e-9)[1] - 1, 0);
  const at = { step: history.at(history.step, k), now_s: history.at(history.time, k) };
  $("at").textContent = `step ${at.step}; written to ${welcome.events}`;
  $("label").value = "";
  const box = $("labelling");
  box.returnValue = "no";
  box.showModal();
  box.onclose = () => {
    if (box.returnValue === "ok" && !stream.say({ mark: $("label").value.trim(), ...at })) say("Not marked: the monitor is gone");
  };
}

function save() {
  if (!about) return;
  const ratio = raster.ratio, box = document.querySelector(".wide").getBoundingClientRect();
  const picture = document.createElement("canvas"), head = 64, rest = 290;
  picture.width = Math.round((box.width + 32) * ratio);
  picture.height = Math.round((box.height + head + rest) * ratio);
  const pen = picture.getContext("2d");
  pen.scale(ratio, ratio);
  pen.fillStyle = colours.panel;
  pen.fillRect(0, 0, picture.width, picture.height);
  pen.fillStyle = colours.ink;
  pen.font = "600 16px system-ui, sans-serif";
  pen.fillText(`spikewire · ${about.bundles.map((b) => b.name).join(", ")} · ${$("state").innerText.replace(/\s+/g, " ")}`, 16, 26);
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = colours.soft;
  pen.fillText(`${new Date().toISOString()} · step ${history.newest.step} · ${about.source}`, 16, 46);
  const put = (canvas, x, y) => {
    const at = canvas.getBoundingClientRect();
    if (at.width) pen.drawImage(canvas, x ?? at.left - box.left + 16, y ?? at.top - box.top + head, at.width, at.height);
  };
  for (const canvas of document.querySelectorAll(".wide canvas")) put(canvas);
  put($("grid"), 16, box.height + head + 20);
  put($("histogram"), 400, box.height + head + 100);
  [...$("times").rows].forEach((row, k) => pen.fillText([...row.cells].map((c) => c.textContent).join("    "), 400, box.height + head + 30 + 17 * k));
  picture.toBlob((blob) => {
    const link = document.createElement("a"), name = `spikewire_step_${history.newest.step}.png`;
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`Saved as ${name} where this browser keeps downloads`);
  });
}

const KEYS = {
  " ": () => pause(pausedAt === null ? edge() : null),
  ArrowLeft: () => scroll(-1), ArrowRight: () => scroll(1),
  Home: () => pause(-Infinity), End: () => pause(null),
  "+": () => zoom(-1), "=": () => zoom(-1), "-": () => zoom(1),
  m: mark, s: save, "?": () => $("keys").showModal(),
};
addEventListener("keydown", (event) => {
  const inField = event.target.closest("input, dialog[open]"), onButton = event.target.closest("button, summary, a");
  if (event.ctrlKey || event.metaKey || event.altKey || inField || (onButton && (event.key === " " || event.key === "Enter"))) return;
  const does = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!does || (event.key.length === 1 && !$("letters").checked && event.key !== "?")) return;
  event.preventDefault();
  does();
});
for (const [id, does] of Object.entries({
  pause: KEYS[" "], mark, save, help: KEYS["?"], older: () => scroll(-1), newer: () => scroll(1),
  in: () => zoom(-1), out: () => zoom(1), live: () => pause(null),
})) $(id).addEventListener("click", does);
try {
  $("letters").checked = localStorage.getItem("letters") !== "off";
  $("letters").addEventListener("change", () => localStorage.setItem("letters", $("letters").checked ? "on" : "off"));
} catch { /* a browser that keeps nothing */ }

function resize() {
  raster.resize();
  makePlot();
  nextSlow = nextDrive = 0;
  slowTurn = 0;
}
let resizeTimer = 0;
function resizeSoon() { clearTimeout(resizeTimer); resizeTimer = setTimeout(resize, 80); }
new ResizeObserver(resizeSoon).observe($("raster"));
dark.addEventListener("change", recolour);

/* for tests and for the curious: the page's own figures */
globalThis.spikewire = {
  facts: () => ({
    steps: history.count, spikes: history.spikes, drawn: raster.drawn, lostSteps: history.lostSteps, lostSpikes: history.lostSpikes,
    sent: history.newest && history.newest.spikes - history.first.spikes, frames: stream.frames, damaged: stream.damaged,
    gaps_ms: frames.slice(1).map((t, k) => t - frames[k]), units: units.length, live, paused: pausedAt !== null,
    behind: behind(), note, span: raster.span,
  }),
};
