// The images of the selection, a million of them if need be: only the tiles on screen exist.
import { frame } from "../cockpit.js";
import { clip, count, h, setText, short } from "../text.js";
import { context } from "../theme.js";
import { layout, reveal, toReal, toScroll, visibleRange } from "../virtual.js";

const CAPTION = 32, GAP = 6, RUSH_MS = 100, SETTLE_MS = 50, SIZES = [56, 72, 92, 112, 136, 168, 208, 256, 320];

export class Gallery {
  /** @param {import("../cockpit.js").Cockpit} cockpit */
  constructor(cockpit) {
    this.cockpit = cockpit;
    const { table } = cockpit, sortable = table.columns.filter((c) => c.kind !== "scores" && !["x", "y", "embedding"].includes(c.role));
    this.key = table.byRole.get("loss")?.key ?? null;
    this.descending = this.key !== null;
    this.sort = h("select", { "aria-label": "sort by", onchange: () => this._sort(this.sort.value === "\u0000" ? null : this.sort.value) }, h("option", { value: "\u0000", text: "row order" }), ...sortable.map((c) => h("option", { value: c.key, text: clip(c.label, 40) })));
    this.sort.value = this.key ?? "\u0000";
    this.direction = h("button", { class: "cvb-button", type: "button", onclick: () => ((this.descending = !this.descending), this._sort(this.key)) });
    this.slider = h("input", { type: "range", min: 0, max: SIZES.length - 1, value: 3, step: 1, "aria-label": "image size", title: "image size (+ −)", oninput: () => this._resize() });
    this.labels = h("input", { type: "checkbox", checked: true, onchange: () => this._resize() });
    const { el, body } = frame("gallery", "Images", h("label", {}, "sort ", this.sort), this.direction, cockpit.layers.bar(), h("label", { class: "cvb-check" }, this.labels, "labels"), this.slider);
    this.el = el;
    this.sizer = h("div", { class: "cvb-sizer" });
    this.empty = h("p", { class: "cvb-nothing", hidden: true }, "No image is left. ", h("button", { class: "cvb-link", type: "button", text: "Undo", onclick: () => cockpit.undo() }), " or ", h("button", { class: "cvb-link", type: "button", text: "clear the filters", onclick: () => cockpit.clear() }), ".");
    this.scroller = h("div", { class: "cvb-scroller", tabindex: "0", role: "listbox", "aria-multiselectable": "true", "aria-label": "images", onkeydown: (e) => this._key(e), onscroll: () => this._scrolled(), onclick: (e) => this._click(e), ondblclick: (e) => this._double(e) }, this.sizer);
    this.scroller.addEventListener("wheel", (e) => this._wheel(e), { passive: false });
    if (!table.n) this.empty.replaceChildren("There are no images.");
    body.append(this.scroller, this.empty);
    this.pictures = Boolean(cockpit.spec.images || cockpit.spec.sprites?.length);
    this.el.classList.toggle("cvb-textual", !this.pictures);
    this.tiles = new Map();
    this.spare = [];
    this.offset = this.expected = 0;
    this.cursor = 0;
    this.picked = new Set();
    this.id = `cvb${Math.random().toString(36).slice(2, 8)}`;
  }

  get size() {
    return SIZES[Number(this.slider.value)];
  }

  measure() {
    this.room = [Math.max(80, (this.scroller.clientWidth || 600) - 2), this.scroller.clientHeight || 400];
  }

  update(resized = false) {
    const { cockpit } = this, { engine, state } = cockpit;
    this.direction.textContent = this.descending ? "↓" : "↑";
    this.direction.title = this.descending ? "high first" : "low first";
    this.direction.setAttribute("aria-label", this.direction.title);
    const key = state.filters.map((f) => JSON.stringify(f)).join() + this.key + this.descending;
    this.picked = new Set(state.picks ?? []);
    if (key !== this.ordered || !this.rows) {
      this.rows = engine.sortedRows(this.key, this.descending);
      if (this.ordered !== undefined) (this.offset = 0), (this.cursor = 0), (this.anchor = 0);
      this.ordered = key;
      this.moved = true;
    }
    if (resized || this.moved) this._layout();
    this._render(true);
  }

  _sort(key) {
    this.key = key;
    this.update();
  }

