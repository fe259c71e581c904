"Slices made by hand and the tests written from them"

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from cvbench.core.predictions import make_predictions, save_predictions
from cvbench.evaluation.evaluate import evaluate
from cvbench.slices.slice import Slice
from cvbench.slices.slice_tests import judge_slice, list_slices, save_slice, save_slice_test

HOSTILE = ['"""\nimport os; os._exit(7)\n"""', "'); raise SystemExit(", "\\", "{doc}", "\0", "‮txt.exe", "ok\n"]


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
    path = save_slice_test(part, "parts", "test", 0.9, judge_slice(part, bad, 0.9), folder=tmp_path / "tests")
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
    path = save_slice_test(part, "parts", "test", 0.9, judge_slice(part, bad, 0.9), folder=tmp_path / "tests")
    assert path.parent == tmp_path / "tests"
    scope: dict = {}
    exec(path.read_text(), scope)
    assert scope["SLICE"] == part
    assert run_test(path, CVBENCH_PREDICTIONS=bad.path)[0] == 1


def test_a_slice_without_images_is_no_pass(store, tmp_path):
    part, bad = Slice("dim", "light == 'dim'"), predictions(tmp_path / "bad.parquet", [31])
    path = save_slice_test(part, "parts", "test", 0.9, judge_slice(part, bad, 0.9), folder=tmp_path)
    other = save_predictions(
        make_predictions(["ok"], [[1, 0]], ["ok", "dent"], metadata={"light": ["bright"]}), tmp_path / "other.parquet"
    )
    assert run_test(path, CVBENCH_PREDICTIONS=other.path)[0] == 1
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_slice_test(part, "parts", "test", 0.8, judge_slice(part, bad, 0.8), folder=tmp_path)
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
