"The activation cache changes the time and nothing else"

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import Job
from test_training_train import digits, small
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from cvbench.core.arrays import LazyArray, list_cache, open_array, trim_cache
from cvbench.core.settings import load_settings
from cvbench.inference.features import extract_features
from cvbench.inference.predict import predict
from cvbench.model.adapters import FullFineTune, LinearProbe, LoRA
from cvbench.model.backbones import Transform
from cvbench.model.models import create_model
from cvbench.model.partition import untouched
from cvbench.model.preprocessing import Pixels
from cvbench.training.activation_cache import Activations, plan_cache, split_model
from cvbench.training.recipe import Recipe
from cvbench.training.train import train

ONE = LoRA(r=2, blocks=1)


def losses(ds, **changes):
    "One step an epoch, so that the history is step by step"
    run = train(small(ds, ONE), ds, epochs=6, batch_size=len(ds), lr=1e-3, precision="fp32", tracker="off", **changes)
    return np.array([h["train_loss"] for h in run.history[1:]]), run


@pytest.mark.parametrize("views", [{"augment": "none", "views": 1}, {"views": 4}, {"views": 2, "refresh": 0.5}])
def test_cached_and_uncached_losses_are_equal_step_by_step(views):
    ds = digits()
    cached, run = losses(ds, cache="fp32", **views)
    direct, without = losses(ds, cache="off", **views)
    assert "Activation cache: 1 of 2 blocks" in run.summary["cache"] and "switched off" in without.summary["cache"]
    plain = 6 if views.get("augment") == "none" else 1 if "refresh" in views else 2  # epochs before other views come in
    assert len(cached) == 6 and (plain == 1 or cached[plain - 1] < cached[0])
    np.testing.assert_allclose(cached, direct, rtol=1e-5)


def test_half_precision_changes_accuracy_by_less_than_its_interval():
    ds = digits()
    (half, a), (full, b) = losses(ds, cache="fp16"), losses(ds, cache="fp32")
    n = len(json.loads((a.path / "val.json").read_text())["correct"])
    accuracy = b.summary["val_accuracy"]
    interval = 1.96 * np.sqrt(max(accuracy * (1 - accuracy), 1 / n) / n)
    assert abs(a.summary["val_accuracy"] - accuracy) < interval
    np.testing.assert_allclose(half, full, rtol=1e-3)
    assert a.summary["disk_mb"] == pytest.approx(b.summary["disk_mb"] / 2, abs=0.1)


def reader(ds, model, dtype="float32", **options):
    return Activations(split_model(model), Pixels(ds, model.backbone.transform), torch.device("cpu"), dtype, **options)


def computed(feed, rows, draw=0):
    feed.read(rows, draw)
    return feed.arrays[draw].computed


def test_what_one_run_left_the_next_one_reads_and_nothing_else_does():
    ds, rows = digits().split("train"), np.arange(20)
    assert computed(reader(ds, small(ds, ONE)), rows) == 20
    assert computed(reader(ds, small(ds, ONE)), rows) == 0
    assert computed(reader(ds, small(ds, LoRA(r=7, blocks=1))), rows) == 0  # another rank
    assert computed(reader(ds, small(ds, LinearProbe())), rows) == 20  # another cut
    assert computed(reader(digits().split("test"), small(ds, ONE)), rows) == 20  # other images
    changed = small(ds, ONE)
    with torch.no_grad():
        next(changed.net.encoder.blocks[0].parameters()).add_(1e-3)
    assert computed(reader(ds, changed), rows) == 20  # other weights
    views = {"views": 3, "augment": "light"}
    assert computed(reader(ds, small(ds, ONE), **views), rows, 2) == 20  # another view
    assert computed(reader(ds, small(ds, ONE), **views), rows, 2) == 0
    assert computed(reader(ds, small(ds, ONE), seed=1, **views), rows, 2) == 20  # another seed
    assert computed(reader(ds, small(ds, ONE), seed=1, **views), rows, 0) == 0  # the plain view has none


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_what_is_computed_from_an_earlier_cut_is_what_the_images_give(pool):
    ds, rows = digits().split("train"), np.arange(20)

    def model(adapter):
        torch.manual_seed(0)
        shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
        net = VisionTransformer(**shape, global_pool=pool, class_token=pool == "token")
        return create_model(net, ds, adapter=adapter, transform=Transform(32, 1.0))

    probe = model(LinearProbe())
    truth = Activations(split_model(probe), Pixels(ds, probe.backbone.transform), torch.device("cpu")).read(rows)
    reader(ds, model(ONE)).read(rows)
    feed = reader(ds, probe)
    torch.testing.assert_close(feed.read(rows), truth)
    assert feed.earlier[0][0] is not None  # it did not begin at the images


