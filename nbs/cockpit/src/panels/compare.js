// Two evaluations: what the other fixes and what it breaks.
import { frame } from "../cockpit.js";
import { KINDS } from "../filters.js";
import { bdi, count, h } from "../text.js";

const SIGN = { fixed: "+", broken: "−", "both wrong": "✗", "both right": "✓" };

export class Compare {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    this.net = h("span", { class: "cvb-num cvb-net" });
    const { a, b } = cockpit.spec.compare, { el, head, body } = frame("compare", "Compare", this.net);
    head.querySelector("h3").replaceChildren(bdi(b, 24), " against ", bdi(a, 24));
    this.el = el;
    this.bars = KINDS.map((kind) => {
      const n = h("b", { class: "cvb-num" });
      const button = h("button", { class: `cvb-kind cvb-kind-${kind.replace(" ", "-")}`, type: "button", "data-kind": kind, "aria-pressed": "false", onclick: (e) => this._toggle(kind, e.shiftKey || e.ctrlKey || e.metaKey) }, h("i", { "aria-hidden": "true", text: SIGN[kind] }), ` ${kind} `, n);
      return { kind, n, button };
    });
    body.append(h("div", { class: "cvb-kinds", role: "group", "aria-label": "fixed and broken images" }, ...this.bars.map((b) => b.button)));
  }

  update() {
    const { engine, state } = this.cockpit, counts = engine.kinds(engine.rowsWithout(own));
    const on = state.filters.find(own)?.values ?? [];
    this.bars.forEach(({ kind, n, button }, i) => {
      n.textContent = count(counts[i]);
      button.style.setProperty("--share", String(counts[i] / Math.max(1, counts[0] + counts[1] + counts[2] + counts[3])));
      button.setAttribute("aria-pressed", String(on.includes(kind)));
    });
    const net = counts[0] - counts[1];
    this.net.textContent = `net ${net > 0 ? "+" : net < 0 ? "−" : ""}${count(Math.abs(net))}`;
  }

  _toggle(kind, more) {
    const on = this.cockpit.state.filters.find(own)?.values ?? [];
    const values = more ? (on.includes(kind) ? on.filter((k) => k !== kind) : [...on, kind]) : on.length === 1 && on[0] === kind ? [] : [kind];
    this.cockpit.replace(own, values.length ? [{ panel: "compare", op: "kind", values }] : []);
  }
}

const own = (f) => f.panel === "compare";
