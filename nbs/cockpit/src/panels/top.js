// The bar above all panels: how many, how good, which condition, and what to do with them.
import { bdi, clip, count, h, percent, short } from "../text.js";
import { clause } from "../where.js";
import { actionCode } from "../link.js";

const VERBS = {
  slice: ["Slice", "Name the selection as a slice"],
  golden: ["Golden", "Keep the selection as a golden set"],
  relabel: ["Relabel", "Give the selected images another target"],
  test: ["Test", "Write a test that fails until these are right"],
};

export class TopBar {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    const { spec } = cockpit, button = (text, label, run, extra = {}) => h("button", { class: "cvb-button", type: "button", title: label, "aria-label": label, onclick: run, ...extra }, text);
    this.title = bdi(spec.title || spec.dataset || "cockpit", 60);
    this.title.className = "cvb-title";
    this.count = h("output", { class: "cvb-count", "data-testid": "count", "aria-live": "polite" });
    this.stats = h("div", { class: "cvb-stats" });
    this.errors = button("Errors only", "Only the wrong ones (e)", () => this.toggleErrors(), { "aria-pressed": "false", class: "cvb-button cvb-toggle" });
    this.undoing = button("↶", "Undo the selection (Ctrl Z)", () => cockpit.undo());
    this.redoing = button("↷", "Redo the selection (Ctrl Shift Z)", () => cockpit.redo());
    this.clearing = button("Clear", "Clear all filters and picks (Esc)", () => cockpit.clear(), { "data-testid": "clear" });
    const help = button("?", "Keys (?)", () => cockpit.help());
    this.where = h("code", { class: "cvb-where", "data-testid": "where", tabindex: "0", role: "textbox", "aria-readonly": "true", "aria-label": "condition of the selection", onkeydown: (e) => this._copyKey(e) });
    this.others = h("span", { class: "cvb-others" });
    this.copying = button("Copy", "Copy as Python", () => this.copy());
    this.actions = h("div", { class: "cvb-actions", role: "group", "aria-label": "do with the selection" });
    for (const [verb, [text, label]] of Object.entries(VERBS)) this.actions.append(button(text, label, () => this.openForm(verb), { "data-verb": verb }));
    this.form = h("form", { class: "cvb-form", hidden: true, onsubmit: (e) => this._submit(e), onkeydown: (e) => this._enter(e) });
    this.el = h("header", { class: "cvb-top" },
      h("div", { class: "cvb-head" }, this.title, this.count, this.stats, h("div", { class: "cvb-spring" }), this.errors, h("div", { class: "cvb-group" }, this.undoing, this.redoing), this.clearing, help),
      h("div", { class: "cvb-expression" }, h("span", { class: "cvb-where-label", "aria-hidden": "true", text: "where" }), this.where, this.others, this.copying, this.actions),
      this.form);
    if (!cockpit.table.byRole.has("correct")) this.errors.hidden = true;
    this._makeStats();
  }

  _makeStats() {
    const { table, engine } = this.cockpit;
    this.parts = {};
    const part = (key, label, title) => {
      const value = h("b"), note = h("small");
      this.parts[key] = { value, note, el: h("div", { class: "cvb-stat", title }, h("span", { text: label }), value, note) };
      this.stats.append(this.parts[key].el);
    };
    if (!table.outcome.some((o) => o < 2)) return;
    part("accuracy", table.multilabel ? "all labels right" : "accuracy", "Share of decided images that are right, with its interval; below it all images");
    if (table.classes.length && (table.target || table.targets)) part("macro_f1", "macro F1", "Mean F1 of the classes that appear; below it all images");
    if (!table.multilabel && table.score) part("calibration_error", "calibration error", "Expected calibration error over 15 bins; below it all images");
    if (engine.canThreshold && !table.multilabel) part("coverage", "coverage", "Share of images decided at the threshold");
  }

  update() {
    const { cockpit } = this, { engine, state, table } = cockpit, rows = engine.selected;
    this.count.textContent = `${count(rows.length)} of ${count(table.n)}`;
    this.count.classList.toggle("cvb-some", rows.length !== table.n);
    const everything = !state.picks?.length && engine.all;
    const all = this._all(), now = everything ? all : engine.summary(rows);
    cockpit.headline = { now, all, shown: engine.all ? all : state.picks?.length ? engine.summary(engine.rows) : now };
    for (const [key, { value, note, el }] of Object.entries(this.parts)) {
      value.textContent = Number.isNaN(now[key]) ? "–" : `${percent(now[key])} %`;
      el.classList.toggle("cvb-dim", Number.isNaN(now[key]));
      if (key === "coverage") el.hidden = state.threshold === null;
      if (key === "accuracy") {
        const [low, high] = cockpit.wilson(now.accuracy, now.decided);
        note.textContent = `${Number.isNaN(low) ? "" : `[${percent(low)}, ${percent(high)}]`}${everything ? "" : ` · all ${percent(all.accuracy)}`}`;
      } else note.textContent = everything ? " " : `all ${percent(all[key])}`;
    }
    this._expression(state);
    const on = state.filters.some(isErrors);
    this.errors.setAttribute("aria-pressed", String(on));
    this.undoing.disabled = !cockpit.past.length;
    this.redoing.disabled = !cockpit.future.length;
    this.clearing.disabled = !state.filters.length && !state.picks && state.threshold === null;
  }

  _all() {
    const { engine, state } = this.cockpit, key = `${state.threshold} ${state.threshold_class}`;
    if (this.allKey !== key) (this.allKey = key), (this.allSummary = engine.summary(null));
    return this.allSummary;
  }

  _expression(state) {
    const { cockpit } = this, { where } = cockpit.where, key = JSON.stringify([state.filters, state.picks?.length ?? 0]);
    if (key === this.shown) return;
    this.shown = key;
    this.where.replaceChildren();
    this.others.replaceChildren();
    const drop = (f, what) => h("button", { class: "cvb-x", type: "button", "aria-label": `remove ${clip(what, 80)}`, onclick: () => cockpit.drop(f) });
    let first = true, length = 0;
    for (const f of state.filters) {
      const text = clause(f, cockpit.table, cockpit.spec);
      if (text === null || length + text.length > 9_900) {
        this.others.append(h("span", { class: "cvb-chip" }, bdi(describe(f), 40), drop(f, describe(f))));
        continue;
      }
      if (!first) this.where.append(" and ");
      this.where.append(h("span", { class: "cvb-clause" }, text, drop(f, text)));
      first = false;
      length += text.length + 5;
    }
    if (state.picks?.length) this.others.append(h("span", { class: "cvb-chip cvb-picked" }, `${count(state.picks.length)} picked`, h("button", { class: "cvb-x", type: "button", "aria-label": "drop the picks", onclick: () => cockpit.set({ picks: null }) })));
    this.where.title = where ? clip(where, 600) : "every image";
    this.where.classList.toggle("cvb-empty", first);
    this.where.dataset.empty = state.filters.length || state.picks ? "no condition says it" : "every image";
  }

  focusWhere() {
    this.where.focus();
    getSelection()?.selectAllChildren(this.where);
  }

  _copyKey(e) {
    if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "c") {
      e.preventDefault();
      this.copy();
    }
  }

  copy(code = this.cockpit.code()) {
    copyText(code, this.cockpit.root).then((ok) => this.cockpit.say(`${ok ? "Copied" : "Select and copy"}: ${clip(code.replaceAll("\n", " "), 200)}`));
  }

  toggleErrors() {
    const { cockpit } = this, column = cockpit.table.byRole.get("correct");
    if (column) cockpit.toggle(isErrors, [{ panel: "error", column: column.key, op: "in", values: [false] }]);
  }

  openForm(verb) {
    this.cockpit.settle();
    const { cockpit, form } = this, { table } = cockpit, rows = cockpit.engine.selected.length;
    if (!rows || (cockpit.engine.all && !cockpit.state.picks)) return cockpit.say("Nothing is selected. Filter, lasso or click some images first.", { bad: true });
    this.verb = verb;
    form.replaceChildren();
    const what = `${count(rows)} image${rows === 1 ? "" : "s"}`, input = verb === "relabel" ? this._classInput() : h("input", { type: "text", required: true, maxlength: 200, "aria-label": "name", placeholder: "name", value: this._suggest(), spellcheck: "false" });
    form.append(h("label", {}, `${VERBS[verb][0]}: ${what} `, input), h("button", { class: "cvb-button cvb-primary", type: "submit", "data-testid": "verb-ok", text: cockpit.link.frozen ? "Copy as Python" : verb === "relabel" ? "Relabel" : "Save" }),
      h("button", { class: "cvb-button", type: "button", text: "Cancel", onclick: () => this.closeForm() }));
    if (verb === "relabel" && rows > 1 && !cockpit.state.picks) form.append(h("small", { text: `None is picked, so all ${count(rows)} change. Click images to pick some.` }));
    form.hidden = false;
    input.setAttribute("data-testid", "verb-input");
    this.input = input;
    input.focus();
    input.select?.();
    if (table.n === 0) this.closeForm();
  }

  _classInput() {
    const { classes, multilabel } = this.cockpit.table;
    if (multilabel) return h("select", { multiple: true, size: 4, "aria-label": "new labels" }, ...classes.map((c, i) => h("option", { value: i, text: clip(c, 60) })));
    if (classes.length <= 300) return h("select", { "aria-label": "new target", required: true }, ...classes.map((c, i) => h("option", { value: i, text: clip(c, 60) })));
    const list = h("datalist", { id: `cvb-classes-${Math.random().toString(36).slice(2)}` }, ...classes.map((c) => h("option", { value: c })));
    this.form.append(list);
    return h("input", { list: list.id, required: true, "aria-label": "new target", placeholder: "class" });
  }

  _suggest() {
    const { filters } = this.cockpit.state, words = filters.map((f) => (f.op === "in" && f.values.length === 1 && f.column !== "correct" ? String(f.values[0]) : f.op === "cells" && f.cells.length === 1 && f.cells[0].every((c) => c.length === 1) ? f.cells[0].map((c) => this.cockpit.table.classes[c[0]]).join(" as ") : "")).filter(Boolean);
    return clip(words.join(", "), 60);
  }

  closeForm() {
    const open = !this.form.hidden;
    this.form.hidden = true;
    if (open) this.cockpit.root.focus();
    return open;
  }

  /** JupyterLab takes the Enter that would submit a form. @param {KeyboardEvent} e */
  _enter(e) {
    if (e.key !== "Enter" || /** @type {HTMLElement} */ (e.target).tagName !== "INPUT") return;
    e.preventDefault();
    this.form.requestSubmit();
  }

  async _submit(e) {
    e.preventDefault();
    const { cockpit, verb, input } = this, { classes, multilabel } = cockpit.table, picks = cockpit.state.picks;
    const action = { verb, rows: picks ? Array.from(picks) : null };
    if (verb === "relabel") {
      action.target = multilabel ? Array.from(input.selectedOptions, (o) => classes[o.value]) : input.tagName === "SELECT" ? classes[input.value] : input.value;
      if (!multilabel && !classes.includes(action.target)) return cockpit.say(`There is no class ${clip(action.target, 60)}. Choose one from the list.`, { bad: true });
    } else action.name = input.value.trim();
    if (verb !== "relabel" && !action.name) return;
    this.closeForm();
    if (cockpit.link.frozen) return this.copy(actionCode(action, cockpit.spec.name || "ev", { ...cockpit.where, ...(picks ? { complete: false } : {}) }, cockpit.ids()));
    await cockpit.act(action);
  }
}

const isErrors = (f) => f.panel === "error";

/** A filter in words, where no condition tells. @param {any} f */
export function describe(f) {
  if (f.polygon) return "lasso on the map";
  if (f.panel === "slice") return `slice ${f.values?.[0]}`;
  if (f.panel === "compare") return f.values.join(" or ");
  if (f.op === "cells") return `${count(f.cells.length)} cell${f.cells.length === 1 ? "" : "s"} of the confusion`;
  if (f.op === "has" || f.op === "lacks") return `${f.op === "has" ? "" : "not "}${f.column} at ${short(f.decided?.[0] ?? NaN)}`;
  if (f.op === "range") return `${f.column} ${f.low === null || f.low === undefined ? "" : `from ${short(f.low)} `}${f.high === null || f.high === undefined ? "" : `below ${short(f.high)}`}`;
  return `${f.column ?? f.panel}: ${(f.values ?? ["missing"]).slice(0, 3).join(", ")}`;
}

/** @param {string} text @param {HTMLElement} root */
export async function copyText(text, root) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "cvb-offscreen", "aria-hidden": "true" });
    area.value = text;
    root.append(area);
    area.select();
    const ok = document.execCommand("copy");
    area.remove();
    return ok;
  }
}
