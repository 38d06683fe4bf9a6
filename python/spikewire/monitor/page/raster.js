// The raster: every spike is drawn once, on a strip that runs round; a frame copies two pieces of it.

const TOP = 20, RIBBON_Y = 8, RIBBON = 7;   // px: where rows begin; the states' strip above them
const AHEAD_S = 0.5;

export class Raster {
  constructor(canvas, history) {
    this.canvas = canvas;
    this.history = history;
    this.strip = document.createElement("canvas");
    this.units = 1;
    this.drawn = 0;     // spikes drawn, each counted the first time only
    this.counted = 0;
    this.span = 10;
    this.colours = null;
    this.resize();
  }

  /** Sizes in device pixels; what was drawn is drawn again. */
  resize() {
    const box = this.canvas.getBoundingClientRect(), ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.width = Math.max(Math.round(box.width * ratio), 50);
    this.height = Math.max(Math.round(box.height * ratio), 50);
    this.ratio = ratio;
    this.canvas.width = this.width;
    this.canvas.height = this.height;
    this.perSecond = this.width / this.span;
    this.strip.width = this.width + Math.ceil(2 * AHEAD_S * this.perSecond) + 4;
    this.strip.height = this.height;
    this.pen = this.strip.getContext("2d");
    this.screen = this.canvas.getContext("2d");
    this.stale = true;
  }

  x(t) {
    const p = Math.floor((t - this.origin) * this.perSecond);
    return ((p % this.strip.width) + this.strip.width) % this.strip.width;
  }

  rowOf(unit) {
    const top = TOP * this.ratio;
    return [top + (this.height - top) * unit / this.units, (this.height - top) / this.units];
  }

  /** Empties the strip from the last emptied moment up to `t`. */
  clear(t) {
    const from = Math.floor((this.cleared - this.origin) * this.perSecond);
    const to = Math.floor((t - this.origin) * this.perSecond);
    const n = Math.min(to - from, this.strip.width);
    if (n <= 0) return;
    const x = ((to - n) % this.strip.width + this.strip.width) % this.strip.width;
    const first = Math.min(n, this.strip.width - x);
    this.pen.clearRect(x, 0, first, this.height);
    if (n > first) this.pen.clearRect(0, 0, n - first, this.height);
    this.cleared = t;
  }

  /** Draws the steps [a, b) of the history. */
  draw(a, b) {
    const h = this.history, thick = Math.max(Math.round(1.6 * this.ratio), 1);
    const wide = Math.ceil(this.perSecond * 0.0098) + 1;
    for (let k = a; k < b; k++) {
      const t = h.at(h.time, k), map = h.map(k);
      this.clear(t + AHEAD_S / 2);
      const x = this.x(t);
      this.pen.fillStyle = this.colours.states[h.at(h.state, k)] || this.colours.states[15];
      this.pen.fillRect(x, RIBBON_Y * this.ratio, wide, RIBBON * this.ratio);
      const first = k >= this.counted;
      if (first) this.counted = k + 1;
      for (let byte = 0; byte < map.length; byte++) {
        for (let rest = map[byte]; rest; rest &= rest - 1) {
          const unit = byte * 8 + 31 - Math.clz32(rest & -rest);
          if (unit >= this.units) continue;
          if (first) this.drawn++;
          const [y, high] = this.rowOf(unit);
          this.pen.fillStyle = this.colours.units[unit];
          this.pen.fillRect(x, Math.round(y + 0.14 * high), thick, Math.max(Math.round(0.72 * high), 1));
        }
      }
    }
    this.done = b;
  }

  /** Forgets what was drawn; a new run counts from zero. */
  reset() {
    this.stale = true;
    this.drawn = this.counted = 0;
  }

  /** Shows [edge - span, edge]. */
  show(edge) {
    const h = this.history, [a, b] = h.range(edge - this.span - 0.1, Infinity);
    const jumped = this.stale || this.origin === undefined
      || edge - this.span < this.cleared - this.strip.width / this.perSecond;
    if (jumped) {
      this.origin = edge - this.span - 1;
      this.pen.clearRect(0, 0, this.strip.width, this.height);
      this.cleared = edge - this.span - 0.1;
      this.stale = false;
      this.draw(a, h.range(0, edge + AHEAD_S / 2)[1]);
    } else {
      const [, end] = h.range(0, edge + AHEAD_S / 2);
      this.draw(Math.max(this.done, a), Math.max(end, this.done));
    }
    this.copy(edge);
  }

  copy(edge) {
    const s = this.screen, w = this.strip.width, high = this.height;
    const left = Math.floor((edge - this.origin) * this.perSecond) - this.width;
    const x = ((left % w) + w) % w, first = Math.min(this.width, w - x);
    s.fillStyle = this.colours.panel;
    s.fillRect(0, 0, this.width, high);
    s.fillStyle = this.colours.line;
    for (let unit = 0; unit <= this.units; unit += 5) {
      s.fillRect(0, Math.round(this.rowOf(unit)[0]) - 1, this.width, 1);
    }
    s.drawImage(this.strip, x, 0, first, high, 0, 0, first, high);
    if (first < this.width) {
      s.drawImage(this.strip, 0, 0, this.width - first, high, first, 0, this.width - first, high);
    }
    for (const mark of this.history.marks) {
      const at = Math.round((mark.now_s - edge + this.span) * this.perSecond);
      if (at < 0 || at > this.width) continue;
      s.fillStyle = this.colours.ink;
      s.fillRect(at, 0, Math.max(Math.round(this.ratio), 1), high);
      s.font = `${Math.round(11 * this.ratio)}px system-ui, sans-serif`;
      const words = mark.label || "mark", wide = s.measureText(words).width + 8 * this.ratio;
      const flag = Math.min(at, this.width - wide);
      s.fillRect(flag, 20 * this.ratio, wide, 16 * this.ratio);
      s.fillStyle = this.colours.panel;
      s.fillText(words, flag + 4 * this.ratio, 32 * this.ratio);
    }
  }
}
