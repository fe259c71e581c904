"A cache filled beforehand is the one that training finds"

import shutil

import numpy as np
import pytest
from test_training_train import digits, small

import cvbench.core.arrays as arrays
import cvbench.training.precompute as f
from cvbench.model.adapters import FullFineTune, LinearProbe, LoRA
from cvbench.training.recipe import Recipe
from cvbench.training.train import train


@pytest.mark.parametrize("adapter", [LoRA(r=2, blocks=1), LinearProbe()], ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("augment", ["none", "light"])
def test_training_finds_everything_there(adapter, augment, monkeypatch):
    ds = digits(120)
    plan = f.fill_cache(small(ds, adapter), ds, epochs=2, views=2, augment=augment)
    computed = []
    monkeypatch.setattr(
        arrays.LazyArray, "write", lambda self, rows, values: computed.append((self.path.name, len(rows)))
    )
    run = train(small(ds, adapter), ds, epochs=2, views=2, augment=augment)
    assert plan.dtype and run.summary["cache"] == plan.sentence
    assert not computed


def test_only_what_is_missing_is_computed_again(monkeypatch):
    monkeypatch.setattr(f, "_SHARD", 20)
    ds = digits(120)
    model, recipe = small(ds, LoRA(r=2, blocks=1)), Recipe(epochs=4, views=2)
    plan = f.fill_cache(model, ds, recipe)
    work = f.FillShard(model, ds, recipe, plan.dtype, "cpu", 20)
    assert work.missing() == {} and len(work.shards) == 2 * -(-ds.splits["train"] // 20) - (-ds.splits["val"] // 20)
    array = work._feeds["train"]._array(1)
    whole = array.data.copy()
    array.data[25] = 7
    (damaged,) = (i for i, s in enumerate(work.shards) if s[:2] == ("train", 1) and s[2][0] == 20)
    assert f.FillShard(model, ds, recipe, plan.dtype, "cpu", 20).missing() == {damaged: 20}
    f.fill_cache(model, ds, recipe)
    np.testing.assert_array_equal(array.data, whole)


def test_nothing_is_kept_where_nothing_is_constant_and_bad_use_is_told():
    ds = digits(60)
    assert f.fill_cache(small(ds, FullFineTune()), ds).dtype is None
    assert f.fill_cache(small(ds, LoRA(blocks=1)), ds, cache="off").dtype is None
    with pytest.raises(ValueError, match="training needs one called train"):
        f.fill_cache(small(ds, LinearProbe()), ds.split("test"))
    with pytest.raises(ValueError, match="on='mars'"):
        f.fill_cache(small(ds, LinearProbe()), ds, on="mars")


@pytest.mark.parametrize("balance", ["none", "sampler"])
@pytest.mark.parametrize(
    ("adapter", "recipe"),
    [
        (LinearProbe(), {}),
        (LoRA(r=2, blocks=1), {"epochs": 0}),
        (LoRA(r=2, blocks=1), {"epochs": 2, "views": 4}),
        (LoRA(r=2, blocks=1), {"epochs": 1, "views": 3, "refresh": 0.5, "probe_init": False}),
        (LoRA(r=2, blocks=1), {"epochs": 1, "views": 0, "probe_init": False}),
    ],
    ids=["probe", "no epochs", "more views than epochs", "fresh views", "only fresh views"],
)
def test_what_is_filled_is_what_training_would_compute(adapter, recipe, balance, monkeypatch, store):
    ds, written, real = digits(120), [], arrays.LazyArray.write

    def write(self, rows, values):
        if self.path.name.startswith("prefix"):
            written.extend((self.path.name, int(i)) for i in rows)
        real(self, rows, values)

    def computed(f):
        written.clear()
        f(small(ds, adapter), ds, cache="fp32", balance=balance, **recipe)
        shutil.rmtree(store / "cache")
        return sorted(written)

    monkeypatch.setattr(arrays.LazyArray, "write", write)
    assert computed(f.fill_cache) == computed(train) and written
