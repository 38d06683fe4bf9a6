// What is drawn of a review: rates over the whole recording, the source signal in the window.

function fit(canvas) {
  const wide = canvas.clientWidth, high = canvas.clientHeight, ratio = Math.min(devicePixelRatio || 1, 2);
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, high);
  pen.font = '11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
  return [pen, wide, high];
}

const FOOT = 20, LEFT = 34, TALLEST = 1.12;  // a peak higher than that is drawn to the edge
let width = 1, tall = 1;  // of the source's canvas: asking the page for each point took most of a picture's time
const x = (sample) => LEFT + (sample - from) / (to - from) * (width - LEFT);
const y = (height) => 6 + (tall - FOOT - 6) * (1 - Math.min(height, TALLEST) / TALLEST);

function mark(pen, kind, px, py, size) {
  pen.beginPath();
  if (kind === FINE) pen.arc(px, py, size, 0, 7);
  const corners = { [TOO_SHORT]: [0, -1.4, 1.2, 1, -1.2, 1], [TOO_LONG]: [0, 1.4, 1.2, -1, -1.2, -1], [ODD]: [0, -1.4, 1.3, 0, 0, 1.4, -1.3, 0] }[kind];
  for (let i = 0; corners && i < corners.length; i += 2) pen.lineTo(px + size * corners[i], py + size * corners[i + 1]);
  pen.fillStyle = [colours.b0, colours.b1, colours.b3, colours.b1][kind];
  pen.fill();
}

function times(pen, wide, high, first, last, place) {
  const span = (last - first) / head.fs_hz, step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600].find((v) => span / v <= wide / 70) || 3600;
  pen.fillStyle = colours.soft;
  pen.textAlign = "center";
  for (let k = Math.ceil(first / head.fs_hz / step); k * step * head.fs_hz <= last; k++) {
    const px = place(k * step * head.fs_hz);
    pen.fillRect(px, high - FOOT, 1, 4);
    if (px < wide - 18 && px > LEFT) pen.fillText(`${+(k * step).toFixed(2)} s`, px, high - 4);
  }
  pen.fillRect(LEFT, high - FOOT, wide - LEFT, 1);
}

function drawRate() {
  const [pen, wide, high] = fit(overview), place = (v) => LEFT + v / head.samples * (wide - LEFT);
  pen.fillStyle = colours.band;
  pen.fillRect(place(from), 0, Math.max(place(to) - place(from), 3), high - FOOT);
  const gaps = which.map((k, i) => (i ? head.fs_hz / (unit.at[k] - unit.at[which[i - 1]]) : 0));
  const top = Math.min(TOP_RATE, Math.max(10, 2 * ([...gaps].sort((a, b) => a - b)[gaps.length >> 1] || 0)));
  pen.textAlign = "right";
  for (const v of [0, top / 2, top]) {
    const py = 6 + (high - FOOT - 6) * (1 - v / top);
    pen.fillStyle = colours.line;
    pen.fillRect(LEFT, py, wide - LEFT, 1);
    pen.fillStyle = colours.soft;
    pen.fillText(v.toFixed(0), LEFT - 5, py + 4);
  }
  for (let i = 1; i < which.length; i++) {
    mark(pen, odd[i], place(unit.at[which[i]]), 6 + (high - FOOT - 6) * (1 - Math.min(gaps[i], top) / top), odd[i] ? 3.2 : 1.8);
  }
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 2;
  pen.strokeRect(place(from) + 1, 1, Math.max(place(to) - place(from) - 2, 2), high - FOOT - 2);
  times(pen, wide, high, 0, head.samples, place);
  pen.textAlign = "left";
  pen.fillText("pulse/s", LEFT + 6, 14);
}

/** The signal between maxima is drawn, not known: it falls to the minimum that was sent. */
function drawSignal(pen, wide, first, last) {
  const each = (to - from) / (wide - LEFT), flank = 0.0012 * head.fs_hz, base = y(0);
  pen.strokeStyle = colours.soft;
  pen.lineWidth = 1.2;
  pen.beginPath();
  if (each > 3) {
    const top = new Float64Array(Math.ceil(wide) + 1);
    for (let k = first; k < last; k++) {
      const px = Math.round(x(unit.at[k]));
      if (px >= LEFT && px < top.length) top[px] = Math.max(top[px], unit.height[k]);
    }
    pen.fillStyle = colours.soft;
    top.forEach((v, px) => { if (v) pen.fillRect(px, y(v), 1, base - y(v)); });
  } else {
    pen.moveTo(LEFT, base);
    for (let k = Math.max(first - 1, 0); k < Math.min(last + 1, unit.n); k++) {
      const at = unit.at[k], peak = y(unit.height[k]), gap = (a, b) => Math.min(flank, (b - a) / 2);
      const up = k ? gap(unit.at[k - 1], at) : flank, down = k + 1 < unit.n ? gap(at, unit.at[k + 1]) : flank;
      const low = y(k ? unit.valley[k - 1] : 0), next = y(unit.valley[k]);
      pen.lineTo(x(at - up), low);
      pen.bezierCurveTo(x(at - up / 2), low, x(at - up / 2), peak, x(at), peak);
      pen.bezierCurveTo(x(at + down / 2), peak, x(at + down / 2), next, x(at + down), next);
    }
  }
  pen.stroke();
  pen.clearRect(0, 0, LEFT, tall);
}

