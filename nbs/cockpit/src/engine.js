// From the state (filters, threshold, picks) to counts: what every panel shows is computed here, without a DOM.
import { filterKey, fit, kindsOf, maskOf, KINDS } from "./filters.js";
import { binOf, fromBins, fromCounts, rank, sweep } from "./metrics.js";
import { orderColumn, orderOf } from "./sort.js";

export const BINS = 15;
const MASKS = 24; // masks kept, so that undo and redo cost nothing

/**
 * @typedef {object} State
 * @property {import("./filters.js").Filter[]} filters
 * @property {number|null} threshold Decisions with less confidence are not taken
 * @property {number|null} threshold_class Class whose own score the threshold is for
 * @property {Uint32Array|null} picks Rows picked one by one
 */

/** @returns {State} */
export const emptyState = () => ({ filters: [], threshold: null, threshold_class: null, picks: null });

export class Engine {
  /** @param {import("./columns.js").Table} table @param {any} spec */
  constructor(table, spec) {
    this.table = table;
    this.spec = spec;
    /** @type {State} */
    this.state = emptyState();
    this.masks = new Map();
    this.orders = new Map();
    this.lazy = new Map();
    this.fails = new Uint8Array(table.n);
    this.mask = new Uint8Array(table.n).fill(1);
    this.rows = Uint32Array.from({ length: 0 });
    this.decided = table.pred;
    this.outcome = table.outcome;
    this.buffer = new Uint32Array(table.n);
    this.apply(this.state);
  }

  /** Take over a state. @param {State} state */
  apply(state) {
    const before = this.state;
    this.state = state;
    if (before.threshold !== state.threshold || before.threshold_class !== state.threshold_class) this._decide();
    this._select();
  }

  /** @param {import("./filters.js").Filter} f */
  maskFor(f) {
    const key = filterKey(f);
    let mask = this.masks.get(key);
    if (mask) this.masks.delete(key);
    else if (f.decided) mask = f.op === "cells" ? this._decidedCells(f) : this._decidedLabels(f);
    else mask = maskOf(f, this.table, this.spec);
    this.masks.set(key, mask);
    if (this.masks.size > MASKS) this.masks.delete(this.masks.keys().next().value);
    return mask;
  }

  _select() {
    const { n } = this.table, { filters } = this.state, { fails, mask, buffer } = this;
    fails.fill(0);
    for (const f of filters) {
      const m = this.maskFor(f);
      for (let i = 0; i < n; i++) fails[i] += 1 - m[i];
    }
    let found = 0;
    for (let i = 0; i < n; i++) {
      mask[i] = Number(fails[i] === 0);
      buffer[found] = i;
      found += mask[i];
    }
    this.rows = buffer.subarray(0, found);
    this.all = found === n;
  }

  /** Rows the person means: the picked ones, otherwise what the filters leave. */
  get selected() {
    return this.state.picks?.length ? this.state.picks : this.rows;
  }

  /** Rows that pass every filter but those for which `own` is true; null for all. @param {(f: any) => boolean} own @returns {Uint32Array|null} */
  rowsWithout(own) {
    const mine = this.state.filters.filter(own);
    if (!mine.length) return this.all ? null : this.rows;
    if (mine.length === this.state.filters.length) return null;
    const { n } = this.table, out = new Uint32Array(n), masks = mine.map((f) => this.maskFor(f));
    let found = 0;
    for (let i = 0; i < n; i++) {
      let fails = this.fails[i];
      for (const m of masks) fails -= 1 - m[i];
      out[found] = i;
      found += Number(fails === 0);
    }
    return out.subarray(0, found);
  }

  // --- decisions under the threshold

  _decide() {
    const { table } = this, { threshold: t, threshold_class: c } = this.state;
    if (t === null || t === undefined) {
      this.decided = table.pred;
      this.outcome = table.outcome;
      return;
    }
    if (table.multilabel) return this._decideLabels();
    const { n, target, pred, score } = table, decided = new Int32Array(n), outcome = new Uint8Array(n);
    const own = c === null || c === undefined ? null : table.scores ? this.scoresOf(c) : null;
    const bound = fit(own ?? score, t);
    for (let i = 0; i < n; i++) {
      let d = pred[i];
      if (c === null || c === undefined) d = score[i] >= bound ? d : -2;
      else if (own) d = own[i] >= bound ? c : d === c ? -2 : d;
      else if (d === c && !(score[i] >= bound)) d = -2;
      decided[i] = d;
      outcome[i] = d < 0 || target[i] < 0 ? 2 : target[i] === d ? 0 : 1;
    }
    this.decided = decided;
    this.outcome = outcome;
  }

