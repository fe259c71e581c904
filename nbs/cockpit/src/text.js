// Text of the data set is data: it is shown with textContent, isolated, with what cannot be seen made visible.

/** A string with control characters and direction overrides made visible. @param {unknown} value @returns {string} */
export function visible(value) {
  const text = typeof value === "string" ? value : String(value);
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (c) => {
    const code = c.charCodeAt(0);
    return `‹${code.toString(16).toUpperCase().padStart(code < 256 ? 2 : 4, "0")}›`;
  });
}

/** At most `most` characters, for what is drawn or read aloud. @param {unknown} value @param {number} most */
export function clip(value, most = 60) {
  const text = typeof value === "string" && value.length > 4 * most ? value.slice(0, 4 * most) : String(value);
  const parts = [...visible(text)];
  return parts.length > most ? parts.slice(0, most - 1).join("") + "…" : parts.join("");
}

/**
 * An element. Properties beginning with "on" are listeners, the rest attributes; children are elements or text.
 * @param {string} tag @param {Record<string, any>} [props] @param {...any} children @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v);
    else if (k === "text") el.textContent = v;
    else el.setAttribute(k, v === true ? "" : String(v));
  }
  for (const c of children.flat()) if (c !== null && c !== undefined && c !== false) el.append(c);
  return el;
}

/** An isolated piece of the data's own text, with the whole of it as tooltip. @param {unknown} value @param {number} [most] */
export function bdi(value, most = 200) {
  const el = document.createElement("bdi");
  setText(el, value, most);
  return el;
}

/** Change the text of an element made by `bdi`. @param {HTMLElement} el @param {unknown} value @param {number} [most] */
export function setText(el, value, most = 200) {
  el.textContent = clip(value, most);
  el.title = clip(value, 500);
}

const grouped = new Intl.NumberFormat("en-US");

/** 12,345 @param {number} n */
export const count = (n) => grouped.format(n);

/** 91.2 %; an en dash where there is none @param {number} share @param {number} [digits] */
export const percent = (share, digits = 1) => (Number.isFinite(share) ? (100 * share).toFixed(digits) : "–");

/** Short for axes and captions @param {number} v */
export function short(v) {
  if (Number.isNaN(v) || v === null || v === undefined) return "–";
  const a = Math.abs(v);
  if (a >= 1e6 || (a > 0 && a < 1e-3)) return v.toExponential(1);
  if (Number.isInteger(v)) return a >= 1e4 ? grouped.format(v) : String(v);
  return String(Number(v.toPrecision(a < 1 ? 3 : 4)));
}