  _resize() {
    const at = this.grid ? Math.floor(this.offset / this.grid.line) * this.grid.columns : 0;
    this._layout();
    this.offset = Math.floor(at / this.grid.columns) * this.grid.line;
    this._place();
    this._render(true);
  }

  /** @param {number} step */
  resize(step) {
    this.slider.value = String(Number(this.slider.value) + step);
    this._resize();
  }

  _layout() {
    const [width, view] = this.room ?? [600, 400];
    this.caption = this.size >= 90 && this.labels.checked ? CAPTION : 4;
    this.view = view;
    if (!this.pictures) this.caption = CAPTION;
    this.grid = layout(this.rows.length, width, (this.pictures ? this.size : Math.max(112, this.size)) + GAP, this.caption + (this.pictures ? 0 : GAP), this.pictures);
    const tall = this.grid.height !== this.tall;
    if (tall) this.sizer.style.height = `${(this.tall = this.grid.height)}px`;
    this.empty.hidden = this.rows.length > 0;
    this.scroller.setAttribute("aria-label", `${count(this.rows.length)} images`);
    this._place();
    this.moved = false;
  }

  /** Bring the scroller to where `offset` says. */
  _place() {
    this.offset = Math.max(0, Math.min(this.offset, this.grid.real - this.view));
    const top = toScroll(this.grid, this.offset, this.view);
    if (Math.abs(top - this.expected) < 0.01) return;
    this.scroller.scrollTop = top;
    this.expected = this.scroller.scrollTop;
  }

