"""Intervals hold the truth as often as they say, by simulation; and where they cannot, that is known"""

import numpy as np
import pytest
from evaluation_simulation import Design, coverage
from simulation import meets, runs

from cvbench.core.predictions import make_predictions
from cvbench.evaluation.evaluate import evaluate, unit_keys
from cvbench.evaluation.intervals import bootstrap, interval, make_strata, resample_weights, wilson

designs = {
    "five classes, 300 images": Design(300, (0.2,) * 5, skill=2.5, sharp=1.5),
    "two classes, 100 images": Design(100, (0.5, 0.5), skill=2.0),
    "rare classes, random mix": Design(500, (0.6, 0.2, 0.1, 0.1), skill=2.5, random_mix=True),
    "multi-label": Design(300, (0.5, 0.25, 0.1), skill=2.5, sharp=1.5, random_mix=True, multilabel=True),
}


@runs(60, "intervals")
@pytest.mark.parametrize("name", designs)
def test_coverage_is_93_to_97_percent(name, runs):
    got = coverage(designs[name], runs, n_boot=200)
    headline = ("subset_accuracy", "hamming_loss") if designs[name].multilabel else ("accuracy",)
    for metric in (
        *headline,
        "balanced_accuracy",
        "macro_f1",
        "micro_f1",
        "macro_auroc",
        "log_loss",
        "recall of a class",
        "f1 of a class",
    ):
        assert meets(got[metric][0] * runs, runs, 0.93, 0.97), (metric, got[metric])
    # conservative on small sets: gaps cannot be told from noise there, and the lower bound is 0
    assert meets(got["calibration_error"][0] * runs, runs, 0.93, 1), got["calibration_error"]


@runs(60, "intervals")
def test_fixed_mix_is_too_narrow_for_a_random_one(runs):
    "Why `stratify=False` exists: precision and F1 depend on how many images of each class there are"
    design = Design(500, (0.7, 0.2, 0.1), skill=1.8, random_mix=True)
    kept, drawn = (coverage(design, runs, n_boot=100, stratify=s)["precision of a class"] for s in (True, False))
    assert kept[0] < 0.93 and kept[0] < drawn[0] and meets(drawn[0] * runs, runs, 0.93, 0.97)


