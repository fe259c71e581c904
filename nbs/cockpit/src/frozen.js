// Entry for a frozen page: a classic script that mounts every frozen cockpit of the page.
import { Cockpit } from "./cockpit.js";
import { readTable } from "./columns.js";
import { decodeBase64 } from "./filters.js";
import { Frozen } from "./link.js";

/** @param {Uint8Array} bytes @returns {Promise<Uint8Array>} */
async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Mount the cockpit whose data stands in the element's `<script type="application/json">`:
 * {spec, table: "data:application/gzip;base64,…" of an Arrow stream, overlays: the same of JSON, choice: what is selected at first}.
 * @param {HTMLElement} el
 */
export async function mountFrozen(el) {
  if (el.dataset.mounted) return null;
  el.dataset.mounted = "1";
  try {
    const { spec, table, overlays, choice } = JSON.parse(el.querySelector('script[type="application/json"]').textContent);
    const unpack = (uri) => gunzip(decodeBase64(uri.slice(uri.indexOf(",") + 1)));
    const bytes = table ? await unpack(table) : null;
    const drawn = overlays ? JSON.parse(new TextDecoder().decode(await unpack(overlays))) : {};
    const host = document.createElement("div");
    const columns = readTable(bytes, spec);
    el.append(host);
    for (const c of Array.from(el.children)) if (c.hasAttribute("data-fallback")) c.remove();
    const cockpit = new Cockpit(host, { ...spec, frozen: true }, columns, new Frozen(spec, columns, new Map(Object.entries(drawn).map(([row, list]) => [Number(row), list]))));
    cockpit.restore(choice, { record: false });
    return cockpit;
  } catch (e) {
    console.error(e);
    const note = document.createElement("p");
    note.textContent = `This cockpit could not be opened (${e.message}).`;
    el.append(note);
    return null;
  }
}

const mountAll = () => document.querySelectorAll(".cvbench-frozen").forEach((el) => void mountFrozen(/** @type {HTMLElement} */ (el)));

window.cvbenchCockpit = { ...(window.cvbenchCockpit ?? {}), mountFrozen, mountAll };
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", mountAll);
else mountAll();
