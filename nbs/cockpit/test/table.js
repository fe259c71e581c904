// A small table for tests, made without Arrow.
import { Table } from "../src/columns.js";

/** @param {string[]} names @param {(string|null)[]} values */
export const category = (key, names, values, more = {}) => ({ key, label: key, kind: "category", role: "", local: false, format: "", names, codes: Int32Array.from(values, (v) => (v === null ? -1 : names.indexOf(v))), ...more });
export const number = (key, values, more = {}) => ({ key, label: key, kind: "number", role: "", local: false, format: "", values: Float64Array.from(values, (v) => v ?? NaN), ...more });
export const bool = (key, values, more = {}) => ({ key, label: key, kind: "bool", role: "", local: false, format: "", names: ["False", "True"], codes: Int8Array.from(values, (v) => (v === null ? -1 : Number(v))), ...more });

export const CLASSES = ["a", "b", "c"];

/** Eight rows: five right, two wrong, one without a target. */
export function toyTable(extra = []) {
  const target = ["a", "a", "b", "b", "c", "c", "a", null], pred = ["a", "b", "b", "b", "c", "a", "a", "a"];
  const scores = [0.9, 0.6, 0.8, 0.55, 0.7, 0.5, 0.3, 0.95];
  return new Table(8, [
    category("target", CLASSES, target, { role: "target" }),
    category("pred", CLASSES, pred, { role: "pred" }),
    number("score", scores, { role: "score", values: Float32Array.from(scores) }),
    bool("correct", target.map((t, i) => (t === null ? null : t === pred[i])), { role: "correct" }),
    category("light", ["dim", "bright"], ["dim", "dim", "bright", null, "bright", "dim", "bright", "dim"]),
    number("blur", [1, 2, 3, 4, null, 6, 7, 8]),
    number("x", [0, 1, 2, 3, 4, 5, 6, null], { role: "x", local: true }),
    number("y", [0, 1, 0, 1, 0, 1, 0, 1], { role: "y", local: true }),
    ...extra,
  ], CLASSES);
}
