import assert from "node:assert/strict";
import { test } from "node:test";
import { makeFacet, countBars, niceEdges, weakFirst } from "../src/facets.js";
import { groupClasses, mostConfused, worstFirst } from "../src/groups.js";
import { makeWilson } from "../src/metrics.js";
import { thin } from "../src/path.js";
import { orderOf } from "../src/sort.js";
import { clip, visible } from "../src/text.js";
import { layout, MOST_PIXELS, reveal, toReal, toScroll, visibleRange } from "../src/virtual.js";
import { bool, category, number } from "./table.js";

test("a short grid scrolls as it is", () => {
  const g = layout(100, 620, 100, 20);
  assert.deepEqual([g.columns, g.tile, g.line, g.lines], [6, 103, 123, 17]);
  assert.equal(g.height, g.real);
  assert.equal(toReal(g, 321, 400), 321);
  assert.deepEqual(visibleRange(g, 0, 400, 100), [0, 24]);
  assert.deepEqual(visibleRange(g, g.real - 400, 400, 100)[1], 100);
});

test("a million images are reached from end to end in a height that browsers can have", () => {
  const n = 1_000_000, g = layout(n, 620, 300, 20), view = 500;
  assert.ok(g.real > MOST_PIXELS && g.height === MOST_PIXELS);
  assert.equal(visibleRange(g, toReal(g, 0, view), view, n)[0], 0);
  assert.equal(visibleRange(g, toReal(g, g.height - view, view), view, n)[1], n);
  for (const offset of [0, 12_345, g.real / 3, g.real - view]) assert.ok(Math.abs(toReal(g, toScroll(g, offset, view), view) - offset) < 1e-3);
  const at = reveal(g, n - 1, 0, view);
  assert.equal(at, g.real - view);
  assert.equal(reveal(g, 0, at, view), 0);
});

test("no images, and one", () => {
  assert.deepEqual(visibleRange(layout(0, 600, 100, 20), 0, 400, 0), [0, 0]);
  assert.equal(layout(0, 600, 100, 20).height, 0);
  assert.deepEqual(visibleRange(layout(1, 600, 100, 20), 0, 400, 1), [0, 1]);
  assert.equal(layout(1, 10, 100, 20).columns, 1);
});

test("orders: stable, both ways, with signs, infinities and what is missing", () => {
  const values = [3, -1, NaN, 0, -0, Infinity, -Infinity, 3, 1e-40];
  for (const kind of [Float32Array, Float64Array]) {
    assert.deepEqual(Array.from(orderOf(kind.from(values))), [6, 1, 3, 4, 8, 0, 7, 5, 2]);
    assert.deepEqual(Array.from(orderOf(kind.from(values), true)), [5, 0, 7, 8, 3, 4, 1, 6, 2]);
  }
  const many = Float64Array.from({ length: 3000 }, (_, i) => Math.sin(i * 12.9898) * 43758.5453), order = orderOf(many);
  assert.ok(order.every((r, i) => !i || many[order[i - 1]] <= many[r]));
});

test("histograms have readable edges, and every value falls where its edge says", () => {
  assert.deepEqual(niceEdges(0, 1, 4), [0.25, 0.5, 0.75]);
  assert.ok(niceEdges(0.1, 0.9, 24).every((e) => String(e).length < 6));
  const values = Array.from({ length: 2000 }, (_, i) => (i % 97) / 96.5), facet = makeFacet(number("v", values), 2000);
  values.forEach((v, i) => {
    const b = facet.bins[i];
    assert.ok((b === 0 || v >= facet.edges[b - 1]) && (b === facet.edges.length || v < facet.edges[b]));
  });
  assert.equal(facet.missing, false);
});

test("columns that hold nothing, one value, few numbers, infinities", () => {
  assert.equal(makeFacet(number("v", [null, null]), 2), null);
  assert.deepEqual(makeFacet(number("v", [2, 2, 2]), 3).values, [2]);
  assert.deepEqual(makeFacet(number("v", [640, 800, null, 640]), 4).values, [640, 800, null]);
  assert.deepEqual(makeFacet(bool("v", [true, null]), 2).values, [false, true, null]);
  const wild = makeFacet(number("v", [Infinity, -Infinity, 0.5, 0.7, 0.9, null]), 6);
  assert.equal(wild.total.reduce((a, b) => a + b, 0), 6);
});

test("bars count right, wrong and undecided; the surely weakest comes first", () => {
  const facet = makeFacet(category("v", ["p", "q"], ["p", "p", "q", "q", null]), 5), outcome = Uint8Array.of(0, 1, 1, 1, 2);
  const counts = countBars(facet, outcome, null, new Uint32Array(9));
  assert.deepEqual(Array.from(counts), [1, 1, 0, 0, 2, 0, 0, 0, 1]);
  assert.deepEqual(weakFirst(facet, counts, makeWilson(0.95)).slice(0, 2), [1, 0]);
  assert.deepEqual(Array.from(countBars(facet, outcome, Uint32Array.of(0, 4), counts)), [1, 0, 0, 0, 0, 0, 0, 0, 1]);
});

test("two thousand classes stand in at most thirty lines, each class in one", () => {
  const all = Array.from({ length: 2000 }, (_, i) => i), lines = groupClasses(all);
  assert.ok(lines.length <= 30);
  assert.deepEqual(lines.flat(), all);
  assert.ok(lines.slice(0, 24).every((l) => l.length === 1));
  assert.ok(lines.slice(24).every((l) => l.length > 1));
  assert.deepEqual(groupClasses(lines[24]).flat(), lines[24]);
  assert.equal(groupClasses(all.slice(0, 30)).length, 30);
  assert.deepEqual(groupClasses(all.slice(0, 31)).flat().length, 31);
});

test("most confused pairs and worst classes", () => {
  const k = 3, counts = new Uint32Array(16);
  counts[0 * 4 + 1] = 5;
  counts[2 * 4 + 1] = 7;
  counts[1 * 4 + 1] = 90;
  assert.deepEqual(mostConfused(counts, k, 2), [{ target: 2, pred: 1, n: 7 }, { target: 0, pred: 1, n: 5 }]);
  assert.deepEqual(worstFirst(counts, k), [1, 2, 0]);
});

test("hostile text becomes visible and short", () => {
  assert.equal(visible("a\0b\n\x7f"), "a‹00›b‹0A›‹7F›");
  assert.equal(visible("\u202eevil"), "‹202E›evil");
  assert.equal(clip("x".repeat(10_000), 10), "xxxxxxxxx…");
  assert.equal([...clip("🙂".repeat(50), 10)].length, 10);
  assert.equal(clip("<img onerror>"), "<img onerror>");
});

test("a lasso keeps its corners and loses the rest", () => {
  const path = [[0, 0], [1, 0.001], [2, 0], [2, 1], [2.001, 2], [2, 3]];
  assert.deepEqual(thin(path, 0.01), [[0, 0], [2, 0], [2, 3]]);
});
