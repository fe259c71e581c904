// The numbers of cvbench.evaluation, computed from counts on typed arrays. Every function here is pure and runs in node.

/** Quantile of the standard normal distribution: Wichura (1988), algorithm AS 241. @param {number} p */
export function normalQuantile(p) {
  const poly = (c, r) => c.reduceRight((sum, a) => sum * r + a, 0), q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return (q * poly([3.387132872796366608, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125, 45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727], r)) /
      poly([1, 42.313330701600911252, 687.1870074920579083, 5394.1960214247511077, 21213.794301586595867, 39307.89580009271061, 28729.085735721942674, 5226.495278852854561], r);
  }
  const r = Math.sqrt(-Math.log(q < 0 ? p : 1 - p));
  const x = r <= 5
    ? poly([1.42343711074968357734, 4.6303378461565452959, 5.7694972214606914055, 3.64784832476320460504, 1.27045825245236838258, 0.24178072517745061177, 0.0227238449892691845833, 7.7454501427834140764e-4], r - 1.6) /
      poly([1, 2.05319162663775882187, 1.6763848301838038494, 0.68976733498510000455, 0.14810397642748007459, 0.0151986665636164571966, 5.475938084995344946e-4, 1.05075007164441684324e-9], r - 1.6)
    : poly([6.6579046435011037772, 5.4637849111641143699, 1.7848265399172913358, 0.29656057182850489123, 0.026532189526576123093, 0.0012426609473880784386, 2.71155556874348757815e-5, 2.01033439929228813265e-7], r - 5) /
      poly([1, 0.59983220655588793769, 0.13692988092273580531, 0.0148753612908506148525, 7.868691311456132591e-4, 1.8463183175100546818e-5, 1.4215117583164458887e-7, 2.04426310338993978564e-15], r - 5);
  return q < 0 ? -x : x;
}

/**
 * Wilson's score interval of a share of n images; NaN where n is 0.
 * @param {number} share @param {number} n @param {number} [level] @returns {[number, number]}
 */
export function wilson(share, n, level = 0.95) {
  if (!(n > 0)) return [NaN, NaN];
  const z2 = normalQuantile((1 + level) / 2) ** 2, middle = (share + z2 / 2 / n) / (1 + z2 / n);
  const half = Math.sqrt((z2 * share * (1 - share)) / n + z2 ** 2 / 4 / n ** 2) / (1 + z2 / n);
  return [share === 0 ? 0 : middle - half, share === 1 ? 1 : middle + half];
}

/** A wilson with its level worked out once, for many rows. @param {number} level @returns {(share: number, n: number) => [number, number]} */
export function makeWilson(level) {
  const z2 = normalQuantile((1 + level) / 2) ** 2;
  return (share, n) => {
    if (!(n > 0)) return [NaN, NaN];
    const middle = (share + z2 / 2 / n) / (1 + z2 / n), half = Math.sqrt((z2 * share * (1 - share)) / n + z2 ** 2 / 4 / n ** 2) / (1 + z2 / n);
    return [share === 0 ? 0 : middle - half, share === 1 ? 1 : middle + half];
  };
}

const divide = (a, b) => (b > 0 ? a / b : NaN);

/** Mean of the numbers that are there. @param {ArrayLike<number>} values */
export function mean(values) {
  let sum = 0, n = 0;
  for (let i = 0; i < values.length; i++) if (values[i] === values[i]) (sum += values[i]), n++;
  return divide(sum, n);
}

/**
 * Metrics that follow from the counts of each class.
 * @param {ArrayLike<number>} hits @param {ArrayLike<number>} predicted @param {ArrayLike<number>} actual
 */
export function fromCounts(hits, predicted, actual) {
  const k = hits.length, precision = new Float64Array(k), recall = new Float64Array(k), f1 = new Float64Array(k);
  let h = 0, p = 0, a = 0;
  for (let i = 0; i < k; i++) {
    precision[i] = divide(hits[i], predicted[i]);
    recall[i] = divide(hits[i], actual[i]);
    f1[i] = divide(2 * hits[i], predicted[i] + actual[i]);
    h += hits[i], p += predicted[i], a += actual[i];
  }
  return {
    precision, recall, f1,
    balanced_accuracy: mean(recall), macro_precision: mean(precision), macro_recall: mean(recall), macro_f1: mean(f1),
    micro_precision: divide(h, p), micro_recall: divide(h, a), micro_f1: divide(2 * h, p + a),
  };
}