  _decideLabels() {
    const { table } = this, { n, scores, classes, targets } = table, k = classes.length, t = fit(scores, this.state.threshold);
    const c = this.state.threshold_class, outcome = new Uint8Array(n), truth = new Uint8Array(k), said = new Uint8Array(k);
    for (let i = 0; i < n; i++) {
      truth.fill(0), said.fill(0);
      for (let j = targets.offsets[i]; j < targets.offsets[i + 1]; j++) truth[targets.items[j]] = 1;
      if (c !== null) for (let j = table.preds.offsets[i]; j < table.preds.offsets[i + 1]; j++) said[table.preds.items[j]] = 1;
      let wrong = 0;
      for (let j = 0; j < k; j++) {
        const yes = c === null || c === j ? Number(scores[i * k + j] >= t) : said[j];
        wrong |= yes ^ truth[j];
      }
      outcome[i] = wrong;
    }
    this.outcome = outcome;
  }

  /** Whether a threshold can be set at all, and for single classes. */
  get canThreshold() {
    const { table } = this;
    return table.n > 0 && (table.multilabel ? Boolean(table.scores) : Boolean(table.score && table.target));
  }

  _decidedCells(f) {
    const was = this.state, engine = Object.assign(Object.create(Engine.prototype), { table: this.table, lazy: this.lazy, orders: this.orders });
    engine.state = { ...was, threshold: f.decided[0], threshold_class: f.decided[1] };
    engine._decide();
    const out = new Uint8Array(this.table.n), { target } = this.table;
    for (const [t, p] of f.cells) {
      const a = new Set(t), b = new Set(p);
      for (let i = 0; i < out.length; i++) if (a.has(target[i]) && b.has(engine.decided[i])) out[i] = 1;
    }
    return out;
  }

  /** Rows for which some of the labels is (has) or none is (lacks) decided at the filter's threshold. */
  _decidedLabels({ op, values, decided: [t, c] }) {
    const { n, scores, preds, classes } = this.table, k = classes.length, bound = fit(scores, t), out = new Uint8Array(n);
    for (const v of values) {
      if (c !== null && c !== v) {
        const stored = maskOf({ panel: "confusion", column: preds.key, op: "has", values: [v] }, this.table);
        for (let i = 0; i < n; i++) out[i] |= stored[i];
      } else for (let i = 0; i < n; i++) out[i] |= Number(scores[i * k + v] >= bound);
    }
    return op === "has" ? out : out.map((v) => 1 - v);
  }

  // --- columns derived once

  _once(key, make) {
    if (!this.lazy.has(key)) this.lazy.set(key, make());
    return this.lazy.get(key);
  }

  /** Score of one class by row; where only the winner's is known, 0 where another class won. @param {number} c @returns {Float32Array} */
  scoresOf(c) {
    return this._once(`scores ${c}`, () => {
      const { n, scores, score, pred, classes } = this.table, out = new Float32Array(n), k = classes.length;
      for (let i = 0; i < n; i++) out[i] = scores ? scores[i * k + c] : pred[i] === c ? score[i] : 0;
      return out;
    });
  }

  /** 1 where the target is (or holds) a class, 2 where it is missing. @param {number} c @returns {Uint8Array} */
  truthOf(c) {
    return this._once(`truth ${c}`, () => {
      const { n, target, targets, multilabel } = this.table, out = new Uint8Array(n);
      if (multilabel) for (let i = 0; i < n; i++) for (let j = targets.offsets[i]; j < targets.offsets[i + 1]; j++) out[i] |= Number(targets.items[j] === c);
      else for (let i = 0; i < n; i++) out[i] = target[i] < 0 ? 2 : Number(target[i] === c);
      return out;
    });
  }

  /** 1 where the stored decision is right: what confidence should tell. @returns {Uint8Array} */
  get right() {
    return this._once("right", () => this.table.outcome.map((o) => (o === 2 ? 2 : 1 - o)));
  }

  /** Rows by falling score: of one class, or, for being right, of the winners. @param {number|null} c @returns {import("./metrics.js").Ranked} */
  ranked(c) {
    return this._once(`ranked ${c}`, () => {
      const score = c === null ? this.table.score : this.scoresOf(c);
      return rank(c === null ? this.right : this.truthOf(c), score, orderOf(score, true));
    });
  }

  /** Bin of the winners' scores. @returns {Uint8Array} */
  get confidenceBins() {
    return this._once("bins", () => binOf(this.table.score ?? new Float32Array(this.table.n).fill(NaN), BINS));
  }

