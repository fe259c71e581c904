"An estimate names what the training then takes"

import pytest
import torch
from test_training_train import digits, small
from torch import nn

from cvbench.core.arrays import list_cache
from cvbench.model.adapters import FullFineTune, LinearProbe, LoRA
from cvbench.model.backbones import Transform
from cvbench.model.models import create_model
from cvbench.search.estimate import estimate
from cvbench.training.train import train


@pytest.mark.parametrize("adapter", [LoRA(r=2, blocks=1), LoRA(r=2), LinearProbe()])
def test_disk_and_parameters_are_those_of_the_run(adapter):
    ds = digits()
    expected = estimate(small(ds, adapter), ds, epochs=3)
    run = train(small(ds, adapter), ds, epochs=3, tracker="off")
    squares = (ds.splits["train"] + ds.splits["val"]) * 32 * 32 * 3 / 1e6
    assert expected.trainable == run.summary["trainable"]
    assert expected.disk_mb - squares == pytest.approx(run.summary["disk_mb"], abs=0.06)
    assert expected.cache == run.summary["cache"]
    assert expected.seconds == pytest.approx(sum(expected.parts.values())) and min(expected.parts.values()) >= 0


def test_estimating_changes_nothing_and_more_work_is_more_time():
    ds = digits()
    model = small(ds, LoRA(r=2, blocks=1))
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    short = estimate(model, ds, epochs=2, augment="none")
    assert all(torch.equal(before[k], v) for k, v in model.net.state_dict().items())
    assert not any(p.grad is not None for p in model.net.parameters())
    long = estimate(model, ds, epochs=200, augment="none")
    assert long.seconds > 5 * short.seconds
    assert short.parts["frozen blocks"] < 5 * long.parts["frozen blocks"]


def test_money_is_spoken_of_when_there_is_a_price(monkeypatch):
    ds = digits()
    free = estimate(small(ds, LinearProbe()), ds)
    assert free.price is None and "price" not in repr(free)
    monkeypatch.setenv("CVBENCH_PRICE_PER_HOUR", "3.6")
    paid = estimate(small(ds, LinearProbe()), ds)
    assert paid.price == pytest.approx(paid.seconds / 1000) and "price" in repr(paid)


def test_statistics_of_a_batch_norm_are_as_they_were():
    ds = digits(60)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model = create_model(net, ds, adapter=FullFineTune(), transform=Transform(32, 1.0))
    before = model.id
    estimate(model, ds, epochs=1)
    assert model.id == before and not model.net.training
    train(model, ds, epochs=1)
    assert model.id != before


def test_nothing_is_written_and_nothing_gives_way(store, monkeypatch):
    ds = digits(60)
    held = {p for p in store.rglob("*")}
    estimate(small(ds, LoRA(r=2, blocks=1)), ds)
    assert {p for p in store.rglob("*")} == held
    train(small(ds, LoRA(r=2, blocks=1)), ds, epochs=4)
    kept = {p.name for p, _, _ in list_cache()}
    assert any(n.startswith("pixels") for n in kept)
    monkeypatch.setenv("CVBENCH_CACHE_GB", str(sum(size for _, size, _ in list_cache()) / 1e9))
    other = create_model("pocket_vit", ds, adapter=LoRA(blocks=1))
    estimate(other, ds)
    assert {p.name for p, _, _ in list_cache()} == kept
    train(other, ds, epochs=1)
    assert {p.name for p, _, _ in list_cache()} != kept
