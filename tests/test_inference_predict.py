"Predictions end at one file, whoever else writes it, and never outside its folder"

from dataclasses import replace

import pytest
from test_training_train import digits, small

import cvbench.inference.predict as p
from cvbench.core.predictions import load_predictions
from cvbench.model.adapters import LinearProbe


@pytest.fixture
def ds():
    return digits(60)


def test_what_another_process_finished_meanwhile_is_the_answer(ds, monkeypatch):
    model, real, said = small(ds, LinearProbe()), p.run_shards, []

    def overtaken(*a, **k):
        real(*a, **k)
        monkeypatch.setattr(p, "run_shards", real)
        said.append(p.predict(model, ds.split("test")))

    monkeypatch.setattr(p, "run_shards", overtaken)
    preds = p.predict(model, ds.split("test"))
    assert preds.id == said[0].id and preds.path == said[0].path
    assert [f.name for f in preds.path.parent.iterdir()] == [preds.path.name]


def test_parts_that_are_gone_without_an_answer_are_an_error(ds, monkeypatch):
    monkeypatch.setattr(p, "run_shards", lambda *a, **k: None)
    with pytest.raises(FileNotFoundError):
        p.predict(small(ds, LinearProbe()), ds.split("test"))


def test_a_damaged_file_is_written_anew_in_its_own_place_and_refused_in_anothers(ds):
    model = small(ds, LinearProbe())
    whole = p.predict(model, ds.split("test"))
    for damage in (lambda b: b[:50], lambda b: b""):
        whole.path.write_bytes(damage(whole.path.read_bytes()))
        assert p.predict(model, ds.split("test")).id == load_predictions(whole.path).id == whole.id
    notes = whole.path.with_name("notes.txt")
    notes.write_text("mine")
    with pytest.raises(ValueError, match="not a prediction table"):
        p.predict(model, ds.split("test"), path=notes)
    assert notes.read_text() == "mine"


def test_a_folder_is_no_file(ds, store):
    with pytest.raises(ValueError, match=r"store is a folder. Pass the path of a file in it, such as .*\.parquet"):
        p.predict(small(ds, LinearProbe()), ds.split("test"), path=store)


@pytest.mark.parametrize("name", ["../../../x", "a/b", "a\0b", ""])
def test_a_split_that_is_no_file_name_leads_nowhere(ds, name, store):
    odd = replace(ds, info=ds.info | {"splits": {name: 3}})
    with pytest.raises(ValueError, match="split .* is not usable as a folder name"):
        p.predict(small(ds, LinearProbe()), odd)
    assert {f.name for f in store.iterdir()} == {"datasets"}