def test_a_damaged_row_a_cut_file_and_a_foreign_folder_are_computed_again():
    ds, rows = digits().split("train"), np.arange(20)
    feed = reader(ds, small(ds, ONE))
    truth = feed.read(rows)
    path = feed.arrays[0].path
    with open(path / "data.bin", "r+b") as f:
        f.seek(5 * feed.arrays[0].data[0].nbytes + 3)
        f.write(b"\xff\xff")
    again = reader(ds, small(ds, ONE))
    torch.testing.assert_close(again.read(rows), truth)
    assert again.arrays[0].computed == 1
    os.truncate(path / "data.bin", 1000)
    assert computed(reader(ds, small(ds, ONE)), rows) == 20
    (path / "about.json").write_text('{"kind": "something else"}')
    assert computed(reader(ds, small(ds, ONE)), rows) == 20
    (path / "about.json").write_text("not JSON")
    again = reader(ds, small(ds, ONE))
    torch.testing.assert_close(again.read(rows), truth)
    assert again.arrays[0].computed == 20


def test_a_budget_too_small_is_a_sentence_not_an_error(monkeypatch):
    ds = digits()
    monkeypatch.setenv("CVBENCH_CACHE_GB", "0.0001")
    run = train(small(ds, ONE), ds, epochs=4, precision="fp32", tracker="off", name="poor")
    assert "the budget is 0.00 GB (cache_gb)" in run.summary["cache"] and run.summary["disk_mb"] == 0
    monkeypatch.delenv("CVBENCH_CACHE_GB")
    rich = train(small(ds, ONE), ds, epochs=4, precision="fp32", tracker="off", name="rich")
    assert rich.summary["disk_mb"] > 0
    assert rich.summary["val_loss"] == pytest.approx(run.summary["val_loss"], rel=1e-2)


def test_the_oldest_arrays_make_room(tmp_path):
    size = 100 * (10 * 4 + 8)
    for k in range(3):
        os.utime(open_array("a", {"k": k}, 100, (10,), "float32", 2.5 * size, tmp_path).path, (k, k))
    kept = [json.loads((p / "about.json").read_text())["key"]["k"] for p, _, _ in list_cache(tmp_path)]
    assert kept == [1, 2]
    assert trim_cache(0, tmp_path) == 2 * size and not list_cache(tmp_path)


def test_a_full_disk_is_a_reason(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert "No space left" in open_array("a", {}, 10, (2,), "float32", 1e9, tmp_path)
    assert not [p for p, _, _ in list_cache(tmp_path)]


def test_values_beyond_half_precision_are_kept_in_float32(capsys):
    ds, rows = digits().split("train"), np.arange(10)
    big = small(ds, ONE)
    with torch.no_grad():
        big.net.encoder.blocks[0].mlp.fc2.bias.add_(1e5)
    said = []
    feed = reader(ds, big, "float16", tell=said.append)
    assert torch.equal(feed.read(rows), reader(ds, big, None).read(rows))
    assert "float32 instead" in said[0] and feed.arrays[0].data.dtype == np.float32
    quiet = reader(ds, small(ds, ONE), "float16", tell=said.append)
    quiet.read(rows)
    assert len(said) == 1


def test_one_value_too_large_for_half_precision_is_no_end_of_filling(monkeypatch):
    ds = digits().split("train")
    compute, rows, said = Activations.compute, np.arange(len(ds)), []
    monkeypatch.setattr(
        Activations,
        "compute",
        lambda feed, rows, draws: compute(feed, rows, draws) + 1e6 * torch.from_numpy(rows == 100)[:, None, None],
    )
    feed = reader(ds, small(ds, ONE), "float16", tell=said.append)
    feed.fill(0, rows, None)
    assert len(rows) > 100 and len(said) == 1 and feed.dtype == "float32" and not len(feed.missing(0, rows))
    assert feed.read(rows)[100].max() > 9e5


@pytest.fixture
def computed_rows(monkeypatch):
    "Rows that arrays were given since it was cleared, a list of counts"
    counts, write = [], LazyArray.write
    monkeypatch.setattr(LazyArray, "write", lambda a, rows, v: counts.append(len(rows)) or write(a, rows, v))
    return counts


def test_the_head_start_of_lora_in_all_blocks_reads_what_is_known_of_the_untouched_backbone(computed_rows):
    ds = digits()
    same = {"epochs": 1, "lr": 1e-3, "precision": "fp32", "tracker": "off"}
    known = train(small(ds, LinearProbe()), ds, Recipe(precision="fp32"))
    computed_rows.clear()
    kept = train(small(ds, LoRA(r=2)), ds, **same)
    assert not computed_rows  # all of it was there
    direct = train(small(ds, LoRA(r=2)), ds, cache="off", **same)
    for a, b in zip(kept.history, direct.history, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-5)
    assert kept.history[0]["val_loss"] == pytest.approx(known.history[0]["val_loss"], rel=1e-5)


@pytest.mark.parametrize(("cache", "off_by"), [("fp32", 1e-5), ("fp16", 1e-2)])
def test_another_rank_finds_the_features_its_head_starts_from(computed_rows, cache, off_by):
    ds = digits()
    same = {"epochs": 1, "lr": 1e-3, "precision": "fp32", "augment": "none", "views": 1, "tracker": "off"}
    first = train(small(ds, ONE), ds, cache=cache, **same)
    images = sum(ds.splits[s] for s in ("train", "val"))
    assert sum(computed_rows) == 3 * images  # the pixels, what enters the block and what leaves it
    computed_rows.clear()
    second = train(small(ds, LoRA(r=8, blocks=1)), ds, cache=cache, **same)
    assert not computed_rows and second.history[0]["val_loss"] == first.history[0]["val_loss"]
    direct = train(small(ds, ONE), ds, cache="off", **same)
    for a, b in zip(first.history, direct.history, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=off_by)


class Turned(nn.Module):
    "A wrapper that calls what it wraps by a name torch's own wrappers use"

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(0)
        self.module = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0)
        torch.manual_seed(seed)
        self.turn = nn.Linear(32, 32)

    def forward(self, x):
        return self.turn(self.module(x))


