// What was taken for what. Drawn on one canvas; transparent cells above it take the mouse, the keys and the screen reader.
import { frame } from "../cockpit.js";
import { groupClasses, MOST, mostConfused, worstFirst } from "../groups.js";
import { bdi, clip, count, h, percent } from "../text.js";
import { context, fitCanvas, fitText, rgb } from "../theme.js";

const own = (f) => f.panel === "confusion";

export class Confusion {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    this.by = h("select", { "aria-label": "share of", onchange: () => this.update() }, ...["counts", "by target", "by prediction"].map((t) => h("option", { text: t })));
    const { el, head, body } = frame("confusion", "Confusion", this.by);
    this.el = el;
    this.crumbs = h("nav", { class: "cvb-crumbs", "aria-label": "groups of classes", hidden: true });
    head.after(this.crumbs);
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.cells = h("div", { class: "cvb-cells", role: "grid", "aria-label": "confusion, targets in rows, predictions in columns", onkeydown: (e) => this._key(e), onclick: (e) => this._click(e), onpointerover: (e) => this._tell(e.target), onfocusin: (e) => this._tell(e.target) });
    this.plot = h("div", { class: "cvb-matrix" }, this.canvas, this.cells);
    this.list = h("ol", { class: "cvb-pairs", "aria-label": "most confused" });
    body.append(this.plot, this.list);
    const { table } = cockpit;
    this.k = table.classes.length;
    this.multilabel = table.multilabel;
    if (this.multilabel) this.by.hidden = true;
    else if (this.k > MOST) this.by.selectedIndex = 1; // groups would outweigh single classes
    this.path = [];
    this._regroup();
  }

  _regroup() {
    const { engine, table } = this.cockpit, inside = this.path[this.path.length - 1];
    if (!inside) {
      if (this.k <= MOST) this.lines = Array.from({ length: this.k }, (_, i) => [i]);
      else this.lines = groupClasses((this.ranked ??= table.multilabel ? this._worstLabels() : worstFirst(engine.confusion(null), this.k)));
    } else this.lines = groupClasses(inside);
    this.to = new Int32Array(this.k + 1).fill(-1);
    this.lines.forEach((line, i) => line.forEach((c) => (this.to[c] = i)));
    this.crumbs.hidden = !this.path.length;
    this.crumbs.replaceChildren(h("button", { class: "cvb-link", type: "button", text: "all classes", onclick: () => this._open(-1) }), ...this.path.map((p, i) => h("button", { class: "cvb-link", type: "button", text: `› ${count(p.length)} others`, onclick: () => this._open(i) })));
    this.built = "";
  }

  _worstLabels() {
    const { hits, predicted, actual } = this.cockpit.engine.classCounts(null);
    return Array.from(hits, (_, i) => i).sort((a, b) => predicted[b] + actual[b] - 2 * hits[b] - (predicted[a] + actual[a] - 2 * hits[a]));
  }

  _open(depth) {
    this.path = this.path.slice(0, depth + 1);
    this._regroup();
    this.update();
  }

  _name(i) {
    const line = this.lines[i];
    return line.length === 1 ? this.cockpit.table.classes[line[0]] : `${count(line.length)} others`;
  }

  /** Counts of the lines on show: a grid of rows × columns. */
  _count() {
    const { engine } = this.cockpit, rows = engine.rowsWithout(own), g = this.lines.length;
    if (this.multilabel) {
      const { hits, predicted, actual } = engine.classCounts(rows), out = new Float64Array(g * 3);
      this.lines.forEach((line, i) => line.forEach((c) => ((out[3 * i] += hits[c]), (out[3 * i + 1] += actual[c] - hits[c]), (out[3 * i + 2] += predicted[c] - hits[c]))));
      this.pairs = this.lines.flatMap((line, i) => (line.length === 1 ? [{ i, j: 1, n: out[3 * i + 1] }, { i, j: 2, n: out[3 * i + 2] }] : [])).filter((p) => p.n > 0).sort((a, b) => b.n - a.n).slice(0, 12);
      return { counts: out, wide: 3 };
    }
    const counts = engine.confusion(rows), k = this.k, w = k + 1;
    this.undecided = false;
    const wide = g + (this.cockpit.state.threshold === null ? 0 : 1), out = new Float64Array(g * wide);
    for (let t = 0; t < k; t++) {
      const i = this.to[t];
      if (i < 0) continue;
      for (let p = 0; p < k; p++) {
        const n = counts[t * w + p];
        if (n && this.to[p] >= 0) out[i * wide + this.to[p]] += n;
      }
      if (wide > g) out[i * wide + g] += counts[t * w + k];
    }
    this.pairs = mostConfused(counts, k, 12);
    return { counts: out, wide };
  }

  measure() {
    this.room = [this.plot.clientWidth || 320, this.plot.clientHeight || 250];
  }

  update() {
    const { counts, wide } = this._count(), g = this.lines.length;
    (this.counts = counts), (this.wide = wide);
    const [width, height] = this.room ?? [320, 250], key = `${g} ${wide} ${width} ${height}`;
    if (this.built !== key) this._build(key, width, height);
    this._draw();
    this._list();
  }

  _build(key, width, tall) {
    const g = this.lines.length, { wide } = this, ctx = context(this.canvas);
    ctx.font = "11px system-ui, sans-serif";
    const longest = Math.max(...this.lines.map((_, i) => ctx.measureText(clip(this._name(i), 24)).width), 20);
    const height = Math.max(150, tall - 2);
    const left = Math.min(longest + 10, width * (this.multilabel ? 0.4 : 0.3)), room = height - 4;
    const slanted = !this.multilabel && (width - left) / wide < longest + 6;
    const top = this.multilabel ? 18 : slanted ? Math.min(longest + 10, height * 0.34) : 18;
    const cw = Math.max(3, Math.floor((width - left - 2) / wide)), ch = Math.max(3, Math.min(this.multilabel ? 26 : 44, Math.floor((room - top) / g)));
    this.at = { left, top, cw: Math.min(cw, this.multilabel ? 90 : Math.max(ch * 1.9, 8)), ch, slanted, width, height };
    const { at } = this, cells = [], focus = this.focused ?? "0,0";
    for (let i = 0; i < g; i++) {
      cells.push(this._hit(`row,${i}`, 0, at.top + i * at.ch, at.left, at.ch, "rowheader"));
      for (let j = 0; j < wide; j++) cells.push(this._hit(`${i},${j}`, at.left + j * at.cw, at.top + i * at.ch, at.cw, at.ch, "gridcell"));
    }
    for (let j = 0; j < wide; j++) cells.push(this._hit(`column,${j}`, at.left + j * at.cw, 0, at.cw, at.top, "columnheader"));
    this.cells.replaceChildren(...cells);
    (this.cells.querySelector(`[data-hit="${focus}"]`) ?? cells[1])?.setAttribute("tabindex", "0");
    this.built = key;
  }

  _hit(name, x, y, w, height, role) {
    const [a, b] = name.split(","), el = h("div", { role, tabindex: "-1", "data-hit": name, style: `left:${x}px;top:${y}px;width:${w}px;height:${height}px` });
    if (role === "gridcell") el.dataset.cell = this._cellName(Number(a), Number(b));
    return el;
  }

  /** Class places of a cell where its lines are single classes; "g" and the line's number for groups, "none" for no decision. */
  _cellName(i, j) {
    const one = (l) => (this.lines[l] ? (this.lines[l].length === 1 ? this.lines[l][0] : `g${l}`) : "none");
    return this.multilabel ? `${one(i)},${["hit", "missed", "false"][j]}` : `${one(i)},${one(j)}`;
  }

  _draw() {
    const { at, lines, wide, counts } = this, g = lines.length, { theme } = this.cockpit, ctx = fitCanvas(this.canvas, at.width, Math.max(at.height, at.top + g * at.ch + 2));
    const rows = new Float64Array(g), columns = new Float64Array(wide);
    let most = 1, wrong = 1;
    for (let i = 0; i < g; i++) for (let j = 0; j < wide; j++) {
      const n = counts[i * wide + j];
      (rows[i] += n), (columns[j] += n);
      if (this._right(i, j)) most = Math.max(most, n);
      else wrong = Math.max(wrong, n);
    }
    Object.assign(this, { rows, columns });
    const by = this.by.selectedIndex, share = (i, j) => (by === 1 ? counts[i * wide + j] / (rows[i] || 1) : by === 2 ? counts[i * wide + j] / (columns[j] || 1) : counts[i * wide + j] / (this._right(i, j) ? most : wrong));
    const good = rgb(theme.accent), bad = rgb(theme.bad), grey = rgb(theme.muted), ground = rgb(theme.bg);
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    const chosen = this._chosen();
    for (let i = 0; i < g; i++) for (let j = 0; j < wide; j++) {
      const n = counts[i * wide + j], x = at.left + j * at.cw, y = at.top + i * at.ch, s = n ? 0.08 + 0.84 * Math.sqrt(Math.min(1, share(i, j))) : 0;
      const colour = this._right(i, j) ? good : j >= g && !this.multilabel ? grey : bad, mixed = colour.map((c, b) => Math.round(c * s + ground[b] * (1 - s)));
      ctx.fillStyle = n ? `rgb(${mixed})` : theme.bg2;
      const gap = at.cw < 8 ? 0 : 1;
      ctx.fillRect(x + gap, y + gap, at.cw - gap, at.ch - gap);
      if (n && at.ch >= 13 && at.cw >= 17) {
        const text = by ? (100 * share(i, j)).toFixed(0) : n >= 10_000 ? `${(n / 1000).toFixed(0)}k` : String(n);
        if (ctx.measureText(text).width < at.cw - 1) {
          ctx.fillStyle = 0.3 * mixed[0] + 0.59 * mixed[1] + 0.11 * mixed[2] > 140 ? "#111" : "#fff";
          ctx.textAlign = "center";
          ctx.fillText(text, x + at.cw / 2 + 0.5, y + at.ch / 2 + 1);
        }
      }
      if (chosen.has(this._cellName(i, j))) {
        ctx.strokeStyle = theme.fg;
        ctx.lineWidth = 2;
        ctx.strokeRect(x + 1, y + 1, at.cw - 1, at.ch - 1);
      }
    }
    this._labels(ctx, theme);
  }

  _labels(ctx, theme) {
    const { at, lines, wide } = this, skip = Math.max(1, Math.ceil(11 / at.ch)), skipX = Math.max(1, Math.ceil(11 / at.cw));
    ctx.fillStyle = theme.muted;
    ctx.textAlign = "right";
    lines.forEach((_, i) => i % skip || ctx.fillText(fitText(ctx, clip(this._name(i), 40), at.left - 8), at.left - 4, at.top + (i + 0.5) * at.ch + 1));
    const heads = this.multilabel ? ["hit", "missed", "false alarm"] : [...lines.map((_, i) => clip(this._name(i), 40)), "undecided"].slice(0, wide);
    heads.forEach((text, j) => {
      if (j % skipX) return;
      ctx.save();
      ctx.translate(at.left + (j + 0.5) * at.cw, at.top - 4);
      ctx.textAlign = at.slanted ? "left" : "center";
      if (at.slanted) ctx.rotate(-Math.PI / 2);
      else ctx.translate(0, -6);
      ctx.fillText(fitText(ctx, text, at.slanted ? at.top - 6 : at.cw - 2), 0, 0);
      ctx.restore();
    });
  }

  _right(i, j) {
    return this.multilabel ? j === 0 : i === j;
  }

  _list() {
    const { cockpit, pairs } = this, { classes } = cockpit.table, key = JSON.stringify(pairs);
    if (key === this.listed) return;
    this.listed = key;
    const name = (p) => (this.multilabel ? [bdi(this._name(p.i), 40), h("span", { class: "cvb-soft", text: p.j === 1 ? " missed" : " false alarm" })] : [bdi(classes[p.target], 40), h("span", { class: "cvb-soft", text: " as " }), bdi(classes[p.pred], 40)]);
    const items = pairs.map((p) => h("li", {}, h("button", { class: "cvb-pair", type: "button", onclick: () => (this.multilabel ? this._choose(this._filters(p.i, p.j)) : this._choose(this._cellFilters([p.target], [p.pred]))) }, h("span", { class: "cvb-pair-name" }, ...name(p)), h("span", { class: "cvb-num", text: count(p.n) }))));
    this.list.replaceChildren(...items);
    if (!items.length) this.list.append(h("li", { class: "cvb-hint", text: "nothing is confused here" }));
  }

  // --- choosing

  _filters(i, j) {
    const { table } = this.cockpit, line = this.lines[i];
    if (!this.multilabel) return this._cellFilters(line, j < this.lines.length ? this.lines[j] : null);
    const filter = (role, op) => ({ panel: "confusion", column: table.byRole.get(role).key, op, values: line });
    const { threshold: t, threshold_class: c } = this.cockpit.state, said = filter("pred", j === 1 ? "lacks" : "has");
    return [filter("target", j === 2 ? "lacks" : "has"), t === null ? said : { ...said, decided: [t, c] }];
  }

  /** Filters of a cell; no predictions means no decision. @param {number[]} targets @param {number[]|null} preds */
  _cellFilters(targets, preds) {
    const { state, table } = this.cockpit, { threshold: t, threshold_class: c } = state, score = table.byRole.get("score")?.key;
    const cells = (p) => ({ panel: "confusion", op: "cells", cells: [[targets, p]] });
    if (t === null) return [cells(preds)];
    if (c !== null) return [{ ...cells(preds ?? [-2]), decided: [t, c] }];
    if (!preds) return [{ panel: "confusion", column: table.byRole.get("target").key, op: "in", values: targets.map((i) => table.classes[i]) }, { panel: "confusion", column: score, op: "range", low: null, high: t }];
    return [cells(preds), { panel: "confusion", column: score, op: "range", low: t, high: null }];
  }

  _choose(filters) {
    this.cockpit.toggle(own, filters);
  }

  _chosen() {
    const out = new Set(), { table, state } = this.cockpit, same = (a, b) => a.length === b.length && a.every((v, i) => v === b[i]);
    const filters = state.filters.filter(own);
    for (const f of filters) for (const [t, p] of f.cells ?? []) this.lines.forEach((a, i) => this.lines.forEach((b, j) => same(a, t) && same(b, p) && out.add(this._cellName(i, j))));
    for (const f of filters) for (const [t, p] of f.cells ?? []) for (const a of t.slice(0, 60)) for (const b of p.slice(0, 60)) if (t.length + p.length < 80) out.add(`${a},${b}`);
    if (this.multilabel && filters.length === 2) {
      const [t, p] = ["target", "pred"].map((r) => filters.find((f) => f.column === table.byRole.get(r).key));
      if (t && p) this.lines.forEach((a, i) => same(a, t.values) && out.add(this._cellName(i, t.op === "lacks" ? 2 : p.op === "lacks" ? 1 : 0)));
    }
    return out;
  }

  _click(e) {
    const el = e.target.closest("[data-hit]");
    if (!el) return;
    const [a, b] = el.dataset.hit.split(","), j = Number(b), g = this.lines.length;
    this._focus(el.dataset.hit);
    if (a === "row") {
      if (this.lines[j].length > 1) return this.path.push(this.lines[j]), this._regroup(), this.update();
      return this._choose(this.multilabel ? [{ panel: "confusion", column: this.cockpit.table.byRole.get("target").key, op: "has", values: this.lines[j] }] : this._named("target", this.lines[j]));
    }
    if (a === "column") {
      if (this.multilabel || j >= g) return;
      if (this.lines[j].length > 1) return this.path.push(this.lines[j]), this._regroup(), this.update();
      return this._choose(this._named("pred", this.lines[j]));
    }
    const filters = this._filters(Number(a), j), before = this.cockpit.state.filters.filter(own);
    if ((e.shiftKey || e.ctrlKey || e.metaKey) && before.length === 1 && before[0].cells && filters.length === 1 && filters[0].cells) {
      const key = JSON.stringify(filters[0].cells[0]), had = before[0].cells.some((c) => JSON.stringify(c) === key);
      const cells = had ? before[0].cells.filter((c) => JSON.stringify(c) !== key) : [...before[0].cells, filters[0].cells[0]];
      return this.cockpit.replace(own, cells.length ? [{ ...filters[0], cells }] : []);
    }
    this._choose(filters);
  }

  _named(role, places) {
    const { table } = this.cockpit;
    return [{ panel: "confusion", column: table.byRole.get(role).key, op: "in", values: places.map((i) => table.classes[i]) }];
  }

  _text(hit) {
    const [a, b] = hit.split(","), j = Number(b), i = Number(a), g = this.lines.length, name = (l) => clip(this._name(l), 60);
    if (a === "row") return this.lines[j].length > 1 ? `open ${name(j)}` : `target ${name(j)}: ${count(this.rows[j])} images`;
    if (a === "column") return this.multilabel ? "" : j >= g ? `undecided: ${count(this.columns[j])} images` : this.lines[j].length > 1 ? `open ${name(j)}` : `predicted ${name(j)}: ${count(this.columns[j])} images`;
    const n = this.counts[i * this.wide + j];
    if (this.multilabel) return `${name(i)}, ${["hit", "missed", "false alarm"][j]}: ${count(n)}`;
    return `target ${name(i)}, predicted ${j >= g ? "nothing at this threshold" : name(j)}: ${count(n)}, ${percent(n / this.rows[i])} % of the target, ${percent(n / this.columns[j])} % of the prediction`;
  }

  _tell(el) {
    const hit = el.dataset?.hit;
    if (!hit) return;
    const text = this._text(hit);
    el.title = text;
    el.setAttribute("aria-label", text);
  }

  _focus(hit) {
    this.focused = hit;
    for (const el of this.cells.querySelectorAll('[tabindex="0"]')) el.tabIndex = -1;
    const el = this.cells.querySelector(`[data-hit="${hit}"]`);
    if (el) (el.tabIndex = 0), el.focus({ preventScroll: true });
  }

  focus() {
    this._focus(this.focused ?? "0,0");
  }

  _key(e) {
    const hit = e.target.dataset?.hit;
    if (!hit) return;
    if (e.key === "Enter" || e.key === " ") {
      e.preventDefault();
      return e.target.dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: e.shiftKey, ctrlKey: e.ctrlKey }));
    }
    const [a, b] = hit.split(","), g = this.lines.length, step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    if (!step) return;
    let i = a === "row" ? Number(b) : a === "column" ? -1 : Number(a), j = a === "row" ? -1 : Number(b);
    i = Math.max(-1, Math.min(g - 1, i + step[0]));
    j = Math.max(-1, Math.min(this.wide - 1, j + step[1]));
    if (i < 0 && j < 0) i = 0;
    this._focus(i < 0 ? `column,${j}` : j < 0 ? `row,${i}` : `${i},${j}`);
    e.preventDefault();
  }
}