  /** All rows sorted by a column; row order for null. @param {string|null} key @param {boolean} descending @returns {Uint32Array|null} */
  sortOrder(key, descending) {
    const column = key === null ? null : this.table.byKey.get(key);
    if (!column) return null;
    return this._once(`sort ${key} ${descending}`, () => orderColumn(column, this.table.n, descending));
  }

  /** The filtered rows in a sorted order. @param {string|null} key @param {boolean} descending @returns {Uint32Array} */
  sortedRows(key, descending) {
    const order = this.sortOrder(key, descending);
    if (!order) return this.rows.slice();
    if (this.all) return order;
    const out = new Uint32Array(this.rows.length), { mask } = this;
    let found = 0;
    for (let i = 0; i < order.length && found < out.length; i++) {
      const r = order[i];
      if (mask[r]) out[found++] = r;
    }
    return out;
  }

  /** Kind of each row of two evaluations, and how many of the given rows are of each. @param {Uint32Array|null} rows @returns {Uint32Array} */
  kinds(rows) {
    const kinds = this._once("kinds", () => kindsOf(this.table)), counts = new Uint32Array(KINDS.length + 1);
    if (rows) for (let i = 0; i < rows.length; i++) counts[kinds[rows[i]]]++;
    else for (let i = 0; i < kinds.length; i++) counts[kinds[i]]++;
    return counts;
  }

  // --- counts of rows (null for all)

  /**
   * How often each class was taken for each: a table of (classes + 1)², the last row for missing targets, the last column for no decision.
   * @param {Uint32Array|null} rows @returns {Uint32Array}
   */
  confusion(rows) {
    const { target, classes, n } = this.table, { decided } = this, k = classes.length, w = k + 1;
    const counts = this._scratch("confusion", w * w);
    const m = rows ? rows.length : n;
    for (let i = 0; i < m; i++) {
      const r = rows ? rows[i] : i, t = target[r], p = decided[r];
      counts[(t < 0 ? k : t) * w + (p < 0 ? k : p)]++;
    }
    return counts;
  }

  _scratch(key, size) {
    const counts = this._once(`scratch ${key}`, () => new Uint32Array(size));
    counts.fill(0);
    return counts;
  }

  /** Hits, predicted and actual of each class under the threshold. @param {Uint32Array|null} rows */
  classCounts(rows) {
    const { table } = this, k = table.classes.length, m = rows ? rows.length : table.n;
    const hits = new Uint32Array(k), predicted = new Uint32Array(k), actual = new Uint32Array(k);
    if (table.multilabel) this._labelCounts(rows, m, hits, predicted, actual);
    else {
      const { target } = table, { decided } = this;
      for (let i = 0; i < m; i++) {
        const r = rows ? rows[i] : i, t = target[r], p = decided[r];
        if (t < 0 || p === -1) continue;
        actual[t]++;
        if (p < 0) continue;
        predicted[p]++;
        if (t === p) hits[t]++;
      }
    }
    return { hits, predicted, actual };
  }

  _labelCounts(rows, m, hits, predicted, actual) {
    const { targets, preds, scores, classes } = this.table, k = classes.length, { threshold, threshold_class: c } = this.state;
    const truth = new Uint8Array(k), t = threshold === null ? null : fit(scores, threshold);
    for (let i = 0; i < m; i++) {
      const r = rows ? rows[i] : i;
      truth.fill(0);
      for (let j = targets.offsets[r]; j < targets.offsets[r + 1]; j++) (truth[targets.items[j]] = 1), actual[targets.items[j]]++;
      if (t === null || c !== null) {
        for (let j = preds.offsets[r]; j < preds.offsets[r + 1]; j++) {
          const p = preds.items[j];
          if (t !== null && p === c) continue;
          predicted[p]++, (hits[p] += truth[p]);
        }
      }
      if (t !== null) for (let p = c ?? 0; p < (c === null ? k : c + 1); p++) if (scores[r * k + p] >= t) predicted[p]++, (hits[p] += truth[p]);
    }
  }

  /** Numbers of a set of rows that are wanted on every change. @param {Uint32Array|null} rows */
  summary(rows) {
    const { table } = this, m = rows ? rows.length : table.n, { outcome } = this, base = table.outcome, bins = this.confidenceBins;
    const tally = new Uint32Array(3), n = new Float64Array(BINS + 1), hits = new Float64Array(BINS + 1), sums = new Float64Array(BINS + 1);
    const score = table.score, calibrate = Boolean(score) && !table.multilabel;
    let labelled = 0;
    for (let i = 0; i < m; i++) {
      const r = rows ? rows[i] : i, o = base[r];
      tally[outcome[r]]++;
      if (o === 2) continue;
      labelled++;
      if (!calibrate) continue;
      const b = bins[r] === 255 ? BINS : bins[r];
      n[b]++, (hits[b] += 1 - o), (sums[b] += score[r]);
    }
    const counts = this.classCounts(rows), reliability = calibrate ? fromBins(n.subarray(0, BINS), sums.subarray(0, BINS), hits.subarray(0, BINS)) : null;
    const decided = tally[0] + tally[1];
    return {
      rows: m, n: labelled, decided, right: tally[0], wrong: tally[1],
      accuracy: decided ? tally[0] / decided : NaN, error: decided ? tally[1] / decided : NaN, coverage: labelled ? decided / labelled : NaN,
      ...counts, ...fromCounts(counts.hits, counts.predicted, counts.actual), reliability, calibration_error: reliability?.calibration_error ?? NaN,
    };
  }

