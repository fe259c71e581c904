// A filter becomes a mask over the rows; the state is a conjunction of masks.

/**
 * @typedef {object} Filter
 * @property {"facet"|"confusion"|"slice"|"compare"|"error"|"map"|"threshold"} panel Where it was made
 * @property {string} [column] Key of the column
 * @property {"in"|"range"|"null"|"cells"|"has"|"lacks"|"lasso"|"slice"|"kind"} [op]
 * @property {(string|number|boolean|null)[]} [values] in: values, null for missing; has, lacks: class places; slice, kind: names
 * @property {number|null} [low] range: from, inclusive
 * @property {number|null} [high] range: to, exclusive
 * @property {[number[], number[]][]} [cells] Targets and predictions of each cell, as class places, -1 for missing
 * @property {[number, number][]} [polygon] Corners of the lasso
 * @property {[number, number|null]} [decided] cells, has, lacks: threshold and its class, where they go by what is decided there
 */

/** A name for what a filter says, the same for equal filters. @param {Filter} f */
export const filterKey = (f) => JSON.stringify([f.op ?? (f.polygon ? "lasso" : "in"), f.column ?? "", f.values ?? f.cells ?? f.polygon ?? [f.low ?? null, f.high ?? null], f.decided ?? null]);

/** 1 where a filter holds. @param {Filter} f @param {import("./columns.js").Table} table @param {any} spec @returns {Uint8Array} */
export function maskOf(f, table, spec = {}) {
  const { n } = table;
  if (f.polygon) return insidePolygon(f.polygon, table.byRole.get("x")?.values, table.byRole.get("y")?.values, n);
  if (f.op === "cells") return inCells(f.cells, table);
  if (f.panel === "slice" || f.op === "slice") return inSlice(f.values?.[0], spec, n);
  if (f.panel === "compare" || f.op === "kind") return ofKind(f.values, table);
  const column = table.byKey.get(f.column);
  if (!column) throw new Error(`there is no column ${f.column}`);
  if (f.op === "null") return inValues(column, [null], n);
  if (f.op === "range") return inRange(column.values, f.low, f.high, n);
  if (f.op === "has" || f.op === "lacks") return hasLabel(column, f.values, f.op === "has", n);
  return inValues(column, f.values ?? [], n);
}

function inValues(column, values, n) {
  const out = new Uint8Array(n), missing = values.includes(null);
  if (column.codes) {
    const wanted = new Set(column.kind === "bool" ? values.map((v) => (v === true ? "True" : v === false ? "False" : v)) : values);
    const yes = Uint8Array.from([missing, ...column.names.map((name) => wanted.has(name))], Number);
    for (let i = 0; i < n; i++) out[i] = yes[column.codes[i] + 1];
  } else if (column.kind === "number") {
    const wanted = new Set(values.filter((v) => v !== null).map((v) => fit(column.values, Number(v))));
    for (let i = 0; i < n; i++) out[i] = Number(column.values[i] !== column.values[i] ? missing : wanted.has(column.values[i]));
  } else {
    const wanted = new Set(values);
    for (let i = 0; i < n; i++) out[i] = Number(wanted.has(column.at?.(i) ?? null));
  }
  return out;
}

/** A bound as the column can hold it: numpy, too, compares single precision in single precision. */
export const fit = (values, bound) => (values instanceof Float32Array ? Math.fround(bound) : bound);

function inRange(values, low, high, n) {
  const out = new Uint8Array(n);
  const from = low === null || low === undefined ? -Infinity : fit(values, low);
  const open = high === null || high === undefined, to = open ? Infinity : fit(values, high);
  for (let i = 0; i < n; i++) out[i] = Number(values[i] >= from && (open || values[i] < to));
  return out;
}

