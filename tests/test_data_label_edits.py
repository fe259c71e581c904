"What was decided stays decided: through kills, through other notebooks, into data and tests"

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from cvbench.core.inspection import make_inspection
from cvbench.core.types import Sample, Target
from cvbench.data.commit import commit
from cvbench.data.golden import add_golden, load_golden
from cvbench.data.label_edits import EditLog, commit_edits
from cvbench.data.versions import add_column, checkout, log
from cvbench.slices.slice import Slice
from cvbench.slices.slice_tests import save_slice

HOSTILE = ['"""\nimport os; os._exit(7)\n"""', "'); raise SystemExit(", "\\", "{doc}", "\0", "‮txt.exe", "ok\n"]


@pytest.fixture
def ds():
    return commit(make_inspection(30, frames=1), name="parts")


def test_every_edit_survives_a_kill(store, tmp_path):
    code = (
        "import itertools; from cvbench.data.label_edits import EditLog\n"
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
    with pytest.raises(ValueError, match="no edit of parts to undo"):
        edits.undo()
    assert "relabelled 4 images" in log("parts")["message"].tolist()


def test_a_commit_that_was_cut_short_is_run_again(ds, monkeypatch):
    ids, edits = ds.table(["sample_id"])["sample_id"].to_pylist(), EditLog("parts")
    edits.relabel(ids[:1], [["ok"]], ["stain"])
    import cvbench.data.label_edits as module

    append = module.append_lines
    monkeypatch.setattr(module, "append_lines", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        commit_edits(edits)
    monkeypatch.setattr(module, "append_lines", append)
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
    table = load_golden("gears", tmp_path).set_index("sample_id")
    assert (
        len(path.read_text().splitlines()) == 5
        and table.loc["0", "target"] == "dent"
        and table.loc["9", "target"] == ["a", "b"]
    )
    with pytest.raises(FileNotFoundError, match="gears"):
        load_golden("nuts", tmp_path)


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/b", "", ".hidden", "x" * 101, "nul\0"])
def test_names_do_not_become_paths(name, tmp_path, store):
    with pytest.raises(ValueError, match="not usable"):
        add_golden(name, [], folder=tmp_path)
    with pytest.raises(ValueError, match="not usable"):
        save_slice(Slice("a", "b > 1"), name)
    with pytest.raises(ValueError, match="not usable"):
        EditLog(name).relabel(["a"], [["b"]], ["c"])
    assert not list(tmp_path.iterdir())
