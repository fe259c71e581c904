// Bundles the cockpit into cvbench/cockpit/static/: an ES module for anywidget, a classic script for frozen pages, one style sheet.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";
import { dirname, join, resolve } from "node:path";

const here = dirname(fileURLToPath(import.meta.url));
const to = resolve(process.argv[2] ?? join(here, "../../cvbench/cockpit/static"));
const shared = { bundle: true, minify: true, target: "es2022", legalComments: "eof", charset: "utf8", logLevel: "warning", absWorkingDir: here };

await build({ ...shared, entryPoints: ["src/index.js"], format: "esm", outfile: join(to, "cockpit.js") });
await build({ ...shared, entryPoints: ["src/frozen.js"], format: "iife", outfile: join(to, "cockpit_frozen.js") });
await build({ ...shared, entryPoints: ["src/style.css"], outfile: join(to, "cockpit.css") });
