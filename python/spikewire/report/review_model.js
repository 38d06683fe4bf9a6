// A decomposition under review: maxima, figures, the record of edits, the file. No page here.

const PEAK = 1, GIVEN = 2, SHORT_S = 0.02, LONG_S = 0.25, JUMP = 1.7;
const FINE = 0, TOO_SHORT = 1, TOO_LONG = 2, ODD = 3;

/** The units, from what report/review.py packed. */
async function unpack(head, text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const total = head.units.reduce((n, u) => n + u.maxima, 0);
  if (bytes.length !== 8 * total) throw new Error("the page is damaged");
  const wide = (k, first, n) => {
    let value = 0;
    for (let p = n - 1; p >= 0; p--) value = value * 256 + bytes[(first + p) * total + k];
    return value;
  };
  let k = 0;
  return head.units.map((u, number) => {
    const n = u.maxima, unit = {
      number, ...u, kept: true, n, at: new Float64Array(n), height: new Float64Array(n), valley: new Float64Array(n),
      peak: new Uint8Array(n), given: new Uint8Array(n), fires: new Uint8Array(n),
    };
    for (let i = 0, at = head.start; i < n; i++, k++) {
      unit.at[i] = at += wide(k, 0, 4);
      unit.height[i] = wide(k, 4, 2) / 65535 * u.top;
      unit.valley[i] = bytes[6 * total + k] / 255;
      unit.peak[i] = bytes[7 * total + k] & PEAK;
      unit.given[i] = unit.fires[i] = bytes[7 * total + k] & GIVEN ? 1 : 0;
    }
    return unit;
  });
}

/** Index of the first maximum at or after a sample. */
function find(unit, sample) {
  let low = 0, high = unit.n;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (unit.at[mid] < sample) low = mid + 1; else high = mid;
  }
  return low;
}

/** Indices of the maxima that are discharges. */
function discharges(unit) {
  const out = [];
  for (let k = 0; k < unit.n; k++) if (unit.fires[k]) out.push(k);
  return out;
}

/** A maximum of some kind within a millisecond of this one, which is the same peak; -1 if there is none. */
function near({ at, n }, k, is, head) {
  for (let i = k - 1; i >= 0 && at[k] - at[i] <= head.reach; i--) if (is[i]) return i;
  for (let i = k + 1; i < n && at[i] - at[k] <= head.reach; i++) if (is[i]) return i;
  return -1;
}

/** SIL, PNR and CoV of ISI as spikewire/edits.py has them: the classes are the person's. */
function figures(unit, head) {
  const { at, height, fires, peak, n } = unit;
  let count = 0, sum = 0, squares = 0, [others, rest] = unit.lost, before = -1;
  const gaps = [];
  for (let k = 0; k < n; k++) {
    if (!fires[k] && !peak[k]) continue;
    const meant = fires[k] && !peak[k] ? near(unit, k, peak, head) : k, power = height[meant < 0 ? k : meant] ** 2;
    if (fires[k]) {
      count++;
      sum += power;
      squares += power * power;
      if (before >= 0) gaps.push((at[k] - at[before]) / head.fs_hz);
      before = k;
    } else if (near(unit, k, fires, head) < 0) {
      others++;
      rest += power;
    }
  }
  const steady = gaps.filter((g) => g > SHORT_S && g < LONG_S);
  const mean = steady.reduce((a, g) => a + g, 0) / steady.length;
  const spread = Math.sqrt(steady.reduce((a, g) => a + (g - mean) ** 2, 0) / steady.length);
  const middle = sum / count, within = squares - count * middle * middle;
  const between = within + count * (middle - rest / others) ** 2;
  const span = gaps.reduce((a, g) => a + g, 0);
  return {
    count, sil: count && others ? (between - within) / Math.max(between, within, 1e-30) : 0,
    pnr: count ? 10 * Math.log10(sum / count * (head.length - count) / (unit.power - sum)) : NaN,
    cov: steady.length > 10 ? spread / mean : Infinity, rate: span ? gaps.length / span : 0,
  };
}

