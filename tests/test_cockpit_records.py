"What was decided stays decided: through kills, through other notebooks, into data and tests"

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cvbench.cockpit.records import (
    EditLog,
    add_golden,
    commit_edits,
    judge_slice,
    list_slices,
    read_golden,
    save_slice,
    write_test,
)
from cvbench.core.inspection import make_inspection
from cvbench.core.predictions import make_predictions, save_predictions
from cvbench.core.types import Sample, Target
from cvbench.data.dataset import add_column, checkout, commit, log
from cvbench.evaluation.evaluate import evaluate
from cvbench.slices.slice import Slice

HOSTILE = ['"""\nimport os; os._exit(7)\n"""', "'); raise SystemExit(", "\\", "{doc}", "\0", "‮txt.exe", "ok\n"]


@pytest.fixture
def ds():
    return commit(make_inspection(30, frames=1), name="parts")


def test_every_edit_survives_a_kill(store, tmp_path):
    code = (
        "import itertools; from cvbench.cockpit.records import EditLog\n"
        "log = EditLog('parts')\n"
        "for i in itertools.count(): print(log.relabel([f'image{i}'] * 200, [['ok']] * 200, ['dent']), flush=True)"
    )
    env = {**os.environ, "CVBENCH_AUTHOR": "Ada"}
    for _ in range(3):
        job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
        said = [int(job.stdout.readline()) for _ in range(20)]
        os.kill(job.pid, signal.SIGKILL)
        rest, _ = job.communicate()
        said += [int(x) for x in rest.splitlines() if x]
        kept = set(EditLog("parts").table["edit"])
        assert set(said) <= kept, "an edit that was acknowledged is gone"
    with open(EditLog("parts").path, "ab") as f:
        f.write(b'{"verb": "relabel", "ids": ["torn')
    EditLog("parts").relabel(["last"], [["ok"]], ["dent"])
    assert EditLog("parts").pending["last"] == ["dent"] and "torn" not in EditLog("parts").pending


def test_many_hands_lose_nothing(store):
    edits = EditLog("parts")

    def work(k):
        for i in range(20):
            edits.relabel([f"{k}-{i}"], [["ok"]], ["dent"])

    hands = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for h in hands:
        h.start()
    for h in hands:
        h.join()
    assert sorted(edits.table["edit"]) == list(range(1, 81)) and len(edits.pending) == 80


def test_a_committed_edit_changes_targets_and_nothing_else(ds):
    rng, ids = np.random.default_rng(0), ds.table(["sample_id"])["sample_id"].to_pylist()
    ds = add_column(ds, "embedding", {i: rng.random(8).astype(np.float32) for i in ids[:-1]}, {"cvbench": "{}"})
    edits = EditLog("parts")
    edits.relabel(ids[:3], [["ok"]] * 3, ["stain"])
    edits.relabel(ids[2:4], [["ok"]] * 2, ["dent"])
    edits.undo()
    edits.relabel([ids[5]], [["ok"]], ["dent"])
    new = commit_edits(edits)
    old, rows = ds.table().to_pylist(), new.table().to_pylist()
    assert [r["target"]["labels"] for r in rows[:3]] == [["stain"]] * 3 and rows[5]["target"]["labels"] == ["dent"]
    for before, after in zip(old, rows, strict=True):
        after["target"]["labels"] = before["target"]["labels"]
        assert after == before
    assert new.images(ids) == ds.images(ids)
    assert checkout("parts@v1").table().num_rows == 30, "the old version is gone"
    assert edits.table["state"].tolist() == [f"in {new.ref}"] * 3 + ["undone"] * 2 + [f"in {new.ref}"]
    with pytest.raises(ValueError, match="waiting to be committed"):
        commit_edits(edits)
    with pytest.raises(ValueError, match="no edit of parts to take back"):
        edits.undo()
    assert "relabelled 4 images" in log("parts")["message"].tolist()


