// The last 60 seconds of steps, in arrays of constant size.
import { bit } from "./decode.js";

export const KEPT_S = 60;
const SLOTS = 8192, MAP = 32;  // 80 s at 102.4 Hz

export class History {
  constructor() {
    this.time = new Float64Array(SLOTS);
    this.step = new Float64Array(SLOTS);
    this.age = new Float32Array(SLOTS);
    this.compute = new Float32Array(SLOTS);
    this.state = new Uint8Array(SLOTS);
    this.drive = [0, 1, 2, 3].map(() => new Float32Array(SLOTS));
    this.fired = new Uint8Array(SLOTS * MAP);
    this.reset();
  }

  reset() {
    this.count = 0;      // ever
    this.newest = null;
    this.spikes = 0;     // seen since the first step here
    this.lostSteps = 0;
    this.lostSpikes = 0;
    this.first = null;
    this.marks = [];
  }

  /** Takes a step; false if another run has begun, and everything is forgotten. */
  add(s) {
    const last = this.newest;
    const again = last && (s.sequence <= last.sequence || s.now_s < last.now_s);
    if (again) this.reset();
    const at = this.count % SLOTS;
    let fired = 0;
    for (let k = 0; k < MAP; k++) {
      const b = s.fired[k];
      this.fired[at * MAP + k] = b;
      for (let rest = b; rest; rest &= rest - 1) fired++;
    }
    if (this.first === null) {
      this.first = { sequence: s.sequence, spikes: s.spikes - fired };
    } else if (!again) {
      this.lostSteps += s.sequence - last.sequence - 1;
    }
    this.spikes += fired;
    this.lostSpikes = s.spikes - this.first.spikes - this.spikes;
    this.time[at] = s.now_s;
    this.step[at] = s.step;
    this.age[at] = s.age_ms;
    this.compute[at] = s.compute_ms;
    this.state[at] = s.state;
    for (let k = 0; k < 4; k++) this.drive[k][at] = s.drive[k];
    this.count++;
    this.newest = s;
    return !again;
  }

  /** Slots of the steps with from <= time < to, oldest first, as numbers that count on. */
  range(from, to) {
    const oldest = Math.max(0, this.count - SLOTS);
    const find = (t) => {
      let low = oldest, high = this.count;
      while (low < high) {
        const mid = (low + high) >> 1;
        if (this.time[mid % SLOTS] < t) low = mid + 1; else high = mid;
      }
      return low;
    };
    return [find(from), find(to)];
  }

  has(k, unit) {
    return bit(this.fired.subarray((k % SLOTS) * MAP, (k % SLOTS) * MAP + MAP), unit);
  }

  map(k) { return this.fired.subarray((k % SLOTS) * MAP, (k % SLOTS) * MAP + MAP); }

  at(array, k) { return array[k % SLOTS]; }

  /** Spikes per second of each unit in the last `span` seconds before `to`. */
  rates(units, to, span) {
    const [a, b] = this.range(to - span, to + 1e-9), out = new Float32Array(units);
    for (let k = a; k < b; k++) {
      const map = this.map(k);
      for (let u = 0; u < units; u++) out[u] += bit(map, u);
    }
    const seconds = Math.min(span, b > a ? to - this.at(this.time, a) : span) || span;
    return out.map((n) => n / seconds);
  }

  /** The finite values of an array in the last 60 s, sorted. */
  sorted(array) {
    if (!this.newest) return new Float32Array(0);
    const [a, b] = this.range(this.newest.now_s - KEPT_S, Infinity), out = new Float32Array(b - a);
    let n = 0;
    for (let k = a; k < b; k++) {
      const v = this.at(array, k);
      if (v === v) out[n++] = v;
    }
    return out.subarray(0, n).sort();
  }
}
