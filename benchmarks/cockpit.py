"""Time the cockpit in a real JupyterLab in headless Chromium, Renumics Spotlight in the same browser, and a standalone page.

    python benchmarks/cockpit.py [--quick] [--only open update million gallery spotlight frozen] [--save FILE]

Rows: 100,000 photographs (each file of shared/data/clothing_small many times, made different by a comment in its JPEG header;
drawn parts if the folder is missing) with ten classes, predictions, six columns of metadata and features of 64 numbers. They are
committed once, into `--folder`; thumbnails are deleted before every run, so the gallery makes each from its photograph.

open       from the first line of a cell (`cockpit = explore(ev)`) in a kernel that holds `ev`, to the frame in which all panels
           are drawn. For the first cell of the kernel, and for the same cell again: only the first projects the features.
update     a lasso of 60 corners, a facet, a threshold, each with 30 different values: until all panels are painted (the page's
           own measurement `cvb:update`), and until after the next frame is drawn (requestAnimationFrame, then a message).
million    the same over 1,000,000 rows, without images.
gallery    scroll the whole grid in ten seconds, jump to twenty places, and scroll two screens per second by wheel, with no cached
           thumbnails: how long any tile on screen stays blank, checked in every frame.
spotlight  opening: `viewer.show(table)` on a server that already runs (started before; that time is shown separately) to the
           frame in which its table says 100,000 rows. Filtering: from the click that switches a filter on or off to the frame
           after its count of rows has changed. It gets the same table without the features (it would project them for minutes)
           and its default layout, which draws only the table. Ours: the opening and the facet above, to the drawn frame.
frozen     `to_html` with 5,000 rows and thumbnails; from file://, network off, a fresh browser context each time, from the
           start of navigation to the frame in which panels and all thumbnails on screen are drawn.

Ratios are Spotlight's median divided by ours: above 1, the cockpit is faster. The last line is JSON.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
SHARED = Path(os.environ.get("CVBENCH_SHARED", ROOT.parent / "shared")) / "data"
SPOTLIGHT = "renumics-spotlight==1.8.2"
CLASSES = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")


# --- data


def read_photos() -> list[tuple[bytes, str]]:
    "Photographs with their class, or drawn parts if there are none"
    if files := sorted((SHARED / "clothing_small").rglob("*.jpg")):
        return [(f.read_bytes(), f.parent.name) for f in files]
    from cvbench.core.inspection import make_inspection

    drawn = [s.image for s in make_inspection(600) if s.image and s.image[:2] == b"\xff\xd8"]
    return [(data, CLASSES[i % len(CLASSES)]) for i, data in enumerate(drawn)]


def tell_apart(photo: bytes, i: int) -> bytes:
    "The same JPEG with a comment, so that its bytes differ"
    note = f"copy {i}".encode()
    return photo[:2] + b"\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note + photo[2:]


def draw_columns(target: np.ndarray, seed: int = 0) -> tuple[np.ndarray, dict, np.ndarray]:
    "Scores of a model that is right three times in four and worse in dim light, metadata, features"
    n, rng = len(target), np.random.default_rng(seed)
    light, camera = rng.choice(["bright", "day", "dim"], n, p=[0.3, 0.5, 0.2]), rng.choice(list("ABCDEFGH"), n)
    logits = rng.normal(size=(n, len(CLASSES))).astype(np.float32) * 1.3
    logits[np.arange(n), target] += np.where(light == "dim", 1.4, 3.0)
    scores = np.exp(logits - logits.max(1, keepdims=True))
    scores /= scores.sum(1, keepdims=True)
    metadata = {
        "light": light, "camera": camera, "night": rng.random(n) < 0.3, "brightness": rng.normal(0.5, 0.15, n),
        "blur": rng.gamma(2, 2, n), "kilobytes": rng.integers(200, 2000, n),
    }  # fmt: skip
    centres = rng.normal(size=(len(CLASSES), 64)) * 1.5
    features = (centres[target] + rng.normal(size=(n, 64))).astype(np.float32)
    return scores, metadata, features


def prepare(n: int, folder: Path) -> Path:
    "A store with the images, their predictions, and the same data as a flat table; made once"
    from cvbench.core.predictions import make_predictions, save_predictions
    from cvbench.core.types import Sample, Target
    from cvbench.data.commit import commit
    from cvbench.data.versions import add_column

    home = folder / f"rows{n}"
    if (home / "ready").exists():
        return home
    shutil.rmtree(home, ignore_errors=True)
    print(f"  committing {n:,} photographs to {home}, once", flush=True)
    photos = read_photos()
    labels = [photos[i % len(photos)][1] for i in range(n)]
    samples = (
        Sample(f"{i:06d}.jpg", tell_apart(photos[i % len(photos)][0], i), Target((labels[i],)), "test")
        for i in range(n)
    )
    ds = commit(samples, "photos", store=home / "store")
    rows = ds.table(["sample_id", "target"]).to_pylist()
    names = [r["target"]["labels"][0] for r in rows]
    scores, metadata, features = draw_columns(np.array([CLASSES.index(t) for t in names]))
    ds = add_column(ds, "embedding", iter(np.array_split(features, 20)))
    preds = make_predictions(
        names, scores, CLASSES, sample_id=[r["sample_id"] for r in rows], metadata=metadata,
        dataset_version=ds.ref, model_id="made-up",
    )  # fmt: skip
    save_predictions(preds, home / "preds.parquet")
    flat = preds.table.drop_columns(["scores"]).to_pandas()
    flat["x"], flat["y"] = features[:, 0], features[:, 1]
    if files := sorted((SHARED / "clothing_small").rglob("*.jpg")):
        flat["image"] = [str(files[i % len(files)]) for i in range(n)]
    flat.to_parquet(home / "flat.parquet")
    (home / "ready").touch()
    return home


def prepare_million(n: int, folder: Path) -> Path:
    "Predictions without images, and features; made once"
    from cvbench.core.predictions import make_predictions, save_predictions

    home = folder / f"bare{n}"
    if (home / "ready").exists():
        return home
    shutil.rmtree(home, ignore_errors=True)
    print(f"  writing {n:,} rows to {home}, once", flush=True)
    target = np.random.default_rng(1).integers(0, len(CLASSES), n)
    scores, metadata, features = draw_columns(target, 1)
    home.mkdir(parents=True)
    save_predictions(
        make_predictions([CLASSES[t] for t in target], scores, CLASSES, metadata=metadata), home / "preds.parquet"
    )
    np.save(home / "features.npy", features[:, :16])
    (home / "ready").touch()
    return home


# --- the browser

# Checks every frame: when a cockpit is drawn, when no tile in it is blank, and how long tiles on screen have been blank.
WATCH = """(() => {
  const bench = (window.__bench = { ready: {}, full: {}, blank: 0, since: new Map(), frames: 0, slowest: 0, last: 0 });
  const wall = () => performance.timeOrigin + performance.now();
  const drawn = (then) => { const c = new MessageChannel(); c.port1.onmessage = then; c.port2.postMessage(0); };
  bench.after = () => new Promise((done) => requestAnimationFrame(() => drawn(done)));
  const inSight = (scroller) => {
    const tiles = [...scroller.querySelectorAll("[data-row].blank")], box = tiles.length && scroller.getBoundingClientRect();
    const meets = (b) => b.bottom > box.top && b.top < box.bottom;
    return tiles.filter((tile) => meets(tile.getBoundingClientRect())).map((tile) => tile.dataset.row);
  };
  const look = () => {
    const now = performance.now();
    bench.frames++, (bench.slowest = Math.max(bench.slowest, now - bench.last)), (bench.last = now);
    for (const root of document.querySelectorAll('.cvb[data-ready="1"]')) {
      const id = root.dataset.cockpit || "frozen", scroller = root.querySelector(".cvb-scroller");
      if (!(id in bench.ready)) (bench.ready[id] = 0), drawn(() => (bench.ready[id] = wall()));
      if (!scroller) continue;
      const blank = new Set(inSight(scroller));
      if (!blank.size && !(id in bench.full) && scroller.querySelector("[data-row]")) (bench.full[id] = 0), drawn(() => (bench.full[id] = wall()));
      for (const row of blank) if (!bench.since.has(row)) bench.since.set(row, now);
      for (const [row, t] of bench.since) {
        bench.blank = Math.max(bench.blank, now - t);
        if (!blank.has(row)) bench.since.delete(row);
      }
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()"""

# Thirty values for a gesture; each starts when the page is idle.
GESTURE = """async ([kind, values]) => {
  const cockpit = window.__cvb[window.__cvb.length - 1], out = [], rest = (ms) => new Promise((r) => setTimeout(r, ms));
  cockpit.clear();
  await rest(500);
  for (const value of values) {
    await rest(120);
    await window.__bench.after();
    performance.clearMeasures("cvb:update");
    const start = performance.now();
    if (kind === "threshold") cockpit.setThreshold(value);
    else cockpit.select([value]);
    await window.__bench.after();
    const drawn = performance.now() - start, measured = performance.getEntriesByName("cvb:update");
    out.push([Math.max(...measured.map((m) => m.duration)), drawn, cockpit.engine.rows.length]);
  }
  cockpit.clear();
  await rest(500);
  return out;
}"""

EXTENT = """() => {
  const { table } = window.__cvb[window.__cvb.length - 1], side = (role) => {
    const v = table.byRole.get(role).values;
    let low = Infinity, high = -Infinity;
    for (const x of v) (low = Math.min(low, x)), (high = Math.max(high, x));
    return [low, high];
  };
  return [side("x"), side("y")];
}"""

# Scrolls the grid from end to end in some seconds, then jumps, then uses the wheel.
SCROLL = """async ([how, seconds, places]) => {
  const { gallery } = window.__cvb[window.__cvb.length - 1], { scroller } = gallery, bench = window.__bench;
  const frame = () => new Promise((r) => requestAnimationFrame(r)), rest = (ms) => new Promise((r) => setTimeout(r, ms));
  const full = async () => { const end = performance.now() + 20000; await rest(100); while (scroller.querySelector(".blank") && performance.now() < end) await frame(); };
  scroller.scrollTop = how === "leaps" ? scroller.scrollHeight * 0.77 : 0;
  await full();
  bench.blank = 0, bench.slowest = 0, bench.frames = 0, bench.since.clear();
  const range = scroller.scrollHeight - scroller.clientHeight, start = performance.now(), seen = new Set();
  const note = () => { for (const t of scroller.querySelectorAll("[data-row]")) seen.add(t.dataset.row); };
  if (how === "leaps") for (const p of places) (scroller.scrollTop = p * range), await rest(700), note();
  else {
    let before = start;
    for (let now = start; now - start < seconds * 1000; now = performance.now()) {
      if (how === "sweep") scroller.scrollTop = Math.min(1, (now - start) / seconds / 1000) * range;
      else scroller.dispatchEvent(new WheelEvent("wheel", { deltaY: 2 * scroller.clientHeight * (now - before) / 1000, cancelable: true, bubbles: true })) && (scroller.scrollTop += 2 * scroller.clientHeight * (now - before) / 1000);
      before = now;
      await frame();
      note();
    }
    if (how === "sweep") scroller.scrollTop = range;
  }
  await full();
  return { blank_ms: bench.blank, slowest_frame_ms: bench.slowest, frames: bench.frames, tiles: seen.size };
}"""


def make_values(kind: str, extent: list, k: int) -> list:
    "The selection of a gesture, k times, each time different"
    rng = np.random.default_rng(3)
    if kind == "threshold":
        return np.round(np.linspace(0.25, 0.95, k), 4).tolist()
    if kind == "facet":
        whole = [("light", v) for v in ("dim", "day", "bright")] + [("camera", v) for v in "ABCDEFGH"]
        low = rng.uniform(0.1, 0.6, k)
        made = [{"panel": "facet", "column": c, "op": "in", "values": [v]} for c, v in whole]
        made += [{"panel": "facet", "column": "brightness", "op": "range", "low": a, "high": a + 0.2} for a in low]
        return [made[i] for i in np.linspace(0, len(made) - 1, k).astype(int)]
    (x0, x1), (y0, y1) = extent
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    out = []
    for _ in range(k):
        x, y, r = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65), rng.uniform(0.1, 0.3)
        ring = r * (1 + 0.2 * np.sin(5 * turns))
        corners = np.c_[x0 + (x1 - x0) * (x + ring * np.cos(turns)), y0 + (y1 - y0) * (y + ring * np.sin(turns))]
        out.append({"panel": "map", "op": "lasso", "polygon": corners.tolist()})
    return out


def new_page(browser, offline: bool = False):
    context = browser.new_context(viewport={"width": 1500, "height": 1200}, offline=offline)
    context.add_init_script(WATCH)
    page = context.new_page()
    page.set_default_timeout(240_000)
    return page


def write_notebook(path: Path, *cells: str) -> None:
    import nbformat

    nb = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    )
    nb.cells = [nbformat.v4.new_code_cell(c.strip()) for c in cells]
    nbformat.write(nb, path)


SETUP = """
import time
import numpy as np
from cvbench.core.predictions import load_predictions
from cvbench.evaluation.evaluate import evaluate
from cvbench.cockpit.widget import explore
ev = evaluate(load_predictions("{home}/preds.parquet"), n_boot=20)
features = {features}
"""
OPEN = "started = time.time()\ncockpit = explore(ev{more})\ncockpit"


def wait(condition: Callable, what: str, seconds: float = 180):
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.02)
    return value


@contextmanager
def opened(browser, home: Path, features: str = "None", more: str = "") -> Iterator:
    "A JupyterLab whose notebook has run its first cell; a function runs the second and returns its duration"
    from cockpit_browser import Lab

    shutil.rmtree(home / "store/cache", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_notebook(place / "bench.ipynb", SETUP.format(home=home, features=features), OPEN.format(more=more))
        with Lab(place, CVBENCH_STORE=str(home / "store"), CVBENCH_TRACKER="off", OMP_NUM_THREADS="") as lab:
            page = new_page(browser)
            lab.open(page, "bench.ipynb")
            run = "i => { const p = window.jupyterapp.shell.currentWidget; p.content.activeCellIndex = i; return window.jupyterapp.commands.execute('notebook:run-cell'); }"
            page.evaluate(run, 0)
            wait(lambda: lab.python("'features' in globals()"), "the first cell")

            def open_once() -> dict:
                before = set(page.evaluate("Object.keys(window.__bench.ready)"))
                page.evaluate(run, 1)
                (new,) = wait(
                    lambda: [k for k, v in page.evaluate("window.__bench.ready").items() if v and k not in before],
                    "the cockpit",
                )
                full = wait(lambda: page.evaluate("id => window.__bench.full[id]", new), "the thumbnails")
                ready, started = page.evaluate("id => window.__bench.ready[id]", new), lab.python("started")
                time.sleep(1)
                return {"ready_s": ready / 1e3 - started, "thumbnails_s": full / 1e3 - started}

            try:
                yield page, open_once
            finally:
                page.context.close()


def measure_gestures(page, k: int) -> dict:
    "Milliseconds by gesture: until the panels are painted, and until the next frame"
    page.locator(".cvb").last.scroll_into_view_if_needed()
    extent, out = page.evaluate(EXTENT), {}
    for kind in ("lasso", "facet", "threshold"):
        took = page.evaluate(GESTURE, [kind, make_values(kind, extent, k)])
        out[kind] = {"painted_ms": [t[0] for t in took], "drawn_ms": [t[1] for t in took], "rows": [t[2] for t in took]}
    return out


def say_gestures(n: int, gestures: dict) -> None:
    for kind, took in gestures.items():
        for which, name in (("painted_ms", "panels painted"), ("drawn_ms", "frame after")):
            print(
                f"  {kind:<10} {n:>9,} rows  {name:<15} median {statistics.median(took[which]):6.1f} ms   worst {max(took[which]):6.1f} ms",
                flush=True,
            )


def measure_live(browser, args, home: Path) -> dict:
    "Opening, updates and scrolling at `args.rows` rows"
    out: dict = {}
    with opened(browser, home) as (page, open_once):
        out["open"] = [open_once() for _ in range(2 if args.quick else 5)]
        for i, o in enumerate(out["open"]):
            print(
                f"  open {'first' if not i else 'again':<8} panels {o['ready_s']:.2f} s   all thumbnails on screen {o['thumbnails_s']:.2f} s",
                flush=True,
            )
        if "update" in args.only:
            out["update"] = measure_gestures(page, args.gestures)
            say_gestures(args.rows, out["update"])
        if "gallery" in args.only:
            places = np.random.default_rng(5).random(20).tolist()
            for how in ("sweep", "leaps", "wheel"):
                got = page.evaluate(SCROLL, [how, 4 if args.quick else 10, places[: 5 if args.quick else 20]])
                out.setdefault("gallery", {})[how] = got
                print(
                    f"  gallery {how:<6} a tile stays blank {got['blank_ms']:5.0f} ms at most   {got['tiles']:,} tiles seen, slowest frame {got['slowest_frame_ms']:.0f} ms",
                    flush=True,
                )
    return out


def measure_million(browser, args) -> dict:
    home = prepare_million(args.million, args.folder)
    with opened(browser, home, f'np.load("{home}/features.npy")', ", embedding=features") as (page, open_once):
        out = {"open": [open_once()]}
        print(f"  open {args.million:,} rows {out['open'][0]['ready_s']:.2f} s", flush=True)
        out["update"] = measure_gestures(page, args.gestures)
        say_gestures(args.million, out["update"])
    return out


# --- Spotlight

SERVE = """
import json, sys, time
import pandas as pd
from renumics import spotlight
table = pd.read_parquet(sys.argv[1])
for name in ("target", "pred", "split", "light", "camera"):
    table[name] = table[name].astype("category")
dtype = {"image": spotlight.Image} if "image" in table else {}
begun = time.time()
viewer = spotlight.show(table.head(10), dtype=dtype, no_browser=True, wait=False, analyze=False)
print(json.dumps({"begun": begun, "shown": time.time(), "port": viewer.port}), flush=True)
for line in sys.stdin:
    begun = time.time()
    viewer.show(table, dtype=dtype, no_browser=True, wait=False, analyze=False)
    print(json.dumps({"begun": begun, "shown": time.time(), "port": viewer.port}), flush=True)
viewer.close()
"""

TOGGLE = """async ([k, all]) => {
  const count = document.querySelector("[data-test-tag=datagrid-filtered-count]"), out = [], rest = (ms) => new Promise((r) => setTimeout(r, ms));
  const button = document.querySelector("[data-tour=filterBar] li button");
  for (let i = 0; i < k; i++) {
    await rest(400);
    await window.__bench.after();
    const before = count.textContent, start = performance.now();
    button.click();
    for (let j = 0; j < 600 && count.textContent === before; j++) await new Promise((r) => { const c = new MessageChannel(); c.port1.onmessage = r; c.port2.postMessage(0); setTimeout(r, 20); });
    if (count.textContent === before) throw new Error("the filter changed nothing");
    await window.__bench.after();
    out.push(performance.now() - start);
  }
  return out;
}"""


def make_spotlight(folder: Path) -> Path:
    "A Python environment with Spotlight, outside the repository; made once"
    home = folder / "spotlight"
    python = home / "bin/python"
    if not (home / "ready").exists():
        print(f"  installing {SPOTLIGHT} into {home}, once", flush=True)
        uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            [uv, "pip", "install", "--quiet", "--python", str(python), SPOTLIGHT],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr.strip()[-400:])
        (home / "ready").touch()
    return python


def measure_spotlight(browser, args, home: Path) -> dict:
    "Opening and filtering in the same browser"
    python = make_spotlight(args.folder)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    job = subprocess.Popen([python, "-c", SERVE, str(home / "flat.parquet")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)  # fmt: skip

    def hear() -> dict:
        for line in job.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"Spotlight ended with {job.wait()}")

    out: dict = {"open_s": [], "filter_ms": []}
    count = "[data-test-tag=datagrid-filtered-count]"
    try:
        first = hear()
        out["start_s"] = first["shown"] - first["begun"]
        for _ in range(2 if args.quick else 3):
            page = new_page(browser)
            job.stdin.write("show\n")
            job.stdin.flush()
            served = hear()
            page.goto(f"http://127.0.0.1:{served['port']}/", wait_until="commit")
            page.wait_for_function(f"document.querySelector('{count}')?.textContent === '{args.rows}'", polling="raf")
            at = page.evaluate("window.__bench.after().then(() => performance.timeOrigin + performance.now())")
            out["open_s"].append(at / 1e3 - served["begun"])
            if len(out["open_s"]) < (2 if args.quick else 3):
                page.context.close()
        page.wait_for_timeout(1500)
        page.locator("[data-test-tag=datagrid-filtered-tab-button]").click()
        bar = page.locator("[data-tour=filterBar]")
        bar.locator("button").first.click()
        fields = bar.locator("input")
        for i, text in enumerate(("score", ">")):
            fields.nth(i).click()
            page.keyboard.type(text)
            page.wait_for_timeout(300)
            page.keyboard.press("Enter")
            page.wait_for_timeout(300)
        fields.nth(2).fill("0.7")
        page.keyboard.press("Enter")
        page.wait_for_function(f"document.querySelector('{count}').textContent !== '{args.rows}'")
        page.wait_for_timeout(1500)
        out["filter"] = bar.locator("li").first.inner_text()
        out["filtered_rows"] = int(page.inner_text(count))
        out["filter_ms"] = page.evaluate(TOGGLE, [args.gestures, args.rows])
        page.context.close()
    finally:
        job.stdin.close()  # then it stops its server
        try:
            job.wait(20)
        except subprocess.TimeoutExpired:
            job.kill()
            job.wait()
    print(
        f"  spotlight  start of its server {out['start_s']:.2f} s; open {spread(out['open_s'], 2)} s; filter '{out['filter']}' ({out['filtered_rows']:,} rows) median {statistics.median(out['filter_ms']):.1f} ms, worst {max(out['filter_ms']):.1f} ms",
        flush=True,
    )
    return out


# --- standalone


def measure_frozen(browser, args) -> dict:
    from cvbench.cockpit.widget import explore
    from cvbench.core.predictions import load_predictions
    from cvbench.evaluation.evaluate import evaluate

    home = prepare(args.frozen, args.folder)
    ev = evaluate(load_predictions(home / "preds.parquet"), n_boot=20)
    out: dict = {"ready_s": [], "thumbnails_s": []}
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        page_file = explore(ev, store=home / "store").to_html(Path(folder) / "frozen.html", max_images=args.frozen)
        out["write_s"], out["mb"] = time.perf_counter() - begun, page_file.stat().st_size / 1e6
        for _ in range(3 if args.quick else 7):
            page = new_page(browser, offline=True)
            asked: list[str] = []
            page.on(
                "request",
                lambda r, asked=asked: asked.append(r.url) if not r.url.startswith(("file:", "data:")) else None,
            )
            page.goto(page_file.as_uri(), wait_until="commit")
            wait(
                lambda page=page: page.evaluate("window.__bench.ready.frozen && window.__bench.full.frozen"),
                "the frozen page",
            )
            begun, ready, full = page.evaluate(
                "[performance.timeOrigin, window.__bench.ready.frozen, window.__bench.full.frozen]"
            )
            if asked or not page.evaluate("window.__cvb[0].link.tiles.size") == args.frozen:
                raise RuntimeError(f"the page asked for {asked}, or does not have its thumbnails")
            out["ready_s"].append((ready - begun) / 1e3)
            out["thumbnails_s"].append((full - begun) / 1e3)
            page.context.close()
    print(
        f"  frozen {args.frozen:,} thumbnails: {out['mb']:.2f} MB, written in {out['write_s']:.1f} s; panels {spread(out['ready_s'], 2)} s, thumbnails on screen {spread(out['thumbnails_s'], 2)} s, network off",
        flush=True,
    )
    return out


# --- all


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def slowest(update: dict) -> float:
    "Milliseconds to the next frame, for the gesture with the highest median"
    return max(statistics.median(took["drawn_ms"]) for took in update.values())


def summarise(done: dict) -> dict:
    "The numbers of the last line; null if not measured"
    live, million, other, frozen = (done.get(k) or {} for k in ("live", "million", "spotlight", "frozen"))
    opens, update = [o["ready_s"] for o in live.get("open", [])], live.get("update")
    line: dict = dict.fromkeys(("open_100k_s", "update_100k_ms", "update_1m_ms", "spotlight_open_ratio", "spotlight_filter_ratio", "frozen_5k_mb", "frozen_open_s"))  # fmt: skip
    if opens:
        line |= {
            "open_100k_s": statistics.median(opens),
            "open_100k_first_s": opens[0],
            "open_100k_worst_s": max(opens),
        }
    for name, took in (("100k", update), ("1m", million.get("update"))):
        if took:
            line |= {
                f"update_{name}_ms": slowest(took),
                f"update_{name}_worst_ms": max(max(t["drawn_ms"]) for t in took.values()),
            }
    if live.get("gallery"):
        line["blank_ms"] = max(g["blank_ms"] for g in live["gallery"].values())
    if other.get("open_s") and opens:
        line["spotlight_open_ratio"] = statistics.median(other["open_s"]) / statistics.median(opens)
    if other.get("filter_ms") and update:
        line["spotlight_filter_ratio"] = statistics.median(other["filter_ms"]) / statistics.median(
            update["facet"]["drawn_ms"]
        )
    if frozen:
        line |= {
            "frozen_5k_mb": frozen["mb"],
            "frozen_open_s": statistics.median(frozen["thumbnails_s"]),
            "frozen_open_worst_s": max(frozen["thumbnails_s"]),
        }
    return {k: v if v is None else round(v, 3) for k, v in line.items()}


def main() -> None:
    parts = ("open", "update", "gallery", "million", "spotlight", "frozen")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=parts, default=list(parts))
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, fewer repetitions")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "cvbench-bench", help="data and peers, kept"
    )
    parser.add_argument("--prepare", action="store_true", help="make the data and install the peer, measure nothing")
    parser.add_argument("--save", help="write all figures to this JSON file too")
    args = parser.parse_args()
    args.rows, args.million, args.frozen, args.gestures = (
        (10_000, 100_000, 1000, 8) if args.quick else (100_000, 1_000_000, 5000, 30)
    )
    os.environ |= {"CVBENCH_TRACKER": "off"}
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.prepare:
        for make in (
            lambda: prepare(args.rows, args.folder),
            lambda: prepare(args.frozen, args.folder),
            lambda: prepare_million(args.million, args.folder),
            lambda: make_spotlight(args.folder),
        ):
            make()
        return
    from cockpit_browser import chromium

    done: dict = {}
    with chromium() as browser:
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Chromium {browser.version} headless, drawing by software"
        print(machine, flush=True)
        home = prepare(args.rows, args.folder)
        if set(args.only) & {"open", "update", "gallery", "spotlight"}:
            done["live"] = measure_live(browser, args, home)
        if "spotlight" in args.only:
            try:
                done["spotlight"] = measure_spotlight(browser, args, home)
            except Exception as e:  # not installable here, or its page differs from that of the pinned version
                print(f"  spotlight could not be measured: {type(e).__name__}: {e}", flush=True)
                done["spotlight"] = {"error": f"{type(e).__name__}: {e}"}
        if "million" in args.only:
            done["million"] = measure_million(browser, args)
        if "frozen" in args.only:
            done["frozen"] = measure_frozen(browser, args)
    if args.save:
        Path(args.save).write_text(json.dumps({"machine": machine, **done}, indent=1) + "\n")
    print(json.dumps({"benchmark": "cockpit", "machine": machine, **summarise(done)}))


if __name__ == "__main__":
    main()
