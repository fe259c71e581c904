import assert from "node:assert/strict";
import { test } from "node:test";
import { binEdges, binOf, fromBins, fromCounts, makeWilson, mean, normalQuantile, rank, sweep, wilson } from "../src/metrics.js";
import { orderOf } from "../src/sort.js";

const near = (a, b, within = 1e-12) => assert.ok(Math.abs(a - b) <= within, `${a} is not ${b}`);
const swept = (truth, score, mask = null, points = 0) => sweep(rank(Uint8Array.from(truth), Float32Array.from(score), orderOf(Float32Array.from(score), true)), mask, points);

test("the normal quantile has its known values", () => {
  near(normalQuantile(0.975), 1.959963984540054);
  near(normalQuantile(0.5), 0);
  near(normalQuantile(0.01), -2.3263478740408408);
  near(normalQuantile(1e-20), -9.262340089798408, 1e-9);
});

test("Wilson's interval, with its ends at 0 and 1", () => {
  const [low, high] = wilson(0.5, 10);
  near(low, 0.2365930905, 1e-9);
  near(high, 0.7634069095, 1e-9);
  assert.equal(wilson(0, 7)[0], 0);
  assert.equal(wilson(1, 7)[1], 1);
  assert.ok(wilson(0.3, 0).every(Number.isNaN));
  assert.deepEqual(makeWilson(0.9)(0.25, 40), wilson(0.25, 40, 0.9));
});

test("metrics from counts leave out what is not there", () => {
  const m = fromCounts([3, 0, 0], [4, 1, 0], [3, 2, 0]);
  near(m.precision[0], 0.75);
  assert.ok(Number.isNaN(m.precision[2]) && Number.isNaN(m.recall[2]) && Number.isNaN(m.f1[2]));
  near(m.f1[0], 6 / 7);
  near(m.macro_f1, (6 / 7 + 0) / 2);
  near(m.balanced_accuracy, 0.5);
  near(m.micro_f1, 6 / 10);
  assert.ok(Number.isNaN(mean([NaN])));
});

test("ranks count ties for half", () => {
  const plain = swept([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]);
  near(plain.auroc, 0.75);
  near(plain.average_precision, (1 + 2 / 3) / 2);
  const tied = swept([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5]);
  near(tied.auroc, 0.5);
  near(tied.average_precision, 0.5);
});

test("ranks of one side alone are not a number; unknown and NaN rows do not count", () => {
  assert.ok(Number.isNaN(swept([1, 1], [0.1, 0.2]).auroc));
  assert.ok(Number.isNaN(swept([0, 0], [0.1, 0.2]).average_precision));
  const some = swept([1, 0, 2, 1, 0], [0.9, 0.2, 0.95, NaN, 0.1]);
  assert.equal(some.positives, 1);
  near(some.auroc, 1);
});

test("a mask is the same as the rows alone", () => {
  const truth = [1, 0, 1, 1, 0, 0, 1], score = [0.9, 0.9, 0.4, 0.3, 0.3, 0.2, 0.1], keep = [1, 1, 0, 1, 1, 0, 1];
  const masked = swept(truth, score, Uint8Array.from(keep)), alone = swept(truth.filter((_, i) => keep[i]), score.filter((_, i) => keep[i]));
  near(masked.auroc, alone.auroc);
  near(masked.average_precision, alone.average_precision);
});

test("a curve ends at recall 1 and never has more points than distinct scores", () => {
  const { recall, fpr, threshold } = swept([1, 0, 1, 0, 1], [0.9, 0.8, 0.8, 0.3, 0.1], null, 100);
  assert.deepEqual(threshold.map((t) => Math.round(10 * t)), [9, 8, 3, 1]);
  assert.equal(recall.at(-1), 1);
  assert.equal(fpr.at(-1), 1);
  const many = Array.from({ length: 10_000 }, (_, i) => i / 10_000);
  assert.ok(swept(many.map((_, i) => i % 2), many, null, 100).threshold.length < 200);
});

test("bins are closed below, like numpy's", () => {
  const edges = binEdges(15), at = [0, edges[0], edges[0] - 1e-12, edges[7], 1, NaN];
  assert.deepEqual(Array.from(binOf(at, 15)), [0, 1, 0, 8, 14, 255]);
});

test("the calibration error weighs the gaps by the rows", () => {
  const { calibration_error, accuracy } = fromBins([2, 0, 2], [1.0, 0, 1.8], [2, 0, 1]);
  near(calibration_error, (1.0 + 0.8) / 4);
  assert.ok(Number.isNaN(accuracy[1]));
});
