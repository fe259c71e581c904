// Every column as bars: how many rows, and how often they are wrong, with the interval that says how sure that is.
import { frame } from "../cockpit.js";
import { day } from "../columns.js";
import { countBars, makeFacet, weakFirst, weakness } from "../facets.js";
import { bdi, clip, count, h, percent, short } from "../text.js";
import { fitCanvas } from "../theme.js";

const OPEN = 8, FEW = 6, MORE = 200, HEIGHT = 54, ROLES = new Set(["sample_id", "x", "y", "scores", "embedding", "correct", "target_score", "correct_b", "outcome"]);

export class Facets {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    this.order = h("select", { "aria-label": "order of the bars", onchange: () => this._reorder() }, ...["weak first", "most first", "by name"].map((t) => h("option", { text: t })));
    this.search = h("input", { type: "search", class: "cvb-search", placeholder: "find a column", "aria-label": "find a column", oninput: () => this._search() });
    const { el, body } = frame("facets", "Columns", this.order);
    this.el = el;
    this.legend = h("div", { class: "cvb-facet-legend", "aria-hidden": "true" }, h("span", { text: "images" }), h("span", { text: "errors, %" }));
    this.list = h("div", { class: "cvb-facet-list" });
    body.append(this.search, this.legend, this.list);
    this._make();
  }

  _make() {
    const { table, engine, wilson } = this.cockpit, all = engine.summary(null);
    this.known = all.n > 0;
    this.facets = [];
    for (const column of table.columns) {
      if (ROLES.has(column.role) || column.kind === "id" || column.kind === "text") continue;
      const facet = makeFacet(column, table.n);
      if (!facet || facet.size < 1 || (facet.size === 1 && table.n > 1)) continue;
      const counts = countBars(facet, table.outcome, null, new Uint32Array(facet.size * 3));
      this.facets.push({ facet, counts, base: counts.slice(), weak: weakness(facet, counts, all.error, wilson) - (column.role === "loss" || column.role === "score" ? 10 : 0) });
    }
    this.facets.sort((a, b) => b.weak - a.weak);
    this.views = this.facets.map((f, i) => (f.facet.ordered ? new Histogram(this, f, i < OPEN) : new Values(this, f, i < OPEN)));
    this.list.replaceChildren(...this.views.map((v) => v.el));
    this.search.hidden = this.views.length < 9;
    this.legend.hidden = !this.views.length;
    if (!this.views.length) this.list.append(h("p", { class: "cvb-hint", text: "There are no columns to divide the images by." }));
  }

  measure() {
    this.width = Math.max(80, this.list.clientWidth - 20);
  }

  update() {
    const { engine } = this.cockpit, shown = this.views.filter((v) => v.open && !v.el.hidden);
    this.error = this.cockpit.headline?.shown.error ?? NaN;
    for (const { f } of shown) countBars(f.facet, engine.outcome, engine.rowsWithout((x) => x.panel === "facet" && x.column === f.facet.key), f.counts);
    this.scale = this._scale(shown);
    for (const view of shown) view.paint();
  }

  /** Error rates share one axis, so that bars of different columns compare. @param {any[]} shown */
  _scale(shown) {
    let most = 0;
    for (const { f: { facet, counts } } of shown) for (let b = 0; b < facet.size; b++) {
      const n = counts[3 * b] + counts[3 * b + 1];
      if (n >= 10) most = Math.max(most, counts[3 * b + 1] / n);
    }
    return [0.1, 0.2, 0.3, 0.5, 0.75].find((s) => most < 0.95 * s) ?? 1;
  }

  _search() {
    const text = this.search.value.toLowerCase();
    for (const v of this.views) v.el.hidden = !(v.f.facet.label.toLowerCase().includes(text) || v.f.facet.key.toLowerCase().includes(text));
    this.update();
  }

  _reorder() {
    for (const v of this.views) v.reorder?.(this.order.selectedIndex);
    this.update();
  }

  focus() {
    this.list.querySelector('[tabindex="0"]')?.focus();
  }

  /** The filter of a column. @param {string} key */
  filter(key) {
    return this.cockpit.state.filters.find((f) => f.panel === "facet" && f.column === key) ?? null;
  }

  /** @param {string} key @param {any} filter Null for none @param {object} [how] */
  setFilter(key, filter, how) {
    this.cockpit.replace((f) => f.panel === "facet" && f.column === key, filter ? [{ panel: "facet", column: key, ...filter }] : [], how);
  }
}

