"Training is what it says: resumable to the bit, seeded, honest about what it was given"

import io
import json
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from processes import Job
from timm.models.vision_transformer import VisionTransformer

from cvbench.core.digits import read_digits
from cvbench.core.files import atomic_path, read_json
from cvbench.core.settings import load_settings
from cvbench.core.types import Sample, Target
from cvbench.data.commit import commit
from cvbench.inference.predict import predict
from cvbench.model.adapters import FullFineTune, LinearProbe, LoRA
from cvbench.model.backbones import Transform
from cvbench.model.models import create_model, load_model, own_state, save_model
from cvbench.training import train as module
from cvbench.training.checkpoints import Progress, save_checkpoint
from cvbench.training.recipe import Recipe, draw_order
from cvbench.training.train import train

JOB = """
import sys, torch
sys.path.insert(0, {tests!r})
from test_training_train import digits, small
from cvbench.model.adapters import LoRA
from cvbench.inference.predict import predict
from cvbench.training.train import train
torch.set_num_threads(1)
ds = digits()
run = train(small(ds, LoRA(r=2, dropout=0.1)), ds, epochs=4, batch_size=16)
print(run.id)
"""


def digits(n=240):
    return commit(list(read_digits())[:n], name="digits")


def small(ds, adapter, **options):
    torch.manual_seed(0)
    net = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0)
    return create_model(net, ds, adapter=adapter, transform=Transform(32, 1.0), **options)


def job(store):
    return Job(JOB.format(tests=os.path.dirname(__file__)), CVBENCH_STORE=str(store))


def finish(store):
    p = job(store)
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err
    folder = store / "runs" / out.split()[-1]
    summary = json.loads((folder / "summary.json").read_text())
    for measured in ("seconds", "peak_memory_mb"):
        summary.pop(measured)
    return (
        summary,
        (folder / "model" / "model.safetensors").read_bytes(),
        json.loads((folder / "history.json").read_text()),
    )


def test_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    whole = finish(tmp_path / "whole")
    store = tmp_path / "killed"
    deaths = 0
    for epochs_seen in (1, 2, 3):
        p = job(store)
        deadline = time.monotonic() + 120
        while p.poll() is None and time.monotonic() < deadline:
            files = list(store.glob("runs/*/checkpoint.safetensors"))
            if files and _epoch_of(files[0]) >= epochs_seen:
                p.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        p.communicate()
        deaths += p.returncode == -signal.SIGKILL
    assert deaths >= 1
    assert finish(store) == whole


def _epoch_of(file):
    from safetensors import safe_open

    try:
        with safe_open(file, "np") as f:
            return json.loads(f.metadata()["progress"])["epoch"]
    except (FileNotFoundError, OSError):
        return -1


def test_stopped_within_an_epoch_ends_with_the_same_bits(monkeypatch):
    ds = digits()
    whole = train(small(ds, LoRA(r=2, dropout=0.1)), ds, epochs=2, batch_size=16, name="whole")
    import cvbench.training.train as t

    real, calls = t._step, []

    def dies_at_step_eleven(job, *rest):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        value = real(job, *rest)
        return value

    monkeypatch.setattr(t, "_step", dies_at_step_eleven)
    monkeypatch.setattr(t, "_SAVE_EVERY", 0)
    with pytest.raises(KeyboardInterrupt):
        train(small(ds, LoRA(r=2, dropout=0.1)), ds, epochs=2, batch_size=16, name="stopped")
    monkeypatch.setattr(t, "_step", real)
    resumed = train(small(ds, LoRA(r=2, dropout=0.1)), ds, epochs=2, batch_size=16, name="stopped")
    assert resumed.history == whole.history
    assert resumed.summary["model_id"] == whole.summary["model_id"]


def test_the_head_start_is_the_probe_and_is_kept_when_nothing_helps():
    ds = digits()
    probe = train(small(ds, LinearProbe()), ds)
    spoilt = train(small(ds, FullFineTune()), ds, epochs=1, lr=1.0)
    assert [h["epoch"] for h in probe.history] == [0]
    assert spoilt.summary["best_epoch"] == 0
    assert spoilt.summary["val_loss"] == pytest.approx(probe.summary["val_loss"], abs=1e-4)


