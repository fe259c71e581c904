// What is annotated in images, drawn over them: one way for tiles and for the large view, shown and hidden together.
import { clip, h, short } from "./text.js";
import { context, fitText, PALETTE } from "./theme.js";

const NAMES = { box: "boxes", mask: "masks", text: "text", target: "target", pred: "predicted" };
const KEPT = 128; // Masks up to this side are drawn anew each time, larger ones kept as pixels
const DARK = "rgb(0 0 0 / 60%)";

export class Layers {
  /** @param {string[]} classes @param {() => void} changed Draw again */
  constructor(classes, changed) {
    this.classes = new Map(classes.map((name, i) => [name, i]));
    this.changed = changed;
    this.hidden = new Set();
    this.kinds = new Set();
    this.whose = new Set();
    this.bars = [];
  }

  /** A place for the toggles; every one shows the same state, and nothing where there is nothing to draw. */
  bar() {
    const el = h("span", { class: "cvb-toggles", role: "group", "aria-label": "overlays", "data-testid": "overlays" });
    this.bars.push(el);
    return el;
  }

  /** @param {any[]|undefined} overlays That will be drawn */
  note(overlays) {
    const before = this.kinds.size + this.whose.size;
    for (const o of overlays ?? []) this.kinds.add(o.kind), this.whose.add(o.who);
    if (this.kinds.size + this.whose.size === before) return;
    const names = Object.keys(NAMES).filter((k) => this.kinds.has(k) || (this.whose.size > 1 && this.whose.has(k)));
    for (const el of this.bars) el.replaceChildren(...names.map((k) => h("label", { class: "cvb-check", title: "b shows and hides all" }, h("input", { type: "checkbox", "data-overlay": k, onchange: (e) => this.show([k], e.target.checked) }), NAMES[k])));
    this._say();
  }

  /** @param {Iterable<string>} names @param {boolean} on */
  show(names, on) {
    for (const k of names) on ? this.hidden.delete(k) : this.hidden.add(k);
    this._say();
    this.changed();
  }

  toggle() {
    this.show(this.kinds, [...this.kinds].some((k) => this.hidden.has(k)));
  }

  _say() {
    for (const el of this.bars) for (const box of el.querySelectorAll("input")) box.checked = !this.hidden.has(box.dataset.overlay);
  }

  /** A colour for each class; a name that is no class has one of its own, the same in every image. @param {string} [label] */
  colour(label = "") {
    let place = this.classes.get(label);
    if (place === undefined) for (place = 0, label = label.slice(0, 60); label; label = label.slice(1)) place = (31 * place + label.charCodeAt(0)) % 9973;
    return PALETTE[place % PALETTE.length];
  }