class FacetView {
  constructor(panel, f, open) {
    this.panel = panel;
    this.f = f;
    this.open = open;
    this.head = h("button", { class: "cvb-facet-head", type: "button", "aria-expanded": String(open), onclick: () => this._fold() }, bdi(f.facet.label, 60));
    this.undo = h("button", { class: "cvb-x cvb-facet-clear", type: "button", hidden: true, "aria-label": `clear ${clip(f.facet.label)}`, onclick: () => panel.setFilter(f.facet.key, null) });
    this.body = h("div", { class: "cvb-facet-body" });
    this.body.hidden = !open;
    this.el = h("div", { class: "cvb-facet", role: "group", "aria-label": clip(f.facet.label) }, h("div", { class: "cvb-facet-top" }, this.head, this.undo), this.body);
  }

  _fold() {
    this.open = !this.open;
    this.body.hidden = !this.open;
    this.head.setAttribute("aria-expanded", String(this.open));
    this.panel.update();
  }

  /** Rows, errors, and the interval of the error rate, of one bar. @param {number} b */
  numbers(b) {
    const { counts } = this.f, right = counts[3 * b], wrong = counts[3 * b + 1], rest = counts[3 * b + 2], n = right + wrong;
    const [low, high] = n ? this.panel.cockpit.wilson(wrong / n, n) : [NaN, NaN];
    return { rows: n + rest, n, error: n ? wrong / n : NaN, low, high };
  }

  /** @param {string} name @param {number} b */
  describe(name, b) {
    const { rows, error, low, high } = this.numbers(b);
    return `${name}: ${count(rows)} images${Number.isNaN(error) ? "" : `, errors ${percent(error)} % [${percent(low)}, ${percent(high)}]`}`;
  }
}

/** A list of values. */
class Values extends FacetView {
  constructor(panel, f, open) {
    super(panel, f, open);
    this.shown = FEW;
    this.filterBox = h("input", { type: "search", class: "cvb-search", placeholder: `find among ${count(f.facet.size)}`, "aria-label": `find a value of ${clip(f.facet.label)}`, oninput: () => this._make() });
    this.rowsEl = h("div", { class: "cvb-values", role: "listbox", "aria-multiselectable": "true", "aria-label": clip(f.facet.label), onkeydown: (e) => this._key(e) });
    this.more = h("button", { class: "cvb-more", type: "button", onclick: () => this._more() });
    this.body.append(this.filterBox, this.rowsEl, this.more);
    this.reorder(0, false);
  }

  reorder(by) {
    const { facet, base } = this.f, places = Array.from({ length: facet.size }, (_, b) => b);
    if (by === 0 && this.panel.known) this.order = weakFirst(facet, base, this.panel.cockpit.wilson);
    else if (by === 2) this.order = places;
    else this.order = places.sort((a, b) => facet.total[b] - facet.total[a] || a - b);
    if (by === 2 && typeof facet.values[0] === "string") this.order.sort((a, b) => (facet.values[a] === null) - (facet.values[b] === null) || (facet.values[a] < facet.values[b] ? -1 : 1));
    this._make();
  }

  _more() {
    this.shown = this.shown > FEW ? FEW : MORE;
    this._make();
    this.panel.update();
  }

  _make() {
    const { facet } = this.f, text = this.filterBox.value.toLowerCase(), wide = facet.size > FEW;
    const chosen = new Set(this.panel.filter(facet.key)?.values ?? []);
    let order = text ? this.order.filter((b) => String(facet.values[b] ?? "missing").toLowerCase().includes(text)) : this.order;
    const rest = order.length;
    order = order.filter((b, i) => i < (text ? MORE : this.shown) || chosen.has(facet.values[b]));
    this.bars = order.map((b, i) => this._bar(b, i));
    this.rowsEl.replaceChildren(...this.bars.map((x) => x.el));
    this.filterBox.hidden = !(wide && this.shown > FEW && facet.size > 20);
    this.more.hidden = !wide || Boolean(text && rest <= MORE);
    this.more.textContent = this.shown > FEW ? (facet.size > MORE ? `first ${MORE} of ${count(facet.size)}; fewer` : "fewer") : `${count(facet.size - Math.min(FEW, facet.size))} more`;
    if (this.panel.scale) this.paint();
  }

