// One image in full: zoom, what it is said to be, every field, its neighbours.
import { bdi, clip, count, h, short } from "../text.js";
import { contain, fit } from "../link.js";
import { context, fitCanvas } from "../theme.js";

/** How much a small image is enlarged at most. @param {number} width */
const enlarged = (width) => Math.max(6, 384 / width);

const THUMB = 72, NEIGHBOURS = 10;

export class Detail {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    this.canvas = h("canvas", { class: "cvb-photo", tabindex: "0", role: "img", "aria-label": "image", onpointerdown: (e) => this._pan(e), ondblclick: () => this._zoom(this.zoom > 1 ? 1 / this.zoom : 3) });
    this.canvas.addEventListener("wheel", (e) => (e.preventDefault(), this._zoom(Math.exp(-e.deltaY * 0.0016), e)), { passive: false });
    this.title = h("h3");
    this.place = h("span", { class: "cvb-num cvb-soft" });
    this.fields = h("dl", { class: "cvb-fields" });
    this.near = h("div", { class: "cvb-near", role: "group", "aria-label": "nearest neighbours" });
    this.nearTitle = h("h4", { text: "nearest" });
    this.toggles = cockpit.layers.bar();
    const button = (text, label, run) => h("button", { class: "cvb-button", type: "button", "aria-label": label, title: label, onclick: run }, text);
    this.pick = button("Pick", "pick this image (Space)", () => this._pick());
    this.relabel = button("Relabel…", "relabel this image (r)", () => this._relabel());
    this.stage = h("div", { class: "cvb-stage" }, this.canvas);
    this.el = h("dialog", { class: "cvb-dialog cvb-detail", "data-testid": "detail", "aria-label": "image in detail", onkeydown: (e) => this._key(e), onclose: () => this._closed(), onclick: (e) => e.target === this.el && this.el.close() },
      h("div", { class: "cvb-detail-inner" },
        h("header", {}, button("‹", "previous (←)", () => this.step(-1)), button("›", "next (→)", () => this.step(1)), this.title, this.place, h("div", { class: "cvb-spring" }), this.toggles, button("−", "zoom out (−)", () => this._zoom(1 / 1.4)), button("+", "zoom in (+)", () => this._zoom(1.4)), button("Fit", "fit (0)", () => this._reset()), this.pick, this.relabel, button("✕", "close (Esc)", () => this.el.close())),
        h("div", { class: "cvb-detail-body" }, this.stage, h("aside", {}, this.fields, this.nearTitle, this.near))));
  }

  /** @param {number} place In the gallery's order */
  open(place) {
    const { gallery } = this.cockpit;
    const rows = gallery?.rows ?? this.cockpit.engine.rows;
    if (!rows.length) return;
    this.at = Math.max(0, Math.min(rows.length - 1, place));
    if (!this.el.open) this.el.showModal();
    this.show(rows[this.at]);
  }

  step(by) {
    this.open(this.at + by);
    this.cockpit.gallery?._move(this.at);
  }

  /** @param {number} row */
  async show(row) {
    const { cockpit } = this, { table, link } = cockpit, say = (role) => (table.byRole.get(role) ? table.value(table.byRole.get(role), row) : null);
    this.row = row;
    const target = say("target"), pred = say("pred"), wrong = table.outcome[row] === 1;
    this.title.replaceChildren(...(wrong ? [h("span", { class: "cvb-bad-text", text: "✗ " }), bdi(pred, 80), h("span", { class: "cvb-soft", text: " is " }), bdi(target, 80)] : [bdi(pred ?? target ?? `row ${row}`, 80)]));
    this.place.textContent = `${count(this.at + 1)} of ${count(cockpit.gallery?.rows.length ?? 1)}`;
    this._pickState();
    this.detail = null;
    this._reset();
    this._fields(Object.fromEntries(table.columns.filter((c) => c.kind !== "scores").map((c) => [c.label, table.value(c, row)])));
    this._neighbours(null);
    link.want([row], "detail");
    try {
      const detail = await link.detail(row);
      if (this.row !== row || !this.el.open) return;
      this.detail = detail;
      if (Object.keys(detail.fields).length) this._fields(detail.fields);
      this._neighbours(detail.neighbours ?? this._onMap(row));
      cockpit.layers.note(detail.overlays);
      this._draw();
    } catch (e) {
      if (this.row === row) cockpit.say(e.message, { bad: true });
    }
  }

  _fields(fields) {
    const text = (v) => (v === null || v === undefined || (typeof v === "number" && Number.isNaN(v)) ? h("em", { text: "missing" }) : typeof v === "number" ? h("span", { class: "cvb-num", text: short(v), title: String(v) }) : bdi(typeof v === "object" ? JSON.stringify(v) : v, 300));
    this.fields.replaceChildren(...Object.entries(fields).flatMap(([k, v]) => [h("dt", {}, bdi(k, 60)), h("dd", {}, text(v))]));
  }

  /** Without a kernel the neighbours are those on the map. */
  _onMap(row) {
    const { table } = this.cockpit, xs = table.byRole.get("x")?.values, ys = table.byRole.get("y")?.values;
    if (!xs || !ys || !(xs[row] === xs[row])) return null;
    const best = [];
    for (let i = 0; i < table.n; i++) {
      if (i === row) continue;
      const d = (xs[i] - xs[row]) ** 2 + (ys[i] - ys[row]) ** 2;
      if (!(d === d) || (best.length === NEIGHBOURS && d >= best[NEIGHBOURS - 1][0])) continue;
      best.push([d, i]);
      best.sort((a, b) => a[0] - b[0]);
      if (best.length > NEIGHBOURS) best.length = NEIGHBOURS;
    }
    this.onMap = true;
    return best.map((b) => b[1]);
  }

  _neighbours(rows) {
    const { cockpit } = this, { table, link } = cockpit;
    this.nearRows = rows ?? [];
    this.nearTitle.hidden = !rows?.length;
    this.nearTitle.textContent = this.onMap ? "nearest on the map" : "nearest neighbours";
    this.onMap = false;
    this.near.replaceChildren(...this.nearRows.slice(0, NEIGHBOURS).map((r) => {
      const canvas = h("canvas", { width: THUMB * 2, height: THUMB * 2 }), pred = table.byRole.get("pred"), name = pred ? table.value(pred, r) : `row ${r}`;
      const b = h("button", { type: "button", class: `cvb-neighbour${table.outcome[r] === 1 ? " cvb-wrong" : ""}`, "data-neighbour": r, title: clip(name, 80), "aria-label": clip(name, 80), onclick: () => this._to(r) }, canvas, bdi(name, 20));
      b.classList.toggle("cvb-none", link.draw(context(canvas), r, 0, 0, THUMB * 2, THUMB * 2) === "none");
      return b;
    }));
    if (this.nearRows.length) link.want([this.row, ...this.nearRows], "detail");
  }

  /** @param {number} row */
  _to(row) {
    const at = this.cockpit.gallery?.rows.indexOf(row) ?? -1;
    if (at >= 0) this.at = at;
    this.show(row);
    this.canvas.focus();
  }

  onimage(rows) {
    if (!this.el.open) return;
    const came = new Set(rows);
    for (const b of this.near.children) if (came.has(Number(b.dataset.neighbour))) this.cockpit.link.draw(context(b.firstChild), Number(b.dataset.neighbour), 0, 0, THUMB * 2, THUMB * 2);
    if (!this.detail && came.has(this.row)) this._draw();
  }

  update() {
    if (this.el.open) this._pickState();
  }

  _pickState() {
    const on = this.cockpit.state.picks?.includes(this.row) ?? false;
    this.pick.setAttribute("aria-pressed", String(on));
    this.pick.textContent = on ? "Picked ✓" : "Pick";
  }

  _pick() {
    const picks = new Set(this.cockpit.state.picks ?? []);
    if (!picks.delete(this.row)) picks.add(this.row);
    this.cockpit.pick(picks);
    this._pickState();
  }

  _relabel() {
    if (!this.cockpit.state.picks?.includes(this.row)) this.cockpit.pick([this.row]);
    this.el.close();
    this.cockpit.top.openForm("relabel");
  }

  // --- the image

  _reset() {
    (this.zoom = 1), (this.dx = 0), (this.dy = 0);
    this._draw();
  }

  _zoom(by, e) {
    const box = this.canvas.getBoundingClientRect(), px = e ? e.clientX - box.left - box.width / 2 : 0, py = e ? e.clientY - box.top - box.height / 2 : 0;
    const zoom = Math.max(1, Math.min(40, this.zoom * by)), f = zoom / this.zoom;
    (this.dx = px - (px - this.dx) * f), (this.dy = py - (py - this.dy) * f), (this.zoom = zoom);
    if (zoom === 1) this.dx = this.dy = 0;
    this._draw();
  }

  _pan(e) {
    const { dx, dy } = this, move = (m) => ((this.dx = dx + m.clientX - e.clientX), (this.dy = dy + m.clientY - e.clientY), this._draw());
    this.canvas.setPointerCapture(e.pointerId);
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("lostpointercapture", () => this.canvas.removeEventListener("pointermove", move), { once: true });
  }

  _draw() {
    if (!this.el.open) return;
    const w = Math.max(50, this.stage.clientWidth), hh = Math.max(50, this.stage.clientHeight), ctx = fitCanvas(this.canvas, w, hh), { detail } = this;
    ctx.translate(w / 2 + this.dx, hh / 2 + this.dy);
    ctx.scale(this.zoom, this.zoom);
    ctx.translate(-w / 2, -hh / 2);
    if (!detail?.image) {
      const state = this.cockpit.link.draw(ctx, this.row, 0, 0, w, hh);
      if (state === "none" && detail) {
        ctx.fillStyle = this.cockpit.theme.muted;
        ctx.textAlign = "center";
        ctx.fillText("no image", w / 2, hh / 2);
      }
      return;
    }
    const { image, overlays } = detail, { width, height } = image, most = enlarged(width);
    contain(ctx, image, 0, 0, width, height, 0, 0, w, hh, most);
    this.cockpit.layers.draw(ctx, overlays, fit(width, height, 0, 0, w, hh, most), 1 / this.zoom, true);
  }

  _key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const run = { ArrowRight: () => this.step(1), ArrowLeft: () => this.step(-1), "+": () => this._zoom(1.4), "=": () => this._zoom(1.4), "-": () => this._zoom(1 / 1.4), b: () => this.cockpit.layers.toggle(), 0: () => this._reset(), n: () => this.near.firstChild?.focus(), r: () => this._relabel() }[e.key];
    if (run) run();
    else if (e.key === " " && (e.target === this.canvas || e.target === this.el)) this._pick();
    else return;
    e.preventDefault();
  }

  _closed() {
    this.detail = null;
    this.cockpit.link.want([], "detail");
    this.cockpit.gallery?.focus();
  }
}
