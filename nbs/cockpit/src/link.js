// The two worlds a cockpit lives in: a kernel that answers messages (Live), or a page alone (Frozen). Same methods.
import { decodeBase64 } from "./filters.js";
import { literal } from "./where.js";

const ANSWER_MS = 20_000, BATCH = 12, IN_FLIGHT = 4, SIZES = [64, 80, 128, 160, 320];

/**
 * @typedef {object} Detail
 * @property {Record<string, unknown>} fields
 * @property {any[]} overlays
 * @property {number[]|null} neighbours
 * @property {CanvasImageSource|null} image
 * @property {number} width
 * @property {number} height
 */

/** Small images by row: asked for in batches, the ones on screen first, forgotten when long unseen. */
export class Live {
  /** @param {any} model @param {any} spec */
  constructor(model, spec) {
    this.model = model;
    this.spec = spec;
    this.frozen = false;
    this.next = Math.floor(Math.random() * 2 ** 30) + 1;
    this.waiting = new Map();
    this.bitmaps = new Map();
    this.overlays = new Map();
    this.none = new Set();
    this.inFlight = new Map();
    this.size = SIZES[0];
    this.small = new Set();
    this.wishes = new Map();
    this.onimage = (/** @type {number[]} */ _rows) => {};
    this.listen = (msg, buffers) => this._hear(msg, buffers);
    model.on("msg:custom", this.listen);
  }

  destroy() {
    this.model.off("msg:custom", this.listen);
    for (const { timer } of this.waiting.values()) clearTimeout(timer);
    for (const b of this.bitmaps.values()) b.close?.();
    this.bitmaps.clear();
  }

  _hear(msg, buffers) {
    if (!msg || msg.id === undefined) return;
    const request = this.waiting.get(msg.id);
    if (!request) return;
    this.waiting.delete(msg.id);
    clearTimeout(request.timer);
    request.resolve({ msg, buffers: buffers ?? [] });
  }

