// Which tiles of a very long grid are on screen. Browsers limit the height of an element, so long grids scroll in scaled units.

export const MOST_PIXELS = 8_000_000;

/**
 * @typedef {object} Grid
 * @property {number} columns
 * @property {number} lines
 * @property {number} tile Width of a tile, the gap included
 * @property {number} line Height of a line, the gap included
 * @property {number} real Height that all lines would need
 * @property {number} height Height given to the scroller
 */

/** @param {number} n @param {number} width @param {number} size Wanted tile width @param {number} extra Height beside the image @param {boolean} [pictures] @returns {Grid} */
export function layout(n, width, size, extra, pictures = true) {
  const columns = Math.max(1, Math.floor(width / size)), tile = Math.max(1, Math.floor(width / columns));
  const line = (pictures ? tile : 0) + extra, lines = Math.ceil(n / columns), real = lines * line;
  return { columns, lines, tile, line, real, height: Math.min(real, MOST_PIXELS) };
}

/** Scroll position of the browser → pixels from the top of the real grid. @param {Grid} g @param {number} top @param {number} view */
export function toReal(g, top, view) {
  if (g.height === g.real) return top;
  const most = g.height - view;
  return most <= 0 ? 0 : Math.min(1, Math.max(0, top / most)) * (g.real - view);
}

/** The inverse of `toReal`. @param {Grid} g @param {number} offset @param {number} view */
export function toScroll(g, offset, view) {
  if (g.height === g.real) return offset;
  return g.real <= view ? 0 : (offset / (g.real - view)) * (g.height - view);
}

/** First and last-but-one place on screen. @param {Grid} g @param {number} offset Real @param {number} view @param {number} n @returns {[number, number]} */
export function visibleRange(g, offset, view, n) {
  const first = Math.max(0, Math.floor(offset / g.line)), last = Math.min(g.lines, Math.ceil((offset + view) / g.line));
  return [Math.min(n, first * g.columns), Math.min(n, last * g.columns)];
}

/** The offset that brings a place on screen with the least movement. @param {Grid} g @param {number} place @param {number} offset @param {number} view */
export function reveal(g, place, offset, view) {
  const top = Math.floor(place / g.columns) * g.line, most = Math.max(0, g.real - view);
  const wanted = top < offset ? top : top + g.line > offset + view ? top + g.line - view : offset;
  return Math.min(most, Math.max(0, wanted));
}
