// Lassos.

/** A path without the corners that hardly bend it (Ramer, Douglas and Peucker). @param {[number, number][]} path @param {number} most */
export function thin(path, most) {
  if (path.length < 4) return path;
  const keep = new Uint8Array(path.length), stack = [[0, path.length - 1]];
  keep[0] = keep[path.length - 1] = 1;
  while (stack.length) {
    const [a, b] = stack.pop(), [ax, ay] = path[a], dx = path[b][0] - ax, dy = path[b][1] - ay, l = Math.hypot(dx, dy);
    let far = -1, at = 0;
    for (let i = a + 1; i < b; i++) {
      const d = l ? Math.abs((path[i][0] - ax) * dy - (path[i][1] - ay) * dx) / l : Math.hypot(path[i][0] - ax, path[i][1] - ay);
      if (d > far) (far = d), (at = i);
    }
    if (far > most) (keep[at] = 1), stack.push([a, at], [at, b]);
  }
  return path.filter((_, i) => keep[i]);
}
