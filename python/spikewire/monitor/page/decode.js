// Records of a frame, by the table that the monitor sends (spikewire/monitor/layout.py).

const READ = {
  u8: [1, (v, at) => v.getUint8(at)],
  u16: [2, (v, at) => v.getUint16(at, true)],
  u32: [4, (v, at) => v.getUint32(at, true)],
  f32: [4, (v, at) => v.getFloat32(at, true)],
  f64: [8, (v, at) => v.getFloat64(at, true)],
};

function field(view, at, end, kind, count, mapBytes) {
  if (kind === "text") {
    return [new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + at, end - at)), end];
  }
  if (kind === "map") return [new Uint8Array(view.buffer, view.byteOffset + at, mapBytes), at + mapBytes];
  const [size, get] = READ[kind];
  if (count === 1) return [get(view, at), at + size];
  const n = count || Math.floor((end - at) / size), out = new Array(n);
  for (let k = 0; k < n; k++) out[k] = get(view, at + k * size);
  return [out, at + n * size];
}

/** Calls `take(name, fields)` for every record; throws RangeError where bytes are missing. */
export function decode(buffer, table, take) {
  const view = new DataView(buffer);
  for (let at = 0; at < view.byteLength;) {
    const kind = view.getUint8(at), version = view.getUint8(at + 1), size = view.getUint16(at + 2, true);
    at += 4;
    const end = at + size;
    if (end > view.byteLength) throw new RangeError(`a record of ${size} bytes ends outside`);
    const record = table.records[kind];
    if (record && version === table.version) {
      const inside = new DataView(buffer, at, size), out = {};
      let place = 0;
      for (const [name, type, count] of record.fields) {
        [out[name], place] = field(inside, place, size, type, count, table.map_bytes);
      }
      take(record.name, out);
    }
    at = end;
  }
}

/** Whether bit `k` of a map is set. */
export const bit = (map, k) => (map[k >> 3] >> (k & 7)) & 1;