def test_what_a_wrapper_adds_counts():
    ds = digits()
    first, second = (
        train(
            create_model(Turned(seed), ds, adapter=LoRA(r=2), transform=Transform(32, 1.0)),
            ds,
            epochs=0,
            precision="fp32",
        ).history[0]["val_loss"]
        for seed in (1, 2)
    )
    trim_cache(0)
    alone = create_model(Turned(2), ds, adapter=LoRA(r=2), transform=Transform(32, 1.0))
    assert second == train(alone, ds, epochs=0, precision="fp32", restart=True).history[0]["val_loss"] != first


def test_only_a_lora_that_has_not_moved_leaves_a_backbone_untouched():
    ds = digits()
    assert untouched(small(ds, FullFineTune()).net.encoder) is None
    begun = small(ds, LoRA(r=2)).net.encoder
    assert untouched(begun) is not None
    next(p for n, p in begun.named_parameters() if "lora_B" in n).data += 1
    assert untouched(begun) is None


def test_whether_it_pays_is_counted():
    ds = digits()
    split = split_model(small(ds, ONE))
    counts = {"train": 100, "val": 20}
    gains = [plan_cache(split, 32, counts, epochs, 1).gain for epochs in (1, 4, 20)]
    assert gains == sorted(gains) and gains[0] > 1 and gains[-1] < 20
    assert plan_cache(split, 32, counts, 40, 0).gain < 1.3  # only val recurs
    assert "first block" in plan_cache(split_model(small(ds, LoRA())), 32, counts, 10, 1).sentence
    assert plan_cache(split_model(small(ds, LinearProbe())), 32, counts, 0, 1).dtype == "float32"


FILL = """
import sys, numpy as np, time, pathlib
from cvbench.core.arrays import open_array
array = open_array("a", {{}}, 300, (1000,), "float32", 1e9, {folder!r})
def slow(rows):
    time.sleep(0.01)
    return np.repeat(np.sin(rows)[:, None], 1000, 1).astype("float32")
array.fill(slow, "fill", batch=5)
print(array.computed)
"""


def fill(folder):
    return subprocess.Popen([sys.executable, "-c", FILL.format(folder=str(folder))], stdout=subprocess.PIPE, text=True)


def test_two_processes_fill_one_array_and_a_third_may_die(tmp_path):
    dying = fill(tmp_path)
    deadline = time.monotonic() + 60
    while not (sums := list(tmp_path.glob("a-*/sums.bin"))) or not np.fromfile(sums[0], np.uint64).any():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    dying.send_signal(signal.SIGKILL)
    dying.communicate()
    both = [fill(tmp_path) for _ in range(2)]
    counts = [int(p.communicate(timeout=60)[0]) for p in both]
    assert all(p.returncode == 0 for p in both) and sum(counts) > 0 and max(counts) < 300
    array = open_array("a", {}, 300, (1000,), "float32", 1e9, tmp_path)
    assert isinstance(array, LazyArray) and not len(array.missing())
    np.testing.assert_array_equal(array.data[:, 7], np.sin(np.arange(300)).astype("float32"))


