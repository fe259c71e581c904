"A page without kernel, server and network: it filters, lassos and re-scores, its numbers are Python's, and data in it is never markup"

import base64
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from cockpit_browser import (
    BUNDLE,
    ROOT,
    artefacts,
    chromium,
    click_cell,
    count,
    drag_lasso,
    inside,
    set_threshold,
    wait_for,
    watch,
)  # fmt: skip
from conftest import lacking
from PIL import Image

from cvbench.cockpit.standalone import make_frozen_page, read_bundle, script_policy
from cvbench.cockpit.widget import explore
from cvbench.core.predictions import make_predictions
from cvbench.core.types import Sample, Target, encode_rle
from cvbench.data.commit import commit
from cvbench.evaluation.evaluate import evaluate
from cvbench.evaluation.intervals import wilson
from cvbench.evaluation.select import match_rows

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "quote \" ' ` \\",
    "\0nul\x1b[31m",
    "‮rtl مسمار",
    "y" * 10_000,
    "{{ 7 * 7 }}",
    "a\nb",
]


def draw(i, size=48):
    with io.BytesIO() as out:
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (6, 6, 3), np.uint8)).resize((size, size)).save(
            out, "PNG"
        )
        return out.getvalue()


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser, tmp_path):
    "Open HTML from a file, with the network off; nothing may be asked for and no error said"
    contexts = []

    def show(html, width=1400, scheme="light"):
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(html, encoding="utf-8")
        contexts.append(
            context := browser.new_context(viewport={"width": width, "height": 1100}, color_scheme=scheme, offline=True)
        )
        tab = context.new_page()
        tab.set_default_timeout(30_000)
        contexts.append(watch(tab))
        tab.goto(path.as_uri())
        tab.wait_for_selector('.cvb[data-ready="1"]')
        return tab

    yield show
    for context, seen in zip(contexts[::2], contexts[1::2], strict=True):
        context.close()
        assert seen == {"errors": [], "requests": [], "dialogs": []}


def toy(n=120, classes=("ok", "dent", "stain"), seed=0, task="classification", step=None, ds=None, **metadata):
    rng = np.random.default_rng(seed)
    k = len(classes)
    scores = rng.dirichlet(np.ones(k), n) if task == "classification" else rng.random((n, k))
    if step:  # ties
        scores = np.round(scores * step) / step
        scores = (
            np.where(scores.sum(1, keepdims=True) == 0, 1 / k, scores / np.maximum(scores.sum(1, keepdims=True), 1e-9))
            if task == "classification"
            else scores
        )
    there = classes[: max(1, k - 1)] if seed % 2 else classes  # a class that never appears
    target = [there[i] for i in rng.integers(0, len(there), n)]
    if task == "multilabel":
        target = [
            [c for c, on in zip(classes, row, strict=True) if on and c in there] for row in rng.random((n, k)) < 0.4
        ]
    ids = None if ds is None else ds.table(["sample_id"])["sample_id"].to_pylist()[:n]
    return evaluate(
        make_predictions(
            target, scores, classes, task, sample_id=ids, metadata=metadata, dataset_version=ds.ref if ds else ""
        ),
        n_boot=10,
    )