/**
 * @typedef {object} Ranked What one score says about one question, best first
 * @property {Uint32Array} order Rows
 * @property {Uint8Array} truth 1 positive, 0 negative, 2 unknown; in that order
 * @property {Float32Array|Float64Array} score In that order, without the NaN at the end
 */

/**
 * Rows by falling score, laid out so that a sweep over them reads memory in order.
 * @param {Uint8Array} truth By row @param {Float32Array|Float64Array} score By row @param {Uint32Array} order Rows by falling score, NaN last
 * @returns {Ranked}
 */
export function rank(truth, score, order) {
  let n = order.length;
  while (n && score[order[n - 1]] !== score[order[n - 1]]) n--;
  const sorted = score instanceof Float32Array ? new Float32Array(n) : new Float64Array(n), answers = new Uint8Array(n);
  for (let i = 0; i < n; i++) (sorted[i] = score[order[i]]), (answers[i] = truth[order[i]]);
  return { order: order.subarray(0, n), truth: answers, score: sorted };
}

/**
 * Area under the ROC curve, average precision, and points of the precision-recall and ROC curves, of the rows that count; with ties.
 * @param {Ranked} ranked @param {Uint8Array|null} [mask] Rows that count @param {number} [points] About as many points, 0 for none
 * @param {number} [floor] Scores below it are not ranked, so that the curves end there
 */
export function sweep({ order, truth, score }, mask = null, points = 0, floor = -Infinity) {
  const all = order.length, places = new Uint32Array(all);
  let n = 0, positives = 0;
  for (let i = 0; i < all; i++) {
    places[n] = i;
    const counts = truth[i] < 2 && (!mask || mask[order[i]] === 1);
    n += Number(counts);
    positives += Number(counts && truth[i] === 1);
  }
  const negatives = n - positives, step = points ? n / points : Infinity, curve = { threshold: [], precision: [], recall: [], fpr: [] };
  let area = 0, precise = 0, p = 0, q = 0, last = -Infinity;
  for (let i = 0; i < n; ) {
    const value = score[places[i]], dp = p, dq = q;
    for (; i < n && score[places[i]] === value; i++) {
      const yes = truth[places[i]];
      p += yes;
      q += 1 - yes;
    }
    if (p > dp) (area += (p - dp) * (negatives - q + (q - dq) / 2)), (precise += ((p - dp) * p) / (p + q));
    if (points && value >= floor && (p + q - last >= Math.min(step, (p + q) / 8) || i === n)) {
      curve.threshold.push(value), curve.precision.push(p / (p + q)), curve.recall.push(divide(p, positives)), curve.fpr.push(divide(q, negatives));
      last = p + q;
    }
  }
  return { ...curve, auroc: divide(area, positives * negatives), average_precision: divide(precise, positives), positives, negatives };
}

/** Inner edges of equal bins between 0 and 1, as numpy.linspace gives them. @param {number} bins */
export const binEdges = (bins) => Float64Array.from({ length: bins - 1 }, (_, i) => (i + 1) * (1 / bins));

/** Bin of each confidence; 255 where there is none. @param {ArrayLike<number>} confidence @param {number} bins @returns {Uint8Array} */
export function binOf(confidence, bins) {
  const edges = binEdges(bins), out = new Uint8Array(confidence.length);
  for (let i = 0; i < out.length; i++) {
    const v = confidence[i];
    if (v !== v) out[i] = 255;
    else {
      let b = Math.max(0, Math.min(bins - 1, Math.floor(v * bins)));
      while (b < bins - 1 && v >= edges[b]) b++;
      while (b > 0 && v < edges[b - 1]) b--;
      out[i] = b;
    }
  }
  return out;
}

/**
 * Reliability and expected calibration error from sums by bin.
 * @param {ArrayLike<number>} n @param {ArrayLike<number>} confidence Summed @param {ArrayLike<number>} hits Summed
 */
export function fromBins(n, confidence, hits) {
  let gap = 0, total = 0;
  for (let b = 0; b < n.length; b++) (gap += Math.abs(hits[b] - confidence[b])), (total += n[b]);
  return {
    n: Array.from(n), confidence: Array.from(n, (v, b) => divide(confidence[b], v)), accuracy: Array.from(n, (v, b) => divide(hits[b], v)),
    calibration_error: divide(gap, total),
  };
}
