import assert from "node:assert/strict";
import { test } from "node:test";
import { columnName, literal, writeWhere } from "../src/where.js";
import { actionCode, selectionCode } from "../src/link.js";
import { category, toyTable } from "./table.js";

const write = (...filters) => writeWhere(filters, toyTable([category("odd name", ["it's"], Array(8).fill("it's")), category("in`side", ["v"], Array(8).fill("v"))]), { slices: [{ name: "s", where: "blur > 2" }, { name: "bare", where: "" }] });
const facet = (column, more) => ({ panel: "facet", column, op: "in", ...more });

test("text is quoted as Python does it, nothing invisible is left", () => {
  assert.equal(literal("it's"), "'it\\'s'");
  assert.equal(literal("a\\b\n\t\0\x7f`"), "'a\\\\b\\n\\t\\x00\\x7f\\x60'");
  assert.equal(literal("\u202eabc\u2028"), "'\\u202eabc\\u2028'");
  assert.equal(literal("שלום é 🙂"), "'שלום é 🙂'");
});

test("names that are no identifiers stand in backticks", () => {
  assert.equal(columnName("light"), "light");
  assert.equal(columnName("odd name"), "`odd name`");
  assert.equal(columnName("class"), "`class`");
  assert.equal(columnName("größe"), "`größe`");
  assert.equal(columnName("a`b"), null);
});

test("filters of every kind", () => {
  const cases = [
    [facet("light", { values: ["dim"] }), "light == 'dim'"],
    [facet("light", { values: ["dim", "bright"] }), "light in ['dim', 'bright']"],
    [facet("light", { values: ["dim", null] }), "(light == 'dim' or light != light)"],
    [facet("light", { op: "null" }), "light != light"],
    [facet("odd name", { values: ["it's"] }), "`odd name` == 'it\\'s'"],
    [facet("correct", { values: [false] }), "correct == False"],
    [facet("blur", { values: [3, 4] }), "blur in [3, 4]"],
    [facet("blur", { op: "range", low: -0.5, high: 2 }), "blur >= -0.5 and blur < 2"],
    [facet("blur", { op: "range", low: null, high: 2 }), "blur < 2"],
    [facet("blur", { op: "range", low: null, high: null }), "blur == blur"],
    [{ panel: "confusion", op: "cells", cells: [[[0], [1]]] }, "target == 'a' and pred == 'b'"],
    [{ panel: "confusion", op: "cells", cells: [[[0], [1]], [[2], [0, 1]]] }, "((target == 'a' and pred == 'b') or (target == 'c' and pred in ['a', 'b']))"],
    [{ panel: "slice", op: "slice", values: ["s"] }, "(blur > 2)"],
  ];
  for (const [filter, text] of cases) assert.deepEqual(write(filter), { where: text, complete: true });
});

test("what no condition tells is left out, and said to be", () => {
  for (const filter of [{ panel: "map", polygon: [[0, 0], [1, 0], [0, 1]] }, facet("x", { op: "range", low: 0, high: 1 }), { panel: "confusion", op: "cells", cells: [[[0], [1]]], decided: [0.6, 1] }, facet("in`side", { values: ["v"] }), { panel: "slice", op: "slice", values: ["bare"] }, { panel: "compare", op: "kind", values: ["fixed"] }]) {
    assert.deepEqual(write(filter, facet("light", { values: ["dim"] })), { where: "light == 'dim'", complete: false });
  }
  const long = write(facet("light", { values: ["x".repeat(10_001)] }));
  assert.deepEqual(long, { where: "", complete: false });
});

test("labels of a list", () => {
  const table = toyTable();
  table.byKey.get("target").kind = "labels";
  assert.equal(writeWhere([{ column: "target", op: "has", values: [0] }, { column: "target", op: "lacks", values: [1, 2] }], table).where, "'a' in target and not ('b' in target or 'c' in target)");
});

test("code to copy", () => {
  assert.equal(selectionCode("ev", { where: "", complete: true }, null), "ev");
  assert.equal(selectionCode("ev", { where: "light == 'dim'", complete: true }, ["s1"]), `ev.where("light == 'dim'")`);
  assert.equal(selectionCode("ev", { where: `a == 'say "x"'`, complete: false }, ["s1", "s'2"]), `ev.where("a == 'say \\"x\\"'", ids=['s1', 's\\'2'])`);
  assert.match(actionCode({ verb: "slice", name: "it's" }, "ev", { where: "blur > 2", complete: true }, null), /explore\(ev\)\.to_slice\('it\\'s', where="blur > 2"\)$/);
  assert.match(actionCode({ verb: "relabel", target: "a" }, "ev", { where: "", complete: false }, ["s1"]), /\.relabel\('a', ids=\['s1'\]\)$/);
});