def metadata(n, seed):
    rng = np.random.default_rng(seed)

    def some(values):
        return [v if rng.random() > 0.15 else None for v in values]

    return {
        "light": some(rng.choice(["dim", "bright", "a'b", 'c"d', "e`f", "g\\h", "i\nj"], n).tolist()),
        "blur": [float("nan") if rng.random() < 0.1 else v for v in np.round(rng.random(n), 2)],
        "rust": some((rng.random(n) < 0.5).tolist()),
        "odd name": rng.choice(["x", "y"], n).tolist(),
        "count": rng.integers(0, 9, n).tolist(),
        "single": rng.random(n).astype(np.float32),
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVBENCH_STORE", str(tmp_path_factory.mktemp("store")))
        yield commit([Sample(f"{i}.png", draw(i), Target(("ok",)), "test") for i in range(120)], "parts")


@pytest.mark.browser
def test_the_interactions(opened, pictures, tmp_path):
    ev = toy(ds=pictures, light=["dim", "bright", None] * 40)
    place = np.random.default_rng(1).random((120, 4))
    shots, root = artefacts(tmp_path), None
    page = opened(make_frozen_page([explore(ev, ds=pictures, embedding=place).freeze()], "parts"))
    root, samples = page.locator(".cvb").first, ev.samples
    assert count(root) == 120
    page.screenshot(path=shots / "frozen-open.png")

    click_cell(root, 0, 1)
    cell = ((samples["target"] == "ok") & (samples["pred"] == "dent")).to_numpy()
    wait_for(lambda: count(root) == cell.sum(), "the cell")
    where = page.evaluate("window.__cvb[0].where.where")
    np.testing.assert_array_equal(match_rows(samples, where), cell)
    root.locator("[data-testid=clear]").click()

    bar = root.locator('[data-facet="light"][data-value]').first
    bar.click()
    wait_for(lambda: count(root) < 120, "the facet")
    where = page.evaluate("window.__cvb[0].where.where")
    assert match_rows(samples, where).sum() == count(root) == 40
    drag_lasso(page, root)
    wait_for(lambda: count(root) < 40, "the lasso")
    filters = page.evaluate("window.__cvb[0].state.filters")
    columns = {
        c: np.array(v)
        for c, v in page.evaluate(
            "Object.fromEntries(['x', 'y'].map(r => [r, Array.from(window.__cvb[0].table.byRole.get(r).values)]))"
        ).items()
    }
    polygon = next(f["polygon"] for f in filters if f.get("polygon"))
    expected = np.flatnonzero(inside(polygon, columns["x"], columns["y"]) & match_rows(samples, where))
    assert page.evaluate("Array.from(window.__cvb[0].engine.selected)") == expected.tolist()
    page.screenshot(path=shots / "frozen-lasso.png")
    root.locator("[data-testid=clear]").click()

    set_threshold(root, 0.5)
    wait_for(lambda: page.evaluate("window.__cvb[0].state.threshold") is not None, "the threshold")
    t = np.float32(page.evaluate("window.__cvb[0].state.threshold"))
    decided = samples["score"].to_numpy(np.float32) >= t
    numbers = page.evaluate("window.__cvb[0].metrics()")
    assert abs(numbers["coverage"] - decided.mean()) < 1e-9
    assert abs(numbers["accuracy"] - samples["correct"][decided].mean()) < 1e-9
    page.screenshot(path=shots / "frozen-threshold.png")


CASES = [
    dict(n=120, seed=0), dict(n=200, seed=1, step=8), dict(n=1, seed=2), dict(n=7, seed=3, step=2),
    dict(n=300, seed=4, classes=tuple("abcdefghij"), step=5), dict(n=90, seed=5, classes=("only",)),
    dict(n=400, seed=6, classes=tuple(f"class {i}" for i in range(60))), dict(n=150, seed=7, classes=tuple(HOSTILE)),
    dict(n=150, seed=8, task="multilabel", classes=("a", "b", "c'd")), dict(n=60, seed=9, task="multilabel", step=2),
]  # fmt: skip


def filters_for(rng, ev):
    "Random conjunctions as the panels make them"
    label = ev.task == "classification"
    some = [
        {
            "panel": "facet",
            "column": "light",
            "op": "in",
            "values": rng.choice(["dim", "bright", "a'b", 'c"d', "e`f", "g\\h", "i\nj"], 2, replace=False).tolist(),
        },
        {"panel": "facet", "column": "light", "op": "in", "values": [None, "dim"]},
        {"panel": "facet", "column": "rust", "op": "in", "values": [bool(rng.random() < 0.5)]},
        {"panel": "facet", "column": "odd name", "op": "in", "values": ["x"]},
        {"panel": "facet", "column": "blur", "op": "range", "low": round(rng.random() / 2, 2), "high": 0.75},
        {"panel": "facet", "column": "blur", "op": "null"},
        {"panel": "facet", "column": "count", "op": "range", "low": 3, "high": None},
        {"panel": "facet", "column": "single", "op": "range", "low": float(np.float32(rng.random() / 3)), "high": 0.7},
        {"panel": "facet", "column": "score", "op": "range", "low": float(ev.samples["score"].iloc[0]), "high": None},
        {"panel": "error", "column": "correct", "op": "in", "values": [False]},
    ]
    if label:
        places = list(range(len(ev.classes)))
        some.append(
            {
                "panel": "confusion",
                "op": "cells",
                "cells": [[[int(rng.choice(places))], [int(rng.choice(places))]] for _ in range(2)],
            }
        )
        some.append(
            {"panel": "confusion", "column": "target", "op": "in", "values": [ev.classes[int(rng.choice(places))]]}
        )
    else:
        some.append({"panel": "confusion", "column": "target", "op": "has", "values": [0]})
        some.append({"panel": "confusion", "column": "pred", "op": "lacks", "values": [1]})
    chosen = rng.choice(len(some), rng.integers(1, 4), replace=False)
    return [some[i] for i in chosen]


ASK = """([at, filters]) => {
  const c = window.__cvb[at]; c.clear(); if (c.pending) c._update(c.pending[0], 0, true);
  c.engine.apply({filters, threshold: null, threshold_class: null, picks: null});
  const plain = (v) => ArrayBuffer.isView(v) ? Array.from(v) : v;
  const numbers = Object.fromEntries(Object.entries(c.metrics()).map(([k, v]) => [k, plain(v)]));
  const w = c.where; return [Array.from(c.engine.selected), w.where, w.complete, JSON.stringify(numbers)];
}"""


BLUE = (0, 114, 178)  # Of the first class


def colours(page, row, points):
    "What a tile shows at points given in shares of its side"
    return page.evaluate(
        """([row, points]) => { const c = document.querySelector(`[data-row="${row}"] canvas`), g = c.getContext("2d");
        return points.map(([x, y]) => Array.from(g.getImageData(x * c.width, y * c.height, 1, 1).data.slice(0, 3))); }""",
        [row, points],
    )


def grey(n, target):
    "Wide grey images, no two the same, and what is annotated in each"
    samples = []
    for i in range(n):
        with io.BytesIO() as out:
            Image.new("RGB", (160, 80), (126 + i,) * 3).save(out, "PNG")
            samples.append(Sample(f"{i}.png", out.getvalue(), target(i), "test", {"at": i}))
    return samples


def boxed(i):
    mask = np.zeros((80, 160), bool)
    mask[60:, 120:] = True
    return Target(
        ("ok",), [[40, 20, 80, 60], [120, 60, 160, 80]], ("ok", "ok"), (encode_rle(mask[:, ::-1]), encode_rle(mask))
    )


@pytest.mark.browser
def test_tiles_show_what_is_annotated_where_it_is(opened, store, tmp_path):
    ds = commit(grey(6, lambda i: boxed(i) if i % 2 else Target(("ok",))), "boxed")
    odd = np.array(ds.table(["at"])["at"].to_pylist()) % 2 == 1
    marked, plain = (int(np.flatnonzero(odd == on)[0]) for on in (True, False))
    page = opened(make_frozen_page([explore(toy(n=6, ds=ds)).freeze()], "boxed"))
    page.wait_for_selector(f'[data-row="{marked}"]:not(.blank)')
    # the image is twice as wide as tall: it fills the middle half of its tile
    left, inside, outside, masked = (0.25, 0.5), (0.4, 0.5), (0.6, 0.4), (0.85, 0.7)
    edge, within, beside, tint = colours(page, marked, [left, inside, outside, masked])
    assert np.abs(np.array(edge) - BLUE).max() < 40, edge  # a line of one pixel and a half, smoothed
    assert np.abs(np.array([within, beside]) - 128).max() < 6
    assert tint[2] - tint[0] > 20
    assert np.abs(np.array(colours(page, plain, [left, masked])) - 128).max() < 6
    toggles = page.locator("[data-panel=gallery] [data-overlay]")
    assert [t.get_attribute("data-overlay") for t in toggles.all()] == ["box", "mask"]
    page.screenshot(path=artefacts(tmp_path) / "frozen-boxes.png")

    toggles.first.click()
    edge, tint = colours(page, marked, [left, masked])
    assert np.abs(np.array(edge) - 128).max() < 6 and tint[2] - tint[0] > 20
    page.locator(f'[data-row="{marked}"]').dblclick()
    detail = page.locator("dialog[open] [data-overlay=box]")
    assert not detail.is_checked(), "the large view does not know what the tiles hide"
    detail.click()
    page.keyboard.press("Escape")
    assert np.abs(np.array(colours(page, marked, [left])) - BLUE).max() < 40
    page.locator("[data-panel=gallery] .cvb-scroller").press("b")
    assert np.abs(np.array(colours(page, marked, [left, masked])) - 128).max() < 6
    toggles.first.click()
    assert np.abs(np.array(colours(page, marked, [left])) - BLUE).max() < 40, (
        "a box that was hidden with all others stays hidden"
    )


@pytest.mark.browser
def test_no_annotation_no_toggle(opened, store):
    ds = commit(grey(6, lambda i: Target(("ok",))), "plain")
    page = opened(make_frozen_page([explore(toy(n=6, ds=ds)).freeze()], "plain"))
    page.wait_for_selector('[data-row="0"]:not(.blank)')
    assert page.locator("[data-overlay]").count() == 0
    assert np.abs(np.array(colours(page, 0, [(0.25, 0.5), (0.85, 0.7)])) - 128).max() < 6


@pytest.mark.browser
def test_hostile_annotations(opened, store):
    labels = [t for t in HOSTILE if "\0" not in t]
    target = Target(("ok",), [[0, 0, 160, 80]] * len(labels), tuple(labels), texts=tuple(reversed(labels)))
    ds = commit(grey(3, lambda i: target), "hostile")
    page = opened(make_frozen_page([explore(toy(n=3, ds=ds)).freeze()], "hostile"))
    page.locator('[data-row="0"]').dblclick()
    page.wait_for_selector("dialog[open]")
    assert len(page.evaluate("window.__cvb[0].link.overlays.get(0)")) == 2 * len(labels)


@pytest.mark.browser
def test_the_numbers_and_the_conditions_are_pythons(opened):
    evs = [toy(**case, **metadata(case["n"], case["seed"])) for case in CASES]
    page = opened(make_frozen_page([explore(ev).freeze(0) for ev in evs], "numbers"))
    wait_for(lambda: page.locator('.cvb[data-ready="1"]').count() == len(evs), "all cockpits")
    rng, checked, conditions = np.random.default_rng(0), 0, 0
    for at, ev in enumerate(evs):
        for filters in [[], *(filters_for(rng, ev) for _ in range(12))]:
            rows, where, complete, numbers = page.evaluate(ASK, [at, filters])
            if complete and where:
                np.testing.assert_array_equal(
                    np.flatnonzero(match_rows(ev.samples, where)), rows, err_msg=f"{where} {filters}"
                )
                conditions += 1
            elif not filters:
                assert rows == list(range(len(ev)))
            if rows:
                checked += agree(ev.where(ids=ev.samples["sample_id"].to_numpy()[rows]), json.loads(numbers))
    assert conditions > 60 and checked > 500, (conditions, checked)


def agree(ev, numbers) -> int:
    "Numbers of the browser against those of `make_measure`; how many were compared"
    told, n = ev._view.measure(ev.bins)(), 0
    for name, value in told.items():
        if name not in numbers or name.startswith("bin_"):
            continue
        mine = np.array([np.nan if v is None else v for v in np.atleast_1d(np.array(numbers[name], object))], float)
        np.testing.assert_allclose(mine, np.atleast_1d(value), rtol=0, atol=1e-9, equal_nan=True, err_msg=name)
        n += 1
    assert n >= (6 if ev.task == "classification" else 5), sorted(numbers)
    return n


@pytest.mark.browser
def test_numbers_that_differ_are_noticed(opened):
    ev = toy()
    page = opened(make_frozen_page([explore(ev).freeze(0)], "numbers"))
    numbers = json.loads(page.evaluate(ASK, [0, []])[3])
    assert agree(ev, numbers)
    with pytest.raises(AssertionError, match="macro_f1"):
        agree(ev, numbers | {"macro_f1": numbers["macro_f1"] + 2e-9})


@pytest.mark.browser
def test_the_interval_of_a_facet_is_wilsons(opened):
    page = opened(make_frozen_page([explore(toy()).freeze(0)], "intervals"))
    for share, n in [(0, 5), (1, 5), (0.3, 10), (0.999, 1000), (0.5, 1)]:
        told = page.evaluate("([p, n]) => Array.from(window.__cvb[0].wilson(p, n))", [share, n])
        np.testing.assert_allclose(told, wilson(share, n), atol=1e-9)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (700, "dark")])
