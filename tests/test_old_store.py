"A store that was written before the package was cut into rooms opens, and evaluates to the same numbers"

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import cvbench as cv


@pytest.fixture
def old(tmp_path, monkeypatch):
    "What was there, and the numbers of then"
    with tarfile.open(Path(__file__).parent / "data/store_2026_12.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    for name in ("CVBENCH_STORE", "CVBENCH_SLICES"):  # settings.ini names them
        monkeypatch.delenv(name)
    return json.loads(Path("expected.json").read_text())


def test_its_numbers_are_the_same(old):
    preds = cv.load_predictions(cv.load_run(old["run"]).path / "predictions/test.parquet")
    ev, kept = (
        cv.evaluate(preds, n_boot=old["n_boot"]),
        cv.load_evaluation(cv.load_run(old["run"]).path / "evaluation.parquet"),
    )
    assert (preds.id, ev.id, kept.id) == (old["predictions"], old["evaluation"], old["evaluation"])
    for e in (ev, kept):
        table = e.metrics[e.metrics["class"].isna()].set_index("metric")[["value", "low", "high"]]
        np.testing.assert_allclose(table.loc[list(old["metrics"])], list(old["metrics"].values()), rtol=1e-6)


def test_its_model_predicts_the_same_and_keeps_the_features(old):
    run, ds = cv.load_run(old["run"]), cv.checkout(old["ref"])
    path = run.path / "predictions/test.parquet"
    before = cv.load_predictions(path)
    assert cv.load_features(path) is None
    after = cv.predict(run, ds.split("test"))
    assert after.model_id == before.model_id and after.table["pred"] == before.table["pred"]
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-3)
    ((_, features),) = cv.load_features(path, after.table["sample_id"].to_pylist()).items()
    assert features.shape == (len(before), 192)


def test_what_people_decided_is_there(old):
    first, second = old["ids"]
    assert cv.checkout("parts@first").ref == old["ref"] and cv.log("parts")["message"].tolist() == ["first"]
    assert cv.EditLog("parts").pending == {first: ["scratch"], second: ["scratch"]}
    assert cv.commit_edits(cv.EditLog("parts")).version == 2
    assert cv.load_golden("gears")["sample_id"].tolist() == [first]
    assert [s.where for s in cv.list_slices("parts")] == ["light == 'dim'"]
    assert [e.name for e in cv.load_ledger("parts")] == ["dim"]
    assert cv.load_sweep("s").table["val_accuracy"].tolist() == old["sweep"]
