// How a column is cut into bars, and how many rows (right, wrong, undecided) stand in each.
import { fit } from "./filters.js";

/**
 * @typedef {object} Facet
 * @property {string} key
 * @property {string} label
 * @property {boolean} ordered A histogram, as opposed to a list of values
 * @property {number} size Bars, the one for missing included
 * @property {boolean} missing Whether the last bar is for missing
 * @property {Uint8Array|Uint16Array} bins Bar of each row
 * @property {(string|number|boolean|null)[]} values Value of each bar; histograms have the lower edge
 * @property {number[]} edges Inner edges of a histogram
 * @property {string} format "date" for moments
 * @property {Uint32Array} total Rows of each bar, unfiltered
 */

const STEPS = [1, 2, 2.5, 5, 10];

/** A step for about `bars` bars that reads well. @param {number} span @param {number} bars */
export function niceStep(span, bars) {
  const raw = span / bars, power = 10 ** Math.floor(Math.log10(raw));
  return power * (STEPS.find((s) => s * power >= raw * 0.999) ?? 10);
}

/** Edges at multiples of a step, without the digits that binary fractions add. @param {number} low @param {number} high @param {number} bars */
export function niceEdges(low, high, bars) {
  const step = niceStep(high - low, bars), first = Math.floor(low / step) + 1, last = Math.ceil(high / step) - 1;
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(10)));
}

/** @param {import("./columns.js").Column} column @param {number} n @returns {Facet|null} */
export function makeFacet(column, n) {
  if (column.codes) return fromCodes(column, n);
  if (column.kind === "number") return fromNumbers(column, n);
  return null;
}

function finish(facet, n) {
  const total = new Uint32Array(facet.size);
  for (let i = 0; i < n; i++) total[facet.bins[i]]++;
  if (facet.missing && !total[facet.size - 1]) (facet.missing = false), facet.size--, facet.values.pop();
  return { ...facet, total: total.subarray(0, facet.size) };
}

function fromCodes(column, n) {
  const k = column.names.length, bins = k < 255 ? new Uint8Array(n) : k < 65535 ? new Uint16Array(n) : null;
  if (!bins) return null;
  for (let i = 0; i < n; i++) bins[i] = column.codes[i] < 0 ? k : column.codes[i];
  const values = column.kind === "bool" ? [false, true] : [...column.names];
  return finish({ key: column.key, label: column.label, format: "", ordered: false, size: k + 1, missing: true, bins, values: [...values, null], edges: [] }, n);
}

function fromNumbers(column, n) {
  const { values } = column, distinct = fewValues(values, n);
  const base = { key: column.key, label: column.label, format: column.format, missing: true };
  if (distinct) {
    const place = new Map(distinct.map((v, i) => [v, i])), bins = new Uint8Array(n);
    for (let i = 0; i < n; i++) bins[i] = values[i] !== values[i] ? distinct.length : place.get(values[i]);
    return finish({ ...base, ordered: false, size: distinct.length + 1, bins, values: [...distinct, null], edges: [] }, n);
  }
  const [low, high] = spread(values, n);
  if (!(high > low)) return null;
  const edges = niceEdges(low, high, 24), k = edges.length + 1, bins = new Uint8Array(n), exact = edges.map((e) => fit(values, e));
  const step = edges.length > 1 ? (edges[edges.length - 1] - edges[0]) / (edges.length - 1) : 1;
  for (let i = 0; i < n; i++) {
    const v = values[i];
    if (v !== v) {
      bins[i] = k;
      continue;
    }
    let b = Math.max(0, Math.min(k - 1, Math.floor((v - edges[0]) / step) + 1));
    while (b < k - 1 && v >= exact[b]) b++;
    while (b > 0 && v < exact[b - 1]) b--;
    bins[i] = b;
  }
  return finish({ ...base, ordered: true, size: k + 1, bins, values: [...[-Infinity, ...edges], null], edges }, n);
}

/** The distinct values in order, if they are at most twelve whole numbers. */
function fewValues(values, n) {
  const seen = new Set();
  for (let i = 0; i < n; i++) {
    const v = values[i];
    if (v !== v || seen.has(v)) continue;
    if (!Number.isInteger(v) || seen.size === 12) return null;
    seen.add(v);
  }
  return seen.size ? [...seen].sort((a, b) => a - b) : null;
}

/** Where nearly all values lie; what is outside falls into the outermost bars. */
function spread(values, n) {
  const some = [], step = Math.max(1, Math.floor(n / 20_000));
  for (let i = 0; i < n; i += step) if (Number.isFinite(values[i])) some.push(values[i]);
  if (some.length < 2) for (let i = 0; i < n && some.length < 20_000; i++) if (Number.isFinite(values[i])) some.push(values[i]);
  some.sort((a, b) => a - b);
  const at = (q) => some[Math.round(q * (some.length - 1))];
  return some.length < 2 ? [NaN, NaN] : at(0.99) > at(0.01) ? [at(0.01), at(0.99)] : [at(0), at(1)];
}

/**
 * Right, wrong and undecided rows of each bar: three counts a bar.
 * @param {Facet} facet @param {Uint8Array} outcome @param {Uint32Array|null} rows Null for all @param {Uint32Array} counts
 */
export function countBars(facet, outcome, rows, counts) {
  const { bins } = facet;
  counts.fill(0);
  if (rows) for (let i = 0; i < rows.length; i++) counts[bins[rows[i]] * 3 + outcome[rows[i]]]++;
  else for (let i = 0; i < outcome.length; i++) counts[bins[i] * 3 + outcome[i]]++;
  return counts;
}

/**
 * How much a facet stands out: the greatest number of errors beyond what its images would have at the overall rate, as far as the interval is sure of it.
 * @param {Facet} facet @param {Uint32Array} counts @param {number} error Overall @param {(share: number, n: number) => [number, number]} wilson
 */
export function weakness(facet, counts, error, wilson) {
  let most = 0;
  for (let b = 0; b < facet.size; b++) {
    const right = counts[3 * b], wrong = counts[3 * b + 1], n = right + wrong;
    if (n < 5) continue;
    most = Math.max(most, wilson(wrong / n, n)[0] - error);
  }
  return most;
}

/** Bars with the surely weakest first. @param {Facet} facet @param {Uint32Array} counts @param {(share: number, n: number) => [number, number]} wilson @returns {number[]} */
export function weakFirst(facet, counts, wilson) {
  const low = Array.from({ length: facet.size }, (_, b) => {
    const n = counts[3 * b] + counts[3 * b + 1];
    return n ? wilson(counts[3 * b + 1] / n, n)[0] : -1;
  });
  return Array.from({ length: facet.size }, (_, b) => b).sort((a, b) => low[b] - low[a] || facet.total[b] - facet.total[a] || a - b);
}