  /** @param {any} message @returns {{id: number, answer: Promise<{msg: any, buffers: DataView[]}>}} */
  ask(message, wait = ANSWER_MS) {
    const id = this.next++;
    const answer = new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Error("The kernel does not answer. Is it busy, or was it restarted? Run the cell again for a live cockpit."));
      }, wait);
      this.waiting.set(id, { resolve, timer });
    });
    this.model.send({ ...message, id });
    return { id, answer };
  }

  /**
   * Rows on screen, then those about to be, which wait until the others are there; what was wanted before and is not any more is cancelled.
   * @param {ArrayLike<number>} rows @param {string} who Asks; each has its own wishes @param {number} [size] Pixels a side @param {number} [urgent] Rows on screen
   */
  want(rows, who, size = this.size, urgent = rows.length) {
    if (!this.spec.images) return;
    const wanted = SIZES.find((s) => s >= size) ?? SIZES[SIZES.length - 1];
    if (wanted > this.size) {
      this.size = wanted; // those there are stay until the larger ones come
      this.small = new Set([...this.small, ...this.bitmaps.keys()]);
    }
    this.wishes.set(who, [Array.from(rows).slice(0, urgent), Array.from(rows).slice(urgent)]);
    const wishes = ["detail", "tip", "gallery"].map((w) => this.wishes.get(w) ?? [[], []]);
    this.urgent = new Set(wishes.flatMap(([now]) => now));
    this.wanted = [...this.urgent, ...wishes.flatMap(([, later]) => later)];
    const set = new Set(this.wanted);
    for (const [id, batch] of this.inFlight) {
      if (batch.some((r) => set.has(r))) continue;
      this.inFlight.delete(id);
      this.waiting.delete(id);
      this.model.send({ type: "cancel", id });
    }
    this._pump();
  }

  _pump() {
    const rows = this.wanted ?? [], flying = new Set([...this.inFlight.values()].flat());
    let batch = [], waiting = [...flying].some((r) => this.urgent.has(r));
    const go = () => {
      if (batch.length) this._fetch(batch);
      batch = [];
    };
    for (let i = 0; i < rows.length && this.inFlight.size < IN_FLIGHT; i++) {
      const r = rows[i], now = this.urgent.has(r);
      if ((this.bitmaps.has(r) && !this.small.has(r)) || this.none.has(r) || flying.has(r)) continue;
      if (!now && waiting) break;
      batch.push(r);
      waiting ||= now;
      if (batch.length === BATCH) go();
    }
    if (this.inFlight.size < IN_FLIGHT) go();
  }

  _fetch(batch) {
    const { id, answer } = this.ask({ type: "thumbs", rows: batch, size: this.size });
    this.inFlight.set(id, batch);
    answer.then(({ msg, buffers }) => this._decode(msg, buffers[0])).catch(() => {}).finally(() => {
      this.inFlight.delete(id);
      this._pump();
    });
  }

  async _decode(msg, buffer) {
    const jobs = [];
    if (!msg.rows) return;
    let at = 0;
    for (let i = 0; i < msg.rows.length; i++) {
      const length = msg.lengths[i], row = msg.rows[i], overlays = msg.overlays?.[row];
      if (!length || !buffer) this.none.add(row);
      else jobs.push(this._bitmap(new Uint8Array(buffer.buffer, buffer.byteOffset + at, length).slice()).then((b) => (b ? this._keep(row, b, overlays) : this.none.add(row))));
      at += length;
    }
    await Promise.all(jobs);
    this.onimage(msg.rows);
  }

  _bitmap(bytes) {
    return createImageBitmap(new Blob([bytes])).catch(() => null);
  }

  _keep(row, bitmap, overlays) {
    if (overlays) this.overlays.set(row, overlays);
    this.bitmaps.get(row)?.close?.();
    this.bitmaps.delete(row);
    this.bitmaps.set(row, bitmap);
    this.small.delete(row);
    if (this.bitmaps.size > 1500) {
      const [old] = this.bitmaps.keys();
      this.bitmaps.get(old).close?.();
      this.bitmaps.delete(old);
      this.overlays.delete(old);
    }
  }

  /** @param {number} row @returns {"shown"|"none"|"blank"} */
  draw(ctx, row, x, y, w, h) {
    const bitmap = this.bitmaps.get(row);
    if (!bitmap) return this.none.has(row) || !this.spec.images ? "none" : "blank";
    contain(ctx, bitmap, 0, 0, bitmap.width, bitmap.height, x, y, w, h);
    return "shown";
  }

  /** Where in a box a picture stands. @param {number} row */
  place(row, x, y, w, h) {
    const { width, height } = this.bitmaps.get(row);
    return fit(width, height, x, y, w, h);
  }

  /** @param {number} row @returns {Promise<Detail>} */
  async detail(row) {
    const { msg, buffers } = await this.ask({ type: "detail", row, size: 1024 }).answer;
    if (msg.ok === false) throw new Error(msg.message);
    const bytes = buffers[0]?.byteLength ? new Uint8Array(buffers[0].buffer, buffers[0].byteOffset, buffers[0].byteLength).slice() : null;
    const image = bytes ? await this._bitmap(bytes) : null;
    return { fields: msg.fields ?? {}, overlays: msg.overlays ?? [], neighbours: msg.neighbours ?? null, image, width: msg.width ?? image?.width ?? 0, height: msg.height ?? image?.height ?? 0 };
  }

  /** @param {{verb: string, name?: string, rows: number[]|null, target?: any}} action @returns {Promise<{ok: boolean, message: string}>} */
  async act(action) {
    return (await this.ask({ type: "act", ...action }, 120_000).answer).msg;
  }
}

/** A page without a kernel: images come from sprite sheets inside it. */
export class Frozen {
  /** @param {any} spec @param {import("./columns.js").Table} table @param {Map<number, any[]>} [overlays] By row */
  constructor(spec, table, overlays = new Map()) {
    this.spec = spec;
    this.table = table;
    this.overlays = overlays;
    this.frozen = true;
    this.onimage = (/** @type {number[]} */ _rows) => {};
    this.sheets = (spec.sprites ?? []).map((s) => ({ ...s, image: null, ready: false }));
    this.tiles = new Map();
    this.sheets.forEach((s, i) => s.rows.forEach((r, at) => this.tiles.set(r, [i, at])));
  }

  destroy() {}

  want(rows) {
    for (let i = 0; i < rows.length; i++) {
      const sheet = this.sheets[this.tiles.get(rows[i])?.[0]];
      if (sheet && !sheet.loading) sheet.loading = new Promise((done) => setTimeout(done)).then(() => this._load(sheet));
    }
  }

  /** Decoded beside the page's thread, and kept as pixels: a compressed image is decoded again for every part that is drawn. */
  async _load(sheet) {
    try {
      sheet.image = await createImageBitmap(new Blob([decodeBase64(sheet.uri.slice(sheet.uri.indexOf(",") + 1))]));
    } catch {
      sheet.broken = true;
    }
    sheet.ready = true;
    this.onimage(sheet.rows);
  }