  /** Every number of a set of rows at full precision, ranks of every class included. @param {Uint32Array|null} [rows] */
  metrics(rows = this.selected) {
    const { table } = this, k = table.classes.length, mask = new Uint8Array(table.n), out = { ...this.summary(rows) };
    const known = table.outcome;
    for (let i = 0; i < rows.length; i++) mask[rows[i]] = Number(known[rows[i]] !== 2);
    if (table.scores) {
      const ranks = Array.from({ length: k }, (_, c) => sweep(this.ranked(c), mask));
      out.auroc = ranks.map((r) => r.auroc);
      out.average_precision = ranks.map((r) => r.average_precision);
      out.macro_auroc = nanMean(out.auroc);
      out.macro_average_precision = nanMean(out.average_precision);
      Object.assign(out, this._losses(rows));
      if (table.multilabel) Object.assign(out, this._labelCalibration(rows));
    }
    if (table.score && !table.multilabel) out.confidence = ranksOf(sweep(this.ranked(null), mask));
    if (table.multilabel) {
      let slips = 0;
      for (let c = 0; c < k; c++) slips += out.predicted[c] + out.actual[c] - 2 * out.hits[c];
      out.subset_accuracy = out.accuracy;
      out.hamming_loss = rows.length ? slips / (rows.length * k) : NaN;
    }
    return plain(out);
  }

  _losses(rows) {
    const { scores, target, targets, classes, multilabel, outcome } = this.table, k = classes.length, tiny = 1.1754943508222875e-38;
    let sum = 0, n = 0;
    for (const r of rows) {
      if (outcome[r] === 2) continue;
      n++;
      if (!multilabel) sum -= Math.log(Math.max(scores[r * k + target[r]], tiny));
      else {
        const truth = new Uint8Array(k);
        for (let j = targets.offsets[r]; j < targets.offsets[r + 1]; j++) truth[targets.items[j]] = 1;
        for (let c = 0; c < k; c++) sum -= Math.log(Math.max(truth[c] ? scores[r * k + c] : 1 - scores[r * k + c], tiny)) / k;
      }
    }
    return { log_loss: n ? sum / n : NaN };
  }

  _labelCalibration(rows) {
    const { scores, classes } = this.table, k = classes.length, n = new Float64Array(BINS), sums = new Float64Array(BINS), hits = new Float64Array(BINS);
    const bins = this._once("label bins", () => binOf(scores, BINS));
    for (let c = 0; c < k; c++) {
      const truth = this.truthOf(c);
      for (const r of rows) {
        const b = bins[r * k + c];
        if (b === 255) continue;
        n[b]++, (sums[b] += scores[r * k + c]), (hits[b] += truth[r]);
      }
    }
    const reliability = fromBins(n, sums, hits);
    return { reliability, calibration_error: reliability.calibration_error };
  }

  /** Curves of what is filtered: of one class, or of being right. @param {number|null} c @param {number} [points] */
  curves(c, points = 400) {
    const { table } = this, mask = this.all ? null : this.mask;
    if (c === null && !table.score) return null;
    const key = `${c} ${this.state.filters.map(filterKey).join()}`, partial = c !== null && !table.scores;
    if (this.curveKey !== key) this.curve = { ...sweep(this.ranked(c), mask, points, partial ? Number.MIN_VALUE : -Infinity), partial };
    this.curveKey = key;
    return this.curve;
  }
}

const ranksOf = ({ auroc, average_precision }) => ({ auroc, average_precision });

const nanMean = (values) => {
  const there = values.filter((v) => !Number.isNaN(v));
  return there.length ? there.reduce((a, b) => a + b, 0) / there.length : NaN;
};

/** Typed arrays as lists, for whoever reads the numbers from outside. */
const plain = (o) => Object.fromEntries(Object.entries(o).map(([k, v]) => [k, ArrayBuffer.isView(v) ? Array.from(/** @type {any} */ (v)) : v]));
