"The middle of an image or the whole of it: what decides, what does not, and that a model of another size is found again"

import io
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from typer.testing import CliRunner

from cvbench.cli.main import app
from cvbench.core.arrays import LazyArray
from cvbench.core.digits import read_digits
from cvbench.core.types import Sample, Target
from cvbench.data.commit import commit
from cvbench.inference.embed import embed
from cvbench.inference.features import extract_features
from cvbench.inference.predict import predict
from cvbench.model.adapters import LinearProbe, LoRA
from cvbench.model.backbones import Transform, change_transform, create_backbone
from cvbench.model.models import create_model, load_model, save_model
from cvbench.search.presets import adapt, choose
from cvbench.search.resize_mode import choose_resize_mode
from cvbench.training.distill import distill


def draw(i, at, size=(240, 80), labels=("good", "bad"), multi=False, scale=1):
    "A grey strip with a dark or bright mark at a place from the left"
    rng, buffer = np.random.default_rng(i), io.BytesIO()
    w, h = size
    strip = rng.normal(128, 12, (h * scale, w * scale, 3)).clip(0, 255).astype(np.uint8)
    strip[20 * scale : 60 * scale, at * scale : (at + 30) * scale] = (40, 40, 60) if i % 2 else (220, 220, 200)
    Image.fromarray(strip).save(buffer, "PNG")
    label = labels[i % 2]
    return Sample(f"{i}.png", buffer.getvalue(), Target(labels=(label, "metal") if multi else (label,)))


def strips(at, n=120, name="strips", **options):
    return commit([draw(i, at, **options) for i in range(n)], name=name)


class Own(nn.Module):
    "A network of the user's own, without timm's way to another size"

    def __init__(self):
        super().__init__()
        self.vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0)

    def forward(self, x):
        return self.vit(x)


@pytest.fixture(scope="module")
def pocket():
    return create_backbone("pocket_vit")


@pytest.mark.parametrize("multi", [False, True], ids=["one label", "several"])
def test_what_lies_outside_of_the_middle_brings_the_whole_image_and_what_lies_in_it_does_not(pocket, multi):
    found = choose_resize_mode(pocket, strips(4, multi=multi))
    assert found.backbone.transform == replace(pocket.transform, squash=True, crop=1.0)
    assert found.losses[1] < found.losses[0] / 2
    assert found.why.startswith("the whole image at 96 px (val loss of a head on frozen features ")
    found = choose_resize_mode(pocket, strips(105, name="middles", multi=multi))
    assert found.backbone is pocket and found.why.startswith("the middle of the image at 96 px (val loss")


def test_the_losses_are_those_of_logistic_regression_on_embeddings(pocket):
    ds = strips(4)
    found = choose_resize_mode(pocket, ds, LinearProbe())
    for transform, loss in zip((pocket.transform, found.backbone.transform), found.losses, strict=True):
        model = create_model(change_transform(pocket, transform), ds, adapter=LinearProbe())
        x, y = {}, {}
        for s in ("train", "val"):
            part = ds.split(s)
            x[s] = next(iter(extract_features(model, part).values()))
            y[s] = [t["labels"][0] for t in part.table(["target"])["target"].to_pylist()]
        mean, std, best = x["train"].mean(0), x["train"].std(0), math.inf
        for decay in (1.0, 0.1, 0.03, 0.01, 3e-3, 1e-3):  # two rows of weights share the penalty of one
            fit = LogisticRegression(C=2 / decay / len(y["train"]), tol=1e-8, max_iter=5000)
            p = fit.fit((x["train"] - mean) / std, y["train"]).predict_proba((x["val"] - mean) / std)
            right = p[np.arange(len(p)), [list(fit.classes_).index(c) for c in y["val"]]]
            best = min(best, float(-np.log(right).mean()))
        assert loss == pytest.approx(best, rel=0.02, abs=1e-4)


def test_a_small_backbone_sees_more_pixels_only_where_there_are_more(pocket):
    large = choose_resize_mode(pocket, strips(4, scale=2)).backbone
    assert (large.transform.size, large.transform.squash, large.weights_id) == (144, True, pocket.weights_id)
    assert pocket.transform.size == 96 and pocket.module(torch.zeros(1, 3, 96, 96)).shape == (1, 192)
    assert choose_resize_mode(pocket, strips(4, name="few")).backbone.transform.size == 96


def test_nothing_is_tried_where_it_could_decide_nothing(pocket, monkeypatch):
    monkeypatch.setattr("cvbench.search.resize_mode._val_losses", lambda *_: pytest.fail("tried"))
    ends = strips(4)
    for backbone, ds in (
        (create_backbone("pocket_vit", pretrained=False), ends),
        (pocket, ends.split("train")),
        (pocket, commit(list(read_digits())[:60], name="digits")),  # square, and seen whole
        (pocket, strips(4, name="square", size=(96, 96))),
    ):
        found = choose_resize_mode(backbone, ds)
        assert found.backbone is backbone and found.why == ""


def test_without_time_or_labels_to_decide_all_stays_as_it_came(pocket):
    found = choose_resize_mode(pocket, strips(4), seconds=0)
    assert found.backbone is pocket and found.why.endswith("no time to try another resize mode")
    parts = [draw(i, 4) for i in range(60)]
    bare = [replace(s, split="train" if i < 40 else "val") for i, s in enumerate(parts)]
    bare = [s if s.split == "train" else replace(s, target=Target()) for s in bare]
    assert choose_resize_mode(pocket, commit(bare, name="bare")).backbone is pocket


