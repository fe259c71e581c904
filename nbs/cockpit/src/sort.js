// Orders of rows by a column: radix sort on the bits, so that a million rows take a fraction of a second.

/** Stable order of 32-bit keys. @param {Uint32Array} keys @param {Uint32Array} order @returns {Uint32Array} */
function byKeys(keys, order) {
  const n = order.length;
  let from = order, to = new Uint32Array(n);
  const counts = new Uint32Array(65536);
  for (const shift of [0, 16]) {
    counts.fill(0);
    for (let i = 0; i < n; i++) counts[(keys[i] >>> shift) & 65535]++;
    if (counts[(keys[0] >>> shift) & 65535] === n) continue;
    let sum = 0;
    for (let b = 0; b < 65536; b++) {
      const c = counts[b];
      counts[b] = sum;
      sum += c;
    }
    for (let i = 0; i < n; i++) to[counts[(keys[from[i]] >>> shift) & 65535]++] = from[i];
    [from, to] = [to, from === order ? new Uint32Array(n) : from];
  }
  return from;
}

function oneZero(values, out) {
  for (let i = 0; i < out.length; i++) out[i] = values[i] + 0; // -0 and 0 are equal, their bits are not
  return out;
}

const flip = (bits) => (bits & 0x80000000 ? ~bits : bits | 0x80000000) >>> 0;

/**
 * Rows by value, ascending or descending, ties by row number, NaN last.
 * @param {ArrayLike<number> & {length: number}} values @param {boolean} [descending] @returns {Uint32Array}
 */
export function orderOf(values, descending = false) {
  const n = values.length, order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  if (n < 2) return order;
  const low = new Uint32Array(n), high = new Uint32Array(n), wide = values instanceof Float64Array;
  if (wide) {
    const bits = new Uint32Array(oneZero(values, new Float64Array(n)).buffer);
    for (let i = 0; i < n; i++) {
      const negative = bits[2 * i + 1] & 0x80000000;
      low[i] = negative ? ~bits[2 * i] : bits[2 * i];
      high[i] = flip(bits[2 * i + 1]);
    }
  } else {
    const bits = new Uint32Array(oneZero(values, new Float32Array(n)).buffer);
    for (let i = 0; i < n; i++) high[i] = flip(bits[i]);
  }
  for (let i = 0; i < n; i++) {
    if (descending) {
      low[i] = ~low[i];
      high[i] = ~high[i];
    }
    if (values[i] !== values[i]) high[i] = low[i] = 0xffffffff;
  }
  return byKeys(high, wide ? byKeys(low, order) : order);
}

/** Rows of a column in order. @param {import("./columns.js").Column} column @param {number} n @param {boolean} descending @returns {Uint32Array} */
export function orderColumn(column, n, descending) {
  if (column.kind === "number") return orderOf(column.values, descending);
  if (column.codes) {
    const place = new Map([...column.names].sort(compareText).map((name, i) => [name, i]));
    const ranks = Float32Array.from(column.names, (name) => place.get(name));
    const values = new Float32Array(n);
    for (let i = 0; i < n; i++) values[i] = column.codes[i] < 0 ? NaN : ranks[column.codes[i]];
    return orderOf(values, descending);
  }
  if (column.kind === "labels") {
    const sizes = new Float32Array(n);
    for (let i = 0; i < n; i++) sizes[i] = column.offsets[i + 1] - column.offsets[i];
    return orderOf(sizes, descending);
  }
  const text = Array.from({ length: n }, (_, i) => column.at?.(i) ?? null);
  const order = Uint32Array.from({ length: n }, (_, i) => i), sign = descending ? -1 : 1;
  return order.sort((a, b) => {
    if (text[a] === null || text[b] === null) return (text[a] === null) - (text[b] === null) || a - b;
    return sign * compareText(text[a], text[b]) || a - b;
  });
}

const compareText = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
