"The cockpit in a real JupyterLab: what the mouse does is what Python reads"

import json
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from cockpit_browser import (
    ROOT,
    Lab,
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

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("lab")]

TOY = """
import io
import numpy as np
from PIL import Image
from cvbench.core.predictions import make_predictions
from cvbench.core.types import Sample, Target
from cvbench.data.commit import commit
from cvbench.evaluation.evaluate import evaluate
from cvbench.cockpit.widget import explore

def draw(i):
    with io.BytesIO() as out:
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)).save(out, "PNG")
        return out.getvalue()

ds = commit([Sample(f"{i}.png", draw(i), Target(("ab"[i % 2],)), "test", {"light": "dim" if i % 3 else "bright"}) for i in range(60)], "toy")
rows = ds.table().to_pylist()
scores = np.random.default_rng(0).dirichlet([1, 1], len(rows))
ev = evaluate(make_predictions([r["target"]["labels"][0] for r in rows], scores, "ab", sample_id=[r["sample_id"] for r in rows],
              metadata={"light": [r["light"] for r in rows]}, dataset_version=ds.ref), n_boot=20)
"""


def write(path, *cells):
    nb = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    )
    nb.cells = [nbformat.v4.new_code_cell(c.strip()) for c in cells]
    nbformat.write(nb, path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for file in ("tutorials/error_analysis.ipynb", "images/cockpit.png"):
        (folder / file).parent.mkdir()
        shutil.copy(ROOT / "nbs" / file, folder / file)
    write(
        folder / "two.ipynb",
        TOY,
        "one = explore(ev, embedding=np.random.default_rng(1).normal(size=(60, 4)))\none",
        "two = explore(ev, panels=['confusion', 'gallery'])\ntwo",
    )
    env = {"CVBENCH_STORE": folder / "store", "CVBENCH_TESTS": folder / "tests", "CVBENCH_GOLDEN": folder / "golden"}
    with Lab(folder, **{k: str(v) for k, v in env.items()}, CVBENCH_TRACKER="off", CVBENCH_AUTHOR="Ada") as lab:
        yield lab


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser, lab):
    context = browser.new_context(viewport={"width": 1500, "height": 1200})
    tab = context.new_page()
    tab.set_default_timeout(240_000)
    yield tab
    context.close()


def ready(page, n=1):
    wait_for(lambda: page.locator('.cvb[data-ready="1"]').count() >= n, f"{n} live cockpits", 240)
    return page.locator('.cvb[data-ready="1"]')