  /**
   * Boxes, masks and text; where there are targets and predictions, the target's dashed, the prediction's solid. Labels come last, and lie over everything.
   * @param {CanvasRenderingContext2D} ctx @param {any[]} overlays @param {number[]} place x, y, width, height of the image
   * @param {number} unit A pixel of the screen @param {boolean} all Every label, rather than those that have room
   */
  draw(ctx, overlays, [x, y, w, h], unit, all) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(x - unit, y - unit, w + 2 * unit, h + 2 * unit);
    ctx.clip();
    ctx.textBaseline = "middle";
    ctx.font = `${(all ? 12 : 10) * unit}px system-ui, sans-serif`;
    const labels = [], taken = [], line = (all ? 16 : 13) * unit, thick = all ? 2 * unit : Math.round(1.6 * unit);
    let written = 0;
    for (const o of overlays) {
      if (this.hidden.has(o.kind) || this.hidden.has(o.who)) continue;
      const colour = this.colour(o.label), box = o.xyxy && [x + o.xyxy[0] * w, y + o.xyxy[1] * h, (o.xyxy[2] - o.xyxy[0]) * w, (o.xyxy[3] - o.xyxy[1]) * h];
      if (o.kind === "mask" && o.counts && o.size) {
        const image = Math.max(...o.size) > KEPT ? (o.drawn ??= drawMask(o, bytes(colour))) : drawMask(o, bytes(colour));
        ctx.imageSmoothingEnabled = !all;
        ctx.drawImage(image, x, y, w, h);
      } else if (o.kind === "box" && box) {
        outline(ctx, all ? box : snap(box, thick), colour, o.who === "target" && this.whose.size > 1, thick, unit);
        labels.push([`${o.label ?? ""}${typeof o.score === "number" ? ` ${short(o.score)}` : ""}`, colour, ...box, y]);
      } else if (o.kind === "text" && o.text?.trim()) {
        if (box) labels.push([o.text, DARK, box[0], Math.min(box[1] + box[3], y + h - line), box[2], box[3], Infinity]);
        else labels.push([o.text, DARK, x, y + line * written++, w, h, Infinity]);
      }
    }
    for (const [text, ground, left, top, wide, tall, least] of labels) {
      const shown = clip(text, 60);
      if (all) this._label(ctx, shown, ground, left, top, least, unit, taken);
      else if (tall > 1.5 * line) this._label(ctx, fitText(ctx, shown, wide - 4 * unit), ground, left, top, least, unit, taken, Math.max(1, Math.min(shown.length, 5)));
    }
    ctx.restore();
  }

  /** A line of text on its ground, above a place where that is not above `least`, else below it; nothing where it is cut to less than a word, or would hide another. */
  _label(ctx, text, ground, x, y, least, unit, taken, enough = 1) {
    const high = parseFloat(ctx.font) * 1.25, wide = ctx.measureText(text).width + 4 * unit, at = y - high >= least ? y - high : y;
    if (text.trim().length < enough || (enough > 1 && taken.some((t) => t[0] < x + wide && x < t[1] && t[2] < at + high && at < t[3]))) return;
    taken.push([x, x + wide, at, at + high]);
    ctx.fillStyle = ground;
    ctx.fillRect(x - unit / 2, at, wide, high);
    ctx.fillStyle = ground === DARK ? "#fff" : ink(ground);
    ctx.fillText(text, x + 1.5 * unit, at + high / 2);
  }
}

/** @param {string} colour Of the palette, #rrggbb */
const bytes = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

/** Black or white, whichever is read better on a colour. @param {string} colour */
function ink(colour) {
  const [r, g, b] = bytes(colour);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff";
}

/** A box on whole pixels, where its lines are sharp. */
function snap([x, y, w, h], thick) {
  const half = (thick % 2) / 2, left = Math.round(x) + half, top = Math.round(y) + half;
  return [left, top, Math.round(x + w) + half - left, Math.round(y + h) + half - top];
}

/** A frame that is seen on any ground: a dark line below the coloured one. */
function outline(ctx, box, colour, dashed, thick, unit) {
  ctx.strokeStyle = DARK;
  ctx.lineWidth = thick + 1.5 * unit;
  ctx.strokeRect(...box);
  ctx.setLineDash(dashed ? [5 * unit, 2.5 * unit] : []);
  ctx.strokeStyle = colour;
  ctx.lineWidth = thick;
  ctx.strokeRect(...box);
  ctx.setLineDash([]);
}

/** A mask of run lengths as an image: filled for the prediction, its rim and a tint for the target. @param {any} overlay @param {number[]} colour */
function drawMask({ counts, size: [height, width], who }, [r, g, b]) {
  const inside = new Uint8Array(width * height), image = h("canvas", { width, height });
  let at = 0, on = 0;
  for (const run of counts) {
    if (on) for (let i = at; i < Math.min(at + run, inside.length); i++) inside[(i % height) * width + Math.floor(i / height)] = 1;
    at += run;
    on ^= 1;
  }
  const data = new ImageData(width, height), pixels = new Uint32Array(data.data.buffer), colour = (b << 16) | (g << 8) | r;
  for (let i = 0; i < inside.length; i++) {
    if (!inside[i]) continue;
    const x = i % width, edge = x === 0 || x === width - 1 || !inside[i - 1] || !inside[i + 1] || !inside[i - width] || !inside[i + width];
    pixels[i] = (edge ? 0xff000000 : who === "target" ? 0x40000000 : 0x80000000) | colour;
  }
  context(image).putImageData(data, 0, 0);
  return image;
}