@pytest.mark.parametrize(("share", "horizon"), [(0.25, 3.0), (0.0, 1.0)])
def test_what_is_kept_is_the_average_of_the_weights(monkeypatch, share, horizon):
    ds = commit([replace(s, split="train") for s in list(read_digits())[:200]], "all", ratios={"train": 1.0})
    step, seen = module._step, []

    def watched(job, opt, *args):
        seen[:] = seen or [weights(job.model)]
        value = step(job, opt, *args)
        seen.append(weights(job.model))
        return value

    def weights(model):
        return np.concatenate([p.detach().numpy().ravel() for p in model.net.parameters() if p.requires_grad])

    monkeypatch.setattr(module, "_step", watched)
    size, model = -(-len(ds) // 4), small(ds, FullFineTune())
    train(model, ds, epochs=3, batch_size=size, lr=3e-3, average=share)
    assert len(seen) == 13 and not np.allclose(seen[0], seen[-1], atol=1e-4)
    mean = seen[0].astype(float)
    for w in seen[1:]:
        mean += (w - mean) / horizon
    np.testing.assert_allclose(weights(model), mean, atol=1e-6)


def test_the_average_is_better_than_the_last_weights_of_a_training_that_swings():
    ds, options = digits(400), {"epochs": 3, "lr": 1e-3, "batch_size": 8, "augment": "none"}

    def losses(**more):
        runs = [train(small(ds, FullFineTune()), ds, seed=s, **options, **more) for s in range(3)]
        return np.mean([[h["val_loss"] for h in run.history] for run in runs], 0)

    mean, last = losses(), losses(average=0.0)
    assert mean[0] == last[0] and mean[1:3].sum() < last[1:3].sum()  # before the rate has fallen to nothing


def test_training_learns_and_seeds_matter():
    ds = digits(600)
    runs = [
        train(small(ds, FullFineTune()), ds, epochs=3, lr=3e-3, augment="none", probe_init=False, seed=s)
        for s in (0, 1)
    ]
    assert runs[0].summary["val_loss"] < runs[0].history[0]["val_loss"]
    assert runs[0].summary["model_id"] != runs[1].summary["model_id"]


def test_the_epoch_with_the_best_accuracy_is_kept():
    ds = digits(400)
    run = train(small(ds, FullFineTune()), ds, epochs=4, lr=1e-2, probe_init=False)
    rank = [(h["val_accuracy"], -h["val_loss"]) for h in run.history]
    assert run.summary["best_epoch"] == rank.index(max(rank))
    answers = read_json(run.path / "val.json")["correct"]
    assert sum(answers) / len(answers) == pytest.approx(max(rank)[0])


def test_early_stopping_stops_and_patience_none_does_not():
    ds = digits()
    stopped = train(small(ds, FullFineTune()), ds, epochs=6, lr=0.0, patience=2)
    went_on = train(small(ds, FullFineTune()), ds, epochs=6, lr=0.0)
    assert stopped.summary["epochs"] == 2 < went_on.summary["epochs"] == 6


def test_class_balancing_changes_what_is_drawn():
    y = torch.tensor([0] * 90 + [1] * 10 + [-1] * 5)
    plain = y[draw_order(y, Recipe(), 0)]
    even = y[draw_order(y, Recipe(balance="sampler"), 0)]
    assert (plain == 1).sum() == 10 and (plain >= 0).all() and (even >= 0).all()
    assert 30 <= (even == 1).sum() <= 70


def _multilabel(n=120):
    rng = np.random.default_rng(0)
    from PIL import Image

    for i in range(n):
        red, blue = rng.integers(0, 2, 2)
        pixels = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        pixels[:16, :, 0] += np.uint8(150 * red)
        pixels[16:, :, 2] += np.uint8(150 * blue)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        labels = ("red",) * int(red) + ("blue",) * int(blue)
        yield Sample(f"{i}.png", out.getvalue(), Target(labels), split=("train", "train", "val", "test")[i % 4])


def test_multilabel_learns():
    ds = commit(_multilabel(), name="colours")
    assert ds.task == "multilabel"
    run = train(small(ds, LinearProbe()), ds)
    preds = predict(load_model(run, small(ds, LinearProbe()).backbone), ds.split("test"))
    truth, said = preds.table["target"].to_pylist(), preds.table["pred"].to_pylist()
    assert np.mean([set(a) == set(b) for a, b in zip(truth, said, strict=True)]) > 0.9


def test_what_cannot_train_says_so():
    ds = digits()
    with pytest.raises(ValueError, match="needs one called train"):
        train(small(ds, LinearProbe()), ds.split("test"))
    with pytest.raises(ValueError, match="which the model does not know"):
        train(small(None, LinearProbe(), classes=["x", "y"], task="classification"), ds)
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        train(small(ds, FullFineTune()), ds, epochs=3, lr=1e30, probe_init=False)


def test_a_layer_the_backbone_does_not_use_is_noticed():
    class Forgetful(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = torch.nn.Linear(48, 8), torch.nn.Linear(48, 8)

        def forward(self, x):
            return self.used(torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))

    ds = digits()
    model = create_model(Forgetful(), ds, adapter=FullFineTune(), transform=Transform(32, 1.0))
    with pytest.warns(UserWarning, match="unused"):
        train(model, ds, epochs=1)


def test_tracked_offline_without_an_account():
    ds = digits()
    run = train(small(ds, LinearProbe()), ds, tracker="offline")
    assert list(run.path.parent.parent.glob("wandb/offline-run-*/*.wandb"))


def test_predictions_resume_and_are_the_same_in_parts(monkeypatch):
    import cvbench.inference.predict as p

    ds = digits()
    model = small(ds, LinearProbe())
    whole = predict(model, ds, path=ds_path("whole"), batch_size=64)
    monkeypatch.setattr(p, "_PART", 50)
    real, calls = p.Scorer.__call__, []

    def dies_in_the_third_part(*a):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*a)

    monkeypatch.setattr(p.Scorer, "__call__", dies_in_the_third_part)
    with pytest.raises(KeyboardInterrupt):
        predict(model, ds, path=ds_path("parts"), batch_size=64)
    assert not ds_path("parts").exists()
    resumed = predict(model, ds, path=ds_path("parts"), batch_size=64)
    assert len(calls) == 3 + 3
    assert resumed.id == whole.id


