// Everything beside the raster: gutters, electrodes, histogram, tables.

/** Colours of the style sheet, for canvases. */
export function colours(units) {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  const bundles = [0, 1, 2, 3].map((k) => get(`--b${k}`));
  return {
    ink: get("--ink"), soft: get("--soft"), line: get("--line"), panel: get("--panel"),
    edge: get("--edge"), accent: get("--accent"), bundles, target: get("--target"), band: get("--band"),
    heat: [0, 1, 2, 3, 4, 5].map((k) => rgb(get(`--heat${k}`))),
    units: units.map((u) => bundles[u.bundle]),
    states: {}, state: (name) => get(`--${name}`) || get("--NA"),
  };
}

function rgb(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

/** A canvas with as many pixels as the screen has there. */
export function fit(canvas) {
  const box = canvas.getBoundingClientRect(), ratio = Math.min(window.devicePixelRatio || 1, 2);
  const w = Math.max(Math.round(box.width * ratio), 10), h = Math.max(Math.round(box.height * ratio), 10);
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, box.width, box.height);
  return [pen, box.width, box.height];
}

const FONT = 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const font = (size, weight = 400) => `${weight} ${size}px ${FONT}`;

/** Numbers of the units, left of the raster; only as many as there is room for. */
export function labels(canvas, raster, c, units) {
  const [pen, w] = fit(canvas), high = raster.rowOf(0)[1] / raster.ratio;
  const each = [1, 2, 5, 10].find((n) => n * high >= 13) || 20;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  pen.font = font(10);
  pen.fillStyle = c.soft;
  pen.fillText("unit", w - 8, 11);
  for (let u = 0; u < units.length; u += each) {
    pen.font = font(Math.min(12, Math.max(9, high * each * 0.8)));
    pen.fillStyle = c.soft;
    pen.fillText(String(u), w - 8, raster.rowOf(u)[0] / raster.ratio + high / 2);
  }
}

/** Rate as a bar and a number, confidence as a dot, right of the raster. */
export function values(canvas, raster, c, units, rates, unitFacts) {
  const [pen, w] = fit(canvas), high = raster.rowOf(0)[1] / raster.ratio;
  const each = [1, 2, 5, 10].find((n) => n * high >= 13) || 20, narrow = w < 90;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  pen.font = font(10);
  pen.fillStyle = c.soft;
  pen.fillText("rate/s", narrow ? 50 : 80, 11);
  if (!narrow) pen.fillText("conf.", w - 2, 11);
  for (let u = 0; u < units.length; u++) {
    const y = raster.rowOf(u)[0] / raster.ratio, mid = y + high / 2;
    const left = 8, room = narrow ? 12 : 40;
    pen.fillStyle = c.line;
    pen.fillRect(left, y + high * 0.32, room, high * 0.36);
    pen.fillStyle = c.units[u];
    pen.fillRect(left, y + high * 0.32, room * Math.min(rates[u] / 30, 1), high * 0.36);
    if (u % each) continue;
    const facts = unitFacts(u);
    pen.font = font(Math.min(12, Math.max(9, high * each * 0.8)));
    pen.fillStyle = c.ink;
    pen.textAlign = "right";
    pen.fillText(facts.muted ? "muted" : rates[u].toFixed(1), left + room + 31, mid);
    if (narrow) continue;
    pen.fillStyle = c.soft;
    pen.fillText(facts.confidence === null ? "" : facts.confidence.toFixed(2), w - 2, mid);
  }
}

/** Where each channel lies: of the grid if it is known, else in columns in the order of channels. */
export function places(channels, grid) {
  if (grid && grid.row.length === channels) return { row: grid.row, col: grid.col, known: true };
  const rows = Math.max(1, Math.ceil(Math.sqrt(channels / 1.6)));
  const all = Array.from({ length: channels }, (_, k) => k);
  return { row: all.map((k) => k % rows), col: all.map((k) => Math.floor(k / rows)), known: false };
}

function heatColour(c, share) {
  const at = Math.min(Math.max(share, 0), 1) * (c.heat.length - 1), k = Math.min(Math.floor(at), c.heat.length - 2);
  const mix = c.heat[k].map((v, i) => Math.round(v + (at - k) * (c.heat[k + 1][i] - v)));
  return `rgb(${mix.join(" ")})`;
}

