// A table that arrived as one Arrow stream becomes typed arrays by column. No object is made for a row.
import { tableFromIPC } from "@uwdata/flechette";

/**
 * @typedef {object} ColumnSpec
 * @property {string} key Name in the table and in conditions
 * @property {string} [label] Name for people
 * @property {"category"|"number"|"bool"|"text"|"id"|"labels"|"scores"} kind
 * @property {string} [role]
 * @property {boolean} [local] No condition can name it
 * @property {"date"} [format] Milliseconds since 1970
 */
/**
 * @typedef {object} Column
 * @property {string} key
 * @property {string} label
 * @property {string} kind
 * @property {string} role
 * @property {boolean} local No condition can name it
 * @property {string} format
 * @property {Int32Array|Int8Array} [codes] Places in `names`, -1 for missing (category and bool)
 * @property {string[]} [names] Distinct values of a category
 * @property {Float32Array|Float64Array} [values] Numbers, NaN for missing; scores row by row
 * @property {Int32Array} [offsets] Where the labels of each row begin (labels)
 * @property {Int32Array} [items] Class places (labels)
 * @property {number} [width] Numbers in a row (scores)
 * @property {(row: number) => string|null} [at] Text of a row
 */

const LOCAL = new Set(["x", "y", "scores", "target_score", "pred_b", "correct_b", "score_b", "loss_b", "outcome"]);

/** Bytes as they may come from a kernel's message: copied where their place in memory does not suit 64-bit views. @param {any} data */
export function asBytes(data) {
  const view = data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return view.byteOffset % 8 ? view.slice() : view;
}

const bit = (bits, i) => (bits[i >> 3] >> (i & 7)) & 1;

/** One column of the Arrow table as typed arrays. @param {any} source @param {ColumnSpec} spec @param {number} n @returns {Column} */
export function readColumn(source, spec, n) {
  const { key, label = key, kind, role = "" } = spec;
  const base = { key, label, kind, role, local: spec.local ?? LOCAL.has(role), format: spec.format ?? "" };
  const batch = source?.data?.[0];
  if (source?.data?.length > 1) throw new Error(`column ${key} came in ${source.data.length} batches; one is expected`);
  const known = batch?.nullCount ? batch.validity : null;
  const valid = (i) => !known || bit(known, i);
  if (kind === "scores" || role === "scores") {
    const values = batch?.children?.[0].values ?? new Float32Array(0);
    return { ...base, kind: "scores", values, width: n ? Math.round(values.length / n) : 0 };
  }
  if (kind === "category") return { ...base, ...readCategory(source, batch, valid, n) };
  if (kind === "bool") {
    const codes = new Int8Array(n);
    for (let i = 0; i < n; i++) codes[i] = valid(i) ? bit(batch.values, i) : -1;
    return { ...base, codes, names: ["False", "True"] };
  }
  if (kind === "number") return { ...base, values: readNumbers(source, batch, valid, n) };
  if (kind === "labels") {
    const items = batch ? Int32Array.from(batch.children[0].values) : new Int32Array(0);
    return { ...base, offsets: batch ? Int32Array.from(batch.offsets).subarray(0, n + 1) : new Int32Array(n + 1), items };
  }
  return { ...base, at: (row) => source.at(row) };
}

function readCategory(source, batch, valid, n) {
  const codes = new Int32Array(n).fill(-1);
  if (!batch) return { codes, names: [] };
  if (batch.dictionary === undefined && !batch.key) {
    const place = new Map(), names = [];
    for (let i = 0; i < n; i++) {
      const v = source.at(i);
      if (v === null || v === undefined) continue;
      if (!place.has(v)) place.set(v, names.push(String(v)) - 1);
      codes[i] = place.get(v);
    }
    return { codes, names };
  }
  const { values } = batch, dictionary = batch.dictionary, names = [], to = new Int32Array(dictionary.length).fill(-1);
  for (let j = 0; j < dictionary.length; j++) {
    const v = dictionary.at(j);
    if (v !== null) to[j] = names.push(String(v)) - 1;
  }
  for (let i = 0; i < n; i++) if (valid(i)) codes[i] = to[values[i]];
  return { codes, names };
}