  _scrolled() {
    const top = this.scroller.scrollTop;
    if (Math.abs(top - this.expected) >= 1) (this.offset = toReal(this.grid, top, this.view)), (this.expected = top);
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this._render(false);
    });
  }

  /** Where scrolling is scaled, the wheel still moves by real pixels. */
  _wheel(e) {
    if (this.grid.height === this.grid.real || e.ctrlKey) return;
    e.preventDefault();
    this.offset += e.deltaMode === 1 ? e.deltaY * 20 : e.deltaMode === 2 ? e.deltaY * this.view : e.deltaY;
    this._place();
    this._scrolled();
  }

  _render(all) {
    const { grid, rows, tiles } = this, n = rows.length, [first, last] = visibleRange(grid, this.offset, this.view, n);
    const over = grid.columns, from = Math.max(0, first - over), to = Math.min(n, last + over), shift = this.expected - this.offset;
    for (const [place, tile] of tiles) {
      if (place >= from && place < to && tile.row === rows[place]) continue;
      tiles.delete(place);
      this.spare.push(tile);
    }
    const fresh = new Set();
    for (let place = from; place < to; place++) {
      let tile = tiles.get(place);
      if (!tile) {
        tile = this.spare.pop() ?? this._tile();
        tiles.set(place, tile);
        fresh.add(tile);
        tile.row = rows[place];
        tile.state = "";
      } else if (tile.edit !== this.cockpit.edits.get(tile.row)) fresh.add(tile);
      // pictures first: a canvas whose style is out of date makes the browser work it out for every drawing
      if (tile.state === "" || tile.state === "blank" || tile.side !== grid.tile) this._picture(tile);
    }
    for (let place = from; place < to; place++) {
      const tile = tiles.get(place);
      if (fresh.has(tile)) this._fill(tile, place);
      const x = (place % grid.columns) * grid.tile, y = Math.floor(place / grid.columns) * grid.line + shift;
      if (tile.x !== x || tile.y !== y) (tile.el.style.transform = `translate(${x}px,${y}px)`), (tile.x = x), (tile.y = y);
      if (all || fresh.has(tile)) this._mark(tile, place);
    }
    for (const tile of this.spare) if (tile.el.isConnected) tile.el.remove();
    if (fresh.size) this._inOrder(from, to);
    if (this.spare.length > 80) this.spare.length = 80;
    this._want(first, last);
    const cursor = tiles.get(this.cursor);
    if (cursor) this.scroller.setAttribute("aria-activedescendant", cursor.el.id);
  }

  /**
   * What is on screen first, then what comes next in the direction of scrolling, then what was.
   * While whole screens rush by nothing is asked for: the kernel is free when they come to rest.
   */
  _want(first, last) {
    const { rows } = this, span = last - first, down = first >= (this.before ?? 0), wanted = [], now = performance.now();
    const leap = Math.abs(first - (this.before ?? first)) > span, rushing = leap && now - this.leapt < RUSH_MS;
    this.before = first;
    if (leap) this.leapt = now;
    const add = (a, b) => {
      for (let i = Math.max(0, a); i < Math.min(rows.length, b); i++) wanted.push(rows[i]);
    };
    add(first, last);
    if (down) add(last, last + 2 * span), add(first - span, first);
    else add(first - 2 * span, first), add(last, last + span);
    const ask = () => this.cockpit.dead || this.cockpit.link.want(wanted, "gallery", Math.ceil(this.grid.tile * Math.min(2, window.devicePixelRatio || 1)), last - first);
    clearTimeout(this.asking);
    if (rushing) this.asking = setTimeout(ask, SETTLE_MS);
    else ask();
  }

  _tile() {
    const canvas = h("canvas", { "aria-hidden": "true" }), mark = h("span", { class: "cvb-mark", "aria-hidden": "true" }), one = h("bdi"), two = h("bdi"), value = h("span", { class: "cvb-num cvb-tile-value" });
    const pick = h("button", { class: "cvb-pick", type: "button", tabindex: "-1", "aria-label": "pick", title: "pick (Space)" }), open = h("button", { class: "cvb-open", type: "button", tabindex: "-1", "aria-label": "open", title: "open (Enter, double click)" });
    const caption = h("div", { class: "cvb-caption" }, h("div", {}, mark, one, value), h("div", { class: "cvb-second" }, two));
    const el = h("div", { class: "cvb-tile", role: "option" }, canvas, pick, open, caption);
    return { el, canvas, mark, one, two, value, caption, captionOn: true, row: -1, x: -1, y: -1, side: 0, state: "" };
  }

  _fill(tile, place) {
    const { cockpit } = this, { table } = cockpit, row = this.rows[place];
    tile.row = row;
    tile.edit = cockpit.edits.get(row);
    tile.el.dataset.row = String(row);
    tile.el.id = `${this.id}-${place}`;
    const [pred, target] = [table.byRole.get("pred"), table.byRole.get("target")], say = pred ? table.value(pred, row) : null, truth = target ? table.value(target, row) : null;
    setText(tile.one, say ?? truth ?? `row ${row}`, 60);
    const wrong = table.outcome[row] === 1, edit = cockpit.edits.get(row);
    if (edit !== undefined) setText(tile.two, `now ${clip(edit, 60)}`, 70);
    else setText(tile.two, wrong && truth !== null ? `is ${clip(truth, 60)}` : truth === null && target ? "no target" : "", 70);
    const column = table.byKey.get(this.key) ?? table.byRole.get("score");
    const v = column ? table.value(column, row) : null;
    tile.value.textContent = typeof v === "number" ? short(v) : "";
  }

  /** Elements stand in the order of the images, for whoever reads them. */
  _inOrder(from, to) {
    let next = this.sizer.firstChild;
    for (let place = from; place < to; place++) {
      const { el } = this.tiles.get(place);
      if (el === next) next = next.nextSibling;
      else this.sizer.insertBefore(el, next);
    }
  }

  _mark(tile, place) {
    const { cockpit } = this, { row } = tile, outcome = cockpit.engine.outcome[row], picked = this.picked.has(row), side = this.grid.tile - GAP;
    if (tile.wide !== side) (tile.wide = side), (tile.el.style.width = tile.canvas.style.width = tile.canvas.style.height = `${side}px`);
    const kind = outcome === 1 ? "wrong" : outcome === 0 ? "right" : "undecided", name = `cvb-tile cvb-${kind}${picked ? " cvb-is-picked" : ""}${place === this.cursor ? " cvb-cursor" : ""}${this.caption < CAPTION ? " cvb-bare" : ""}${tile.edit !== undefined ? " cvb-edited" : ""}${tile.state === "blank" ? " blank" : tile.state === "none" ? " none" : ""}`;
    if (tile.el.className !== name) tile.el.className = name;
    tile.mark.textContent = kind === "wrong" ? "✗" : kind === "right" ? "✓" : "·";
    tile.el.setAttribute("aria-selected", String(picked));
    tile.el.setAttribute("aria-posinset", String(place + 1));
    tile.el.setAttribute("aria-setsize", String(this.rows.length));
    tile.el.setAttribute("aria-label", `${kind === "wrong" ? "wrong" : kind === "right" ? "right" : "undecided"}: ${tile.one.textContent} ${tile.two.textContent}`);
  }

  _picture(tile) {
    const side = this.grid.tile - GAP, ratio = Math.min(2, window.devicePixelRatio || 1), px = Math.max(1, Math.round(side * ratio)), { canvas } = tile;
    if (canvas.width !== px) (canvas.width = canvas.height = px);
    tile.side = this.grid.tile;
    const ctx = context(canvas);
    ctx.clearRect(0, 0, px, px);
    const { link, layers } = this.cockpit, overlays = link.overlays.get(tile.row);
    tile.state = link.draw(ctx, tile.row, 0, 0, px, px);
    if (overlays && tile.state === "shown") layers.draw(ctx, overlays, link.place(tile.row, 0, 0, px, px), px / side, false);
  }

  /** Draw what is on screen again. */
  redraw() {
    for (const tile of this.tiles.values()) if (tile.state === "shown") this._picture(tile);
  }

  /** What came too late for the frame its tile was made in. @param {any} tile */
  _late(tile) {
    this._picture(tile);
    tile.el.classList.toggle("blank", tile.state === "blank");
    tile.el.classList.toggle("none", tile.state === "none");
  }

  /** @param {number[]} rows */
  onimage(rows) {
    const came = new Set(rows);
    for (const tile of this.tiles.values()) if (came.has(tile.row)) this._late(tile);
    if (!this.settling) this.settling = setTimeout(() => {
      this.settling = 0;
      for (const tile of this.tiles.values()) if (tile.state === "blank") this._late(tile);
    }, 50);
  }

  focus() {
    this.scroller.focus();
  }

  // --- picking

  _placeOf(e) {
    const el = e.target.closest?.("[data-row]");
    if (!el || !this.scroller.contains(el)) return -1;
    return Number(el.id.slice(this.id.length + 1));
  }

  _click(e) {
    const place = this._placeOf(e);
    this.scroller.focus({ preventScroll: true });
    if (place < 0) return;
    if (e.target.closest(".cvb-open")) return this.cockpit.detail.open(place);
    this.same = this.clicked === place;
    this.clicked = place;
    if (e.shiftKey) return this._run(place);
    this.anchor = place;
    this._move(place, false);
    const row = this.rows[place], only = this.picked.size === 1 && this.picked.has(row), more = e.ctrlKey || e.metaKey || e.target.closest(".cvb-pick");
    if (more) this.togglePick(row);
    else this.cockpit.pick(only && e.detail < 2 ? [] : [row]);
  }

  _double(e) {
    const place = this._placeOf(e);
    if (place >= 0 && this.same && !e.shiftKey && !e.ctrlKey && !e.metaKey && !e.target.closest(".cvb-pick")) this.cockpit.detail.open(place);
  }

  /** @param {number} row */
  togglePick(row) {
    const picks = new Set(this.picked);
    if (!picks.delete(row)) picks.add(row);
    this.cockpit.pick(picks);
  }

  _run(place) {
    const a = Math.min(this.anchor ?? place, place), b = Math.max(this.anchor ?? place, place);
    this._move(place, false);
    this.cockpit.pick(this.rows.subarray(a, b + 1));
  }

  _move(place, scroll = true) {
    this.cursor = Math.max(0, Math.min(this.rows.length - 1, place));
    if (scroll) {
      this.offset = reveal(this.grid, this.cursor, this.offset, this.view);
      this._place();
    }
    this._render(true);
  }

  _key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || !this.rows.length) return;
    const { grid } = this, page = Math.max(1, Math.floor(this.view / grid.line)) * grid.columns;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: grid.columns, ArrowUp: -grid.columns, PageDown: page, PageUp: -page, Home: -this.rows.length, End: this.rows.length }[e.key];
    if (step !== undefined) {
      const to = Math.max(0, Math.min(this.rows.length - 1, this.cursor + step));
      if (e.shiftKey) this.anchor ??= this.cursor;
      this._move(to);
      if (e.shiftKey) this._run(to);
      else this.anchor = to;
    } else if (e.key === "Enter") this.cockpit.detail.open(this.cursor);
    else if (e.key === " ") this.togglePick(this.rows[this.cursor]);
    else return;
    e.preventDefault();
  }
}
