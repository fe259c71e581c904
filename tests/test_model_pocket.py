"""The embedded backbone: it loads offline, its pictures and training follow from the seed, and it earns its name."""

import importlib.util
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from sklearn.exceptions import ConvergenceWarning

from cvbench.model import pocket
from cvbench.model import pretrain as recipe
from cvbench.model._synthesis import DEFECTS, FAMILIES, OBJECTS, PATTERNS, SIZE, THINGS, draw, pattern

pytestmark = pytest.mark.xdist_group("pocket")  # its fixtures are made once

SHARED = Path(os.environ.get("CVBENCH_SHARED", Path(__file__).parents[2] / "shared")) / "data"


@pytest.fixture(scope="module")
def benchmark():
    file = Path(__file__).parents[1] / "benchmarks" / "pocket_vit.py"
    spec = importlib.util.spec_from_file_location("benchmark_pocket_vit", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return recipe.make_pool(tmp_path_factory.mktemp("pool"), n=96, seed=5, workers=0)


# ------------------------------------------------------------------------------------------------- the model


def test_weights_are_small_and_whole():
    weights = load_file(pocket.pocket_weights)
    assert pocket.pocket_weights.stat().st_size <= 6_000_000
    assert set(weights) == set(timm.create_model("pocket_vit").state_dict())
    assert all(v.dtype == torch.float16 and v.isfinite().all() for v in weights.values())


def test_loads_with_no_network(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = timm.create_model("pocket_vit", pretrained=True)
    stored = load_file(pocket.pocket_weights)
    assert all(torch.equal(v.half(), stored[k]) for k, v in model.state_dict().items())


def test_registered_in_timm():
    assert timm.is_model("pocket_vit")
    assert "pocket_vit.cvbench" in timm.list_pretrained("pocket_vit*")
    data = timm.data.resolve_model_data_config(timm.create_model("pocket_vit"))
    assert data["input_size"] == (3, 96, 96) and data["mean"] == (0.5, 0.5, 0.5)


def test_features_are_deterministic_and_differ_from_untrained():
    images = (
        torch.stack([torch.from_numpy(draw((1, i))[0][8:104, 8:104]) for i in range(6)]).permute(0, 3, 1, 2) / 127.5 - 1
    )
    features = []
    for pretrained in (True, True, False):
        model = timm.create_model("pocket_vit", pretrained=pretrained).eval()
        with torch.inference_mode():
            features.append(model.forward_head(model.forward_features(images), pre_logits=True))
    assert features[0].shape == (6, 192) and torch.equal(features[0], features[1])
    assert not torch.allclose(features[0], features[2], atol=0.1)


@pytest.mark.parametrize(
    "change", [{"num_classes": 7}, {"drop_path_rate": 0.1}, {"img_size": 144}, {"global_pool": "max"}]
)
def test_takes_what_timm_takes(change):
    model = timm.create_model("pocket_vit", pretrained=True, **change).eval()
    size = change.get("img_size", 96)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, change.get("num_classes", 192))


# ---------------------------------------------------------------------------------------------- the pictures


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_follow_from_the_seed(family):
    first, again, other = draw((3, 1), family), draw((3, 1), family), draw((3, 2), family)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    image, things, stuff, number = first
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8 and FAMILIES[number] == family
    assert things.max() < len(THINGS) and stuff.max() < len(PATTERNS)


@pytest.mark.parametrize("kind", PATTERNS)
def test_patterns_fill_the_unit_interval(kind):
    field = pattern(kind, np.random.default_rng(0))
    assert field.shape == (SIZE, SIZE) and np.isfinite(field).all() and field.min() > -0.3 and field.max() < 1.3


def test_vocabulary_is_covered_and_unknown_names_are_refused():
    seen = set()
    for i in range(150):
        seen |= {THINGS[t] for t in np.unique(draw((11, i), "surface")[1])}
    assert set(DEFECTS) <= seen
    assert len(set(THINGS)) == len(THINGS) < 256 and len(OBJECTS) > 60
    with pytest.raises(ValueError, match="family 'sky' is not known. Use one of"):
        draw(0, "sky")
    with pytest.raises(ValueError, match="pattern 'sky' is not known. Use one of"):
        pattern("sky", np.random.default_rng(0))


def test_pool_is_kept_and_a_stale_one_is_drawn_anew(tmp_path):
    small = recipe.make_pool(tmp_path, n=6, seed=2, workers=0)
    images, stamp = np.array(small.images), (tmp_path / "images.npy").stat().st_mtime_ns
    recipe.make_pool(tmp_path, n=6, seed=2, workers=0)
    assert (tmp_path / "images.npy").stat().st_mtime_ns == stamp
    assert not np.array_equal(recipe.make_pool(tmp_path, n=6, seed=3, workers=0).images, images)


# ---------------------------------------------------------------------------------------------- the training


def test_maps_follow_the_images_through_a_view(pool):
    flat = torch.full((8, 3, SIZE, SIZE), 0.25)
    flat[:, :, :, SIZE // 2 :] = 0.75
    maps = torch.zeros(8, 2, 28, 28)
    maps[..., 14:] = 1
    views, where = recipe._sample_view(flat, maps, torch.Generator().manual_seed(0))
    bright = torch.nn.functional.avg_pool2d(views[:, :1], 6)
    clear = (bright - 0.5).abs() > 0.2
    assert clear.float().mean() > 0.7
    assert torch.equal((bright > 0.5)[clear], (where[:, :1] == 1)[clear])


def test_directions_are_those_of_the_stripes():
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    for turn in range(8):
        wave = torch.sin(0.5 * (x * np.cos(turn * np.pi / 8) + y * np.sin(turn * np.pi / 8)))
        energy = recipe._directions(wave.expand(1, 3, 96, 96)).mean((2, 3))[0]
        assert energy.argmax() == turn


def test_a_short_training_lowers_the_loss(pool, tmp_path):
    history = recipe.pretrain(pool, tmp_path / "w.safetensors", steps=80, batch=8)
    assert [h["step"] for h in history] == [50, 80]
    assert history[1]["loss"] < 0.9 * history[0]["loss"]
    assert set(load_file(tmp_path / "w.safetensors")) == set(timm.create_model("pocket_vit").state_dict())


def test_a_stopped_training_ends_as_one_that_was_not(pool, tmp_path, monkeypatch):
    recipe.pretrain(pool, tmp_path / "whole.safetensors", steps=6, batch=8)
    take, taken = recipe._take_step, []

    def stop_after_three(*args):
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(1)
        return take(*args)

    monkeypatch.setattr(recipe, "_take_step", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        recipe.pretrain(pool, tmp_path / "stopped.safetensors", steps=6, batch=8, save_every=0)
    monkeypatch.setattr(recipe, "_take_step", take)
    early = load_file(tmp_path / "stopped.safetensors")
    recipe.pretrain(pool, tmp_path / "stopped.safetensors", steps=6, batch=8)
    whole, stopped = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "stopped.safetensors")
    assert all(torch.equal(whole[k], stopped[k]) for k in whole)
    assert not all(torch.equal(early[k], whole[k]) for k in whole)


def test_a_training_without_length_is_refused(pool, tmp_path):
    for length in ({}, {"minutes": 1, "steps": 1}):
        with pytest.raises(ValueError, match="Pass one of the two"):
            recipe.pretrain(pool, tmp_path / "w.safetensors", **length)


# --------------------------------------------------------------------------------------------- its good name


def test_bootstrap_agrees_with_counting(benchmark):
    rng = np.random.default_rng(0)
    labels, correct = rng.choice(["a", "b"], 400, p=[0.9, 0.1]), rng.random((2, 400)) < [[0.8], [0.5]]
    for balanced in (True, False):
        data = benchmark.Data(np.empty(0), labels, np.arange(400), balanced)
        scores = benchmark.bootstrap(correct, data, draws=800)
        by_hand = np.mean([correct[0][labels == k].mean() for k in "ab"]) if balanced else correct[0].mean()
        assert scores[0, 0] == pytest.approx(by_hand)
        assert np.percentile(scores[0] - scores[1], 2.5) > 0
        assert np.percentile(scores[1] - scores[0], 97.5) < 0


@pytest.fixture(scope="module")
def photos(benchmark):
    "Every second photo of the real set, as the benchmark reads it"
    if not (SHARED / "clothing_small").is_dir():
        pytest.skip("the real photos of clothing_small are not in the folder of shared data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "SHARED", SHARED)
        return benchmark.read_clothing_small(every=2)


@pytest.mark.shared
@pytest.mark.parametrize("pretrained", [True, False])
def test_probe_beats_untrained_and_pixels_where_it_was_never_trained(benchmark, photos, monkeypatch, pretrained):
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    monkeypatch.setattr(benchmark, "PENALTIES", (1e-3, 1e-2))
    data = photos
    order = np.random.default_rng(0).permutation(len(data.labels))
    data.split = np.select([order < 800, order < 1000], ["train", "val"], "test")
    if not pretrained:
        untrained = benchmark.pocket_features
        monkeypatch.setattr(
            benchmark,
            "pocket_features",
            lambda images, weights=None, seed=None: untrained(images, seed=99 if seed is None else seed),
        )
    row = benchmark.compare_set("clothing_small", data, seeds=1)
    ahead = min(row["ahead of untrained"][1], row["ahead of pixels"][1]) > 0
    assert ahead == pretrained, row


def test_matrices_are_updated_as_by_torch():
    "In float32 too, where the processor has no bfloat16"
    torch.manual_seed(0)
    start, gradients = torch.randn(32, 16), [torch.randn(32, 16) for _ in range(3)]
    ends = []
    for kind in (recipe._Muon, torch.optim.Muon):
        p = torch.nn.Parameter(start.clone())
        optimizer = kind([p], 1e-2, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        for g in gradients:
            p.grad = g.clone()
            optimizer.step()
        ends.append(p.detach())
    assert (ends[0] - start).abs().max() > 0.01
    torch.testing.assert_close(*ends, atol=1e-3, rtol=0)