def test_a_commit_that_was_cut_short_is_run_again(ds, monkeypatch):
    ids, edits = ds.table(["sample_id"])["sample_id"].to_pylist(), EditLog("parts")
    edits.relabel(ids[:1], [["ok"]], ["stain"])
    import cvbench.cockpit.records as records

    append = records._append
    monkeypatch.setattr(records, "_append", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        commit_edits(edits)
    monkeypatch.setattr(records, "_append", append)
    assert edits.pending
    assert commit_edits(edits).version == 2 and not edits.pending


def test_an_edit_of_an_image_that_is_gone_is_not_lost(ds):
    edits = EditLog("parts")
    edits.relabel(["0" * 20], [["ok"]], ["dent"])
    with pytest.raises(ValueError, match="1 relabelled images are not in parts@v1"):
        commit_edits(edits)
    assert edits.pending


def test_what_was_set_aside_stays_aside(store):
    good = [s for s in make_inspection(20, frames=1)]
    commit([*good, Sample("broken.jpg", b"no image")], "parts")
    first = checkout("parts").table(["sample_id"])["sample_id"][0].as_py()
    EditLog("parts").relabel([first], [["ok"]], ["stain"])
    aside = commit_edits(EditLog("parts")).quarantine.to_pylist()
    assert [a["uri"] for a in aside] == ["broken.jpg"]


def test_referenced_images_stay_referenced(store, tmp_path):
    for i, s in enumerate(make_inspection(12, frames=1)):
        (tmp_path / f"{i}.png").write_bytes(s.read())
    commit([Sample(str(tmp_path / f"{i}.png"), target=Target(("ok",))) for i in range(12)], "files", images="reference")
    first = checkout("files").table(["sample_id"])["sample_id"][0].as_py()
    EditLog("files").relabel([first], [["ok"]], ["dent"])
    new = commit_edits(EditLog("files"))
    assert new.info["images"] == "reference" and new.images([first])
    assert not list((store / "datasets/files").glob("images.lance"))


def test_golden_sets_only_grow(tmp_path):
    rows = [{"sample_id": f"{i}", "target": "ok"} for i in range(3)]
    path, new = add_golden("gears", rows, "audit", folder=tmp_path)
    assert new == 3
    assert add_golden("gears", [*rows, {"sample_id": "9", "target": ["a", "b"]}], folder=tmp_path)[1] == 1
    add_golden("gears", [{"sample_id": "0", "target": "dent"}], folder=tmp_path)
    table = read_golden("gears", tmp_path).set_index("sample_id")
    assert (
        len(path.read_text().splitlines()) == 5
        and table.loc["0", "target"] == "dent"
        and table.loc["9", "target"] == ["a", "b"]
    )
    with pytest.raises(FileNotFoundError, match="gears"):
        read_golden("nuts", tmp_path)


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/b", "", ".hidden", "x" * 101, "nul\0"])
def test_names_do_not_become_paths(name, tmp_path, store):
    with pytest.raises(ValueError, match="not usable"):
        add_golden(name, [], folder=tmp_path)
    with pytest.raises(ValueError, match="not usable"):
        save_slice(Slice("a", "b > 1"), name)
    with pytest.raises(ValueError, match="not usable"):
        EditLog(name).relabel(["a"], [["b"]], ["c"])
    assert not list(tmp_path.iterdir())


def test_slices_are_kept(store):
    save_slice(Slice("dim", "light == 'dim'"), "parts")
    save_slice(Slice(HOSTILE[0], ids=("a", "b"), evidence={"n": 2}), "parts")
    save_slice(Slice("dim", "light == 'dark'"), "parts")
    assert {s.name: (s.where, s.ids) for s in list_slices("parts")} == {
        "dim": ("light == 'dark'", None),
        HOSTILE[0]: ("", ("a", "b")),
    }


TARGET = ["ok", "dent"] * 20


def predictions(path, wrong, light=True):
    scores = np.eye(2)[[(i % 2 + (i in wrong)) % 2 for i in range(40)]]
    metadata = {"light": ["bright"] * 30 + ["dim"] * 10} if light else {}
    return save_predictions(
        make_predictions(
            TARGET, scores, ["ok", "dent"], metadata=metadata, dataset_version="parts@v1", model_id="cafe"
        ),
        path,
    )


def run_test(path, **env):
    job = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)], capture_output=True, text=True,
                         env={**os.environ, **{k: str(v) for k, v in env.items()}}, cwd=path.parent)  # fmt: skip
    return job.returncode, job.stdout


