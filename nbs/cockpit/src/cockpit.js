// One cockpit: it owns the state, tells the panels when to paint, and the link what was chosen.
import { Engine, emptyState } from "./engine.js";
import { filterKey } from "./filters.js";
import { writeWhere } from "./where.js";
import { selectionCode } from "./link.js";
import { h } from "./text.js";
import { readTheme } from "./theme.js";
import { Layers } from "./overlays.js";
import { makeWilson } from "./metrics.js";
import { bindKeys } from "./keys.js";
import { TopBar } from "./panels/top.js";
import { Slices } from "./panels/slices.js";
import { Compare } from "./panels/compare.js";
import { Facets } from "./panels/facets.js";
import { Confusion } from "./panels/confusion.js";
import { Threshold } from "./panels/threshold.js";
import { ScatterMap } from "./panels/map.js";
import { Gallery } from "./panels/gallery.js";
import { Detail } from "./panels/detail.js";

const UNDO = 200, SLOW_FRAME = 80;
const ALL = ["gallery", "confusion", "threshold", "map", "facets", "slices", "compare"];

/** A panel's frame. @param {string} name @param {string} title @param {...any} controls */
export function frame(name, title, ...controls) {
  const body = h("div", { class: "cvb-panel-body" });
  const head = h("header", { class: "cvb-panel-head" }, h("h3", { text: title }), h("div", { class: "cvb-controls" }, ...controls));
  const el = h("section", { class: `cvb-panel cvb-${name}`, "data-panel": name, "aria-label": title }, head, body);
  return { el, head, body };
}

export class Cockpit {
  /**
   * @param {HTMLElement} host @param {any} spec @param {import("./columns.js").Table} table @param {any} link
   * @param {{onchoice?: (cockpit: Cockpit) => void}} [hooks]
   */
  constructor(host, spec, table, link, hooks = {}) {
    this.spec = spec;
    this.table = table;
    this.link = link;
    this.hooks = hooks;
    this.engine = new Engine(table, spec);
    this.wilson = makeWilson(spec.level ?? 0.95);
    this.past = [];
    this.future = [];
    this.panels = [];
    this.edits = new Map(Object.entries(spec.edits ?? {}).map(([row, label]) => [Number(row), String(label)]));
    this.layers = new Layers(table.classes, () => (this.gallery?.redraw(), this.detail._draw()));
    this._build(host);
    for (const overlays of link.overlays.values()) this.layers.note(overlays);
    this.theme = readTheme(this.root);
    this._watch();
    this._paint(true);
    requestAnimationFrame(() => this.root.setAttribute("data-ready", "1"));
    (window.__cvb ??= []).push(this);
  }

  _build(host) {
    const wanted = this.spec.panels?.length ? this.spec.panels : ALL, { table, spec } = this;
    const has = {
      gallery: true,
      confusion: Boolean(table.target || table.targets) && table.classes.length > 0,
      threshold: this.engine.canThreshold,
      map: Boolean(table.byRole.get("x") && table.byRole.get("y")),
      facets: true,
      slices: true,
      compare: Boolean(spec.compare && table.byRole.get("correct_b")),
    };
    const on = (name) => wanted.includes(name) && has[name];
    this.root = h("div", { class: "cvb", role: "region", "aria-label": `cockpit ${spec.title ?? ""}`, "data-lm-suppress-shortcuts": "true", tabindex: "-1" });
    this.toast = h("div", { class: "cvb-toast", role: "status", "aria-live": "polite" });
    const add = (parent, Panel) => {
      const panel = new Panel(this);
      this.panels.push(panel);
      if (panel.el) parent.append(panel.el);
      return panel;
    };
    const main = h("div", { class: "cvb-main" }), strip = h("div", { class: "cvb-strip" }), charts = h("div", { class: "cvb-charts" }), body = h("div", { class: "cvb-body" });
    this.top = add(this.root, TopBar);
    if (on("compare")) this.compare = add(strip, Compare);
    if (on("slices")) this.slices = add(strip, Slices);
    if (strip.children.length) this.root.append(strip);
    if (on("facets")) this.facets = add(body, Facets);
    if (on("confusion")) this.confusion = add(charts, Confusion);
    if (on("map")) this.map = add(charts, ScatterMap);
    if (on("threshold")) this.threshold = add(charts, Threshold);
    if (charts.children.length) main.append(charts);
    charts.dataset.count = String(charts.children.length);
    if (on("gallery")) this.gallery = add(main, Gallery);
    else main.classList.add("cvb-no-gallery");
    if (main.children.length) body.append(main);
    if (!on("facets")) body.classList.add("cvb-no-facets");
    this.detail = new Detail(this);
    this.root.append(body, this.toast, this.detail.el);
    host.replaceChildren(this.root);
    this.unbind = bindKeys(this);
  }