TRAIN = """
import sys, torch
sys.path.insert(0, {tests!r})
from test_training_activation_cache import ONE, digits, small
from cvbench.training.train import train
torch.set_num_threads(1)
ds = digits()
print(train(small(ds, ONE), ds, epochs=2, batch_size=16, tracker="off").path)
"""


def test_killed_while_the_cache_is_filled_ends_with_the_same_numbers(tmp_path):
    def start(store):
        return Job(TRAIN.format(tests=os.path.dirname(__file__)), CVBENCH_STORE=str(store))

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    wanted = start(whole).communicate(timeout=300)[0].split()[-1]
    p, deadline = start(killed), time.monotonic() + 120
    while p.poll() is None and time.monotonic() < deadline and not list(killed.glob("cache/prefix-*")):
        time.sleep(0.001)
    p.kill()
    p.communicate()
    assert p.returncode == -signal.SIGKILL
    found = start(killed).communicate(timeout=300)[0].split()[-1]
    for name in ("model/model.safetensors", "history.json", "val.json"):
        assert (Path(found) / name).read_bytes() == (Path(wanted) / name).read_bytes()


def test_a_cached_training_predicts_what_it_validated():
    ds = digits()
    model = small(ds, ONE)
    run = train(model, ds, epochs=2, precision="fp32", tracker="off")
    preds = predict(model, ds.split("val")).table
    assert load_settings().store in run.path.parents
    accuracy = np.mean([a == b for a, b in zip(preds["target"].to_pylist(), preds["pred"].to_pylist(), strict=True)])
    assert accuracy == pytest.approx(run.summary["val_accuracy"], abs=0.03)


def test_what_was_kept_in_half_precision_changes_no_later_number():
    ds = digits()
    probe = train(small(ds, LinearProbe()), ds, precision="fp32", name="alone")
    trim_cache(0)
    train(small(ds, ONE), ds, epochs=1, precision="fp32", cache="fp16")
    after = train(small(ds, LinearProbe()), ds, precision="fp32", name="after")
    assert after.history == probe.history


def test_equal_weights_with_another_forward_pass_are_another_network():
    ds, rows = digits().split("train"), np.arange(20)

    def heads(n):
        torch.manual_seed(0)
        net = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=n, num_classes=0)
        return create_model(net, ds, adapter=ONE, transform=Transform(32, 1.0))

    two, four = heads(2), heads(4)
    assert two.base_id == four.base_id
    assert computed(reader(ds, two), rows) == computed(reader(ds, four), rows) == 20
    (first,), (second,) = extract_features(two, ds).values(), extract_features(four, ds).values()
    assert not np.allclose(first, second)
    assert train(two, ds, epochs=1).id != train(four, ds, epochs=1).id
    assert computed(reader(ds, heads(4)), rows) == 0


def test_features_count_in_the_budget_of_the_cache_and_give_way(monkeypatch):
    ds = digits()
    ids, model = ds.table(["sample_id"])["sample_id"].to_pylist(), small(ds, LinearProbe())

    def ask(part):  # of 20 images each; the file it leaves
        before = {path for path, _, _ in list_cache()}
        features = next(iter(extract_features(model, ds, ids[20 * part : 20 * part + 20]).values()))
        assert features.shape == (20, 32)
        return {path for path, _, _ in list_cache()} - before

    (first,), (second,) = ask(0), ask(1)
    assert [size for _, size, _ in list_cache()] == [first.stat().st_size, second.stat().st_size]
    os.utime(first, (1, 1)), os.utime(second, (2, 2))
    assert ask(0) == set()  # used last
    monkeypatch.setenv("CVBENCH_CACHE_GB", str(2.5 * first.stat().st_size / 1e9))
    (third,) = ask(2)
    assert first.exists() and third.exists() and not second.exists()
    monkeypatch.setenv("CVBENCH_CACHE_GB", "0")
    assert ask(1) == set()
    both = first.stat().st_size + third.stat().st_size
    assert trim_cache() == both and list_cache() == []


def test_only_what_is_gone_counts_as_freed(monkeypatch, tmp_path):
    open_array("a", {}, 100, (10,), "float32", 1e9, tmp_path)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    assert trim_cache(0, tmp_path) == 0


def test_features_of_no_images_are_refused():
    ds = digits()
    with pytest.raises(ValueError, match="there are no images of digits@v1 to look at"):
        extract_features(small(ds, LinearProbe()), ds, [])