  _bar(b, i) {
    const { facet } = this.f, value = facet.values[b], name = value === null ? "missing" : typeof value === "boolean" ? (value ? "True" : "False") : typeof value === "number" ? short(value) : value;
    const label = value === null ? h("em", { text: "missing" }) : bdi(name, 80);
    const all = h("i", { class: "cvb-bar-all" }), now = h("i", { class: "cvb-bar-now" }), n = h("span", { class: "cvb-num" }), rate = h("span", { class: "cvb-num cvb-rate" }), span = h("i", { class: "cvb-span" }), dot = h("i", { class: "cvb-dot" }), mean = h("i", { class: "cvb-mean" });
    const el = h("div", { class: "cvb-value", role: "option", tabindex: i ? "-1" : "0", "aria-selected": "false", "data-facet": facet.key, "data-value": b, onclick: (e) => this._pick(b, e.shiftKey || e.ctrlKey || e.metaKey) },
      h("span", { class: "cvb-name" }, all, now, label), n, h("span", { class: "cvb-err" }, mean, span, dot), rate);
    el.addEventListener("pointerenter", () => this._tell(el, name, b));
    el.addEventListener("focus", () => this._tell(el, name, b));
    return { b, el, all, now, n, rate, span, dot, mean };
  }

  _tell(el, name, b) {
    const text = this.describe(clip(name, 80), b);
    el.setAttribute("aria-label", text);
    el.title = text;
  }

  paint() {
    const { facet } = this.f, filter = this.panel.filter(facet.key), chosen = filter ? new Set(filter.op === "null" ? [null] : filter.values ?? []) : null;
    this.undo.hidden = !filter;
    if (chosen && [...chosen].some((v) => !this.bars.some((x) => facet.values[x.b] === v)) && !this.filterBox.value && chosen.size < MORE && facet.values.some((v) => chosen.has(v)) && !this.remaking) {
      this.remaking = true;
      this._make();
      this.remaking = false;
      return;
    }
    let most = 1;
    for (let b = 0; b < facet.size; b++) most = Math.max(most, facet.total[b]);
    const { scale, error: overall } = this.panel;
    for (const x of this.bars) {
      const { rows, error, low, high } = this.numbers(x.b), on = chosen?.has(facet.values[x.b]) ?? false;
      const key = `${rows} ${error} ${low} ${on} ${chosen !== null}`;
      if (x.key === key && x.overall === overall) continue;
      (x.key = key), (x.overall = overall);
      x.all.style.width = `${(100 * facet.total[x.b]) / most}%`;
      x.now.style.width = `${(100 * rows) / most}%`;
      x.n.textContent = count(rows);
      const there = !Number.isNaN(error), at = (v) => `${100 * Math.min(1, v / scale)}%`;
      x.rate.textContent = there ? percent(error, error >= 0.0995 ? 0 : 1) : "";
      x.span.hidden = x.dot.hidden = !there;
      x.mean.style.left = at(overall);
      if (there) (x.span.style.left = at(low)), (x.span.style.right = `calc(100% - ${at(high)})`), (x.dot.style.left = at(error));
      x.el.classList.toggle("cvb-weak", low > overall);
      x.el.classList.toggle("cvb-out", chosen !== null && !on);
      x.el.setAttribute("aria-selected", String(on));
    }
  }

  _pick(b, more) {
    const { facet } = this.f, value = facet.values[b], filter = this.panel.filter(facet.key), now = filter ? (filter.op === "null" ? [null] : filter.values ?? []) : [];
    const values = more ? (now.includes(value) ? now.filter((v) => v !== value) : [...now, value]) : now.length === 1 && now[0] === value ? [] : [value];
    this.panel.setFilter(facet.key, values.length ? { op: "in", values } : null);
    this.bars.find((x) => x.b === b)?.el.focus({ preventScroll: true });
  }