function readNumbers(source, batch, valid, n) {
  const given = batch?.values;
  if (!batch) return new Float64Array(n).fill(NaN);
  if (given instanceof Float32Array || given instanceof Float64Array) {
    if (!batch.nullCount) return given;
    const out = given.slice();
    for (let i = 0; i < n; i++) if (!valid(i)) out[i] = NaN;
    return out;
  }
  const out = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const v = source.at(i);
    out[i] = v === null || v === undefined ? NaN : Number(v);
  }
  return out;
}

/** A moment as people write it. @param {number} ms @returns {string} */
export function day(ms) {
  if (!(Math.abs(ms) < 8.64e15)) return "–";
  const text = new Date(ms).toISOString();
  return text.endsWith("T00:00:00.000Z") ? text.slice(0, 10) : text.slice(0, 16).replace("T", " ");
}

/** Everything the panels compute from. */
export class Table {
  /** @param {number} n @param {Column[]} columns @param {string[]} classes */
  constructor(n, columns, classes) {
    this.n = n;
    this.columns = columns;
    this.classes = classes;
    /** @type {Map<string, Column>} */
    this.byKey = new Map(columns.map((c) => [c.key, c]));
    /** @type {Map<string, Column>} */
    this.byRole = new Map(columns.filter((c) => c.role).map((c) => [c.role, c]));
    const role = (r) => this.byRole.get(r);
    this.multilabel = role("target")?.kind === "labels";
    this.target = this.multilabel ? null : this.places(role("target"));
    this.pred = this.multilabel ? null : this.places(role("pred"));
    this.targets = this.multilabel ? role("target") : null;
    this.preds = this.multilabel ? role("pred") : null;
    this.score = role("score")?.values ?? null;
    this.loss = role("loss")?.values ?? null;
    this.scores = role("scores")?.width === classes.length && classes.length ? role("scores").values : null;
    this.outcome = this._outcome();
  }

  /** Class places of a category column, -1 where missing. @param {Column|undefined} column @returns {Int32Array} */
  places(column) {
    const out = new Int32Array(this.n).fill(-1);
    if (!column?.codes) return out;
    const place = new Map(this.classes.map((c, i) => [c, i]));
    const to = Int32Array.from(column.names, (name) => place.get(name) ?? -1);
    for (let i = 0; i < this.n; i++) if (column.codes[i] >= 0) out[i] = to[column.codes[i]];
    return out;
  }

  /** 0 right, 1 wrong, 2 unknown; by row. @returns {Uint8Array} */
  _outcome() {
    const out = new Uint8Array(this.n).fill(2), correct = this.byRole.get("correct")?.codes;
    for (let i = 0; i < this.n; i++) {
      if (correct) out[i] = correct[i] < 0 ? 2 : 1 - correct[i];
      else if (this.target && this.target[i] >= 0 && this.pred[i] >= 0) out[i] = this.target[i] === this.pred[i] ? 0 : 1;
    }
    return out;
  }

  /** What a row has in a column, for people; null where missing. @param {Column} c @param {number} row @returns {string|number|null} */
  value(c, row) {
    if (c.codes) return c.codes[row] < 0 ? null : c.names[c.codes[row]];
    if (c.kind === "number") return Number.isNaN(c.values[row]) ? null : c.format === "date" ? day(c.values[row]) : c.values[row];
    if (c.kind === "labels") return this.labels(c, row).map((i) => this.classes[i]).join(", ") || "none";
    if (c.kind === "scores") return null;
    return c.at?.(row) ?? null;
  }

  /** @param {Column} c @param {number} row @returns {number[]} */
  labels(c, row) {
    return Array.from(c.items.subarray(c.offsets[row], c.offsets[row + 1]));
  }
}

/** The table of an Arrow IPC stream. @param {any} bytes @param {any} spec @returns {Table} */
export function readTable(bytes, spec) {
  const data = bytes && bytes.byteLength ? tableFromIPC(asBytes(bytes)) : null;
  const n = data ? data.numRows : 0;
  const columns = spec.columns.map((s) => readColumn(n ? data.getChild(s.key) : null, s, n));
  return new Table(n, columns, spec.classes ?? []);
}
