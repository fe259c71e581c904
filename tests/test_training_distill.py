"A student learns what its teacher knows, of the same images, and no more"

import copy
import io
import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from processes import Job
from safetensors import safe_open
from torch import nn

from cvbench.core.digits import read_digits
from cvbench.core.types import Sample, Target
from cvbench.data.commit import commit
from cvbench.inference.predict import predict
from cvbench.model.adapters import FullFineTune, LinearProbe
from cvbench.model.backbones import Transform
from cvbench.model.models import create_model
from cvbench.model.preprocessing import Pixels
from cvbench.training.activation_cache import Activations
from cvbench.training.distill import _SameRegions, distill, soft_loss
from cvbench.training.train import train


def digits(n=300, labelled=None, name="digits"):
    "Digits, of which the first training images have a label"
    samples, seen = [], 0
    for s in list(read_digits())[:n]:
        seen += s.split == "train"
        bare = s.split == "train" and labelled is not None and seen > labelled
        samples.append(replace(s, target=Target()) if bare else s)
    return commit(samples, name=name)


def encoder(width=16, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, width, 4, 4), nn.GELU(), nn.Conv2d(width, 2 * width, 3, 1, 1), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(2 * width, 32, 3, 2, 1), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def student(ds, **options):
    return create_model(encoder(), ds, adapter=FullFineTune(), transform=Transform(32, 1.0), **options)


def wide(ds, transform=Transform(32, 1.0), **options):
    "A teacher of random features, quick to ask"
    return create_model(encoder(48, 1), ds, adapter=LinearProbe(), transform=transform, **options)


def accuracy(model, ds, tmp_path):
    table = predict(model, ds.split("test"), path=tmp_path / f"{model.id}.parquet").table
    return np.mean([a == b for a, b in zip(table["target"].to_pylist(), table["pred"].to_pylist(), strict=True)])


def test_taught_by_a_good_teacher_beats_the_labels_alone_and_by_an_ignorant_one_does_not(tmp_path):
    ds = digits(600, labelled=60)
    teacher, ignorant = (create_model("pocket_vit", ds, adapter=LinearProbe()) for _ in range(2))
    train(teacher, ds)
    alone, taught, misled = student(ds), student(ds), student(ds)
    train(alone, ds, epochs=60, augment="none")
    distill(teacher, taught, ds, epochs=10, augment="none")
    distill(ignorant, misled, ds, epochs=2, augment="none", alpha=1.0, probe_init=False)
    scores = {m: accuracy(v, ds, tmp_path) for m, v in {"alone": alone, "taught": taught, "misled": misled}.items()}
    assert scores["taught"] > scores["alone"] + 0.08, scores
    assert scores["misled"] < 0.3 < scores["alone"], scores


def test_no_label_at_all_is_enough():
    ds = digits(labelled=0)
    known = digits(name="known")
    teacher = wide(known)
    train(teacher, known)
    run = distill(teacher, student(known), ds, epochs=3, augment="none")
    assert run.summary["val_accuracy"] > 0.6
    with pytest.raises(ValueError, match="fewer than two training images"):
        train(student(known), ds, epochs=1)


def test_alpha_0_without_features_is_training_on_labels():
    ds = digits()
    teacher = wide(ds)
    train(teacher, ds)
    plain = train(student(ds), ds, epochs=2, views=4)
    same = distill(teacher, student(ds), ds, epochs=2, alpha=0.0, feature_weight=0.0)
    taught = distill(teacher, student(ds), ds, epochs=2)
    assert same.history == plain.history and same.id != plain.id
    assert taught.history[1:] != plain.history[1:]


def test_the_teacher_is_asked_once_about_each_view_and_by_the_next_student_not_at_all(monkeypatch):
    ds = digits(120)
    teacher = wide(ds)
    train(teacher, ds)
    asked, real, n = [], Activations.compute, ds.splits["train"]

    def counted(self, rows, draws):
        asked.extend([len(rows)] if self.split.frozen else [])
        return real(self, rows, draws)

    monkeypatch.setattr(Activations, "compute", counted)

    def ask(**changes):
        asked.clear()
        distill(teacher, student(ds), ds, epochs=4, views=2, **changes)
        return sum(asked)

    assert ask() == n  # the plain view is known from its own training
    assert ask(seed=1) == n
    assert ask(lr=2e-3) == 0
    assert ask(cache="off") == 5 * n


def test_views_of_teacher_and_student_show_the_same_region():
    ds = digits(60)
    small, large = Transform(32, 1.0, squash=True), Transform(64, 0.875, squash=True)
    rows, draws = np.arange(20), np.arange(1, 21)
    seen = Pixels(ds, small).inputs(rows, draws, "light", 0)

    def off(pixels):
        return float((F.avg_pool2d(pixels.inputs(rows, draws, "light", 0), 2) - seen).abs().mean())

    together, apart = off(_SameRegions(ds, large, small.side)), off(Pixels(ds, large))
    assert together < apart / 2
    plain = np.zeros(20, int)
    assert torch.equal(
        _SameRegions(ds, large, small.side).inputs(rows, plain, "light"), Pixels(ds, large).inputs(rows, plain, "light")
    )
    equal = _SameRegions(ds, small, small.side)
    assert torch.equal(equal.inputs(rows, draws, "strong", 3), Pixels(ds, small).inputs(rows, draws, "strong", 3))
    assert equal.content != Pixels(ds, small).content


