"""The embedded data sets: what is planted is there, and its clean twin is clean"""

import io
from collections import Counter
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binom, ks_2samp
from sklearn.metrics import cohen_kappa_score

from cvbench.core.digits import digit_names, read_digits
from cvbench.core.inspection import (
    annotator_accuracy,
    drift_rule,
    inspection_classes,
    make_inspection,
    weak_slice_rule,
    write_inspection,
)
from cvbench.core.types import decode_rle

N, SIZE = 420, 64


pytestmark = pytest.mark.xdist_group("inspection")  # what it draws is drawn once


@lru_cache
def line(**options) -> tuple:
    return tuple(make_inspection(options.pop("n", N), size=options.pop("size", SIZE), **options))


def frame(samples) -> pd.DataFrame:
    return pd.DataFrame([{"uri": s.uri, "label": s.target.labels[0], "split": s.split, **s.meta} for s in samples])


def pixels(sample) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sample.image)).convert("RGB"), np.float32)


def distance(a, b) -> float:
    "Mean difference of two pictures, at the best of the shifts by up to two pixels"
    a, b, moves = pixels(a), pixels(b), range(-2, 3)
    inner = b[2:-2, 2:-2]
    return min(np.abs(np.roll(a, (dy, dx), (0, 1))[2:-2, 2:-2] - inner).mean() for dy in moves for dx in moves)


def test_same_seed_same_bytes_and_growing_changes_nothing():
    options = {"label_noise": 0.1, "near_duplicates": 0.3, "corrupt": 0.1, "annotators": True, "drift": True}
    few, many = line(n=60, **options), line(n=120, **options)
    assert [(s.uri, s.image, s.target, s.split, s.meta) for s in few] == [
        (s.uri, s.image, s.target, s.split, s.meta) for s in many[:60]
    ]
    alone = make_inspection(60, size=SIZE, workers=1, **options)
    assert [s.image for s in alone] == [s.image for s in few]
    assert line(n=60, seed=1, **options)[0].image != few[0].image


def test_every_class_and_split_is_there_and_stratified():
    t = frame(line())
    counts = pd.crosstab(t.label, t.split)
    assert tuple(counts.index) == inspection_classes
    shares = counts.div(counts.sum(axis=1), axis=0)
    assert (shares - [0.2, 0.6, 0.2]).abs().to_numpy().max() < 0.08
    assert len(set(s.image for s in line())) == N


