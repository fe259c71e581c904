// Saved and discovered slices as chips with their numbers.
import { frame } from "../cockpit.js";
import { bdi, clip, count, h, percent } from "../text.js";

export class Slices {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    this.name = h("button", { class: "cvb-button", type: "button", title: "Name the current selection (s)", onclick: () => cockpit.top.openForm("slice") }, "+ Name selection");
    const { el, body } = frame("slices", "Slices", this.name);
    this.el = el;
    this.body = body;
    this.list = h("div", { class: "cvb-chips", role: "group", "aria-label": "slices" });
    body.append(this.list);
  }

  update() {
    const { cockpit } = this, slices = cockpit.spec.slices ?? [];
    if (this.shown !== slices) {
      this.shown = slices;
      this.list.replaceChildren(...slices.map((s) => this._chip(s)));
      if (!slices.length) this.list.append(h("span", { class: "cvb-hint", text: "none yet; select images and name them" }));
    }
    const on = cockpit.state.filters.filter((f) => f.panel === "slice").map((f) => f.values[0]);
    for (const chip of this.list.querySelectorAll("button")) chip.setAttribute("aria-pressed", String(on.includes(chip.dataset.slice)));
    this.name.disabled = !cockpit.state.filters.length && !cockpit.state.picks;
  }

  _chip(s) {
    const value = typeof s.metric === "number" ? s.metric : s.value, bounds = Number.isFinite(s.low) && Number.isFinite(s.high) ? ` [${percent(s.low)}, ${percent(s.high)}]` : "";
    const number = Number.isFinite(value) ? `${percent(value)}${bounds}` : "";
    const label = `slice ${clip(s.name, 100)}, ${count(s.n ?? 0)} images${number ? `, ${number}` : ""}${s.where ? `, where ${clip(s.where, 200)}` : ""}`;
    const chip = h("button", { class: "cvb-slice", type: "button", "aria-pressed": "false", "aria-label": label, title: label, onclick: () => this._toggle(s) },
      bdi(s.name, 40), h("span", { class: "cvb-num", text: count(s.n ?? 0) }), number && h("span", { class: "cvb-num cvb-soft", text: number }), Number.isFinite(s.q) && h("span", { class: "cvb-num cvb-soft", text: `q ${s.q < 0.001 ? "<0.001" : s.q.toFixed(3)}` }));
    chip.dataset.slice = s.name;
    return chip;
  }

  _toggle(s) {
    const own = (f) => f.panel === "slice" && f.values[0] === s.name, there = this.cockpit.state.filters.some(own);
    this.cockpit.replace((f) => f.panel === "slice", there ? [] : [{ panel: "slice", op: "slice", name: s.name, values: [s.name] }]);
  }
}