def test_the_divergence_is_scipys():
    from scipy.special import expit, softmax
    from scipy.stats import entropy

    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 7, 4))
    got = soft_loss(torch.tensor(s), torch.tensor(t), 3.0)
    assert got.numpy() == pytest.approx(9 * entropy(softmax(t / 3, 1), softmax(s / 3, 1), axis=1))
    p, q = (np.stack([expit(v / 3), expit(-v / 3)]) for v in (t, s))
    got = soft_loss(torch.tensor(s), torch.tensor(t), 3.0, "multilabel")
    assert got.numpy() == pytest.approx(9 * entropy(p, q).mean(1))


def test_classes_in_another_order_are_the_same_classes():
    ds = digits()
    teacher = wide(ds)
    train(teacher, ds)
    turned = replace(teacher, classes=teacher.classes[::-1])
    turned = replace(turned, net=copy.deepcopy(teacher.net))
    with torch.no_grad():
        turned.net.head.weight.copy_(teacher.net.head.weight.flip(0))
        turned.net.head.bias.copy_(teacher.net.head.bias.flip(0))
    runs = [distill(t, student(ds), ds, epochs=1, alpha=1.0) for t in (teacher, turned)]
    assert [h["train_loss"] for h in runs[0].history[1:]] == pytest.approx(
        [h["train_loss"] for h in runs[1].history[1:]], rel=1e-5
    )


def test_multilabel():
    ds = commit(colours(), name="colours")
    teacher = wide(ds)
    assert teacher.task == "multilabel" and train(teacher, ds).summary["val_accuracy"] > 0.9
    taught = distill(teacher, student(ds), ds, epochs=6, alpha=1.0, probe_init=False, lr=3e-3)
    assert taught.summary["val_accuracy"] > 0.9


def colours(n=160):
    rng = np.random.default_rng(0)
    for i in range(n):
        red, blue = rng.integers(0, 2, 2)
        pixels = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        pixels[:16, :, 0] += np.uint8(150 * red)
        pixels[16:, :, 2] += np.uint8(150 * blue)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        labels = ("red",) * int(red) + ("blue",) * int(blue)
        yield Sample(f"{i}.png", out.getvalue(), Target(labels), split=("train", "train", "val", "test")[i % 4])


def test_what_cannot_be_taught_says_so():
    ds = digits(60)
    teacher = wide(ds)
    for wrong in ({"alpha": 1.1}, {"alpha": -0.1}, {"temperature": 0}, {"feature_weight": -1}, {"alpha": float("nan")}):
        with pytest.raises(ValueError, match="alpha from 0 to 1"):
            distill(teacher, student(ds), ds, **wrong)
    with pytest.raises(ValueError, match=r"same classes and task: \['a', 'b'.*classes=teacher.classes"):
        distill(teacher, student(None, classes=["a", "b"]), ds)
    with pytest.raises(ValueError, match="multilabel"):
        distill(teacher, student(ds, task="multilabel"), ds)
    with pytest.raises(ValueError, match="linear probe has none"):
        distill(teacher, wide(ds), ds)
    with pytest.raises(ValueError, match="epochs of 1 or more"):
        distill(teacher, student(ds), ds, epochs=0)
    with pytest.raises(ValueError, match=r"no \['alfa'\]"):
        distill(teacher, student(ds), ds, alfa=0.5)
    with pytest.raises(FileNotFoundError, match="no run"):
        distill("nobody", student(ds), ds)


JOB = """
import sys
sys.path.insert(0, {tests!r})
import torch
from test_training_distill import digits, student, wide
import cvbench.training.train as t
from cvbench.training.distill import distill
torch.set_num_threads(1)
t._SAVE_EVERY = 0
ds = digits(150)
teacher = wide(ds)
t.train(teacher, ds)
run = distill(teacher, student(ds), ds, epochs=4, batch_size=16)
print(run.id)
"""


def job(store):
    return Job(JOB.format(tests=os.path.dirname(__file__)), CVBENCH_STORE=str(store))


def finish(store):
    p = job(store)
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err
    folder = store / "runs" / out.split()[-1]
    summary = json.loads((folder / "summary.json").read_text())
    measured = {"seconds", "peak_memory_mb"}
    history = (folder / "history.json").read_text()
    weights = (folder / "model" / "model.safetensors").read_bytes()
    return {k: v for k, v in summary.items() if k not in measured}, history, weights


def test_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    whole, store, deaths = finish(tmp_path / "whole"), tmp_path / "killed", 0
    for epoch in (1, 3):
        p, deadline = job(store), time.monotonic() + 120
        while p.poll() is None and time.monotonic() < deadline and place(store) < (epoch, 3):
            time.sleep(0.002)
        p.kill()
        p.communicate()
        deaths += p.returncode == -signal.SIGKILL
    assert deaths >= 1
    assert finish(store) == whole


def place(store):
    "Epoch and step of the last checkpoint of the student"
    for file in store.glob("runs/*distilled*/checkpoint.safetensors"):
        try:
            with safe_open(file, "np") as f:
                at = json.loads(f.metadata()["progress"])
                return at["epoch"], at["step"]
        except OSError:
            pass
    return -1, 0


def test_several_labels_and_not_one_given_is_refused_where_labels_count():
    known, ds = commit(colours(), name="colours"), commit((replace(s, target=Target()) for s in colours()), name="bare")
    teacher = wide(known)
    train(teacher, known)
    with pytest.raises(ValueError, match="none of the 80 training images of bare@v1 has a label"):
        distill(teacher, student(known), ds, epochs=1)
    taught = distill(teacher, student(known), ds, epochs=1, alpha=1.0, probe_init=False)
    assert taught.summary["epochs"] == 1