/** What is odd about the interval before each discharge: too short, too long, or unlike those around it. */
function oddities(unit, which, head) {
  const gap = which.map((k, i) => (i ? (unit.at[k] - unit.at[which[i - 1]]) / head.fs_hz : NaN));
  return gap.map((g, i) => {
    if (!i) return FINE;
    if (g < SHORT_S) return TOO_SHORT;
    if (g > LONG_S) return TOO_LONG;
    const around = [gap[i - 2], gap[i - 1], gap[i + 1], gap[i + 2]].filter((v) => v < LONG_S).sort((a, b) => a - b);
    const usual = around[around.length >> 1];
    return around.length > 2 && (g > usual * JUMP || g < usual / JUMP) ? ODD : FINE;
  });
}

/** The record: entries are only ever added; each is kept by the browser before it is shown. */
class Edits {
  constructor(head, units, said) {
    this.head = head;
    this.units = units;
    this.said = said;
    this.key = `spikewire-review:${head.of}:`;
    this.record = [];
    this.done = [];
    this.undone = [];
    this.saved = 0;
    this.store = null;
    try {
      localStorage.setItem(`${this.key}test`, "1");
      localStorage.removeItem(`${this.key}test`);
      this.store = localStorage;
    } catch { /* the page says so */ }
  }

  /** Take what the browser has kept, from this tab's past or from another tab; how many entries. */
  pull() {
    if (!this.store) return 0;
    const before = this.record.length;
    for (let text; (text = this.store.getItem(this.key + (this.record.length + 1))) !== null;) {
      try {
        this.take(JSON.parse(text));
      } catch (error) {
        this.said(`Edit ${this.record.length + 1} was kept by this browser but cannot be read (${error.message}). It and later ones are not shown: export now, and begin on the exported file.`);
        this.store = null;
        break;
      }
      this.saved = this.record.length;
    }
    return this.record.length - before;
  }

  /** An entry takes effect. */
  take(entry) {
    if (entry.action === "undo") {
      const last = this.done.pop();
      this.change(last, true);
      this.undone.push(last);
    } else if (entry.action === "redo") {
      const last = this.undone.pop();
      this.change(last, false);
      this.done.push(last);
    } else {
      this.change(entry, false);
      this.done.push(entry);
      this.undone = [];
    }
    this.record.push(entry);
  }

  change(entry, back) {
    const unit = this.units[entry.unit];
    if (entry.action === "keep" || entry.action === "drop") {
      unit.kept = (entry.action === "keep") !== back;
      return;
    }
    const at = entry.samples.map((s) => find(unit, s));
    if (at.some((k, i) => unit.at[k] !== entry.samples[i])) throw new Error("it names a sample that this page does not hold");
    for (const k of at) unit.fires[k] = (entry.action === "add") !== back ? 1 : 0;
  }

  /** A new entry; null if nothing changes. Others' entries come first, so none is lost. */
  add(action, unit, samples) {
    this.pull();
    const again = { undo: this.done, redo: this.undone }[action];
    const of = again && again[again.length - 1];
    if (again && !of) return null;
    const number = of ? of.unit : unit, u = this.units[number];
    if (samples) {
      const wanted = action === "add" ? 0 : 1;
      samples = samples.filter((s) => u.fires[find(u, s)] === wanted);
      if (!samples.length) return null;
    }
    const before = figures(u, this.head);
    const entry = { number: this.record.length + 1, unit: number, action, ...(of ? { of: of.number } : {}), ...(samples ? { samples } : {}), when: new Date().toISOString() };
    this.take(entry);
    const now = figures(u, this.head), round = (v) => (Number.isFinite(v) ? Math.round(v * 1e5) / 1e5 : null);
    entry.sil = [round(before.sil), round(now.sil)];
    entry.cov_isi = [round(before.cov), round(now.cov)];
    this.save();
    return entry;
  }

