// Colours for canvases: read from the CSS variables of the widget, so that they follow the theme.

const NAMES = ["bg", "bg2", "fg", "muted", "faint", "line", "accent", "bad", "good"];

/** @param {Element} root @returns {Record<string, string>} */
export function readTheme(root) {
  const style = getComputedStyle(root);
  return Object.fromEntries(NAMES.map((n) => [n, style.getPropertyValue(`--cvb-${n}`).trim() || "#888"]));
}

/** Okabe and Ito's palette, told apart with any colour vision; the last is for the rest. */
export const PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B5A800", "#7E57C2"];
export const REST = "#8a8f98";

/** Bytes of a CSS colour. @param {string} css @returns {[number, number, number]} */
export function rgb(css) {
  const ctx = rgb.ctx ?? (rgb.ctx = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true }));
  ctx.clearRect(0, 0, 1, 1);
  ctx.fillStyle = "#888";
  ctx.fillStyle = css;
  ctx.fillRect(0, 0, 1, 1);
  const [r, g, b] = ctx.getImageData(0, 0, 1, 1).data;
  return [r, g, b];
}
/** @type {any} */
rgb.ctx = null;

const CIVIDIS = [[0, 32, 77], [0, 52, 110], [55, 70, 108], [87, 89, 109], [112, 109, 115], [138, 129, 121], [165, 151, 117], [194, 174, 108], [225, 199, 91], [254, 232, 69]];

/** Cividis (Nuñez et al. 2018), even in lightness, at 0…1. @param {number} t @returns {[number, number, number]} */
export function ramp(t) {
  const at = Math.max(0, Math.min(1, t)) * (CIVIDIS.length - 1), i = Math.min(CIVIDIS.length - 2, Math.floor(at)), f = at - i;
  return /** @type {any} */ (CIVIDIS[i].map((c, j) => Math.round(c + f * (CIVIDIS[i + 1][j] - c))));
}

/** Contexts in memory: small canvases are drawn faster there than they travel to a GPU. @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
export const context = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

/** A canvas that is sharp on its screen. @param {HTMLCanvasElement} canvas @param {number} width @param {number} height @returns {CanvasRenderingContext2D} */
export function fitCanvas(canvas, width, height, ratio = Math.min(2, window.devicePixelRatio || 1)) {
  const w = Math.max(1, Math.round(width * ratio)), h = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== w || canvas.height !== h) {
    (canvas.width = w), (canvas.height = h);
    (canvas.style.width = `${width}px`), (canvas.style.height = `${height}px`);
  }
  const ctx = context(canvas);
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  return ctx;
}

/** Shorten text to a width. @param {CanvasRenderingContext2D} ctx @param {string} text @param {number} width */
export function fitText(ctx, text, width) {
  if (ctx.measureText(text).width <= width) return text;
  const parts = [...text];
  let low = 0, high = parts.length;
  while (low < high) {
    const mid = (low + high + 1) >> 1;
    if (ctx.measureText(parts.slice(0, mid).join("") + "…").width <= width) low = mid;
    else high = mid - 1;
  }
  return low ? parts.slice(0, low).join("") + "…" : "";
}