  _key(e) {
    const i = this.bars.findIndex((x) => x.el === e.target);
    if (i < 0) return;
    const to = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: this.bars.length - 1 }[e.key];
    if (to !== undefined) {
      const next = this.bars[Math.max(0, Math.min(this.bars.length - 1, to))];
      for (const x of this.bars) x.el.tabIndex = x === next ? 0 : -1;
      next.el.focus();
    } else if (e.key === "Enter" || e.key === " ") this._pick(this.bars[i].b, e.shiftKey || e.ctrlKey);
    else return;
    e.preventDefault();
  }
}

/** A histogram, brushed with the mouse or the keys. */
class Histogram extends FacetView {
  constructor(panel, f, open) {
    super(panel, f, open);
    const { facet } = f, k = facet.edges.length + 1;
    this.k = k;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.hits = Array.from({ length: k }, (_, b) => {
      const el = h("div", { class: "cvb-bin", role: "option", tabindex: b ? "-1" : "0", "aria-selected": "false", "data-facet": facet.key, "data-value": b });
      const tell = () => ((el.title = this.describe(this._span(b), b)), el.setAttribute("aria-label", el.title));
      el.addEventListener("pointerenter", tell);
      el.addEventListener("focus", tell);
      return el;
    });
    this.plot = h("div", { class: "cvb-hist", role: "listbox", "aria-multiselectable": "true", "aria-label": clip(facet.label), onpointerdown: (e) => this._down(e), onkeydown: (e) => this._key(e) }, this.canvas, h("div", { class: "cvb-bins" }, ...this.hits));
    this.write = facet.format === "date" ? (v) => day(v).slice(0, 10) : short;
    this.low = h("span", { text: this.write(facet.edges[0]) });
    this.high = h("span", { text: this.write(facet.edges[facet.edges.length - 1]) });
    this.missing = h("button", { class: "cvb-missing", type: "button", "data-facet": facet.key, "data-value": k, hidden: !facet.missing, onclick: () => this._missing() });
    this.body.append(this.plot, h("div", { class: "cvb-axis cvb-num" }, this.low, this.missing, this.high));
  }

  _span(b) {
    const { edges } = this.f.facet;
    return b === 0 ? `below ${this.write(edges[0])}` : b === this.k - 1 ? `${this.write(edges[b - 1])} and more` : `${this.write(edges[b - 1])} to ${this.write(edges[b])}`;
  }

  _range() {
    const filter = this.panel.filter(this.f.facet.key), { edges } = this.f.facet;
    if (!filter || filter.op !== "range") return null;
    const low = filter.low ?? -Infinity, high = filter.high ?? Infinity;
    let from = 0, to = this.k - 1;
    while (from < this.k - 1 && edges[from] <= low) from++;
    while (to > 0 && edges[to - 1] >= high) to--;
    return [from, to];
  }

  paint() {
    const { facet } = this.f, filter = this.panel.filter(facet.key), range = this._range(), { theme } = this.panel.cockpit, width = this.panel.width ?? 220;
    this.undo.hidden = !filter;
    const ctx = fitCanvas(this.canvas, width, HEIGHT), bar = width / this.k, top = 22, tall = HEIGHT - top - 1;
    let most = 1;
    for (let b = 0; b < this.k; b++) most = Math.max(most, facet.total[b]);
    const { scale, error: overall } = this.panel;
    for (let b = 0; b < this.k; b++) {
      const { rows } = this.numbers(b), out = filter && (!range || b < range[0] || b > range[1]);
      const a = (tall * facet.total[b]) / most, n = (tall * rows) / most;
      ctx.fillStyle = theme.faint;
      ctx.fillRect(b * bar + 0.5, HEIGHT - a, bar - 1, a);
      ctx.fillStyle = out ? theme.line : theme.accent;
      if (rows) ctx.fillRect(b * bar + 0.5, HEIGHT - Math.max(n, 1), bar - 1, Math.max(n, 1));
    }
    this._errors(ctx, theme, bar, top - 2, scale, overall);
    const chosen = (b) => Boolean(range && b >= range[0] && b <= range[1]);
    if (this.chosen !== String(range)) this.hits.forEach((el, b) => el.setAttribute("aria-selected", String(chosen(b))));
    this.chosen = String(range);
    if (facet.missing) {
      const { rows, error } = this.numbers(this.k);
      this.missing.textContent = `${count(rows)} missing${Number.isNaN(error) ? "" : `, ${percent(error, 0)} %`}`;
      this.missing.setAttribute("aria-pressed", String(filter?.op === "null"));
    }
  }