def test_hostile_data_is_data(opened, pictures, width, scheme, tmp_path):
    names = {
        '<b onclick="alert(3)">col</b>': [HOSTILE[i % 8] for i in range(120)],
        "nothing": [None] * 120,
        "nan": [float("nan")] * 120,
    }
    ev = toy(classes=tuple(HOSTILE), ds=pictures, **names)
    page = opened(make_frozen_page([explore(ev, ds=pictures, title=HOSTILE[1]).freeze()], HOSTILE[1]), width, scheme)
    assert not page.evaluate("[...document.querySelectorAll('b[onclick], img[onerror], .cvb script')].length")
    assert page.evaluate("[...document.scripts].filter(s => s.type !== 'application/json').length") == 1
    root = page.locator(".cvb").first
    click_cell(root, 1, 0)
    wait_for(lambda: count(root) < 120, "a hostile cell")
    where = page.evaluate("window.__cvb[0].where.where")
    assert match_rows(ev.samples, where).sum() == count(root)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=artefacts(tmp_path) / f"frozen-hostile-{width}.png")


@pytest.mark.browser
def test_two_thousand_classes(opened):
    ev = toy(n=3000, classes=tuple(f"class {i}" for i in range(2000)))
    page = opened(make_frozen_page([explore(ev).freeze(0)], "many"))
    assert count(page.locator(".cvb").first) == 3000


