"Weights of one change nothing, greater ones pull"

import numpy as np
import pytest
import torch

from cvbench.core.inspection import make_inspection
from cvbench.data.commit import commit
from cvbench.inference.features import extract_features
from cvbench.model.adapters import LinearProbe, LoRA
from cvbench.model.heads import encode_targets, make_loss
from cvbench.model.models import create_model
from cvbench.training.checkpoints import own_state
from cvbench.training.objectives import Weighted
from cvbench.training.recipe import Recipe
from cvbench.training.train import train


@pytest.fixture
def ds():
    return commit(make_inspection(60, frames=1), name="inspection")


def trained(ds, weights=None):
    model = create_model("pocket_vit", ds, adapter=LoRA(r=2, blocks=1))
    goal = None if weights is None else Weighted(model, weights)
    run = train(model, ds, epochs=2, lr=3e-3, augment="none", objective=goal, quiet=True)
    return run, model


def test_weights_of_one_train_to_the_same_bits(ds):
    ids = ds.split("train").table(["sample_id"])["sample_id"].to_pylist()
    (plain, a), (ones, b) = trained(ds), trained(ds, dict.fromkeys(ids, 1.0))
    assert plain.id != ones.id
    assert all(torch.equal(v, own_state(b.net)[k]) for k, v in own_state(a.net).items())


def test_an_image_counts_as_often_as_it_weighs(ds):
    table = ds.split("train").table(["sample_id", "target"]).to_pylist()
    dents = {r["sample_id"] for r in table if r["target"]["labels"][0] == "dent"}
    plain, twice, none = (
        trained(ds, None if w is None else {r["sample_id"]: w(r["sample_id"] in dents) for r in table})[0].history
        for w in (None, lambda dent: 2.0, lambda dent: 0.0 if dent else 1.0)
    )
    assert twice[1]["train_loss"] == pytest.approx(2 * plain[1]["train_loss"], rel=0.05)
    assert none[1]["train_loss"] < 0.97 * plain[1]["train_loss"]


def test_weights_for_other_images_are_refused(ds):
    with pytest.raises(ValueError, match="training images of .* has a weight"):
        trained(ds, {"nobody": 2.0})


def test_features_are_those_of_the_encoder_in_the_order_asked(ds):
    _, model = trained(ds)
    ids = ds.split("test").table(["sample_id"])["sample_id"].to_pylist()
    ((name, some),) = extract_features(model, ds, ids[:5]).items()
    ((again, all_of_them),) = extract_features(model, ds.split("test")).items()
    assert name == again and name.startswith("pocket_vit:")
    assert np.allclose(some, all_of_them[:5], atol=1e-4)


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several"])
@pytest.mark.parametrize("balance", ["none", "loss"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_scale_the_very_loss_that_is_trained(ds, several, balance, smoothing):
    train_set = ds.split("train")
    model = create_model(
        "pocket_vit", ds, adapter=LinearProbe(), task="multilabel" if several else None, classes=ds.classes
    )
    y, recipe = encode_targets(train_set, model), Recipe(balance=balance, label_smoothing=smoothing)
    loss, rows = make_loss(model, y, balance, smoothing), np.arange(12)
    logits = torch.randn(12, len(ds.classes), generator=torch.Generator().manual_seed(0))
    labels, ids = loss(logits, y[rows]), train_set.table(["sample_id"])["sample_id"].to_pylist()

    def total(weights):
        goal = Weighted(model, dict(zip(ids, weights, strict=False)))
        goal.prepare(train_set, recipe, torch.device("cpu"))
        return float(goal(labels, rows, 0 * rows, None, logits, len(rows)))

    assert total([0.0] * len(ids)) == pytest.approx(0, abs=1e-6)
    assert total([1.0] * len(ids)) == float(labels)
    assert total([3.0] * len(ids)) == pytest.approx(3 * float(labels), rel=1e-5)
    halves = [total([float((i < 6) == first) for i in range(len(ids))]) for first in (True, False)]
    assert sum(halves) == pytest.approx(float(labels), rel=1e-5)


def test_a_rare_class_weighs_by_its_frequency_too(ds):
    train_set = ds.split("train")
    model = create_model("pocket_vit", ds, adapter=LinearProbe())
    y, ids = encode_targets(train_set, model), train_set.table(["sample_id"])["sample_id"].to_pylist()
    logits, rows = torch.zeros(len(y), len(ds.classes)), np.arange(len(y))
    rare = int(y.bincount(minlength=len(ds.classes)).clamp(min=1).argmin())
    goal = Weighted(model, {i: float(c != rare) for i, c in zip(ids, y.tolist(), strict=True)})
    goal.prepare(train_set, Recipe(balance="loss"), torch.device("cpu"))
    labels, there = make_loss(model, y, "loss")(logits, y), len(set(y.tolist()))
    assert float(goal(labels, rows, rows, None, logits, len(rows))) == pytest.approx(float(labels) * (1 - 1 / there))