/** Loudness of each electrode; a bad one is crossed out. Returns the scale's end. */
export function heat(canvas, c, rms, bad, where, top) {
  const [pen, w, h] = fit(canvas), rows = Math.max(...where.row) + 1, cols = Math.max(...where.col) + 1;
  // the longer side of the grid along the longer side of the picture
  const turn = rows > cols && w > h, across = turn ? rows : cols, down = turn ? cols : rows;
  const legend = 26, size = Math.min(w / across, (h - legend) / down, 44);
  const left = (w - size * across) / 2, above = (h - legend - size * down) / 2, gap = size > 12 ? 2 : 0.5;
  rms.forEach((value, k) => {
    if (k >= where.row.length) return;
    const x = left + size * (turn ? where.row[k] : where.col[k]), y = above + size * (turn ? where.col[k] : where.row[k]);
    pen.fillStyle = bad[k] ? c.panel : value === value ? heatColour(c, value / top) : c.line;
    pen.beginPath();
    pen.roundRect(x + gap / 2, y + gap / 2, size - gap, size - gap, Math.min(4, size / 6));
    pen.fill();
    if (bad[k]) {
      pen.strokeStyle = c.ink;
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.moveTo(x + size * 0.28, y + size * 0.28);
      pen.lineTo(x + size * 0.72, y + size * 0.72);
      pen.moveTo(x + size * 0.72, y + size * 0.28);
      pen.lineTo(x + size * 0.28, y + size * 0.72);
      pen.stroke();
      pen.strokeStyle = c.edge;
      pen.lineWidth = 1;
      pen.strokeRect(x + 1.5, y + 1.5, size - 3, size - 3);
    }
  });
  const wide = Math.min(size * across, w - 110, 240), from = (w - wide) / 2, y = h - 16;
  for (let k = 0; k < wide; k += 2) {
    pen.fillStyle = heatColour(c, k / wide);
    pen.fillRect(from + k, y, 2.5, 6);
  }
  pen.font = font(11);
  pen.fillStyle = c.soft;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  pen.fillText("0", from - 6, y + 3);
  pen.textAlign = "left";
  pen.fillText(`${top.toPrecision(2) * 1} µV`, from + wide + 6, y + 3);
}

/** Value at a share of sorted numbers. */
export const quantile = (sorted, q) =>
  sorted.length ? sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1 + (q === 0))] : NaN;

/** How often each age and compute came, on a logarithmic scale so that single late ones show. */
export function histogram(canvas, c, age, compute) {
  const [pen, w, h] = fit(canvas), bottom = 18, bins = 60;
  const most = Math.max(quantile(age, 1) || 0, quantile(compute, 1) || 0, 5) * 1.04;
  const count = (values) => {
    const out = new Float64Array(bins);
    for (const v of values) out[Math.min(bins - 1, Math.max(0, Math.floor(v / most * bins)))]++;
    return out;
  };
  const both = [count(age), count(compute)], top = Math.log10(Math.max(...both[0], ...both[1], 9) + 1);
  pen.fillStyle = c.line;
  pen.fillRect(0, h - bottom, w, 1);
  both.forEach((counts, which) => {
    pen.fillStyle = c.bundles[which];
    counts.forEach((n, k) => {
      if (!n) return;
      const high = Math.log10(n + 1) / top * (h - bottom - 4);
      pen.fillRect(k * w / bins + which * w / bins / 2, h - bottom - high, w / bins / 2 - 0.4, high);
    });
  });
  pen.fillStyle = c.soft;
  pen.font = font(11);
  pen.textBaseline = "bottom";
  for (const [at, align] of [[0, "left"], [most / 2, "center"], [most, "right"]]) {
    pen.textAlign = align;
    pen.fillText(`${at < 10 ? at.toFixed(1) : at.toFixed(0)}${align === "right" ? " ms" : ""}`, at / most * w, h);
  }
  for (const [limit, words] of [[20, "old"], [80, "unsafe"]]) {
    if (limit > most) continue;
    pen.fillStyle = c.edge;
    pen.fillRect(limit / most * w, 0, 1, h - bottom);
    pen.textAlign = limit / most > 0.8 ? "right" : "left";
    pen.fillStyle = c.soft;
    pen.fillText(words, limit / most * w + (limit / most > 0.8 ? -4 : 4), 13);
  }
}

/** Rows of text into a table's body; a row is made anew only if its number of cells changes. */
export function rows(body, content) {
  while (body.rows.length > content.length) body.deleteRow(-1);
  content.forEach((cells, r) => {
    const row = body.rows[r] || body.insertRow();
    while (row.cells.length < cells.length) row.insertCell();
    while (row.cells.length > cells.length) row.deleteCell(-1);
    cells.forEach((words, k) => {
      const cell = row.cells[k];
      if (words && words.key) {
        if (!cell.firstElementChild) {
          const key = document.createElement("span");
          key.className = `key ${words.key}`;
          cell.append(key, words.text);
        }
        return;
      }
      const text = String(words);
      if (cell.textContent !== text) cell.textContent = text;
    });
  });
}