@pytest.mark.browser
def test_five_thousand_thumbnails(opened, store, tmp_path):
    "Photographs do not compress like noise; these are smooth and grainy at once"
    rng = np.random.default_rng(0)
    samples = []
    for i in range(5000):
        smooth = Image.fromarray(rng.integers(0, 255, (5, 5, 3), np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
        grain = np.asarray(smooth, float) + rng.normal(0, 8, (96, 96, 1))
        with io.BytesIO() as out:
            Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
            samples.append(Sample(f"{i}.jpg", out.getvalue(), Target(("ok",)), "test"))
    ds = commit(samples, "many")
    ev = toy(n=5000, ds=ds, light=["dim", "bright"] * 2500)
    path = explore(ev).to_html(tmp_path / "many.html")
    assert path.stat().st_size <= 10e6
    shown = json.loads(re.search(r'<script type="application/json">(.*?)</script>', path.read_text(), re.S)[1])
    assert sum(len(s["rows"]) for s in shown["spec"]["sprites"]) == 5000
    page = opened(path.read_text())
    page.wait_for_selector("[data-panel=gallery] [data-row]:not(.blank)")
    page.screenshot(path=artefacts(tmp_path) / "frozen-5000.png")


def test_two_cockpits_share_a_bundle_and_the_policy_names_it():
    parts = [explore(toy(seed=s)).freeze(0) for s in range(2)]
    page = make_frozen_page(parts, "two")
    script, css = read_bundle()
    assert page.count(script) == 1 == page.count(css)
    assert page.count('<script type="application/json">') == 2
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert (
        f"script-src {script_policy()};" in policy + ";"
        and "default-src 'none'" in policy
        and "unsafe-eval" not in policy
    )


def test_secrets_in_the_data_do_not_leave(monkeypatch):
    import gzip

    import pyarrow as pa

    monkeypatch.setenv("SOME_API_TOKEN", "tr0ub4dor&three")
    ev = toy(n=20, note=["tr0ub4dor&three", "/home/ada/parts"] * 10, serial=[f"tr0ub4dor&three {i}" for i in range(20)])
    frozen = explore(ev).freeze(0)
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', frozen, re.S)[1])
    table = pa.ipc.open_stream(gzip.decompress(base64.b64decode(data["table"].split(",")[1]))).read_all()
    assert set(table["note"].to_pylist()) == {"[secret]", "~/parts"} and table["serial"][3].as_py() == "[secret] 3"


def test_the_bundle_is_built_from_its_source(tmp_path):
    node, npm, source = shutil.which("node"), shutil.which("npm"), ROOT / "nbs/cockpit"
    if not (node and npm):
        lacking("node and npm are not installed: the bundle cannot be built again")
    work = tmp_path / "nbs/cockpit"
    shutil.copytree(source, work, ignore=shutil.ignore_patterns("node_modules"))
    if (source / "node_modules").is_dir():
        (work / "node_modules").symlink_to(source / "node_modules")
    else:
        got = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"], cwd=work, capture_output=True, text=True, timeout=300
        )
        if got.returncode:
            lacking(f"npm ci does not work here: {got.stderr[-200:]}")
    out = tmp_path / "out"
    subprocess.run([node, "build.js", str(out)], cwd=work, check=True, timeout=120)
    for name in ("cockpit.js", "cockpit_frozen.js", "cockpit.css"):
        assert (out / name).read_bytes() == (BUNDLE / name).read_bytes(), (
            f"{name} is not what its source builds: run npm run build in nbs/cockpit"
        )


def test_the_bundle_is_small_and_keeps_to_itself():
    for name in ("cockpit.js", "cockpit_frozen.js"):
        text = (BUNDLE / name).read_text()
        assert len(text.encode()) <= 600_000
        assert not re.search(r"</script|\beval\(|new Function\(|importScripts", text), name
        assert not re.search(r"https?://(?!www\.w3\.org|github\.com)", text), name
