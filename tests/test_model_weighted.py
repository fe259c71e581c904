"Weights of one change nothing, greater ones pull"

import numpy as np
import pytest
import torch

from cvbench.core.inspection import make_inspection
from cvbench.data.dataset import commit
from cvbench.model.adapters import LoRA
from cvbench.model.checkpoints import own_state
from cvbench.model.features import read_features
from cvbench.model.models import create_model
from cvbench.model.train import train
from cvbench.model.weighted import Weighted


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
    ((name, some),) = read_features(model, ds, ids[:5]).items()
    ((again, all_of_them),) = read_features(model, ds.split("test")).items()
    assert name == again and name.startswith("pocket_vit:")
    assert np.allclose(some, all_of_them[:5], atol=1e-4)