  _watch() {
    const repaint = () => {
      this.theme = readTheme(this.root);
      this._paint(true);
    };
    const watched = [this.root, ...this.root.querySelectorAll(".cvb-plot, .cvb-scroller, .cvb-matrix, .cvb-curve, .cvb-facet-list")], size = (el) => `${el.clientWidth} ${el.clientHeight}`, sizes = new Map(watched.map((el) => [el, size(el)]));
    let waiting = 0;
    this.observer = new ResizeObserver((entries) => {
      const changed = entries.filter(({ target }) => sizes.get(target) !== size(target));
      for (const { target } of changed) sizes.set(target, size(target));
      if (changed.length && !waiting) waiting = requestAnimationFrame(() => ((waiting = 0), this.dead || repaint()));
    });
    for (const el of watched) this.observer.observe(el);
    this.media = window.matchMedia("(prefers-color-scheme: dark)");
    this.onmedia = () => requestAnimationFrame(repaint);
    this.media.addEventListener("change", this.onmedia);
    this.themes = new MutationObserver(() => setTimeout(repaint, 60));
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
    this.link.onimage = (rows) => {
      for (const row of rows) this.layers.note(this.link.overlays.get(row));
      this.panels.concat(this.detail).forEach((p) => p.onimage?.(rows));
    };
  }

  destroy() {
    this.dead = true;
    this.observer.disconnect();
    this.themes.disconnect();
    this.media.removeEventListener("change", this.onmedia);
    this.unbind();
    this.panels.forEach((p) => p.destroy?.());
    this.link.destroy();
    window.__cvb = (window.__cvb ?? []).filter((c) => c !== this);
    this.root.remove();
  }

  // --- state

  get state() {
    return this.pending?.[0] ?? this.engine.state;
  }

  /**
   * Change the state; everything follows from here.
   * @param {Partial<import("./engine.js").State>} change @param {{record?: boolean, tag?: string, quiet?: boolean}} [how]
   *   tag: changes of one gesture are undone together; quiet: the kernel knows already
   */
  set(change, { record = true, tag = "", quiet = false } = {}) {
    const start = performance.now(), before = this.state, next = { ...before, ...change };
    if (change.filters && !("picks" in change)) next.picks = null;
    if (sameState(before, next)) return;
    if (record) {
      if (!tag || tag !== this.tag || start - this.tagged > 1500) this.past.push(before);
      if (this.past.length > UNDO) this.past.shift();
      this.future.length = 0;
    }
    this.tag = tag;
    this.tagged = start;
    this._update(next, start, quiet);
  }

  /** Apply a state now if nothing was painted since the last frame, otherwise with the next one. */
  _update(next, start, quiet) {
    if (this.busy) {
      this.pending = [next, this.pending?.[1] ?? start, quiet && (this.pending?.[2] ?? true)];
      return;
    }
    const before = this.engine.state;
    try {
      this.engine.apply(next);
    } catch (e) {
      this.engine.apply(before);
      throw e;
    }
    this._paint();
    performance.measure("cvb:update", { start, end: performance.now(), detail: { rows: this.table.n } });
    if (!quiet) this.hooks.onchoice?.(this);
    this.busy = true;
    const release = () => {
      if (this.busy === false || this.released !== release) return;
      this.busy = false;
      if (!this.dead) this.settle();
    };
    this.released = release;
    requestAnimationFrame(release);
    setTimeout(release, SLOW_FRAME);
  }

  /** Let what waits for the next frame happen now. */
  settle() {
    if (!this.pending) return;
    const [state, start, quiet] = this.pending;
    this.pending = null;
    this.busy = false;
    this._update(state, start, quiet);
  }

  /** Panels measure first and write afterwards, so that the browser lays out once. */
  _paint(resized = false) {
    if (resized) for (const p of this.panels) p.measure?.();
    this.headline = null;
    for (const p of this.panels) p.update(resized);
  }

  undo() {
    if (!this.past.length) return;
    this.future.push(this.state);
    this.tag = "";
    this._update(this.past.pop(), performance.now(), false);
  }

  redo() {
    if (!this.future.length) return;
    this.past.push(this.state);
    this.tag = "";
    this._update(this.future.pop(), performance.now(), false);
  }

  clear() {
    this.set(emptyState());
  }

  /** Replace the filters for which `own` is true. @param {(f: any) => boolean} own @param {any[]} filters @param {object} [how] */
  replace(own, filters, how) {
    this.set({ filters: [...this.state.filters.filter((f) => !own(f)), ...filters] }, how);
  }

