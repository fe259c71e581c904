import assert from "node:assert/strict";
import { test } from "node:test";
import { Engine, emptyState } from "../src/engine.js";
import { filterKey, insidePolygon, maskOf } from "../src/filters.js";
import { toyTable } from "./table.js";

const light = (...values) => ({ panel: "facet", column: "light", op: "in", values });
const rowsOf = (f, table = toyTable(), spec = {}) => Array.from(maskOf(f, table, spec)).flatMap((v, i) => (v ? [i] : []));
const engineAt = (state) => {
  const engine = new Engine(toyTable(), {});
  engine.apply({ ...emptyState(), ...state });
  return engine;
};

test("values, missing ones, ranges", () => {
  assert.deepEqual(rowsOf(light("dim")), [0, 1, 5, 7]);
  assert.deepEqual(rowsOf(light("dim", null)), [0, 1, 3, 5, 7]);
  assert.deepEqual(rowsOf({ column: "light", op: "null" }), [3]);
  assert.deepEqual(rowsOf({ column: "blur", op: "null" }), [4]);
  assert.deepEqual(rowsOf({ column: "blur", op: "range", low: 2, high: 4 }), [1, 2]);
  assert.deepEqual(rowsOf({ column: "blur", op: "range", low: 7, high: null }), [6, 7]);
  assert.deepEqual(rowsOf({ column: "blur", op: "in", values: [3, null] }), [2, 4]);
  assert.deepEqual(rowsOf({ column: "correct", op: "in", values: [false] }), [1, 5]);
});

test("bounds are rounded to single precision where the column is", () => {
  assert.deepEqual(rowsOf({ column: "score", op: "range", low: 0.6, high: 0.7 }), [1]);
});

test("a column that is not there is an error that names it", () => {
  assert.throws(() => rowsOf({ column: "lihgt", op: "in", values: ["dim"] }), /lihgt/);
});

test("cells of the confusion, one and several, missing targets too", () => {
  assert.deepEqual(rowsOf({ op: "cells", cells: [[[0], [1]]] }), [1]);
  assert.deepEqual(rowsOf({ op: "cells", cells: [[[0], [1]], [[2], [0]]] }), [1, 5]);
  assert.deepEqual(rowsOf({ op: "cells", cells: [[[0, 1], [0, 1]]] }), [0, 1, 2, 3, 6]);
  assert.deepEqual(rowsOf({ op: "cells", cells: [[[-1], [0]]] }), [7]);
});

test("slices come as bitmaps, the lowest bit first", () => {
  assert.deepEqual(rowsOf({ panel: "slice", op: "slice", values: ["odd"] }, toyTable(), { slices: [{ name: "odd", rows: btoa(String.fromCharCode(0b10101010)) }] }), [1, 3, 5, 7]);
  assert.deepEqual(rowsOf({ panel: "slice", op: "slice", values: ["gone"] }), []);
});

test("a lasso agrees with a plain test of every point against every edge", () => {
  let seed = 7;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const polygon = Array.from({ length: 23 }, (_, i) => [Math.cos(i / 3.66) * (0.4 + random()), Math.sin(i / 3.66) * (0.4 + random())]);
  const n = 5000, xs = Float32Array.from({ length: n }, () => 3 * random() - 1.5), ys = Float32Array.from({ length: n }, () => 3 * random() - 1.5);
  const plain = (x, y) => {
    let inside = 0;
    polygon.forEach(([x1, y1], i) => {
      const [x2, y2] = polygon[(i + 1) % polygon.length];
      if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside ^= 1;
    });
    return inside;
  };
  const found = insidePolygon(polygon, xs, ys, n);
  assert.equal(xs.findIndex((x, i) => found[i] !== plain(x, ys[i])), -1);
  assert.ok(found.some(Boolean) && found.some((v) => !v));
  assert.deepEqual(rowsOf({ panel: "map", polygon: [[-1, -1], [3.5, -1], [3.5, 2], [-1, 2]] }), [0, 1, 2, 3]);
});

test("filters are a conjunction; a panel can ask for the others' alone", () => {
  const engine = engineAt({ filters: [light("dim"), { panel: "facet", column: "blur", op: "range", low: 2, high: null }] });
  assert.deepEqual(Array.from(engine.rows), [1, 5, 7]);
  assert.deepEqual(Array.from(engine.rowsWithout((f) => f.column === "light")), [1, 2, 3, 5, 6, 7]);
  assert.equal(engine.rowsWithout(() => true), null);
});

test("picks win over filters, and filters stay", () => {
  const engine = engineAt({ filters: [light("dim")], picks: Uint32Array.of(2) });
  assert.deepEqual(Array.from(engine.selected), [2]);
  assert.deepEqual(Array.from(engine.rows), [0, 1, 5, 7]);
});

test("numbers of everything, by hand", () => {
  const m = engineAt({}).metrics();
  assert.equal(m.n, 7);
  assert.equal(m.accuracy, 5 / 7);
  assert.deepEqual(m.hits, [2, 2, 1]);
  assert.deepEqual(m.predicted, [3, 3, 1]);
  assert.deepEqual(m.actual, [3, 2, 2]);
  assert.equal(m.coverage, 1);
});

test("below the threshold nothing is decided: less coverage, targets stay", () => {
  const m = engineAt({ threshold: 0.6 }).metrics();
  assert.equal(m.coverage, 4 / 7);
  assert.equal(m.accuracy, 3 / 4);
  assert.deepEqual(m.actual, [3, 2, 2]);
  assert.deepEqual(m.predicted, [1, 2, 1]);
  assert.deepEqual(engineAt({ threshold: 0 }).metrics().accuracy, engineAt({}).metrics().accuracy);
});

test("cells at a threshold go by what is decided there", () => {
  const engine = engineAt({ threshold: 0.6, threshold_class: 0 }), cell = { panel: "confusion", op: "cells", cells: [[[2], [-2]]], decided: [0.6, 0] };
  assert.equal(engine.confusion(null)[2 * 4 + 3], 1);
  engine.apply({ ...engine.state, filters: [cell] });
  assert.deepEqual(Array.from(engine.rows), [5]);
  assert.notEqual(filterKey(cell), filterKey({ ...cell, decided: [0.7, 0] }));
});

test("sorted rows keep the filter, and missing values come last both ways", () => {
  const engine = engineAt({ filters: [light("bright", null)] });
  assert.deepEqual(Array.from(engine.sortedRows("blur", true)), [6, 3, 2, 4]);
  assert.deepEqual(Array.from(engine.sortedRows("blur", false)), [2, 3, 6, 4]);
  assert.deepEqual(Array.from(engine.sortedRows(null, false)), [2, 3, 4, 6]);
});

test("equal filters have equal keys", () => {
  assert.equal(filterKey(light("dim")), filterKey({ ...light("dim"), panel: "error" }));
  assert.notEqual(filterKey(light("dim")), filterKey(light("bright")));
});
