// Keys that work anywhere in a cockpit. Panels handle their own arrows.
import { h } from "./text.js";

export const KEYS = [
  ["/", "to the expression; Ctrl C copies it"],
  ["g  f  m  c  t", "to gallery, facets, map, confusion, threshold"],
  ["arrows, Home, End, PgUp, PgDn", "move in the gallery, the matrix, the facets"],
  ["Enter", "open an image; select a cell or a bar"],
  ["Space", "pick an image; Shift with arrows picks a run"],
  ["Esc", "close; drop the picks; clear the filters"],
  ["Ctrl Z, Ctrl Shift Z", "undo and redo what was selected"],
  ["e", "only the wrong ones"],
  ["s  o  r  x", "make a slice, a golden set, relabel, make a test"],
  ["b", "show and hide boxes, masks and text"],
  ["+  −", "larger and smaller images; zoom in the detail view"],
  ["←  →  n", "in the detail view: previous, next, its neighbours"],
  ["Shift drag, double click", "on the map: move it; show all again"],
  ["?", "this list"],
];

const OURS = new Set(["z", "y", "c", "x", "v", "a"]);

/** @param {import("./cockpit.js").Cockpit} cockpit */
export function bindKeys(cockpit) {
  const { root } = cockpit;
  const help = h("dialog", { class: "cvb-dialog cvb-help", "aria-label": "keys" },
    h("h3", { text: "Keys" }),
    h("dl", {}, ...KEYS.map(([k, what]) => [h("dt", {}, h("kbd", { text: k })), h("dd", { text: what })])),
    h("form", { method: "dialog" }, h("button", { class: "cvb-button", text: "Close" })));
  root.append(help);
  cockpit.help = () => help.showModal();
  const go = { g: () => cockpit.gallery?.focus(), f: () => cockpit.facets?.focus(), m: () => cockpit.map?.focus(), c: () => cockpit.confusion?.focus(), t: () => cockpit.threshold?.focus() };
  const act = { s: "slice", o: "golden", r: "relabel", x: "test" };
  const listen = (e) => {
    const { target } = e, dialog = target.closest?.("dialog");
    const typing = target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
    if ((e.ctrlKey || e.metaKey) && !typing && !dialog) {
      const k = e.key.toLowerCase();
      if (k === "z" && !e.shiftKey) cockpit.undo();
      else if (k === "y" || (k === "z" && e.shiftKey)) cockpit.redo();
      else return;
      return e.preventDefault();
    }
    if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || dialog) return;
    if (e.key === "Escape") {
      if (typing) target.blur(), root.focus();
      else if (cockpit.top.closeForm()) return;
      else if (cockpit.state.picks) cockpit.set({ picks: null });
      else if (cockpit.state.filters.length) cockpit.set({ filters: [] });
      else if (cockpit.state.threshold !== null) cockpit.setThreshold(null, null);
      return e.preventDefault();
    }
    if (typing) return;
    if (e.key === "?") cockpit.help();
    else if (e.key === "/") cockpit.top.focusWhere();
    else if (e.key === "e") cockpit.top.toggleErrors();
    else if (e.key === "+" || e.key === "=" || e.key === "-") cockpit.gallery?.resize(e.key === "-" ? -1 : 1);
    else if (e.key === "b") cockpit.layers.toggle();
    else if (go[e.key]) go[e.key]();
    else if (act[e.key]) cockpit.top.openForm(act[e.key]);
    else return;
    e.preventDefault();
  };
  // JupyterLab hears keys before this element does and keeps off where the attribute is set: it keeps Ctrl S and the like
  const share = (e) => {
    if (!root.contains(e.target)) return;
    const theirs = (e.ctrlKey || e.metaKey) && !OURS.has(e.key.toLowerCase());
    if (theirs) root.removeAttribute("data-lm-suppress-shortcuts");
    else root.setAttribute("data-lm-suppress-shortcuts", "true");
  };
  window.addEventListener("keydown", share, true);
  root.addEventListener("keydown", listen);
  return () => {
    window.removeEventListener("keydown", share, true);
    root.removeEventListener("keydown", listen);
  };
}
