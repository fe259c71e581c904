// Filters as a condition in the language of cvbench's `match_rows`: the way from the mouse back to Python.

const KEYWORDS = new Set("False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield".split(" "));

/** A Python string literal without anything that cannot be seen. @param {string} text */
export function literal(text) {
  // eslint-disable-next-line no-control-regex
  const inner = text.replace(/[\\'`\u0000-\u001f\u007f-\u00a0\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ud800-\udfff]/gu, (c) => {
    const code = c.codePointAt(0);
    if (c === "\\" || c === "'") return "\\" + c;
    if (c === "\n") return "\\n";
    if (c === "\r") return "\\r";
    if (c === "\t") return "\\t";
    return code < 256 ? "\\x" + code.toString(16).padStart(2, "0") : "\\u" + code.toString(16).padStart(4, "0");
  });
  return `'${inner}'`;
}

/** A column's name as a condition writes it; null where it cannot be named. @param {string} key */
export function columnName(key) {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(key) && !KEYWORDS.has(key)) return key;
  return key.includes("`") || key === "" ? null : "`" + key + "`";
}

/** A Python number. @param {number} v */
export const number = (v) => (Object.is(v, -0) ? "0" : String(v));

const constant = (v) => (typeof v === "boolean" ? (v ? "True" : "False") : typeof v === "number" ? number(v) : literal(String(v)));

function oneOf(name, values, column) {
  const known = values.filter((v) => v !== null).map((v) => (column?.kind === "bool" && typeof v === "string" ? v === "True" : v));
  if (known.some((v) => typeof v === "number" && !Number.isFinite(v))) return null;
  const parts = [];
  if (known.length === 1) parts.push(`${name} == ${constant(known[0])}`);
  if (known.length > 1) parts.push(`${name} in [${known.map(constant).join(", ")}]`);
  if (values.includes(null)) parts.push(`${name} != ${name}`); // only what is missing differs from itself
  return parts.length > 1 ? `(${parts.join(" or ")})` : (parts[0] ?? null);
}

function range(name, low, high) {
  const parts = [];
  if (Number.isFinite(low)) parts.push(`${name} >= ${number(low)}`);
  if (Number.isFinite(high)) parts.push(`${name} < ${number(high)}`);
  return parts.length ? parts.join(" and ") : `${name} == ${name}`;
}

function cell(targets, preds, table) {
  const [t, p] = ["target", "pred"].map((r) => columnName(table.byRole.get(r).label));
  const names = (places) => places.map((i) => (i < 0 ? null : table.classes[i]));
  const parts = [oneOf(t, names(targets)), oneOf(p, names(preds))];
  if (targets.length > table.classes.length) parts[0] = null;
  if (preds.length > table.classes.length) parts[1] = null;
  return parts.filter(Boolean).join(" and ");
}

/**
 * One filter as a condition, null where no condition says it.
 * @param {import("./filters.js").Filter} f @param {import("./columns.js").Table} table @param {any} spec @returns {string|null}
 */
export function clause(f, table, spec = {}) {
  if (f.polygon || f.decided) return null; // no column holds what is decided at a threshold
  if (f.op === "cells") {
    const cells = f.cells.map(([t, p]) => cell(t, p, table));
    return cells.length === 1 ? cells[0] : `(${cells.map((c) => (c.includes(" and ") ? `(${c})` : c)).join(" or ")})`;
  }
  if (f.panel === "slice" || f.op === "slice") {
    const where = (spec.slices ?? []).find((s) => s.name === f.values?.[0])?.where;
    return where ? `(${where})` : null;
  }
  if (f.panel === "compare" || f.op === "kind") return null;
  const column = table.byKey.get(f.column), name = column && !column.local ? columnName(column.label) : null;
  if (!name) return null;
  if (f.op === "null") return `${name} != ${name}`;
  if (f.op === "range") return range(name, f.low, f.high);
  if (f.op === "has" || f.op === "lacks") {
    const each = f.values.map((i) => `${literal(table.classes[i])} in ${name}`);
    const any = each.length > 1 ? `(${each.join(" or ")})` : each[0];
    return f.op === "has" ? any : `not ${any}`;
  }
  if (column.kind === "text" || column.kind === "id" || column.kind === "category" || column.kind === "bool" || column.kind === "number") return oneOf(name, f.values ?? [], column);
  return null;
}

/**
 * All filters as one condition, as far as conditions go.
 * @param {import("./filters.js").Filter[]} filters @param {import("./columns.js").Table} table @param {any} spec
 * @returns {{where: string, complete: boolean}} complete: nothing was left out
 */
export function writeWhere(filters, table, spec = {}) {
  const parts = [];
  let complete = true, length = 0;
  for (const f of filters) {
    const part = clause(f, table, spec);
    if (part === null || length + part.length > 9_900) complete = false;
    else parts.push(part), (length += part.length + 5);
  }
  return { where: parts.join(" and "), complete };
}