def test_the_tutorial_by_mouse(page, lab, tmp_path):
    seen, shots = watch(page), artefacts(tmp_path)
    lab.open(page, "tutorials/error_analysis.ipynb")
    lab.run_all(page)
    root = ready(page).first
    wait_for(lambda: lab.python("'page' in globals()"), "the last cell", 240)
    root.scroll_into_view_if_needed()
    n = lab.python("len(ev)")
    assert count(root) == n
    page.wait_for_timeout(1500)
    page.screenshot(path=shots / "lab-open.png")
    row = int(root.locator("[data-panel=gallery] [data-row]:not(.blank)").first.get_attribute("data-row"))
    drawn = page.evaluate("r => window.__cvb[0].link.overlays.get(r)", row)
    side = max(max(o["size"]) for o in drawn if o["kind"] == "mask")  # larger ones may be on their way
    told = lab.python(f"cockpit.pictures.overlays([{row}], {side})")
    assert drawn == told[str(row)] and root.locator("[data-panel=gallery] [data-overlay]").count() == 3

    wrong = np.array(lab.python("ev.confusion.to_numpy().tolist()"))
    np.fill_diagonal(wrong, 0)
    target, pred = np.unravel_index(wrong.argmax(), wrong.shape)
    names = lab.python("list(ev.classes)")
    click_cell(root, target, pred)
    wait_for(lambda: count(root) == wrong.max(), "the cell to be selected")
    expected = lab.python(
        f"ev.samples.query({f'target == {names[target]!r} and pred == {names[pred]!r}'!r})['sample_id'].tolist()"
    )
    wait_for(lambda: lab.python("cockpit.selected") == expected, "the ids in Python")
    view = lab.python("str(cockpit.view)")
    assert view.startswith("ev.where(") and names[target] in view and "ids" not in view
    assert lab.python(
        f"({view}).samples['sample_id'].tolist() == cockpit.selected and ({view}).id == cockpit.evaluation.id"
    )
    page.screenshot(path=shots / "lab-cell.png")

    drag_lasso(page, root)
    wait_for(lambda: any(f.get("polygon") for f in lab.python("cockpit._choice['filters']")), "the lasso in Python")
    polygon = next(f["polygon"] for f in lab.python("cockpit._choice['filters']") if f.get("polygon"))
    table = "__import__('pyarrow').ipc.open_stream(cockpit._table).read_all()"
    x, y = (np.array(lab.python(f"{table}['_{c}'].to_pylist()")) for c in "xy")
    ids = np.array(lab.python("ev.samples['sample_id'].tolist()"))
    lassoed = [i for i in ids[inside(polygon, x, y)] if i in expected]
    assert len(lassoed) > 0
    assert lab.python("cockpit.selected") == lassoed
    view = lab.python("str(cockpit.view)")
    assert lab.python(f"({view}).samples['sample_id'].tolist()") == lassoed
    page.screenshot(path=shots / "lab-lasso.png")

    root.locator("[data-testid=clear]").click()
    wait_for(lambda: count(root) == n, "everything again")
    score = np.array(lab.python("ev.samples['score'].tolist()"), np.float32)
    middle = round(float(np.median(score)), 2)
    set_threshold(root, middle)
    wait_for(lambda: lab.python("cockpit._choice.get('threshold')") is not None, "the threshold in Python")
    set_to = lab.python("cockpit._choice['threshold']")
    numbers = page.evaluate("window.__cvb[0].metrics()")
    decided = score >= np.float32(set_to)
    correct = np.array(lab.python("ev.samples['correct'].tolist()"))
    assert abs(numbers["coverage"] - decided.mean()) < 1e-9
    assert abs(numbers["accuracy"] - correct[decided].mean()) < 1e-9
    page.screenshot(path=shots / "lab-threshold.png")
    root.locator("[data-testid=clear]").click()

    tiles = root.locator("[data-panel=gallery] [data-row]")
    rows = [int(tiles.nth(i).get_attribute("data-row")) for i in range(2)]
    tiles.nth(0).click()
    tiles.nth(1).click(modifiers=["Control"])
    wait_for(lambda: count(root) == 2, "two picked images")
    root.locator("[data-verb=relabel]").click()
    root.locator("form select").select_option(label="scratch")
    root.locator("form [type=submit]").click()
    wait_for(lambda: lab.python("(cockpit.edits['state'] == 'pending').sum().item()") == 2, "two edits in Python")
    edits = lab.python("cockpit.edits.query(\"state == 'pending'\").to_dict('records')")
    assert sorted(e["sample_id"] for e in edits) == sorted(ids[rows]) and {e["after"] for e in edits} == {"scratch"}
    assert {e["author"] for e in edits} == {"Ada"}
    assert lab.python("cockpit.selected") == sorted(ids[rows])
    page.wait_for_timeout(500)
    page.screenshot(path=shots / "lab-relabel.png")

    click_cell(root, target, pred)
    wait_for(lambda: count(root) == wrong.max(), "the cell again")
    root.locator("[data-verb=test]").click()
    root.locator("form input").fill("cell by mouse")
    root.locator("form input").press("Enter")
    made = wait_for(lambda: list((lab.folder / "tests").glob("test_slice_cell_by_mouse.py")), "the test file")
    assert expected[0] in made[0].read_text()
    page.wait_for_timeout(500)
    page.screenshot(path=shots / "lab-test.png")
    outside = [u for u in seen["requests"] if f"127.0.0.1:{lab.port}" not in u]
    assert not outside and not seen["dialogs"]


KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"


def save(page, lab, name):
    page.locator(".jp-Cell .jp-InputPrompt").first.click()
    page.keyboard.press("Control+s")
    wait_for(lambda: "cvbench-kept" in (lab.folder / name).read_text(), "the notebook to be saved", 60)


