// A confusion matrix with hundreds of classes is read through its worst classes; the others stand in groups that open.

export const MOST = 30;

/**
 * Lines of a confusion matrix: each a list of class places.
 * @param {number[]} classes Class places on show, those with most errors first
 * @param {number} [most] Lines at most @returns {number[][]}
 */
export function groupClasses(classes, most = MOST) {
  if (classes.length <= most) return classes.map((c) => [c]);
  const single = Math.max(1, most - 6), rest = classes.slice(single), groups = Math.min(6, Math.ceil(rest.length / 2)), size = Math.ceil(rest.length / groups);
  const out = classes.slice(0, single).map((c) => [c]);
  for (let i = 0; i < rest.length; i += size) out.push(rest.slice(i, i + size));
  return out;
}

/**
 * Class places by falling number of errors, missed and false alarms together.
 * @param {Uint32Array} counts Of (k + 1)² @param {number} k @returns {number[]}
 */
export function worstFirst(counts, k) {
  const errors = new Float64Array(k), w = k + 1;
  for (let t = 0; t < k; t++) for (let p = 0; p < k; p++) if (t !== p && counts[t * w + p]) (errors[t] += counts[t * w + p]), (errors[p] += counts[t * w + p]);
  return Array.from({ length: k }, (_, i) => i).sort((a, b) => errors[b] - errors[a] || a - b);
}

/**
 * The pairs most often confused.
 * @param {Uint32Array} counts Of (k + 1)² @param {number} k @param {number} most
 * @returns {{target: number, pred: number, n: number}[]}
 */
export function mostConfused(counts, k, most) {
  const w = k + 1, top = [];
  let least = 0;
  for (let t = 0; t < k; t++) {
    for (let p = 0; p < k; p++) {
      const n = counts[t * w + p];
      if (n <= least || t === p) continue;
      top.push({ target: t, pred: p, n });
      if (top.length > 4 * most) {
        top.sort((a, b) => b.n - a.n);
        top.length = most;
        least = top[most - 1].n;
      }
    }
  }
  return top.sort((a, b) => b.n - a.n).slice(0, most);
}
