"What is chosen, and what is asked for wrongly"

import pytest
from test_training_train import digits, small

import cvbench.search.presets as r
from cvbench.model.adapters import LinearProbe, LoRA
from cvbench.search.estimate import estimate
from cvbench.training.precompute import fill_cache
from cvbench.training.train import train


@pytest.mark.parametrize("ask", [r.adapt, r.choose, estimate, fill_cache, train], ids=lambda f: f.__name__)
def test_a_field_no_recipe_has_and_data_without_train_are_told_alike_by_all(ask):
    ds = digits(60)
    first = "pocket_vit" if ask in (r.adapt, r.choose) else small(ds, LinearProbe())
    with pytest.raises(ValueError, match=r"a recipe has no \['epoch'\]. Its fields are epochs, batch_size"):
        ask(first, ds, epoch=3)
    if ask is not r.choose:
        with pytest.raises(ValueError, match="has the splits .*'test'.*, but training needs one called train"):
            ask(first, ds.split("test"))


@pytest.mark.parametrize(("epochs", "tried"), [({}, 5), ({"epochs": 3}, 4)])
def test_no_choice_is_measured_twice(epochs, tried, monkeypatch):
    measured = []

    def too_long(ds, choice, device):
        measured.append(choice)
        return r.Estimate(1e6, 0, 0, 0, None, "", {})

    monkeypatch.setattr(r, "_estimate", too_long)
    r.choose("pocket_vit", digits(60), budget="1s", **epochs)
    assert len(measured) == len({(c.adapter, c.recipe) for c in measured}) == tried
    assert any("half the epochs" in c.why for c in measured) == (not epochs)
    assert measured[0].adapter == LoRA() and measured[-1].adapter == LinearProbe()