function inCells(cells, table) {
  const { n, target, pred, classes } = table, k = classes.length + 1, out = new Uint8Array(n);
  if (!target) return out;
  const rows = new Uint8Array(k), wanted = new Set(), simple = cells.every(([t, p]) => t.length * p.length < 1e5);
  if (simple) {
    for (const [t, p] of cells) for (const i of t) for (const j of p) (rows[i + 1] = 1), wanted.add((i + 1) * k + j + 1);
    for (let r = 0; r < n; r++) if (rows[target[r] + 1]) out[r] = Number(wanted.has((target[r] + 1) * k + pred[r] + 1));
    return out;
  }
  for (const [t, p] of cells) {
    const a = new Uint8Array(k), b = new Uint8Array(k);
    for (const i of t) a[i + 1] = 1;
    for (const j of p) b[j + 1] = 1;
    for (let r = 0; r < n; r++) out[r] |= a[target[r] + 1] & b[pred[r] + 1];
  }
  return out;
}

function hasLabel(column, wanted, has, n) {
  const out = new Uint8Array(n), want = new Set(wanted);
  for (let i = 0; i < n; i++) {
    let found = 0;
    for (let j = column.offsets[i]; j < column.offsets[i + 1] && !found; j++) found = Number(want.has(column.items[j]));
    out[i] = has ? found : 1 - found;
  }
  return out;
}

function inSlice(name, spec, n) {
  const slice = (spec.slices ?? []).find((s) => s.name === name), out = new Uint8Array(n);
  if (!slice?.rows) return out;
  const bits = decodeBase64(slice.rows);
  for (let i = 0; i < n; i++) out[i] = (bits[i >> 3] >> (i & 7)) & 1;
  return out;
}

/** @param {string} text @returns {Uint8Array} */
export function decodeBase64(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

export const KINDS = ["fixed", "broken", "both wrong", "both right"];

/** Which of `KINDS` each row is of two evaluations, 4 where one is unknown. @param {import("./columns.js").Table} table @returns {Uint8Array} */
export function kindsOf(table) {
  const b = table.byRole.get("correct_b")?.codes, out = new Uint8Array(table.n).fill(4);
  if (b) for (let i = 0; i < table.n; i++) if (table.outcome[i] < 2 && b[i] >= 0) out[i] = table.outcome[i] ? (b[i] ? 0 : 2) : b[i] ? 3 : 1;
  return out;
}

function ofKind(values, table) {
  const kinds = kindsOf(table), yes = KINDS.map((k) => Number(values.includes(k)));
  return kinds.map((k) => yes[k] ?? 0);
}

/**
 * Points inside a polygon (even-odd rule). Each point is tried only against the edges of its horizontal band.
 * @param {[number, number][]} polygon @param {Float32Array} xs @param {Float32Array} ys @param {number} n @returns {Uint8Array}
 */
export function insidePolygon(polygon, xs, ys, n) {
  const out = new Uint8Array(n), m = polygon.length;
  if (m < 3 || !xs || !ys) return out;
  const px = polygon.map((p) => p[0]), py = polygon.map((p) => p[1]);
  const x0 = Math.min(...px), x1 = Math.max(...px), y0 = Math.min(...py), y1 = Math.max(...py);
  const bands = 256, scale = bands / (y1 - y0 || 1);
  const edges = Array.from({ length: bands }, () => []);
  for (let i = 0; i < m; i++) {
    const j = (i + 1) % m, [a, b] = py[i] < py[j] ? [i, j] : [j, i];
    if (py[a] === py[b]) continue;
    const first = Math.max(0, Math.floor((py[a] - y0) * scale) - 1), last = Math.min(bands - 1, Math.floor((py[b] - y0) * scale) + 1);
    for (let s = first; s <= last; s++) edges[s].push(px[a], py[a], py[b], (px[b] - px[a]) / (py[b] - py[a]));
  }
  const bandEdges = edges.map((e) => Float64Array.from(e));
  for (let r = 0; r < n; r++) {
    const x = xs[r], y = ys[r];
    if (!(x >= x0 && x <= x1 && y >= y0 && y <= y1)) continue;
    const e = bandEdges[Math.min(bands - 1, Math.floor((y - y0) * scale))];
    let inside = 0;
    for (let i = 0; i < e.length; i += 4) if (y >= e[i + 1] && y < e[i + 2] && x < e[i] + (y - e[i + 1]) * e[i + 3]) inside ^= 1;
    out[r] = inside;
  }
  return out;
}
