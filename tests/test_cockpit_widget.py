"What the browser sends is not believed, what the mouse does is done once, and every road back to Python leads to the same images"

import base64
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipywidgets import Widget

from cvbench.cockpit.overlays import shrink_mask
from cvbench.cockpit.thumbnails import Pictures
from cvbench.cockpit.widget import answer, confusion, embedding_map, explore, gallery
from cvbench.core.inspection import make_inspection
from cvbench.core.predictions import make_predictions, save_predictions
from cvbench.core.types import Sample, Target, decode_rle, encode_rle
from cvbench.data.commit import commit
from cvbench.data.golden import load_golden
from cvbench.data.versions import add_column
from cvbench.evaluation.evaluate import evaluate
from cvbench.evaluation.select import match_rows
from cvbench.slices.cluster_search import RegionFinder
from cvbench.slices.confirm import find_rows
from cvbench.slices.ledger import add_slices
from cvbench.slices.properties import add_properties, find_properties
from cvbench.slices.slice import Slice


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CVBENCH_TESTS", str(tmp_path / "tests"))
    monkeypatch.setenv("CVBENCH_GOLDEN", str(tmp_path / "golden"))
    monkeypatch.setenv("CVBENCH_AUTHOR", "Ada")
    return tmp_path


@pytest.fixture
def ds():
    return commit(make_inspection(48, frames=1), name="parts")


@pytest.fixture
def ev(ds):
    rows = ds.table().to_pylist()
    rng = np.random.default_rng(0)
    target = [r["target"]["labels"][0] for r in rows]
    scores = rng.dirichlet(np.ones(len(ds.classes)), len(rows))
    for i, (t, r) in enumerate(zip(target, rows, strict=True)):
        if r["light"] != "dim":  # right, but under dim light
            scores[i] = np.eye(len(ds.classes))[ds.classes.index(t)] * 0.9 + 0.1 / len(ds.classes)
    metadata = {k: [r[k] for r in rows] for k in ("light", "material", "blur")}
    return evaluate(make_predictions(target, scores, ds.classes, sample_id=[r["sample_id"] for r in rows], metadata=metadata,
                                     dataset_version=ds.ref, model_id="cafe01"), n_boot=20)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    Widget.close_all()


@pytest.fixture
def cockpit(ev, folders):
    made = explore(ev)
    made.sent = []
    made.send = lambda content, buffers=None: made.sent.append((content, buffers))
    yield made
    made.close()


def choose(cockpit, where="", rows=None, **more):
    "As the browser does it"
    found = np.flatnonzero(match_rows(cockpit.ev.samples, where)) if rows is None else np.asarray(rows)
    cockpit.set_state(
        {
            "_rows": memoryview(found.astype("<u4").tobytes()),
            "_choice": {"filters": [{"panel": "facet"}], "where": where, **more},
        }
    )


def ask(cockpit, **message):
    before = len(cockpit.sent)
    answer(cockpit, message)
    end = time.monotonic() + 20
    while len(cockpit.sent) == before:
        assert time.monotonic() < end
        time.sleep(0.01)
    return cockpit.sent[-1]


def test_everything_is_selected_at_first(cockpit, ev):
    assert cockpit.selected == ev.samples["sample_id"].tolist()
    assert cockpit.view == "ev" and cockpit.where == "" and cockpit.evaluation is ev


@pytest.mark.parametrize(
    "where",
    [
        "light == 'dim'",
        "target == 'ok' and pred == 'dent'",
        "light in ['dim', 'normal'] and blur >= 0.2",
        "score < 0.5",
    ],
)
def test_a_condition_is_the_view(cockpit, ev, where):
    choose(cockpit, where)
    assert cockpit.view == f"ev.where({where!r})"
    expected = ev.samples[match_rows(ev.samples, where)]["sample_id"].tolist()
    assert cockpit.selected == expected == eval(cockpit.view).samples["sample_id"].tolist()
    assert eval(cockpit.view).id == cockpit.evaluation.id