@runs(30, "intervals")
def test_coverage_needs_images(runs):
    "Sixty images of a class cannot show the worst of its scores: the interval of its AUROC is a little too short"
    got = coverage(Design(300, (0.2,) * 5, skill=2.5, sharp=1.5), runs, n_boot=100)["auroc of a class"][0]
    assert meets(got * runs, runs, 0.88, 0.97)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_statsmodels(level):
    from statsmodels.stats.proportion import proportion_confint

    for n in (1, 5, 40, 1000):
        hits = np.arange(0, n + 1, max(1, n // 7))
        low, high = wilson(hits / n, n, level)
        reference = proportion_confint(hits, n, 1 - level, method="wilson")
        np.testing.assert_allclose(low, np.maximum(reference[0], 0), atol=1e-12)
        np.testing.assert_allclose(high, np.minimum(reference[1], 1), atol=1e-12)


def test_interval_of_accuracy_is_near_wilsons():
    rng = np.random.default_rng(0)
    right = (rng.random(500) < 0.9).astype(np.float32)
    drawn = bootstrap(lambda w: {"accuracy": right @ w / w.sum(0)}, np.zeros(500, int), 4000)["accuracy"]
    np.testing.assert_allclose(interval(right.mean(), drawn, 500), wilson(right.mean(), 500), atol=0.004)


def test_strata_keep_their_size_and_the_seed_decides():
    strata = make_strata(np.repeat([0, 1, 2, 3], [40, 7, 2, 1]))
    one, again, other = (np.concatenate(list(resample_weights(strata, 70, seed)), axis=1) for seed in (0, 0, 1))
    for s in np.unique(strata):
        np.testing.assert_allclose(one[strata == s].sum(0), (strata == s).sum(), rtol=1e-5)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.shape == (50, 70)


@pytest.mark.parametrize("targets", [["a"] * 20, ["a"], ["a", "b"], ["a"] * 9 + ["b"]])
def test_without_an_error_the_interval_is_not_a_point(targets):
    scores = [[1.0, 0.0] if t == "a" else [0.0, 1.0] for t in targets]
    ev = evaluate(make_predictions(targets, scores, ["a", "b"]), n_boot=50)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        metric = ev.metric(name)
        assert (metric.value, metric.high) == (1.0, 1.0)
        assert metric.low < 1 - 1 / (len(targets) + 4)


def test_more_images_narrower_intervals_and_higher_level_wider_ones():
    def width(n, level):
        return (lambda m: m.high - m.low)(evaluate(Design(n, (0.5, 0.5), 2.0).predictions(0), 200, level).headline)

    assert width(1600, 0.95) < 0.6 * width(400, 0.95) < 0.6 * width(400, 0.99)


def photos_of_parts(seed, parts=60):
    "A model whose luck with a part decides over the one to ten photos of it; its true accuracy is .7 at every size"
    rng = np.random.default_rng(seed)
    part = np.repeat(np.arange(parts), 1 + np.arange(parts) % 10)
    sure, place = rng.beta(1.4, 0.6, parts)[part], rng.integers(0, 2, len(part))
    right = rng.random(len(part)) < sure
    p = np.where(right == (place == 1), 0.8, 0.2)
    labels = [("a", "b")[i] for i in place]
    return make_predictions(labels, np.stack([1 - p, p], 1), ("a", "b"), metadata={"part": part.tolist()})


@runs(80, "intervals")
def test_groups_drawn_together_are_covered_and_drawn_apart_they_are_not(runs):
    held = {None: 0, "part": 0}
    for seed in range(runs):
        preds = photos_of_parts(seed)
        for group in held:
            m = evaluate(preds, n_boot=150, random_state=seed, group=group).metric("accuracy")
            held[group] += m.low <= 0.7 <= m.high
    assert meets(held["part"], runs, 0.93, 0.97)
    assert held[None] / runs < 0.85


def test_an_evaluation_remembers_its_groups(tmp_path):
    from cvbench.evaluation.evaluate import load_evaluation, save_evaluation

    preds = photos_of_parts(0)
    plain, ev = evaluate(preds, n_boot=50), evaluate(preds, n_boot=50, group="part")
    kept = load_evaluation(save_evaluation(ev, tmp_path / "e.parquet"))
    assert (kept.group, kept.id) == ("part", ev.id) != (None, plain.id)
    assert "groups of equal part" in repr(ev) and "groups" not in repr(plain)
    part = kept.where("part < 30")
    assert part.group == "part" and part.headline.low < plain.where("part < 30").headline.low
    perfect = make_predictions(["a"] * 40, np.tile([0.9, 0.1], (40, 1)), ("a", "b"), metadata={"part": [0, 1] * 20})
    assert evaluate(perfect, n_boot=20, group="part").headline.low < evaluate(perfect, n_boot=20).headline.low < 1
    with pytest.raises(ValueError, match="no column 'patient'"):
        evaluate(preds, group="patient")


@runs(80, "intervals")
def test_few_groups_are_covered_too(runs):
    held = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        part = np.repeat(np.arange(6), 20)
        right = rng.random(120) < np.clip(rng.normal(0.7, 0.12, 6), 0, 1)[part]
        p = np.where(right, 0.8, 0.2)
        preds = make_predictions(["a"] * 120, np.stack([p, 1 - p], 1), ("a", "b"), metadata={"part": part.tolist()})
        m = evaluate(preds, n_boot=150, random_state=seed, group="part").metric("accuracy")
        held += m.low <= 0.7 <= m.high
    assert meets(held, runs, 0.93, 0.97)


def test_one_group_tells_nothing():
    preds = photos_of_parts(0)
    preds = make_predictions(
        preds.table["target"].to_pylist(), preds.scores, preds.classes, metadata={"part": [1] * len(preds)}
    )
    ev = evaluate(preds, n_boot=50, group="part")
    assert ev.metrics["low"].isna().all() and not ev.stratify


def test_a_group_keeps_its_name_when_another_value_goes_missing():
    import pandas as pd

    table = pd.DataFrame({"sample_id": list("abcd"), "part": [7, 7, 8, 9]})
    missing = table.assign(part=[7, 7, 8, None])
    assert (
        unit_keys(table, "part")[:3].tolist()
        == unit_keys(missing, "part")[:3].tolist()
        == ["group:7"] * 2 + ["group:8"]
    )
    assert unit_keys(missing, "part")[3] == "id:d"