  /** Hand the browser what it does not have yet. */
  save() {
    if (!this.store) return;
    try {
      for (; this.saved < this.record.length; this.saved++) {
        this.store.setItem(this.key + (this.saved + 1), JSON.stringify(this.record[this.saved]));
      }
    } catch { /* full: `unsaved` says so, and the next edit tries again */ }
  }

  get unsaved() { return this.record.length - this.saved; }
}

/* the file: an .npz is a zip of .npy, here without compression */

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});
const crc32 = (bytes) => ~bytes.reduce((crc, b) => CRC[(crc ^ b) & 255] ^ (crc >>> 8), ~0) >>> 0;
const ascii = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0));

function npy(descr, shape, data) {
  let head = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.map((n) => `${n},`).join("")}), }`;
  head += " ".repeat((117 - head.length % 64) % 64) + "\n";
  return [ascii("\x93NUMPY\x01\0"), new Uint8Array(new Uint16Array([head.length]).buffer), ascii(head), new Uint8Array(data.buffer)];
}

async function zip(members) {
  const parts = [], directory = [];
  let at = 0;
  const put = (into, sizes, values) => {
    const view = new DataView(new ArrayBuffer(sizes.reduce((a, b) => a + b)));
    let k = 0;
    sizes.forEach((size, i) => { size === 2 ? view.setUint16(k, values[i], true) : view.setUint32(k, values[i], true); k += size; });
    into.push(view.buffer);
    return view.byteLength;
  };
  for (const [name, content] of members) {
    const bytes = new Uint8Array(await new Blob(content).arrayBuffer()), named = ascii(`${name}.npy`);
    const common = [20, 0, 0, 0, 33, crc32(bytes), bytes.length, bytes.length, named.length, 0], sizes = [2, 2, 2, 2, 2, 4, 4, 4, 2, 2];
    put(directory, [4, 2, ...sizes, 2, 2, 2, 4, 4], [0x02014b50, 20, ...common, 0, 0, 0, 0, at]);
    directory.push(named);
    at += put(parts, [4, ...sizes], [0x04034b50, ...common]) + named.length + bytes.length;
    parts.push(named, bytes);
  }
  const size = new Blob(directory).size, end = [];
  put(end, [4, 2, 2, 2, 2, 4, 4, 2], [0x06054b50, 0, 0, members.length, members.length, size, at, 0]);
  return new Blob([...parts, ...directory, ...end], { type: "application/zip" });
}

/** The kept units as spikewire's spike trains, with every round of the record. */
function file(head, units, record) {
  const kept = units.filter((u) => u.kept), all = [];
  kept.forEach((u, k) => { for (const i of discharges(u)) all.push([u.at[i], k]); });
  all.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const judged = kept.map((u) => figures(u, head)), per = (name) => npy("<f8", [kept.length], Float64Array.from(judged, (j) => j[name]));
  const rounds = [...head.rounds, ...(record.length ? [{ of: head.of, record }] : [])];
  const edits = ascii(JSON.stringify(rounds).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`));
  const method = Array.from(`${head.method || "unknown method"}, edited by hand`, (c) => c.codePointAt(0));
  return zip([
    ["sample", npy("<i8", [all.length], BigInt64Array.from(all, ([s]) => BigInt(s)))],
    ["unit", npy("<i4", [all.length], Int32Array.from(all, ([, k]) => k))],
    ["n_units", npy("<i8", [], BigInt64Array.of(BigInt(kept.length)))],
    ["fs_hz", npy("<f8", [], Float64Array.of(head.fs_hz))],
    ["sil", per("sil")], ["pnr_db", per("pnr")], ["cov_isi", per("cov")],
    ["method", npy(`<U${method.length}`, [], Uint32Array.from(method))],
    ["edits", npy(`|S${edits.length}`, [], edits)],
  ]);
}