  draw(ctx, row, x, y, w, h) {
    const at = this._find(row);
    if (!at || at.sheet.broken) return "none";
    if (!at.sheet.ready) return "blank";
    const edge = 0.5; // smoothing would mix in the neighbouring tiles
    const source = [at.left + edge, at.top + edge, Math.max(0.5, at.width - 2 * edge), Math.max(0.5, at.height - 2 * edge)];
    contain(ctx, at.sheet.image, ...source, ...fit(at.width, at.height, x, y, w, h));
    return "shown";
  }

  /** Where in a box a picture stands. @param {number} row */
  place(row, x, y, w, h) {
    const { width, height } = this._find(row);
    return fit(width, height, x, y, w, h);
  }

  /** The sheet of a row, and where its picture stands in it. */
  _find(row) {
    const [i, k] = this.tiles.get(row) ?? [], sheet = this.sheets[i], [width, height] = sheet?.sizes[k] ?? [0, 0];
    if (!width) return null;
    const { tile, columns } = sheet, inner = (size) => Math.floor((tile - size) / 2);
    return { sheet, width, height, left: (k % columns) * tile + inner(width), top: Math.floor(k / columns) * tile + inner(height) };
  }

  /** @param {number} row @returns {Promise<Detail>} */
  async detail(row) {
    const at = this._find(row), fields = {}, image = document.createElement("canvas"), out = { fields, overlays: [], neighbours: null, image: null, width: 0, height: 0 };
    for (const c of this.table.columns) if (c.kind !== "scores") fields[c.label] = this.table.value(c, row);
    if (!at) return out;
    const { sheet, width, height } = at;
    this.want([row]);
    await sheet.loading;
    if (sheet.broken) return out;
    (image.width = width), (image.height = height);
    image.getContext("2d").drawImage(sheet.image, at.left, at.top, width, height, 0, 0, width, height);
    return { ...out, overlays: this.overlays.get(row) ?? [], image, width, height };
  }
}

/** The place of a whole image in a box, centred: x, y, width, height. */
export function fit(sw, sh, x, y, w, h, most = Infinity) {
  const scale = Math.min(w / sw, h / sh, most), dw = sw * scale, dh = sh * scale;
  return [x + (w - dw) / 2, y + (h - dh) / 2, dw, dh];
}

/** Draw a whole image into a box, centred; enlarged pixels stay sharp. */
export function contain(ctx, image, sx, sy, sw, sh, x, y, w, h, most = Infinity) {
  const place = fit(sw, sh, x, y, w, h, most), scale = place[2] / sw;
  ctx.imageSmoothingEnabled = scale < 3 || sw > 48;
  ctx.imageSmoothingQuality = scale < 0.5 ? "medium" : "low";
  ctx.drawImage(image, sx, sy, sw, sh, ...place);
}

/** A Python string in double quotes. @param {string} text */
const quoted = (text) => `"${text.replace(/[\\"]/g, "\\$&")}"`;

/**
 * The selection as Python.
 * @param {string} name Of the evaluation @param {{where: string, complete: boolean}} where @param {string[]|null} ids Named where no condition tells
 */
export function selectionCode(name, { where, complete }, ids) {
  const parts = [];
  if (where) parts.push(quoted(where));
  if (!complete && ids) parts.push(`ids=[${ids.map(literal).join(", ")}]`);
  return parts.length ? `${name}.where(${parts.join(", ")})` : name;
}

/**
 * What a button of a frozen page gives instead of an action.
 * @param {{verb: string, name?: string, target?: any}} action @param {string} evaluation What it is called
 * @param {{where: string, complete: boolean}} where @param {string[]|null} ids Of the selection
 */
export function actionCode({ verb, name, target }, evaluation, where, ids) {
  const what = verb === "relabel" ? (Array.isArray(target) ? `[${target.map(literal).join(", ")}]` : literal(String(target))) : literal(name ?? "");
  const ruled = where.complete && where.where, listed = `ids=[${(ids ?? []).map(literal).join(", ")}]`;
  const rows = !ruled ? listed : verb === "slice" ? `where=${quoted(where.where)}` : `ids=${evaluation}.where(${quoted(where.where)}).samples["sample_id"].tolist()`;
  return `import cvbench as cv\n\ncv.explore(${evaluation}).${verb === "relabel" ? "relabel" : `to_${verb}`}(${what}, ${rows})`;
}
