"""The published pages, from a hostile folder to a browser without network"""

import shutil

import numpy as np
import pytest
from test_report_runner import check_self_contained

from cvbench.core.predictions import make_predictions, save_predictions
from cvbench.core.types import Sample, Target
from cvbench.report.runner import render_report

pytestmark = pytest.mark.xdist_group("pages")  # its fixtures are made once

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "مسمار $x^2$"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """An evaluation page of a data set whose names, metadata and file names are markup"""
    import io

    from PIL import Image

    from cvbench.data.commit import commit

    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pages")
    samples = []
    for i in range(60):
        with io.BytesIO() as out:
            Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(out, "PNG")
            meta = {"<b>light</b>": HOSTILE[i % 2]}
            samples.append(
                Sample(f"{i}.png", out.getvalue(), Target((HOSTILE[i % 3],)), "test" if i % 2 else "train", meta)
            )
    samples.append(Sample("<iframe src=http://example.org>.jpg", b"<script>alert(3)</script>" * 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVBENCH_STORE", str(folder / "store"))
        ds = commit(samples, "hostile")
        table = ds.split("test").table().to_pylist()
        scores = rng.dirichlet([1, 1, 1], len(table))
        column = ds.metadata[0]
        preds = make_predictions(
            [r["target"]["labels"][0] for r in table], scores, HOSTILE, sample_id=[r["sample_id"] for r in table],
            metadata={column: [r[column] for r in table]}, dataset_version=ds.ref, model_id="cafe01",
        )  # fmt: skip
        save_predictions(preds, folder / "test.parquet")
        save_predictions(
            make_predictions(
                [*preds.table["target"].to_pylist()],
                scores[::-1],
                HOSTILE,
                sample_id=preds.table["sample_id"].to_pylist(),
            ),
            folder / "base.parquet",
        )
        return render_report(
            "evaluation",
            folder / "page.html",
            predictions=folder / "test.parquet",
            baseline=folder / "base.parquet",
            n_boot=100,
        )


def test_nothing_in_the_data_is_alive(page):
    text = page.read_text()
    found = check_self_contained(text)
    assert "x" not in found.loads and not {"b", "iframe"} & set(found.tags)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("data:image/webp") >= 10
    assert 'class="stream' not in text, "a cell printed something that is no part of the report"
    assert "1 files could not be used" in text
    assert "cafe01" in text[text.index("<footer>") :]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium: install it (apt-get install chromium) to test pages in a browser")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (375, "light")])
def test_the_page_opens_without_network(page, browser, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    tab, said, asked = context.new_page(), [], []
    tab.on("console", lambda m: said.append(m.text))
    tab.on("pageerror", lambda e: said.append(str(e)))
    tab.on("dialog", lambda d: said.append("dialog"))
    tab.on("request", lambda r: asked.append(r.url))
    tab.goto(page.as_uri())
    assert not said
    assert not [u for u in asked if not u.startswith(("file:", "data:"))]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    ink, paper = (tab.evaluate(f"getComputedStyle(document.body).{c}") for c in ("color", "backgroundColor"))
    light = [sum(int(x) for x in c[4:-1].split(",")) for c in (ink, paper)]
    assert light[1] - light[0] > 400 if scheme == "light" else light[0] - light[1] > 400
    text = tab.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
    assert text == ink, "labels of figures do not follow the page"
    context.close()


@pytest.mark.browser
def test_a_page_that_loads_something_is_noticed(page, browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text().replace("</main>", '<img src="http://example.org/x.png"></main>'))
    with pytest.raises(AssertionError, match=r"example\.org"):
        check_self_contained(bad.read_text())
    context = browser.new_context(offline=True)
    tab, said = context.new_page(), []
    tab.on("console", lambda m: said.append(m.text))
    tab.goto(bad.as_uri())
    assert any("Content Security Policy" in s for s in said)
    context.close()