def ds_path(name):
    from cvbench.core.settings import load_settings

    return load_settings().store / f"{name}.parquet"


PREDICT = """
import sys
sys.path.insert(0, {tests!r})
import cvbench.inference.predict as p
from test_training_train import digits, ds_path, small
from cvbench.model.adapters import LinearProbe
p._PART = 8
ds = digits()
print(p.predict(small(ds, LinearProbe()), ds, path=ds_path("out")).id)
"""


def test_killed_prediction_goes_on_and_says_the_same(tmp_path):
    def start(store):
        return Job(PREDICT.format(tests=os.path.dirname(__file__)), CVBENCH_STORE=str(store))

    whole, err = start(tmp_path / "whole").communicate(timeout=300)
    assert whole, err
    store, deadline = tmp_path / "killed", time.monotonic() + 120
    p = start(store)
    while p.poll() is None and not list(store.glob(".out-*/000004.npy")) and time.monotonic() < deadline:
        time.sleep(0.002)
    p.kill()
    p.communicate()
    done = len(list(store.glob(".out-*/*.npy")))
    assert p.returncode == -signal.SIGKILL and done >= 4 and not (store / "out.parquet").exists()
    again, err = start(store).communicate(timeout=300)
    assert again == whole, err
    assert not list(store.glob(".out-*"))


def test_the_splits_given_are_part_of_the_runs_identity():
    ds = digits()
    whole = train(small(ds, LinearProbe()), ds)
    alone = train(small(ds, LinearProbe()), ds.split("train"))
    assert whole.id != alone.id and "val_loss" in whole.summary and "val_loss" not in alone.summary


def _relabelled(keep):
    for i, s in enumerate(list(read_digits())[:60]):
        split = ("train", "val", "test")[i % 3]
        yield Sample(s.uri, s.image, s.target if keep(i, split) else Target(), split)


def test_an_unlabelled_val_is_no_val_and_an_unlabelled_train_is_refused():
    ds = commit(_relabelled(lambda i, split: split != "val"), name="noval")
    assert "val_loss" not in train(small(ds, LoRA(r=2)), ds, epochs=1).summary
    ds = commit(_relabelled(lambda i, split: split != "train"), name="notrain")
    with pytest.raises(ValueError, match="fewer than two training images"):
        train(small(ds, LoRA(r=2)), ds, epochs=1)


def test_recipe_fields_that_do_not_exist_are_refused():
    ds = digits()
    with pytest.raises(ValueError, match=r"no \['epoch'\]"):
        train(small(ds, LinearProbe()), ds, epoch=3)


def test_a_model_of_ones_own_module_says_how_it_is_opened():
    ds = digits()
    run = train(small(ds, LinearProbe()), ds)
    with pytest.raises(ValueError, match="backbone=module"):
        predict(run, ds.split("test"))
    assert len(predict(small(ds, LinearProbe()), ds.split("test"))) == ds.splits["test"]


@pytest.fixture
def no_room():
    "Files may grow to 2,000 bytes and no further, as on a full disk"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def _save_checkpoint(model, folder):
    opt = torch.optim.AdamW(model.net.head.parameters())
    save_checkpoint(folder / "c.safetensors", model.net, opt, Progress(), own_state(model.net))


def _save_array(model, folder):
    with atomic_path(folder / "x.npy") as p:
        np.save(p, np.zeros(3000))