  /** Error rate of each bar as a dot on its interval, above the bars. */
  _errors(ctx, theme, bar, height, scale, overall) {
    const y = (v) => height - Math.min(1, v / scale) * (height - 2);
    ctx.strokeStyle = theme.line;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(0, Math.round(y(overall)) + 0.5);
    ctx.lineTo(bar * this.k, Math.round(y(overall)) + 0.5);
    if (!Number.isNaN(overall)) ctx.stroke();
    for (let b = 0; b < this.k; b++) {
      const { n, error, low, high } = this.numbers(b);
      if (n < 3) continue;
      const x = (b + 0.5) * bar, weak = low > overall;
      ctx.strokeStyle = ctx.fillStyle = weak ? theme.bad : theme.muted;
      ctx.globalAlpha = weak ? 0.9 : 0.45;
      ctx.beginPath();
      ctx.moveTo(x, y(low));
      ctx.lineTo(x, y(high));
      ctx.stroke();
      ctx.globalAlpha = 1;
      ctx.fillRect(x - 1.5, y(error) - 1.5, 3, 3);
    }
  }

  _set(a, b, how) {
    const { edges } = this.f.facet, from = Math.min(a, b), to = Math.max(a, b);
    if (from === 0 && to === this.k - 1) return this.panel.setFilter(this.f.facet.key, null, how);
    this.panel.setFilter(this.f.facet.key, { op: "range", low: from === 0 ? null : edges[from - 1], high: to === this.k - 1 ? null : edges[to] }, how);
  }

  _down(e) {
    if (e.button) return;
    const box = this.plot.getBoundingClientRect(), at = (x) => Math.max(0, Math.min(this.k - 1, Math.floor(((x - box.left) / box.width) * this.k)));
    const start = at(e.clientX), range = this._range(), again = range && range[0] === start && range[1] === start;
    let last = start;
    this.hits[start].focus({ preventScroll: true });
    this.plot.setPointerCapture(e.pointerId);
    this._set(start, start, { tag: `brush ${this.f.facet.key}` });
    const move = (m) => {
      const b = at(m.clientX);
      if (b !== last) this._set(start, (last = b), { tag: `brush ${this.f.facet.key}` });
    };
    const up = () => {
      this.plot.removeEventListener("pointermove", move);
      if (again && last === start) this.panel.setFilter(this.f.facet.key, null);
    };
    this.plot.addEventListener("pointermove", move);
    this.plot.addEventListener("lostpointercapture", up, { once: true });
    e.preventDefault();
  }

  _missing() {
    const filter = this.panel.filter(this.f.facet.key);
    this.panel.setFilter(this.f.facet.key, filter?.op === "null" ? null : { op: "null" });
  }

  _key(e) {
    const i = this.hits.indexOf(e.target), step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (i < 0) return;
    if (step) {
      const to = Math.max(0, Math.min(this.k - 1, i + step));
      this.hits.forEach((el, b) => (el.tabIndex = b === to ? 0 : -1));
      this.hits[to].focus();
      if (e.shiftKey) this._set((this.anchor ??= i), to, { tag: `brush ${this.f.facet.key}` });
      else this.anchor = to;
    } else if (e.key === "Enter" || e.key === " ") {
      const range = this._range();
      if (range && range[0] === i && range[1] === i) this.panel.setFilter(this.f.facet.key, null);
      else this._set(i, i);
      this.anchor = i;
    } else return;
    e.preventDefault();
  }
}
