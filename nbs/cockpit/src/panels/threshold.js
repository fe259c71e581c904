// What confidence to ask for: the slider, what it costs, and the curves with the working point.
import { frame } from "../cockpit.js";
import { clip, h, percent, short } from "../text.js";
import { fitCanvas } from "../theme.js";

const KINDS = [["pr", "PR"], ["roc", "ROC"], ["reliability", "reliability"]];

export class Threshold {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    const { classes, multilabel, scores } = cockpit.table;
    this.of = h("select", { "aria-label": "threshold for", onchange: () => (cockpit.state.threshold === null ? this.update() : this._set(this.value)) }, h("option", { value: "", text: multilabel ? "all labels" : "all classes" }), ...(classes.length <= 2000 ? classes : []).map((c, i) => h("option", { value: i, text: clip(c, 40) })));
    this.off = h("button", { class: "cvb-button", type: "button", title: "decide every image again", onclick: () => cockpit.setThreshold(null, null) }, "off");
    const { el, body } = frame("threshold", "Threshold", this.of, this.off);
    this.el = el;
    this.slider = h("input", { type: "range", min: 0, max: 1, step: 0.005, value: 0, "data-testid": "threshold", "aria-label": "threshold", oninput: () => this._set(Number(this.slider.value)) });
    this.number = h("input", { type: "number", min: 0, max: 1, step: "any", class: "cvb-num cvb-threshold-number", "aria-label": "threshold", onchange: () => this.number.value !== "" && this._set(Math.max(0, Math.min(1, Number(this.number.value)))) });
    this.values = Object.fromEntries(["precision", "recall", "F1", "coverage"].map((k) => [k, h("b", { class: "cvb-num" })]));
    const stats = h("dl", { class: "cvb-readout" }, ...Object.entries(this.values).map(([k, v]) => h("div", {}, h("dt", { text: k }), h("dd", {}, v))));
    this.tabs = KINDS.map(([id, text]) => h("button", { type: "button", role: "tab", class: "cvb-tab", "data-curve": id, "aria-selected": "false", onclick: () => this._show(id), onkeydown: (e) => this._tabKey(e, id) }, text));
    this.kind = "pr";
    this.canvas = h("canvas", { role: "img", onpointerdown: (e) => this._drag(e) });
    this.note = h("span", { class: "cvb-soft cvb-num cvb-curve-note" });
    this.plot = h("div", { class: "cvb-curve" }, this.canvas);
    body.append(h("div", { class: "cvb-slide" }, this.slider, this.number), stats, h("div", { class: "cvb-tabs", role: "tablist", "aria-label": "curves" }, ...this.tabs, this.note), this.plot);
    if (multilabel && !scores) this.of.hidden = true;
    this.micro = multilabel;
  }

  get value() {
    return this.cockpit.state.threshold ?? Number(this.slider.value);
  }

  get class() {
    return this.of.value === "" ? null : Number(this.of.value);
  }

  _set(t) {
    this.cockpit.setThreshold(t, this.class);
  }

  _show(kind) {
    this.kind = kind;
    this.update();
  }

  _tabKey(e, id) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!step) return;
    const i = (KINDS.findIndex(([k]) => k === id) + step + KINDS.length) % KINDS.length;
    this._show(KINDS[i][0]);
    this.tabs[i].focus();
    e.preventDefault();
  }

  focus() {
    this.slider.focus();
  }

  measure() {
    this.room = [Math.max(80, this.plot.clientWidth || 300), Math.max(110, this.plot.clientHeight || 170)];
  }

  update() {
    const { cockpit } = this, { state } = cockpit, t = state.threshold, c = state.threshold_class;
    if (t !== null) {
      if (Number(this.slider.value) !== t) this.slider.value = String(t);
      const of = c === null ? "" : String(c);
      if (this.of.value !== of) this.of.value = of;
    }
    else if (document.activeElement !== this.slider) this.slider.value = "0";
    if (document.activeElement !== this.number) this.number.value = t === null ? "" : String(Number(t.toPrecision(6)));
    this.el.classList.toggle("cvb-unset", t === null);
    this.off.disabled = t === null;
    this.slider.setAttribute("aria-valuetext", t === null ? "none" : short(t));
    this._readout();
    this.tabs.forEach((b) => (b.setAttribute("aria-selected", String(b.dataset.curve === this.kind)), (b.tabIndex = b.dataset.curve === this.kind ? 0 : -1)));
    this._draw();
  }

  /** Numbers at the threshold: of one class, or the means over classes. */
  point() {
    const { shown: now } = this.cockpit.headline, c = this.class;
    if (c !== null) return { precision: now.precision[c], recall: now.recall[c], F1: now.f1[c], coverage: now.n ? now.predicted[c] / now.n : NaN };
    if (this.micro) return { precision: now.micro_precision, recall: now.micro_recall, F1: now.micro_f1, coverage: now.coverage };
    return { precision: now.macro_precision, recall: now.macro_recall, F1: now.macro_f1, coverage: now.coverage };
  }

  _readout() {
    const point = this.point();
    for (const [k, el] of Object.entries(this.values)) el.textContent = percent(point[k]);
    this.values.coverage.closest("div").firstChild.textContent = this.class !== null ? "predicted" : "coverage";
  }

  _draw() {
    const { cockpit, kind } = this, { theme } = cockpit, [width, height] = this.room ?? [300, 170];
    const ctx = fitCanvas(this.canvas, width, height), pad = { l: 30, r: 14, t: 6, b: 26 }, w = width - pad.l - pad.r, hh = height - pad.t - pad.b;
    const x = (v) => pad.l + v * w, y = (v) => pad.t + (1 - v) * hh;
    Object.assign(this, { x, y, w });
    ctx.font = "10.5px system-ui, sans-serif";
    ctx.lineWidth = 1;
    ctx.textBaseline = "middle";
    for (let v = 0; v <= 1.001; v += 0.25) {
      ctx.strokeStyle = theme.line;
      ctx.beginPath();
      ctx.moveTo(Math.round(x(v)) + 0.5, y(0));
      ctx.lineTo(Math.round(x(v)) + 0.5, y(1));
      ctx.moveTo(x(0), Math.round(y(v)) + 0.5);
      ctx.lineTo(x(1), Math.round(y(v)) + 0.5);
      ctx.stroke();
      ctx.fillStyle = theme.muted;
      ctx.textAlign = "right";
      if (v % 0.5 < 0.01) ctx.fillText(String(Math.round(100 * v)), pad.l - 4, y(v));
      ctx.textAlign = "center";
      if (v % 0.5 < 0.01) ctx.fillText(String(Math.round(100 * v)), x(v), y(0) + 8);
    }
    const axis = { pr: ["recall, %", "precision"], roc: ["false alarms, %", "recall"], reliability: ["confidence, %", "accuracy"] }[kind];
    ctx.fillText(axis[0], x(0.5), height - 5);
    ctx.save();
    ctx.translate(7, y(0.5));
    ctx.rotate(-Math.PI / 2);
    ctx.fillText(axis[1], 0, 0);
    ctx.restore();
    if (kind === "reliability") this._reliability(ctx, theme);
    else this._curve(ctx, theme);
    this.canvas.setAttribute("aria-label", `${axis[1]} against ${axis[0]}; ${this.note.textContent}`);
  }

  _curve(ctx, theme) {
    const { cockpit, kind, x, y } = this, { state } = cockpit, c = this.class;
    const curve = c === null && cockpit.table.multilabel ? null : cockpit.engine.curves(c);
    this.curve = curve;
    if (!curve) {
      this.note.textContent = "choose a label for its curve";
      return;
    }
    if (!curve.positives || !curve.negatives) this.note.textContent = c === null ? (curve.positives ? "nothing is wrong here" : "nothing is right here") : curve.positives ? "no other class here" : "none of this class here";
    else this.note.textContent = kind === "pr" ? `AP ${percent(curve.average_precision)}` : `AUROC ${percent(curve.auroc)}`;
    if (curve.partial) this.note.textContent += " where predicted";
    const px = kind === "pr" ? curve.recall : curve.fpr, py = kind === "pr" ? curve.precision : curve.recall;
    if (kind === "roc") {
      ctx.strokeStyle = theme.muted;
      ctx.setLineDash([3, 3]);
      ctx.beginPath();
      ctx.moveTo(x(0), y(0));
      ctx.lineTo(x(1), y(1));
      ctx.stroke();
      ctx.setLineDash([]);
    }
    ctx.strokeStyle = theme.accent;
    ctx.lineWidth = 1.8;
    ctx.lineJoin = "round";
    ctx.beginPath();
    if (kind === "roc") ctx.moveTo(x(0), y(0));
    px.forEach((v, i) => (i || kind === "roc" ? ctx.lineTo(x(v), y(py[i])) : ctx.moveTo(x(v), y(py[i]))));
    ctx.stroke();
    if (state.threshold === null || !px.length) return;
    let i = curve.threshold.findIndex((t) => t < state.threshold);
    i = i < 0 ? px.length - 1 : Math.max(0, i - 1);
    this._dot(ctx, theme, x(px[i]), y(py[i]));
  }

  _dot(ctx, theme, px, py) {
    ctx.beginPath();
    ctx.arc(px, py, 5, 0, 7);
    ctx.fillStyle = theme.accent;
    ctx.fill();
    ctx.lineWidth = 2;
    ctx.strokeStyle = theme.bg;
    ctx.stroke();
  }

  _reliability(ctx, theme) {
    const { cockpit, x, y, w } = this, r = cockpit.headline.shown.reliability, t = cockpit.state.threshold;
    ctx.strokeStyle = theme.muted;
    ctx.setLineDash([3, 3]);
    ctx.beginPath();
    ctx.moveTo(x(0), y(0));
    ctx.lineTo(x(1), y(1));
    ctx.stroke();
    ctx.setLineDash([]);
    if (!r) {
      this.note.textContent = "not for several labels";
      return;
    }
    const most = Math.max(1, ...r.n), width = w / r.n.length;
    r.n.forEach((n, b) => {
      if (!n) return;
      ctx.fillStyle = theme.faint;
      ctx.fillRect(x(b / r.n.length) + 0.5, y(0), width - 1, -(n / most) * (y(0) - y(1)) * 0.28);
      const [low, high] = cockpit.wilson(r.accuracy[b], n), px = x(r.confidence[b]);
      ctx.strokeStyle = ctx.fillStyle = theme.accent;
      ctx.lineWidth = 1.2;
      ctx.globalAlpha = 0.55;
      ctx.beginPath();
      ctx.moveTo(px, y(low));
      ctx.lineTo(px, y(high));
      ctx.stroke();
      ctx.globalAlpha = 1;
      ctx.beginPath();
      ctx.arc(px, y(r.accuracy[b]), 3, 0, 7);
      ctx.fill();
    });
    this.note.textContent = `calibration error ${percent(r.calibration_error)} %`;
    if (t === null) return;
    ctx.strokeStyle = theme.fg;
    ctx.beginPath();
    ctx.moveTo(Math.round(x(t)) + 0.5, y(0));
    ctx.lineTo(Math.round(x(t)) + 0.5, y(1));
    ctx.stroke();
  }

  /** Dragging along a curve moves the threshold. */
  _drag(e) {
    const to = (m) => {
      const box = this.canvas.getBoundingClientRect(), px = m.clientX - box.left, py = m.clientY - box.top, { curve, kind } = this;
      if (kind === "reliability") return this._set(Math.round(200 * Math.max(0, Math.min(1, (px - this.x(0)) / this.w))) / 200);
      if (!curve?.threshold.length) return;
      const us = kind === "pr" ? curve.recall : curve.fpr, vs = kind === "pr" ? curve.precision : curve.recall;
      let best = 0, least = Infinity;
      us.forEach((u, i) => {
        const d = (this.x(u) - px) ** 2 + (this.y(vs[i]) - py) ** 2;
        if (d < least) (least = d), (best = i);
      });
      this._set(Math.max(0, Math.min(1, curve.threshold[best])));
    };
    this.canvas.setPointerCapture(e.pointerId);
    to(e);
    this.canvas.addEventListener("pointermove", to);
    this.canvas.addEventListener("lostpointercapture", () => this.canvas.removeEventListener("pointermove", to), { once: true });
    e.preventDefault();
  }
}