def test_no_track_straddles_a_split():
    t = frame(line())
    assert t.groupby("track").split.nunique().max() == 1
    assert t.groupby("track").frame.apply(list).map(lambda f: f == [0, 1, 2]).all()
    assert frame(line(n=40, frames=4)).track.tolist() == [i // 4 for i in range(40)]
    assert t.groupby("track")[["part", "material", "light", "camera", "month", "label"]].nunique().to_numpy().max() == 1


@pytest.mark.parametrize("size", [64, 150])
def test_boxes_are_tight_around_masks_inside_the_image(size):
    for s in line(n=42, size=size):
        assert Image.open(io.BytesIO(s.image)).size == (size, size)
        t = s.target
        defects = [name for name in t.box_labels if name != "serial"]
        assert set(defects) == ({t.labels[0]} - {"ok"}) and t.box_labels[-1] == "serial"
        assert len(t.masks) == len(t.texts) == len(t.boxes)
        assert t.texts[-1][0].isalpha() and t.texts[-1][1:].isdigit()
        for box, counts in zip(t.boxes, t.masks, strict=True):
            ys, xs = np.nonzero(decode_rle(counts, size, size))
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert box.min() >= 0 and box.max() <= size
            assert len(xs) >= 4 * (size / 64) ** 2


def test_a_picture_shows_the_same_at_every_size():
    for small, large in zip(line(n=42, size=96), line(n=42, size=192), strict=True):
        a, b = pixels(small), np.asarray(Image.open(io.BytesIO(large.image)).reduce(2), np.float32)
        assert np.abs(a - b).mean() < 20 and small.target.box_labels == large.target.box_labels
        assert np.abs(small.target.boxes * 2 - large.target.boxes).max() < 12


def test_a_part_moves_along_the_belt_with_its_serial():
    t = frame(line())
    t["x"] = [s.target.boxes[-1][[0, 2]].mean() for s in line()]
    assert (t.sort_values(["track", "frame"]).groupby("track").x.diff().dropna() > 0).all()


def test_weak_slice_is_rare_in_training_only():
    planted, twin = frame(line()), frame(line(weak_slice=False))
    share = planted.eval(weak_slice_rule).groupby(planted.split).mean()
    assert 0 < share["train"] < 0.03 and share["val"] < 0.05 and share["test"] > 0.15
    clean = twin.eval(weak_slice_rule).groupby(twin.split).mean()
    assert clean["train"] > 0.15 and clean["val"] > 0.1 and clean["test"] == share["test"]
    same = [a.image == b.image for a, b in zip(line(), line(weak_slice=False), strict=True) if a.split == "test"]
    assert all(same), "the twin's test images are the same, only training differs"


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_label_noise_has_the_stated_rate(rate):
    t = frame(line(label_noise=rate))
    low, high = binom.interval(0.9999, len(t), rate)
    assert low <= (t.label != t.true_label).sum() <= high
    clean = frame(line())
    assert "true_label" not in clean and (clean.label == t.true_label).all()
    assert [s.image for s in line(label_noise=rate)] == [s.image for s in line()]


def test_near_duplicates_lead_from_test_to_training():
    samples = line(near_duplicates=0.3)
    by_uri, t = {s.uri: s for s in samples}, frame(samples)
    copies = [s for s in samples if s.meta["duplicate_of"]]
    low, high = binom.interval(0.9999, int((t.split == "test").sum()), 0.3)
    assert low <= len(copies) <= high and {s.split for s in copies} == {"test"}
    for s in copies[:20]:
        source = by_uri[s.meta["duplicate_of"]]
        assert source.split == "train" and source.image != s.image and source.target.labels == s.target.labels
        far = next(o for o in samples if o.split == "train" and o.meta["track"] != source.meta["track"])
        assert distance(s, source) < 10 < distance(s, far)
    assert "duplicate_of" not in line()[0].meta


def test_corrupt_files_do_not_decode_and_the_others_do():
    samples = line(corrupt=0.1)
    low, high = binom.interval(0.9999, N, 0.1)
    bad = [s for s in samples if s.meta["corrupt"]]
    assert low <= len(bad) <= high and len({s.meta["corrupt"] for s in bad}) == 3
    for s in samples:
        if s.meta["corrupt"]:
            with pytest.raises((OSError, SyntaxError)):
                pixels(s)
        else:
            pixels(s)


def test_annotators_rank_as_stated():
    t = frame(line(annotators=True))
    kappas = [cohen_kappa_score(t.label, t[f"annotator_{k}"]) for k in (1, 2, 3)]
    assert kappas[0] > kappas[1] > kappas[2] > 0.4
    for k, accuracy in enumerate(annotator_accuracy, 1):
        low, high = binom.interval(0.9999, N, accuracy)
        assert low <= (t[f"annotator_{k}"] == t.label).sum() <= high
    assert "annotator_1" not in line()[0].meta


def test_drift_changes_the_last_month_only():
    before, after = line(), line(drift=True)
    t = frame(before)
    late = t.eval(drift_rule)
    assert all(a.image == b.image for a, b, x in zip(before, after, late, strict=True) if not x)
    assert set(frame(after)[late].material) - set(t.material) == {"anodised"}

    def shift(samples):
        mean = np.array([pixels(s).mean((0, 1)) for s in samples])
        darkness, warmth = mean.mean(1), mean[:, 0] / mean[:, 2]
        return [ks_2samp(v[late], v[~late]).pvalue for v in (darkness, warmth)]

    assert max(shift(after)) < 1e-6
    assert min(shift(before)) > 1e-3


def test_folder_holds_the_same_images(tmp_path):
    folder = write_inspection(tmp_path / "line", 42, size=SIZE)
    t = pd.read_csv(folder / "metadata.csv")
    for s, row in zip(line(n=42), t.itertuples(), strict=True):
        assert (folder / row.path).read_bytes() == s.image
        assert row.path.split("/")[:2] == [row.split, row.label] == [s.split, s.target.labels[0]]
        assert row.material == s.meta["material"]
    with pytest.raises(FileExistsError, match="not empty"):
        write_inspection(folder, 3)


def test_impossible_options_are_refused():
    for options in ({"label_noise": 5}, {"corrupt": -0.1}, {"near_duplicates": 1.1}):
        with pytest.raises(ValueError, match="from 0 to 1"):
            make_inspection(3, **options)
    with pytest.raises(ValueError, match="64 or more"):
        make_inspection(3, size=32)


def test_digits_are_complete_and_exact():
    from sklearn.datasets import load_digits

    digits, source = list(read_digits()), load_digits()
    assert len(digits) == 1797
    assert Counter(s.target.labels[0] for s in digits) == Counter(digit_names[d] for d in source.target)
    for s, grey in zip(digits, source.images, strict=True):
        small = np.asarray(Image.open(io.BytesIO(s.image)))[::4, ::4]
        assert np.array_equal(np.round(small / (255 / 16)), grey)
    splits = Counter(s.split for s in digits)
    assert [round(splits[k] / 1797, 1) for k in ("train", "val", "test")] == [0.6, 0.2, 0.2]
    assert [s.split for s in read_digits(64)] == [s.split for s in digits]