  /** Set a filter, or take it away where the very same is set. @param {(f: any) => boolean} own @param {any[]} filters */
  toggle(own, filters) {
    const keys = (list) => list.map(filterKey).sort().join();
    this.replace(own, keys(this.state.filters.filter(own)) === keys(filters) ? [] : filters);
  }

  /** @param {any} filter */
  drop(filter) {
    this.replace((f) => f === filter, []);
  }

  /** Take over a choice that was written down. @param {any} choice @param {object} [how] */
  restore(choice, how) {
    if (!choice?.filters) return;
    const picked = choice.picks ?? choice.filters.find((f) => f.panel === "pick")?.rows ?? [], { n } = this.table;
    try {
      this.set({
        filters: choice.filters.filter((f) => f.panel !== "pick").map(complete),
        threshold: choice.threshold ?? null,
        threshold_class: choice.threshold_class ?? null,
        picks: picked.length ? Uint32Array.from(picked.filter((r) => r >= 0 && r < n)).sort() : null,
      }, how);
    } catch (e) {
      this.say(e.message, { bad: true });
    }
  }

  // --- what others ask

  get where() {
    this.settle();
    return writeWhere(this.state.filters, this.table, this.spec);
  }

  /** `ev.where("…")`, with ids where no condition tells. @param {number} [most] Ids written out */
  code(most = 5000) {
    const where = this.where, picked = Boolean(this.state.picks?.length), ids = !where.complete || picked ? this.ids(most) : null;
    return selectionCode(this.spec.name || "ev", { where: picked ? "" : where.where, complete: where.complete && !picked }, ids);
  }

  /** Ids of the selection, as far as there are any. @param {number} [most] */
  ids(most = 100_000) {
    const id = this.table.byRole.get("sample_id");
    this.settle();
    return id?.at ? Array.from(this.engine.selected.subarray(0, most), (r) => String(id.at(r))) : null;
  }

  /** Re-scored numbers of the selection. */
  metrics() {
    this.settle();
    return this.engine.metrics();
  }

  /** @param {any[]} filters */
  select(filters) {
    this.set({ filters: filters.map(complete) });
  }

  /** @param {number|null} threshold @param {number|null} [of] Class place */
  setThreshold(threshold, of = this.state.threshold_class) {
    this.set({ threshold, threshold_class: of }, { tag: "threshold" });
  }

  /** @param {Iterable<number>} rows */
  pick(rows) {
    const picks = Uint32Array.from(new Set(rows)).sort();
    this.set({ picks: picks.length ? picks : null }, { tag: "pick" });
  }

  /** Tell the person something. @param {string} message @param {{bad?: boolean, undo?: boolean}} [how] */
  say(message, { bad = false, undo = false } = {}) {
    clearTimeout(this.saying);
    const close = h("button", { class: "cvb-close", "aria-label": "close", onclick: () => this.toast.replaceChildren() });
    this.toast.className = `cvb-toast${bad ? " cvb-bad" : ""}`;
    const undoing = undo && h("button", { class: "cvb-button", text: "Undo", "data-verb": "undo", onclick: () => this.act({ verb: "undo", rows: null }) });
    this.toast.replaceChildren(h("span", { text: message, "data-testid": "status" }), ...(undoing ? [undoing] : []), close);
    this.saying = setTimeout(() => this.toast.replaceChildren(), bad ? 20_000 : 9_000);
  }

  /** @param {{verb: string, name?: string, rows?: number[]|null, target?: any}} action */
  async act(action) {
    this.settle();
    this.hooks.flush?.();
    try {
      const answer = await this.link.act({ rows: null, ...action });
      if (answer.slices) this.spec.slices = answer.slices;
      if (answer.edits) this.edits = new Map(Object.entries(answer.edits).map(([row, label]) => [Number(row), String(label)]));
      this._paint();
      this.say(answer.message ?? "", { bad: !answer.ok, undo: answer.ok && action.verb === "relabel" });
      return answer;
    } catch (e) {
      this.say(e.message, { bad: true });
      return { ok: false, message: e.message };
    }
  }
}

/** A filter with what may be left unsaid. @param {any} f */
const complete = (f) => (f.panel === "slice" && !f.values ? { ...f, op: "slice", values: [f.name] } : f);

function sameState(a, b) {
  return a.threshold === b.threshold && a.threshold_class === b.threshold_class && a.filters.length === b.filters.length &&
    a.filters.every((f, i) => f === b.filters[i] || filterKey(f) === filterKey(b.filters[i])) &&
    (a.picks === b.picks || (a.picks?.length ?? 0) === (b.picks?.length ?? 0) && (a.picks ?? []).every((r, i) => r === b.picks[i]));
}