@pytest.mark.parametrize(
    "part",
    [Slice("dim", "light == 'dim'"), Slice("by hand", ids=tuple(f"{i:06d}" for i in range(30, 40)))],
    ids=lambda s: s.name,
)
def test_a_written_test_fails_and_passes(part, store, tmp_path):
    bad = predictions(tmp_path / "bad.parquet", range(30, 38))
    path = write_test(part, "parts", "test", 0.9, judge_slice(part, bad, 0.9), folder=tmp_path / "tests")
    code, said = run_test(path, CVBENCH_PREDICTIONS=bad.path)
    assert code == 1 and "20.0 %" in said and "of 10 images are right" in said and "at least 90.0 %" in said
    good = predictions(tmp_path / "good.parquet", [31])
    assert run_test(path, CVBENCH_PREDICTIONS=good.path)[0] == 0
    code, said = run_test(path)
    assert code == 0 and "1 skipped" in said, "no predictions at all are no pass"
    assert run_test(path, CVBENCH_PREDICTIONS=tmp_path / "missing.parquet")[0] == 1
    (run := store / "runs/parts-probe-1").mkdir(parents=True)
    (run / "run.json").write_text('{"id": "parts-probe-1", "config": {}}')
    predictions(run / "predictions/test.parquet", range(30, 38))
    assert run_test(path)[0] == 1, "the newest run of the store is not judged"
    time.sleep(0.02)
    predictions(store / "runs/parts-probe-2/predictions/test.parquet", [])
    assert run_test(path)[0] == 0
    assert run_test(path, CVBENCH_RUN="parts-probe-1")[0] == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_a_test_are_data(name, store, tmp_path):
    part = Slice(
        name + "x",
        f"light == {name!r} or light == 'dim'" if "\0" not in name else "light == 'dim'",
        ids=tuple(f"{i:06d}" for i in range(30, 40)),
    )
    bad = predictions(tmp_path / "bad.parquet", range(30, 38))
    path = write_test(part, "parts", "test", 0.9, judge_slice(part, bad, 0.9), folder=tmp_path / "tests")
    assert path.parent == tmp_path / "tests"
    scope: dict = {}
    exec(path.read_text(), scope)
    assert scope["SLICE"] == part
    assert run_test(path, CVBENCH_PREDICTIONS=bad.path)[0] == 1


def test_a_slice_without_images_is_no_pass(store, tmp_path):
    part, bad = Slice("dim", "light == 'dim'"), predictions(tmp_path / "bad.parquet", [31])
    path = write_test(part, "parts", "test", 0.9, judge_slice(part, bad, 0.9), folder=tmp_path)
    other = save_predictions(
        make_predictions(["ok"], [[1, 0]], ["ok", "dent"], metadata={"light": ["bright"]}), tmp_path / "other.parquet"
    )
    assert run_test(path, CVBENCH_PREDICTIONS=other.path)[0] == 1
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_test(part, "parts", "test", 0.8, judge_slice(part, bad, 0.8), folder=tmp_path)
    with pytest.raises(ValueError, match="at_least must be"):
        judge_slice(part, bad, 90)


def test_ids_and_conditions_narrow_an_evaluation(tmp_path):
    ev = evaluate(predictions(tmp_path / "p.parquet", [1, 31]), n_boot=10)
    ids = ev.samples["sample_id"][25:35]
    both = ev.where("light == 'dim'", ids=ids)
    assert both.samples["sample_id"].tolist() == ids[5:].tolist()
    assert both.id == ev.where("light == 'dim'", ids=list(reversed(ids.tolist()))).id != ev.where(ids=ids).id
    assert both.headline.value == 0.8
    with pytest.raises(ValueError, match="2 of 3 ids are not among"):
        ev.where(ids=["000001", "x", "y"])
    with pytest.raises(ValueError, match="no image has"):
        ev.where("light == 'dim'", ids=["000001"])