@pytest.mark.parametrize("save", [_save_checkpoint, save_model, _save_array])
def test_a_full_disk_is_told_whoever_writes(save, no_room, tmp_path):
    model = small(None, LoRA(r=2), classes=["a", "b"])
    with pytest.raises(OSError, match="What was there before is intact. Free some space"):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_named():
    def stop(entry):
        if entry["epoch"] == 1:
            raise KeyboardInterrupt

    ds = digits(60)
    with pytest.raises(KeyboardInterrupt):
        train(small(ds, LoRA(r=2)), ds, epochs=2, on_epoch=stop)
    (file,) = load_settings().store.glob("runs/*/checkpoint.safetensors")
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match="not a whole safetensors file.*Delete it and run the training again"):
        train(small(ds, LoRA(r=2)), ds, epochs=2)
    file.unlink()
    assert train(small(ds, LoRA(r=2)), ds, epochs=2).done


def test_the_same_cell_again_resumes_what_was_interrupted():
    def stop(entry):
        if entry["epoch"] == 1:
            raise KeyboardInterrupt

    ds = digits(60)
    model = small(ds, LoRA(r=2))
    before = model.id
    with pytest.raises(KeyboardInterrupt):
        train(model, ds, epochs=2, on_epoch=stop)
    assert model.id == before
    resumed = train(model, ds, epochs=2)
    assert [p.name for p in load_settings().store.glob("runs/*")] == [resumed.id]
    assert resumed.history == train(small(ds, LoRA(r=2)), ds, epochs=2, name="whole").history


def test_a_loss_on_val_that_is_no_number_ends_the_training_at_once():
    ds, seen = digits(60), []
    options = {"epochs": 3, "batch_size": 200, "lr": 1e30, "warmup": 0, "on_epoch": seen.append}
    with pytest.raises(FloatingPointError, match="loss on val became nan after 1 epochs. Lower the learning rate"):
        train(small(ds, FullFineTune()), ds, **options)
    assert [entry["epoch"] for entry in seen] == [0]


@pytest.mark.parametrize("adapter", [LinearProbe(), LoRA(r=2, blocks=1)])
def test_a_backbone_that_returns_nan_is_told(adapter):
    ds = digits(60)
    model = small(ds, adapter)
    with torch.no_grad():
        model.net.encoder.blocks[0].mlp.fc1.weight.view(-1)[0] = float("nan")
    with pytest.raises(FloatingPointError, match="VisionTransformer returns NaN.*load others"):
        train(model, ds)


@pytest.mark.parametrize(("size", "batches"), [(21, [21, 22]), (42, [43]), (43, [43]), (22, [22, 21])])
def test_no_batch_of_one_image_stops_a_batch_norm(size, batches, monkeypatch):
    import cvbench.training.train as t

    ds = digits(70)
    assert ds.splits["train"] == 43
    net = timm.create_model("resnet10t", num_classes=0)
    seen, real = [], t._step
    monkeypatch.setattr(t, "_step", lambda job, opt, rows, *rest: seen.append(len(rows)) or real(job, opt, rows, *rest))
    model = create_model(net, ds, adapter=FullFineTune(), transform=Transform(32, 1.0))
    train(model, ds, epochs=1, batch_size=size, views=0, probe_init=False)
    assert seen == batches


@pytest.mark.parametrize("labelled", [0, 1])
def test_one_labelled_image_of_val_is_a_val(labelled):
    ds = commit(_relabelled(lambda i, split: split != "val" or i < 3 * labelled), name="one")
    run = train(small(ds, LinearProbe()), ds)
    assert ("val_loss" in run.summary) == bool(labelled)


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_is_quiet_and_no_room_is_told_once(quiet, monkeypatch, capsys):
    ds = digits(60)
    monkeypatch.setattr(sys, "stderr", said := _Terminal())
    train(small(ds, LoRA(r=2, blocks=1)), ds, epochs=1, quiet=quiet)
    assert ("caching train" in said.getvalue(), said.getvalue() == "") == (not quiet, quiet)
    shutil.rmtree(load_settings().store / "cache")
    (load_settings().store / "cache").touch()
    monkeypatch.setattr(sys, "stderr", said := io.StringIO())
    train(small(ds, LoRA(r=2, blocks=1)), ds, epochs=1, cache="fp32", quiet=quiet)
    assert said.getvalue().count("Activations are not kept: it could not be written") == (not quiet)
    assert capsys.readouterr().out == ""


def test_torchs_random_state_is_left_alone():
    ds = digits(60)
    torch.manual_seed(7)
    wanted = torch.rand(3)
    model = small(ds, LoRA(r=2))
    torch.manual_seed(7)
    train(model, ds, epochs=1)
    assert torch.equal(torch.rand(3), wanted)