def test_two_cockpits_a_restart_and_no_kernel(page, lab, tmp_path):
    shots = artefacts(tmp_path)
    lab.open(page, "two.ipynb")
    lab.run_all(page)
    roots = ready(page, 2)
    one, two = roots.nth(0), roots.nth(1)
    assert page.locator(".cvbench-frozen").count() == 0, "the frozen copy shows beside the live one"
    click_cell(two, 0, 1)
    wait_for(lambda: count(two) < 60, "a selection in the second")
    assert count(one) == 60
    wait_for(lambda: len(lab.python("two.selected")) == count(two), "the second in Python")
    assert len(lab.python("one.selected")) == 60
    save(page, lab, "two.ipynb")

    chosen = count(two)
    lab.open(page, "two.ipynb")  # as after a closed tab: the kernel still knows
    roots = ready(page, 2)
    wait_for(lambda: count(roots.nth(1)) == chosen, "the selection to be there again")
    assert count(roots.nth(0)) == 60 and page.locator(".cvbench-frozen").count() == 0

    page.evaluate(f"{KERNEL}.restart()")
    page.wait_for_selector("#jp-main-statusbar >> text=/\\| Idle/")
    page.wait_for_timeout(2000)
    page.screenshot(path=shots / "lab-restarted.png")
    lab.run_all(page)
    wait_for(lambda: lab.python("'two' in globals()"), "the cells after the restart", 120)
    roots = ready(page, 2)
    wait_for(lambda: roots.count() == 2, "the old cockpits to go")
    click_cell(roots.nth(1), 1, 0)
    wait_for(lambda: len(lab.python("two.selected")) == count(roots.nth(1)) < 60, "the new ones to answer")
    save(page, lab, "two.ipynb")
    page.wait_for_timeout(1500)

    page.evaluate(f"{KERNEL}.shutdown()")
    page.wait_for_timeout(1500)
    page.close()


@pytest.fixture
def kept(browser, lab):
    "The notebook of two cockpits as it was run and saved, its kernel ended; by a test before, or now"
    if "cvbench-kept" not in (lab.folder / "two.ipynb").read_text():
        context = browser.new_context(viewport={"width": 1500, "height": 1200})
        page = context.new_page()
        lab.open(page, "two.ipynb")
        lab.run_all(page)
        ready(page, 2)
        save(page, lab, "two.ipynb")
        page.wait_for_timeout(1500)
        page.evaluate(f"{KERNEL}.shutdown()")
        page.wait_for_timeout(1500)
        context.close()
    return "two.ipynb"


def test_reopened_without_its_kernel(browser, lab, kept, tmp_path):
    context = browser.new_context(viewport={"width": 1500, "height": 1200})
    page = context.new_page()
    lab.open(page, kept, kernel=False)
    frozen = page.locator(".cvbench-frozen .cvb[data-ready='1']")
    wait_for(lambda: frozen.count() == 2, "two frozen views", 60)
    assert count(frozen.first) == 60
    click_cell(frozen.first, 0, 1)
    wait_for(lambda: count(frozen.first) < 60, "a selection without a kernel")
    assert count(frozen.nth(1)) == 60
    assert not page.get_by_text("Error displaying widget").first.is_visible()
    page.wait_for_timeout(500)
    page.screenshot(path=artefacts(tmp_path) / "lab-no-kernel.png")
    assert len(json.dumps(json.loads((lab.folder / kept).read_text()))) < 3_000_000
    context.close()


def test_no_kernel_chosen(page, lab, kept, tmp_path):
    "A saved notebook opened with the choice No Kernel: not trusted it says what to do, trusted it shows the frozen view"
    nb = nbformat.read(lab.folder / kept, 4)
    for key in ("kernelspec", "language_info"):
        nb.metadata.pop(key, None)
    nbformat.write(nb, lab.folder / "bare.ipynb")

    def open_bare():
        page.goto(f"http://127.0.0.1:{lab.port}/lab/tree/bare.ipynb?reset", wait_until="domcontentloaded")
        page.locator(".jp-Dialog select").first.select_option(label="No Kernel")
        page.locator(".jp-Dialog .jp-mod-accept").click()

    open_bare()
    page.get_by_text("trust the notebook").first.wait_for()
    assert page.locator(".cvb").count() == 0
    subprocess.run([sys.executable, "-m", "jupyter", "trust", "bare.ipynb"], cwd=lab.folder, env=lab.env, check=True)
    open_bare()
    frozen = page.locator(".cvbench-frozen .cvb[data-ready='1']")
    wait_for(lambda: frozen.count() == 2, "two frozen views", 60)
    assert count(frozen.first) == 60 and not page.get_by_text("Loading widget").first.is_visible()
    page.screenshot(path=artefacts(tmp_path) / "lab-no-kernel-chosen.png")
