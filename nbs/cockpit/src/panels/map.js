// The map of embeddings: a drag is a lasso, the colour is any column.
import { frame } from "../cockpit.js";
import { makeFacet } from "../facets.js";
import { thin } from "../path.js";
import { makePainter, pixel } from "../points.js";
import { bdi, clip, count, h, short } from "../text.js";
import { context, fitCanvas, PALETTE, ramp, REST, rgb } from "../theme.js";

const own = (f) => f.panel === "map";

export class ScatterMap {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    const { table } = cockpit, columns = table.columns.filter((c) => c.codes || (c.kind === "number" && !["x", "y"].includes(c.role)));
    this.colour = h("select", { "aria-label": "colour by", onchange: () => this.update(true) }, ...(table.outcome.some((o) => o < 2) ? [h("option", { value: "\u0000", text: "right or wrong" })] : []), ...columns.filter((c) => c.role !== "correct").map((c) => h("option", { value: c.key, text: clip(c.label, 40) })));
    this.drop = h("button", { class: "cvb-button", type: "button", title: "drop the lasso", onclick: () => cockpit.replace(own, []) }, "drop lasso");
    this.mode = h("button", { class: "cvb-button cvb-toggle", type: "button", "aria-pressed": "false", title: "drag moves the map (Shift drag does at any time)", onclick: () => this.mode.setAttribute("aria-pressed", String(!this.moving)) }, "move");
    this.reset = h("button", { class: "cvb-button", type: "button", title: "show all points (double click)", "aria-label": "show all points", onclick: () => this._home() }, "⤢");
    const { el, body } = frame("map", "Map", h("label", {}, "colour ", this.colour), this.mode, this.reset, this.drop);
    this.el = el;
    this.ground = h("div", { class: "cvb-ground" });
    this.over = h("canvas", { class: "cvb-over", tabindex: "0", role: "img", "data-testid": "map", onpointerdown: (e) => this._down(e), ondblclick: () => this._home(), onkeydown: (e) => this._key(e), onpointermove: (e) => this._hover(e), onpointerleave: () => this._untip() });
    this.over.addEventListener("wheel", (e) => this._wheel(e), { passive: false });
    this.legend = h("div", { class: "cvb-legend" });
    this.tip = h("div", { class: "cvb-tip", hidden: true });
    this.plot = h("div", { class: "cvb-plot" }, this.ground, this.over, this.tip);
    body.append(this.plot, this.legend);
    this.xs = single(table.byRole.get("x").values);
    this.ys = single(table.byRole.get("y").values);
    this.path = null;
  }

  get moving() {
    return this.mode.getAttribute("aria-pressed") === "true";
  }

  _fresh() {
    const canvas = h("canvas", { "aria-hidden": "true" });
    this.ground.replaceChildren(canvas);
    return canvas;
  }

  /** Use one painter from now on: "webgl" or "raster". @param {"webgl"|"raster"|""} name */
  usePainter(name) {
    this.painter?.destroy();
    this.painter = makePainter(() => this._fresh(), this.xs, this.ys, name);
    this.painter.canvas.addEventListener("webglcontextlost", () => this.painter?.name === "webgl" && !this.cockpit.dead && setTimeout(() => (this.usePainter("raster"), this.update()), 0));
    return this.painter.name;
  }

  measure() {
    this.room = [Math.max(60, this.plot.clientWidth || 320), Math.max(60, this.plot.clientHeight || 260)];
  }

  update(recolour = false) {
    const { cockpit } = this, { engine, state } = cockpit;
    if (!this.painter) this.usePainter(cockpit.spec.painter ?? "");
    const [width, height] = this.room ?? [320, 260];
    if (!this.view || this.view.width !== width || this.view.height !== height) this._fit(width, height);
    const coded = `${this.colour.value} ${state.threshold} ${state.threshold_class}`;
    if (coded !== this.coded || recolour) this._colours();
    this.coded = coded;
    this.drop.hidden = !state.filters.some(own);
    this._draw(engine);
  }

  _draw(engine = this.cockpit.engine) {
    const { theme } = this.cockpit, ground = rgb(theme.bg), ink = rgb(theme.muted), dim = ground.map((g, i) => Math.round(g * 0.78 + ink[i] * 0.22));
    const picks = this.cockpit.state.picks;
    let mask = engine.all ? null : engine.mask;
    if (picks?.length) {
      mask = new Uint8Array(this.xs.length);
      for (const r of picks) mask[r] = 1;
    }
    const size = Math.max(1.2, Math.min(6, 1.4 + 90 / Math.sqrt(Math.max(1, this.xs.length)))) * Math.min(2.5, Math.sqrt(this.view.scale / this.base));
    this.view.size = picks?.length && picks.length < 50 ? Math.max(size, 6) : size;
    this.painter.canvas.style.width = `${this.view.width}px`;
    this.painter.canvas.style.height = `${this.view.height}px`;
    this.painter.draw(this.view, this.codes, this.colours, pixel(dim), mask);
    this._overlay();
    this.over.setAttribute("aria-label", `map of ${count(this.xs.length)} images, ${count(engine.rows.length)} selected; drag to lasso`);
  }

  _fit(width, height) {
    if (!this.extent) {
      let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
      for (let i = 0; i < this.xs.length; i++) {
        const x = this.xs[i], y = this.ys[i];
        if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
        if (x < x0) x0 = x;
        if (x > x1) x1 = x;
        if (y < y0) y0 = y;
        if (y > y1) y1 = y;
      }
      this.extent = x1 >= x0 ? [x0, x1, y0, y1] : [0, 1, 0, 1];
    }
    const [x0, x1, y0, y1] = this.extent, scale = Math.min((width - 36) / (x1 - x0 || 1), (height - 36) / (y1 - y0 || 1));
    this.base = scale;
    this.view = { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale, width, height, ratio: Math.min(2, window.devicePixelRatio || 1), size: 3 };
  }

  _home() {
    this._fit(this.view.width, this.view.height);
    this._draw();
  }

  /** A code for each point and a colour for each code. */
  _colours() {
    const { cockpit } = this, { table, engine, theme } = cockpit, key = this.colour.value, column = table.byKey.get(key), n = table.n;
    const items = [];
    let codes, css;
    if (key === "\u0000" || !column) {
      codes = engine.outcome;
      css = [theme.good, theme.bad, theme.muted];
      items.push(["right", css[0]], ["wrong", css[1]]);
      if (cockpit.state.threshold !== null || engine.outcome.some((o) => o === 2)) items.push(["undecided", css[2]]);
      this.colours = Uint32Array.from(css, (c) => pixel(rgb(c)));
      if (!column && key !== "\u0000") (codes = new Uint8Array(n)), (this.colours = Uint32Array.of(pixel(rgb(theme.accent)))), (items.length = 0);
    } else if (column.codes) {
      const facet = this._facet(column), order = Array.from(facet.total, (v, b) => [v, b]).filter(([, b]) => facet.values[b] !== null).sort((a, b) => b[0] - a[0]).slice(0, PALETTE.length).map(([, b]) => b).sort((a, b) => a - b);
      const to = new Uint8Array(facet.size).fill(PALETTE.length);
      order.forEach((b, i) => (to[b] = i));
      codes = new Uint8Array(n);
      for (let i = 0; i < n; i++) codes[i] = to[facet.bins[i]];
      this.colours = Uint32Array.from([...PALETTE, REST], (c) => pixel(rgb(c)));
      order.forEach((b, i) => items.push([typeof facet.values[b] === "boolean" ? (facet.values[b] ? "True" : "False") : facet.values[b], PALETTE[i]]));
      if (facet.size > order.length) items.push([`${count(facet.size - order.length)} others`, REST]);
    } else [codes, items[0], items[1]] = this._ramp(column, n);
    this.codes = codes;
    this.legend.replaceChildren(...items.filter(Boolean).map(([name, c]) => (Array.isArray(c) ? h("span", { class: "cvb-ramp" }, short(c[0]), h("i", { style: `background:linear-gradient(90deg,${Array.from({ length: 9 }, (_, i) => `rgb(${ramp(i / 8)})`)})` }), short(c[1])) : h("span", {}, h("i", { style: `background:${c}` }), bdi(name, 24)))));
  }

  _facet(column) {
    this.facets ??= new Map();
    if (!this.facets.has(column.key)) this.facets.set(column.key, makeFacet(column, this.cockpit.table.n) ?? { bins: new Uint8Array(this.cockpit.table.n), total: [0], size: 1, values: [null] });
    return this.facets.get(column.key);
  }

  _ramp(column, n) {
    const order = this.cockpit.engine.sortOrder(column.key, false), { values } = column;
    let known = n;
    while (known && values[order[known - 1]] !== values[order[known - 1]]) known--;
    const low = known ? values[order[Math.floor(0.01 * (known - 1))]] : 0, high = known ? values[order[Math.ceil(0.99 * (known - 1))]] : 1, codes = new Uint8Array(n);
    for (let i = 0; i < n; i++) codes[i] = values[i] !== values[i] ? 255 : Math.max(0, Math.min(254, Math.round((254 * (values[i] - low)) / (high - low || 1))));
    this.colours = Uint32Array.from({ length: 256 }, (_, i) => pixel(i === 255 ? rgb(REST) : ramp(i / 254)));
    return [codes, ["", [low, high]], known < n ? ["missing", REST] : null];
  }

  // --- the hand

  _data(e) {
    const box = this.over.getBoundingClientRect(), v = this.view;
    return [(e.clientX - box.left - v.width / 2) / v.scale + v.x, (v.height / 2 - (e.clientY - box.top)) / v.scale + v.y];
  }

  _screen([x, y]) {
    const v = this.view;
    return [(x - v.x) * v.scale + v.width / 2, v.height / 2 - (y - v.y) * v.scale];
  }

  _down(e) {
    if (e.button > 1) return;
    this.over.focus({ preventScroll: true });
    this.over.setPointerCapture(e.pointerId);
    this.tip.hidden = true;
    if (this.moving || e.shiftKey || e.button === 1) return this._pan(e);
    const path = [this._data(e)], near = 3 / this.view.scale;
    const move = (m) => {
      const p = this._data(m), [x, y] = path[path.length - 1];
      if (Math.hypot(p[0] - x, p[1] - y) < near) return;
      path.push(p);
      this.path = path;
      this._overlay();
    };
    const up = () => {
      this.over.removeEventListener("pointermove", move);
      this.path = null;
      if (path.length > 2) this.cockpit.replace(own, [{ panel: "map", op: "lasso", polygon: thin(path, near / 2) }]);
      else if (this.cockpit.state.filters.some(own)) this.cockpit.replace(own, []);
      else this._overlay();
    };
    this.over.addEventListener("pointermove", move);
    this.over.addEventListener("lostpointercapture", up, { once: true });
    e.preventDefault();
  }

  _pan(e) {
    const at = { ...this.view }, move = (m) => {
      this.view.x = at.x - (m.clientX - e.clientX) / at.scale;
      this.view.y = at.y + (m.clientY - e.clientY) / at.scale;
      this._later();
    };
    this.over.addEventListener("pointermove", move);
    this.over.addEventListener("lostpointercapture", () => this.over.removeEventListener("pointermove", move), { once: true });
    e.preventDefault();
  }

  _later() {
    this.waiting ||= requestAnimationFrame(() => ((this.waiting = 0), this._draw()));
  }

  /** Zoom needs the map in focus or a modifier, so that scrolling a page is not caught by it. */
  _wheel(e) {
    if (document.activeElement !== this.over && !e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    this._zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016)), this._data(e));
  }

  _zoom(by, [x, y] = [this.view.x, this.view.y]) {
    const v = this.view, scale = Math.max(this.base * 0.4, Math.min(this.base * 400, v.scale * by)), f = v.scale / scale;
    (v.x = x + (v.x - x) * f), (v.y = y + (v.y - y) * f), (v.scale = scale);
    this._later();
  }

  _key(e) {
    const step = 40 / this.view.scale, to = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
    if (to) (this.view.x += to[0] * step), (this.view.y += to[1] * step), this._later();
    else if (e.key === "+" || e.key === "=") this._zoom(1.3);
    else if (e.key === "-") this._zoom(1 / 1.3);
    else if (e.key === "0" || e.key === "Home") this._home();
    else if (e.key === "Enter") this._lassoView();
    else return;
    e.preventDefault();
    e.stopPropagation();
  }

  /** Select what is on screen: the lasso of the keyboard. */
  _lassoView() {
    const v = this.view, w = v.width / 2 / v.scale, hh = v.height / 2 / v.scale;
    this.cockpit.replace(own, [{ panel: "map", op: "lasso", polygon: [[v.x - w, v.y - hh], [v.x + w, v.y - hh], [v.x + w, v.y + hh], [v.x - w, v.y + hh]] }]);
  }

  _overlay() {
    const { theme, state } = this.cockpit, ctx = fitCanvas(this.over, this.view.width, this.view.height), lasso = this.path ?? state.filters.find(own)?.polygon;
    if (!lasso) return;
    ctx.beginPath();
    lasso.forEach((p, i) => (i ? ctx.lineTo(...this._screen(p)) : ctx.moveTo(...this._screen(p))));
    ctx.closePath();
    ctx.fillStyle = theme.accent;
    ctx.globalAlpha = 0.1;
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.strokeStyle = theme.accent;
    ctx.lineWidth = 1.5;
    ctx.stroke();
  }

  /** The nearest image under the mouse. */
  _hover(e) {
    if (e.buttons || this.xs.length > 200_000) return this._untip();
    const [x, y] = this._data(e), reach = 6 / this.view.scale;
    let best = -1, least = reach * reach;
    for (let i = 0; i < this.xs.length; i++) {
      const d = (this.xs[i] - x) ** 2 + (this.ys[i] - y) ** 2;
      if (d < least) (least = d), (best = i);
    }
    if (best < 0) return this._untip();
    if (this.over.title) this.over.removeAttribute("title");
    const { table, link } = this.cockpit, say = (role) => (table.byRole.get(role) ? table.value(table.byRole.get(role), best) : null), [px, py] = this._screen([this.xs[best], this.ys[best]]);
    const canvas = h("canvas", { width: 96, height: 96 });
    this.tipped = best;
    link.want([best], "tip");
    const state = link.draw(context(canvas), best, 0, 0, 96, 96), target = say("target"), pred = say("pred");
    this.tip.replaceChildren(...(state === "none" ? [] : [canvas]), bdi(pred ?? target ?? `row ${best}`, 30), ...(table.outcome[best] === 1 && target !== null ? [h("small", {}, "is ", bdi(target, 30))] : []));
    this.tip.hidden = false;
    this.tip.style.left = `${Math.min(px + 12, this.view.width - 118)}px`;
    this.tip.style.top = `${Math.min(py + 12, this.view.height - 130)}px`;
  }

  _untip() {
    if (!this.tip.hidden) this.cockpit.link.want([], "tip");
    this.tip.hidden = true;
  }

  /** @param {number[]} rows */
  onimage(rows) {
    const canvas = this.tip.querySelector("canvas");
    if (!this.tip.hidden && canvas && rows.includes(this.tipped)) this.cockpit.link.draw(context(canvas), this.tipped, 0, 0, 96, 96);
  }

  focus() {
    this.over.focus();
  }

  destroy() {
    this.painter?.destroy();
  }
}

const single = (values) => (values instanceof Float32Array ? values : Float32Array.from(values));
