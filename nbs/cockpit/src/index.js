// Entry for a live cockpit: an anywidget module.
import { Cockpit } from "./cockpit.js";
import { readTable } from "./columns.js";
import { Live } from "./link.js";

const PUSH_MS = 40;

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  const src = Math.random().toString(36).slice(2);
  let cockpit = null, seq = 0, timer = 0;

  function push() {
    clearTimeout(timer);
    timer = 0;
    if (!cockpit || cockpit.dead) return;
    const { state, engine } = cockpit, { where, complete } = cockpit.where, picked = Boolean(state.picks?.length), all = engine.all && !picked;
    const rows = all ? new Uint32Array(0) : engine.selected.slice();
    model.set("_rows", new DataView(rows.buffer));
    model.set("_choice", { filters: state.filters, threshold: state.threshold, threshold_class: state.threshold_class, picked, picks: picked ? Array.from(state.picks) : [], where, complete, all, seq: ++seq, src });
    model.save_changes();
  }

  function mount() {
    cockpit?.destroy();
    const spec = structuredClone(model.get("_spec") ?? { columns: [], classes: [], n: 0 });
    const notes = model.get("_notes");
    if (notes?.length) spec.slices = notes;
    cockpit = new Cockpit(el, spec, readTable(model.get("_table"), spec), new Live(model, spec), {
      onchoice: () => (timer ||= window.setTimeout(push, PUSH_MS)),
      flush: () => timer && push(),
    });
    cockpit.root.dataset.cockpit = model.get("_id") ?? "";
    hear();
  }

  /** What Python or another view of the same cockpit has chosen. */
  function hear() {
    const choice = model.get("_choice");
    if (choice?.filters && choice.src !== src) cockpit.restore(choice, { quiet: Boolean(choice.src) && choice.src !== "py" });
  }

  const slices = () => {
    cockpit.spec.slices = structuredClone(model.get("_notes") ?? []);
    cockpit.engine.masks.clear();
    cockpit._paint();
  };
  mount();
  model.on("change:_table", mount);
  model.on("change:_choice", hear);
  model.on("change:_notes", slices);
  return () => {
    clearTimeout(timer);
    model.off("change:_table", mount);
    model.off("change:_choice", hear);
    model.off("change:_notes", slices);
    cockpit?.destroy();
  };
}

export default { render };