/** A peak that SIL counts and that is no discharge. */
const open = (k) => unit.peak[k] && !unit.fires[k] && near(unit, k, unit.fires, head) < 0;

function drawSource() {
  const [pen, wide, high] = fit(source), first = find(unit, from), last = find(unit, to);
  [width, tall] = [wide, high];
  const base = y(0);
  shown = [first, last];
  pen.textAlign = "right";
  for (const v of [0, 0.5, 1]) {
    pen.fillStyle = colours.line;
    pen.fillRect(LEFT, y(v), wide - LEFT, 1);
  }
  drawSignal(pen, wide, first, last);
  pen.fillStyle = colours.soft;
  for (const v of [0, 0.5, 1]) pen.fillText(v, LEFT - 5, y(v) + 4);
  const span = (to - from) / head.fs_hz, close = span < 6, size = span < 6 ? 4 : span < 20 ? 3 : 2;
  for (let k = first; k < last; k++) {
    const px = x(unit.at[k]), py = y(unit.height[k]);
    if (unit.given[k] && !unit.fires[k]) {
      pen.strokeStyle = colours.ink;
      pen.lineWidth = 1.8;
      pen.beginPath();
      pen.moveTo(px - 4, py - 4); pen.lineTo(px + 4, py + 4); pen.moveTo(px + 4, py - 4); pen.lineTo(px - 4, py + 4);
      pen.stroke();
    } else if (close && open(k)) {
      pen.strokeStyle = colours.edge;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.arc(px, py, 3, 0, 7);
      pen.stroke();
    }
  }
  for (let i = 0; i < which.length; i++) {
    const k = which[i];
    if (k < first || k >= last) continue;
    const px = x(unit.at[k]);
    mark(pen, odd[i], px, y(unit.height[k]), odd[i] ? size + 1.5 : size);
    if (unit.given[k]) continue;
    pen.fillStyle = colours.b2;
    pen.fillRect(px - size, base + 3, 2 * size, 8);
  }
  if (cursor >= first && cursor < last) {
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x(unit.at[cursor]), y(unit.height[cursor]), 9, 0, 7);
    pen.stroke();
  }
  times(pen, wide, high, from, to, x);
  if (!box) return;
  pen.fillStyle = pen.strokeStyle = colours.accent;
  pen.globalAlpha = 0.14;
  const left = Math.max(x(box[0]), LEFT), area = [left, y(box[3]), x(box[1]) - left, y(box[2]) - y(box[3])];
  pen.fillRect(...area);
  pen.globalAlpha = 1;
  pen.lineWidth = 1.5;
  pen.strokeRect(...area);
}

/** Peaks in the box: those that SIL counts, and discharges. */
const boxed = () => {
  const out = { add: [], delete: [] };
  for (let k = box ? find(unit, box[0]) : unit.n; k < unit.n && unit.at[k] <= box[1]; k++) {
    if (unit.height[k] < box[2] || Math.min(unit.height[k], TALLEST) > box[3]) continue;
    if (unit.fires[k]) out.delete.push(unit.at[k]); else if (open(k)) out.add.push(unit.at[k]);
  }
  return out;
};

function draw() {
  $("span").textContent = `${number((to - from) / head.fs_hz, to - from < head.fs_hz ? 2 : 1)} s`;
  $("box").hidden = !box;
  if (box) {
    const inside = boxed();
    $("add").textContent = `Add ${inside.add.length} `;
    $("delete").textContent = `Delete ${inside.delete.length} `;
    for (const [id, key] of [["add", "A"], ["delete", "D"]]) {
      $(id).append(Object.assign(document.createElement("kbd"), { textContent: key }));
      $(id).disabled = !inside[id].length;
    }
  }
  drawRate();
  drawSource();
}