@pytest.mark.parametrize("seconds", [math.inf, 0], ids=["in time", "late"])
def test_every_worker_goes_by_the_first_also_one_that_is_late(pocket, monkeypatch, seconds):
    asked = []
    monkeypatch.setattr(
        "cvbench.search.resize_mode.agree_on", lambda value: asked.append(value) or 1.0
    )  # the first says yes
    assert choose_resize_mode(pocket, strips(105, name="middles"), seconds=seconds).backbone.transform.squash
    assert asked == [0.0]


def test_a_network_that_takes_one_size_only_sees_the_whole_image_at_it():
    backbone = create_backbone(Own(), transform=Transform(32, 1.0))
    found = choose_resize_mode(backbone, strips(4, scale=2))
    assert found.backbone.transform == Transform(32, 1.0, squash=True)


@pytest.mark.parametrize("adapter", [LoRA(r=2), LoRA(r=2, blocks=2)], ids=["all blocks", "two"])
def test_the_training_after_it_computes_no_image_again(pocket, adapter, monkeypatch):
    ds, computed, write = strips(4), [], LazyArray.write
    monkeypatch.setattr(LazyArray, "write", lambda a, rows, v: computed.append(len(rows)) or write(a, rows, v))
    found = choose(pocket, ds, adapter=adapter, epochs=0)
    assert computed
    computed.clear()
    model, run = adapt(pocket, ds, adapter=adapter, epochs=0, tracker="off")
    assert not computed and model.backbone.transform == found.backbone.transform
    assert adapt(pocket, ds, adapter=adapter, epochs=0, tracker="off")[1].id == run.id and not computed


def test_adapt_goes_by_it_says_so_and_its_model_is_found_again(pocket, tmp_path):
    ds, said = strips(4, n=60, scale=2), []
    model, run = adapt("pocket_vit", ds, say=said.append, epochs=1)
    assert model.backbone.transform.size == 144 and "the whole image at 144 px (val loss" in said[0]
    again = load_model(run)
    assert (again.id, again.backbone.transform) == (model.id, model.backbone.transform)
    test = ds.split("test")
    np.testing.assert_allclose(predict(again, test).scores, predict(model, test).scores, atol=1e-6)
    save_model(model, tmp_path / "model")
    native = pocket.module  # a user's own module of the size it came in
    found = load_model(tmp_path / "model", backbone=native)
    np.testing.assert_allclose(predict(found, test).scores, predict(model, test).scores, atol=1e-6)
    assert native(torch.zeros(1, 3, 96, 96)).shape == (1, 192)


def test_adapt_can_be_told_to_leave_the_framing_alone(pocket):
    ds = strips(4, n=60)
    own = choose(pocket, ds, resize_mode="own")
    assert own.backbone is pocket and "px" not in own.why
    assert choose(pocket, ds, adapter=LoRA(r=2)).backbone.transform.squash
    with pytest.raises(ValueError, match="'resize_mode' parameter of adapt must be one of auto, own. Got 'crop'"):
        choose(pocket, ds, resize_mode="crop")


def test_a_student_that_sees_another_part_of_the_image_is_told_of():
    ds, whole = strips(4, n=40), Transform(32, 1.0, squash=True)
    teacher = create_model(Own(), ds, adapter=LinearProbe(), transform=whole)
    other = create_model(Own(), ds, adapter=LoRA(r=2), transform=Transform(32, 1.0))
    with pytest.warns(UserWarning, match=r"one of teacher and student is shown whole images.*squash=True, crop=1.0"):
        distill(teacher, other, ds, epochs=1)
    same = create_model(Own(), ds, adapter=LoRA(r=2), transform=whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        distill(teacher, same, ds, epochs=1, tracker="off")


def test_on_the_command_line_the_framing_is_chosen_kept_away_and_handed_to_a_student():
    def ask(*args):
        done = CliRunner().invoke(app, [str(a) for a in args])
        assert done.exit_code == 0, done.output
        return done.stdout

    strips(4, n=40)
    assert "the whole image at 96 px (val loss" in ask("adapt", "strips", "--backbone", "pocket_vit", "--estimate")
    own = ask("adapt", "strips", "--backbone", "pocket_vit", "--adapter", "probe", "--resize-mode", "own")
    assert "whole image" not in own and "middle" not in own
    told = ask("adapt", "strips", "--backbone", "pocket_vit", "--adapter", "probe")
    run = told.split("\n")[-2].split()[0]
    taught = ask("distill", run, "strips", "--epochs", 1).split("\n")[-2].split()[0]
    assert load_model(taught).backbone.transform.squash and load_model(run).backbone.transform.squash


@pytest.mark.xdist_group("engines")
def test_a_model_of_another_size_is_exported_and_embeds_alike(pocket):
    ds = strips(4, n=24)
    model = create_model(change_transform(pocket, replace(pocket.transform, size=144)), ds, adapter=LoRA())
    first = next(iter(extract_features(model, ds).values()))
    for engine in ("torch", "onnxruntime"):
        made = embed(ds, model, engine=engine, column=engine, precision="fp32").table([engine])[engine].to_pylist()
        np.testing.assert_allclose(np.array(made), first, rtol=1e-3, atol=2e-3)