@given(
    st.lists(st.integers(0, 47), unique=True, min_size=1),
    st.sampled_from(["", "light == 'dim'", "no such column == 1", "((", "light =="]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_rows_and_any_claim_give_a_true_view(cockpit, ev, rows, where):
    choose(cockpit, where, sorted(rows))
    assert (
        eval(cockpit.view).samples["sample_id"].tolist()
        == cockpit.selected
        == ev.samples["sample_id"].iloc[sorted(rows)].tolist()
    )


@pytest.mark.parametrize(
    "rows",
    [
        b"abc",
        np.array([3, 48], "<u4").tobytes(),
        np.array([5, 5], "<u4").tobytes(),
        np.array([2, 1], "<u4").tobytes(),
        np.array([2**32 - 1], "<u4").tobytes(),
    ],
)
def test_rows_that_cannot_be_are_refused(cockpit, rows):
    cockpit.set_state({"_rows": memoryview(rows), "_choice": {"filters": [{}], "where": ""}})
    for read in (lambda: cockpit.selected, lambda: cockpit.view, lambda: cockpit.to_slice("x")):
        with pytest.raises(ValueError, match="Select again"):
            read()


def test_the_name_in_the_notebook_is_found(ev):
    my_model = ev
    del ev
    assert explore(my_model)._spec["name"] == "my_model" == gallery(my_model)._spec["name"]
    ev = my_model
    assert explore(evaluate(ev.predictions, n_boot=2))._spec["name"] == "ev"


def test_a_slice_of_data_keeps_its_rule_and_one_of_errors_its_ids(cockpit, ev):
    choose(cockpit, "light == 'dim'")
    part = cockpit.to_slice("dim")
    assert (part.where, part.ids) == ("light == 'dim'", None) and part.evidence["n"] == cockpit.count
    for where in ("light == 'dim' and pred == target", "score < 0.6", "correct == False"):
        choose(cockpit, where)
        part = cockpit.to_slice("errors")
        assert part.where == "" and list(part.ids) == cockpit.selected and part.evidence["found_where"] == where
    choose(cockpit, "light == 'dim'", np.flatnonzero(ev.samples["light"] == "dim")[:3])
    part = cockpit.to_slice("lasso")
    assert part.where == "light == 'dim'" and list(part.ids) == cockpit.selected
    assert [c["name"] for c in cockpit._notes] == ["dim", "errors", "lasso"]
    assert [c["name"] for c in explore(ev)._spec["slices"]] == ["dim", "errors", "lasso"], "slices are not kept"
    assert cockpit.to_slice("steel", where="material == 'steel'").where == "material == 'steel'"


def test_a_test_from_the_mouse_fails_until_it_is_repaired(cockpit, ev, folders, ds):
    choose(cockpit, "light == 'dim'")
    said = ask(cockpit, type="act", id=1, verb="test", name="Dim parts", rows=None)[0]
    assert said["ok"] and "test_slice_dim_parts.py" in said["message"]
    path = folders / "tests/test_slice_dim_parts.py"
    right = np.eye(len(ds.classes))[[ds.classes.index(t) for t in ev.samples["target"]]]
    metadata = {k: ev.samples[k].tolist() for k in ("light", "material", "blur")}
    repaired = make_predictions(
        ev.samples["target"].tolist(),
        right,
        ds.classes,
        sample_id=ev.samples["sample_id"].tolist(),
        metadata=metadata,
        dataset_version=ds.ref,
    )
    codes = {}
    for name, preds in (("this", ev.predictions), ("repaired", repaired)):
        file = save_predictions(preds, folders / f"{name}.parquet").path
        env = {**os.environ, "CVBENCH_PREDICTIONS": str(file)}
        codes[name] = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
            env=env,
            cwd=folders,
            capture_output=True,
        ).returncode
    assert codes == {"this": 1, "repaired": 0}
    choose(cockpit, "light == 'bright'")
    with pytest.raises(ValueError, match="would pass already"):
        cockpit.to_test("bright")


def test_golden_and_edits_from_the_mouse(cockpit, ev, folders, ds):
    ids = ev.samples["sample_id"].tolist()
    said = ask(cockpit, type="act", id=1, verb="golden", name="gears", rows=[0, 1])[0]
    assert said["ok"] and load_golden("gears")["sample_id"].tolist() == ids[:2]
    said = ask(cockpit, type="act", id=2, verb="relabel", target="dent", rows=[3, 4])[0]
    assert said["ok"] and said["edits"] == {"3": "dent", "4": "dent"}
    assert cockpit.edits["sample_id"].tolist() == ids[3:5] and set(cockpit.edits["author"]) == {"Ada"}
    assert cockpit.edits["before"].tolist() == ev.samples["target"][3:5].tolist()
    ask(cockpit, type="act", id=3, verb="relabel", target="ok", rows=[3])
    assert cockpit.edits["before"].iloc[-1] == "dent"
    assert ask(cockpit, type="act", id=4, verb="undo", rows=None)[0]["edits"] == {"3": "dent", "4": "dent"}
    new = cockpit.commit("review")
    labels = dict(
        zip(*[new.table(["sample_id", "target"])[c].to_pylist() for c in ("sample_id", "target")], strict=True)
    )
    assert labels[ids[3]]["labels"] == ["dent"] == labels[ids[4]]["labels"]
    assert new.version == ds.version + 1


@pytest.mark.parametrize(
    "message",
    [
        {"verb": "relabel", "target": "no such class", "rows": [1]}, {"verb": "relabel", "target": 7, "rows": [1]},
        {"verb": "relabel", "target": ["ok", "dent"], "rows": [1]}, {"verb": "relabel", "target": "ok", "rows": ["1"]},
        {"verb": "relabel", "target": "ok", "rows": [48]}, {"verb": "relabel", "target": "ok", "rows": []},
        {"verb": "relabel", "target": "ok", "rows": None}, {"verb": "golden", "name": "../up", "rows": [1]},
        {"verb": "golden", "name": "/etc/cron", "rows": [1]}, {"verb": "golden", "name": None, "rows": [1]},
        {"verb": "slice", "name": "", "rows": [1]}, {"verb": "slice", "name": "x" * 201, "rows": [1]},
        {"verb": "slice", "name": "all", "rows": None}, {"verb": "delete", "rows": [1]}, {"verb": ["slice"], "rows": [1]}, {},
        {"verb": "undo", "rows": None},
    ],
)  # fmt: skip
def test_bad_actions_are_refused_in_words(cockpit, folders, message, store):
    said = ask(cockpit, type="act", id=1, **message)[0]
    assert said["ok"] is False and len(said["message"]) > 10 and said["id"] == 1
    written = [
        p
        for folder in (folders / "golden", store / "edits", store / "slices", folders / "tests")
        for p in folder.glob("**/*")
    ]
    assert not [p for p in written if p.stat().st_size] and not (folders / "up.jsonl").exists()


@pytest.mark.parametrize(
    "sent",
    [
        None,
        3,
        [],
        "thumbs",
        {},
        {"type": "thumbs"},
        {"type": "thumbs", "id": "1", "rows": [1]},
        {"type": "run", "id": 1},
        {"id": True},
    ],
)
def test_what_is_no_message_is_passed_over(cockpit, sent):
    answer(cockpit, sent)
    assert not cockpit.sent


@pytest.mark.parametrize(
    "rows", ["../../etc/passwd", ["a"], [48], [-1], [0.0], [True], list(range(48)) * 6, {"0": 1}, None]
)
@pytest.mark.parametrize("kind", ["thumbs", "detail"])
def test_nothing_but_rows_reaches_the_images(cockpit, kind, rows):
    row = rows[0] if isinstance(rows, list) and len(rows) == 1 else rows
    said, buffers = ask(cockpit, type=kind, id=5, rows=rows, row=row, size=64)
    assert said["ok"] is False and not buffers


def test_thumbnails_in_the_order_asked(cockpit, ev, ds):
    said, (data,) = ask(cockpit, type="thumbs", id=1, rows=[40, 2, 2, 17], size=64)
    ends = np.cumsum(said["lengths"])
    parts = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    ids = ev.samples["sample_id"].tolist()
    assert parts == ds.thumbnails([ids[i] for i in (40, 2, 2, 17)], 64) and said["id"] == 1


def test_thumbnails_bring_what_is_drawn_over_them(cockpit, ev, ds):
    said, _ = ask(cockpit, type="thumbs", id=1, rows=[40, 2, 2, 17], size=64)
    assert set(said["overlays"]) == {"40", "2", "17"}
    table = ds.table(["sample_id", "target", "width", "height"]).to_pandas().set_index("sample_id")
    one = table.loc[ev.samples["sample_id"][17]]
    drawn = sorted(o["xyxy"] for o in said["overlays"]["17"] if o["kind"] == "box")
    expected = np.stack(one["target"]["boxes"]) / np.tile([one["width"], one["height"]], 2)
    np.testing.assert_allclose(drawn, sorted(expected.tolist()), atol=1e-4)
    assert all(max(o["size"]) == 32 for o in said["overlays"]["17"] if o["kind"] == "mask")
    json.dumps(said, allow_nan=False)


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 64), st.sampled_from([0, 0.02, 0.5, 1]), st.integers(0, 99)
)
@settings(max_examples=200, deadline=None)
def test_a_small_mask_is_where_the_large_one_was(height, width, side, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    counts, (h, w) = shrink_mask(encode_rle(mask), height, width, side)
    y, x = np.nonzero(mask)
    expected = np.zeros((h, w), bool)
    expected[y * h // height, x * w // width] = True
    np.testing.assert_array_equal(decode_rle(counts, h, w), expected)
    assert max(h, w) == min(side, max(height, width))


def test_where_nothing_is_annotated_nothing_is_read(ev, ds, folders, monkeypatch):
    plain = commit([Sample(f"{i}.png", b, Target(("ok",))) for i, b in enumerate(ds.images(range(48)))], name="plain")
    cockpit = explore(ev, ds=plain)
    cockpit.sent = []
    cockpit.send = lambda content, buffers=None: cockpit.sent.append((content, buffers))
    monkeypatch.setattr("cvbench.cockpit.thumbnails.read_overlays", None)
    said, (data,) = ask(cockpit, type="thumbs", id=1, rows=[3, 4], size=64)
    assert said["overlays"] == {} and data
    cockpit.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed on Linux only")
def test_a_closed_cockpit_keeps_no_file_open(ev, folders):
    def held():
        return [link for f in Path("/proc/self/fd").iterdir() if "thumbs.db" in (link := read_link(f))]

    def read_link(file):
        try:
            return os.readlink(file)
        except FileNotFoundError:  # the listing's own
            return ""

    before = sorted(held())
    cockpit = explore(ev)
    cockpit.send = lambda content, buffers=None: None
    answer(cockpit, {"type": "thumbs", "id": 1, "rows": [0], "size": 64})
    cockpit.courier.pool.shutdown(wait=True)
    assert len(held()) > len(before)
    cockpit.close()
    assert sorted(held()) == before
    assert cockpit.pictures.thumbs([0], 64)[0]


def test_a_withdrawn_question_has_no_answer(cockpit, monkeypatch):
    gate, made = threading.Event(), []
    slow = Pictures.thumbs

    def thumbs(self, rows, size=128):
        gate.wait(20)
        made.extend(rows)
        return slow(self, rows, size)

    monkeypatch.setattr(Pictures, "thumbs", thumbs)
    for id in range(1, 9):
        answer(cockpit, {"type": "thumbs", "id": id, "rows": list(range(48)), "size": 64})
    for id in range(1, 8):
        answer(cockpit, {"type": "cancel", "id": id})
    gate.set()
    cockpit.courier.pool.shutdown(wait=True)
    assert [c["id"] for c, _ in cockpit.sent] == [8] and len(made) < 4 * 48


def test_the_detail_has_everything(ds, ev, folders):
    rng = np.random.default_rng(0)
    features = rng.random((len(ev), 6)).astype(np.float32)
    cockpit = explore(ev, embedding=features)
    cockpit.sent = []
    cockpit.send = lambda content, buffers=None: cockpit.sent.append((content, buffers))
    defect = int(np.flatnonzero(ev.samples["target"] != "ok")[0])
    said, (data,) = ask(cockpit, type="detail", id=1, row=defect, size=1024)
    assert data[:4] == b"RIFF" and said["width"] > 0 and said["fields"]["light"] == ev.samples["light"][defect]
    assert {"box", "mask"} >= {o["kind"] for o in said["overlays"] if o["kind"] != "text"} and any(
        o["kind"] == "box" for o in said["overlays"]
    )
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    near = np.argsort(-(unit @ unit[defect]))[1:13]
    assert said["neighbours"] == near.tolist()
    json.dumps(said, allow_nan=False)
    cockpit.close()


def test_images_that_are_gone_are_empty(ev, folders, tmp_path):
    cockpit = explore(ev, ds=commit(make_inspection(40, frames=1), name="fewer"), keep=False)
    there = cockpit.pictures.at >= 0
    assert 0 < there.sum() < 48
    assert [bool(t) for t in cockpit.pictures.thumbs(range(48))] == there.tolist()
    nameless = evaluate(make_predictions(["a", "b"], np.eye(2), "ab"), n_boot=2)
    alone = explore(nameless)
    assert alone._spec["images"] is False and alone.pictures.thumbs([0]) == [b""]
    with pytest.raises(ValueError, match="name no data set"):
        alone.relabel("a", rows=[0])
    assert alone.to_slice("first", rows=[0]).ids == ("000000",)


def test_the_embedding_of_a_later_version_is_found(ds, ev, folders):
    assert "map" not in explore(ev)._spec["panels"]
    ids = ds.table(["sample_id"])["sample_id"].to_pylist()
    rng = np.random.default_rng(0)
    add_column(ds, "embedding", {i: rng.random(5).astype(np.float32) for i in ids})
    cockpit = explore(ev)
    assert {"x", "y"} <= {c.get("role") for c in cockpit._spec["columns"]} and "map" in cockpit._spec["panels"]
    with pytest.raises(ValueError, match="has no column 'nothing' of vectors"):
        explore(ev, embedding="nothing")
    with pytest.raises(ValueError, match=r"must have the shape \(48, features\)"):
        explore(ev, embedding=np.zeros((3, 2)))


def test_slices_that_do_not_fit_are_left_out(ev, folders):
    given = [Slice("dim", "light == 'dim'"), Slice("gone", "colour == 'red'"), Slice("none", "blur > 99")]
    given += [Slice(f"broken {k}", where) for k, where in enumerate(("light = 'dim'", "light ==", "(blur > 1"))]
    assert [c["name"] for c in explore(ev, slices=given)._spec["slices"]] == ["dim"]
    assert (
        explore(ev, slices=pd.DataFrame({"name": ["a"], "where": ["light == 'dim'"]}))._spec["slices"][0]["saved"]
        is False
    )


def shown(code, **env):
    "What a notebook cell displays"
    import nbformat
    from nbclient import NotebookClient

    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    old = {k: os.environ.get(k) for k in env}
    os.environ.update(env)
    try:
        NotebookClient(nb, timeout=120, kernel_name="python3").execute()
    finally:
        for k, v in old.items():
            os.environ.pop(k) if v is None else os.environ.__setitem__(k, v)
    return [o["data"] for o in nb.cells[0].outputs]


TOY = """
import numpy as np
from cvbench.core.predictions import make_predictions
from cvbench.evaluation.evaluate import evaluate
from cvbench.cockpit.widget import explore
ev = evaluate(make_predictions(["a", "b"] * 9, np.random.default_rng(0).dirichlet([1, 1], 18), "ab"), n_boot=2)
"""


def test_what_a_notebook_shows_and_what_a_report_shows():
    live, kept = shown(TOY + "explore(ev)")
    assert "application/vnd.jupyter.widget-view+json" in live and "cvbench-kept" in kept["text/html"]
    assert [set(o) for o in shown(TOY + "explore(ev, keep=False)")] == [set(live)]
    (report,) = shown(TOY + "explore(ev)", CVBENCH_REPORT="1")
    assert set(report) == {"text/html", "text/plain"} and "cvbench-frozen" in report["text/html"]


def test_short_names_are_the_same_widget(ev, folders):
    place = np.random.default_rng(0).random((48, 3))
    made = [gallery(ev), confusion(ev), embedding_map(ev, embedding=place)]
    assert [m._spec["panels"] for m in made] == [["gallery"], ["confusion", "gallery"], ["map", "gallery"]]
    with pytest.raises(ValueError, match="galery"):
        explore(ev, panels=["galery"])


def test_multilabel_labels_can_be_corrected(ds, folders):
    rng = np.random.default_rng(0)
    ids = ds.table(["sample_id"])["sample_id"].to_pylist()
    target = [[c for c in ds.classes if rng.random() < 0.4] for _ in ids]
    ev = evaluate(
        make_predictions(target, rng.random((48, 6)), ds.classes, "multilabel", sample_id=ids, dataset_version=ds.ref),
        n_boot=2,
    )
    cockpit = explore(ev)
    cockpit.relabel(["dent", "stain"], rows=[0])
    assert cockpit.edits["after"].tolist() == ["dent, stain"]
    assert sorted(cockpit.commit().table(["target"])["target"][0].as_py()["labels"]) == ["dent", "stain"]


def test_explore_is_light():
    code = "import sys, cvbench.cockpit.widget as c; sys.exit(any(m in sys.modules for m in ('torch', 'sklearn', 'cvbench.model')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


def test_slices_of_the_ledger_and_of_a_table_are_chips(folders):
    rng, light = np.random.default_rng(0), ["dim", "bright"] * 20
    preds = make_predictions(
        ["a", "b"] * 20, rng.dirichlet([1, 1], 40), ["a", "b"], metadata={"light": light}, dataset_version="parts@v1"
    )
    ev = evaluate(preds, n_boot=50)
    assert explore(ev)._spec["slices"] == []
    add_slices([Slice("dim ones", "light == 'dim'"), Slice("not here", "colour == 'red'")], "parts@v1")
    given = pd.DataFrame({"name": ["bright ones"], "where": ["light == 'bright'"], "q": [0.01]})
    chips = {c["name"]: c for c in explore(ev, slices=given)._spec["slices"]}
    assert set(chips) == {"dim ones", "bright ones"}
    assert chips["dim ones"]["n"] == 20 and chips["bright ones"]["q"] == 0.01


def bits(chip, n):
    return np.unpackbits(np.frombuffer(base64.b64decode(chip["rows"]), np.uint8), bitorder="little")[:n].astype(bool)


def test_a_slice_by_a_property_of_the_images_is_a_chip_where_it_was_measured(ev, ds, folders):
    given = [Slice("dark", "brightness < 0.35 and light != 'bright'", evidence={"q": 0.02})]
    assert explore(ev, slices=given)._spec["slices"] == [], "images were measured while the cockpit opened"
    table = add_properties(ev.samples, find_properties(ds))
    (chip,) = explore(ev, slices=given)._spec["slices"]
    expected = ((table["brightness"] < 0.35) & (table["light"] != "bright")).to_numpy()
    assert 0 < expected.sum() < 48 and chip["q"] == 0.02
    np.testing.assert_array_equal(bits(chip, 48), expected)
    assert (chip["n"], chip["where"]) == (expected.sum(), ""), "the browser is told a condition that ev.where refuses"
    assert abs(chip["metric"] - ev.samples["correct"][expected].mean()) < 1e-12


def test_a_slice_by_a_place_among_embeddings_is_a_chip(ev, ds, folders):
    rng, n = np.random.default_rng(0), len(ev)
    vectors = rng.normal(size=(n, 12)).astype(np.float32)
    weak = (ev.samples["light"] == "dim").to_numpy()
    vectors[weak] += 6
    error = (weak | (rng.random(n) < 0.1)).astype(float)
    error[np.flatnonzero(weak)[:2]] = 0
    finder = RegionFinder(min_size=5).fit(ev.samples[["sample_id"]], vectors, error)
    region = {**finder.candidates_[0].region, "embedding": "embedding:"}
    there = find_rows(Slice("there", region=region), ev.samples, vectors)
    assert 0 < there.sum() < n
    ids = ev.samples["sample_id"].to_numpy()
    found = Slice("found", region=region, ids=tuple(ids[there][:2]), evidence={"data": ev.dataset_version})
    given = [Slice("there", region=region), Slice("elsewhere", region={**region, "embedding": "other:"}), found]
    assert [c["name"] for c in explore(ev, slices=given)._spec["slices"]] == ["found"]
    add_column(ds, "embedding", dict(zip(ids, vectors, strict=True)))
    chips = {c["name"]: c for c in explore(ev, slices=given)._spec["slices"]}
    assert set(chips) == {"there", "found"}
    np.testing.assert_array_equal(bits(chips["there"], n), there)
    assert np.flatnonzero(bits(chips["found"], n)).tolist() == np.flatnonzero(there)[:2].tolist()
