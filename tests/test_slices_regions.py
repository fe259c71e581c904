"Finders of regions: planted places are found, rules hold on later images, and odd data is no trouble"

import json
import tracemalloc
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.stats import binom

from cvbench.slices import _kernels
from cvbench.slices.regions import HDBSCANFinder, KMeansFinder, MixtureFinder, RegionFinder, region_scores
from cvbench.slices.slice import Finder

FINDERS = [RegionFinder, MixtureFinder, KMeansFinder, HDBSCANFinder]


def make(n=2000, spot=80, rate=0.5, base=0.05, seed=0, label=None, long=False):
    "Ten clusters in 48 dimensions, and a spot of the first `spot` rows that errs more; with `label` only its rows of that target do"
    rng = np.random.default_rng(seed)
    space = np.random.default_rng(99)  # The same places whatever the seed
    x = rng.normal(size=(n, 48)) + 3 * space.normal(size=(10, 48))[rng.integers(10, size=n)]
    middle, along = 3 * space.normal(size=48), space.normal(size=48)
    x[:spot] = middle + rng.normal(size=(spot, 48))
    if long:
        x[:spot] += np.linspace(-0.7, 0.7, spot)[:, None] * along  # Ten times as long as wide
    target = rng.choice(["cat", "dog", "owl"], n)
    inside = (np.arange(n) < spot) & ((target == label) if label else True)
    wrong = rng.random(n) < np.where(inside, rate, base)
    pred = np.where(wrong, np.where(target == "cat", "dog", "cat"), target)
    table = pd.DataFrame({"sample_id": np.arange(n).astype(str), "target": target, "pred": pred})
    return table, x, wrong.astype(float), inside


def inside_of(candidate, table, x):
    return region_scores(candidate.region, x, table) >= candidate.region["threshold"]


@pytest.mark.parametrize("finder", FINDERS)
def test_a_planted_place_comes_first_and_holds_on_later_images(finder):
    table, x, error, truth = make()
    found = finder().fit(table, x, error)
    assert isinstance(found, Finder)
    scores = [c.score for c in found.candidates_]
    assert scores == sorted(scores, reverse=True)
    best = found.candidates_[0]
    assert truth[region_scores(best.region, x, table).argsort()[-10:]].mean() >= 0.9
    later, y, _, new = make(seed=1)
    rank = region_scores(json.loads(json.dumps(best.region)), y, later).argsort()[-10:]
    assert new[rank].mean() >= 0.9


def test_where_nothing_is_planted_the_best_is_much_weaker():
    strong, weak = [], []
    for seed in range(5):
        for rate, out in ((0.5, strong), (0.05, weak)):
            table, x, error, _ = make(rate=rate, seed=seed)
            out.append(RegionFinder().fit(table, x, error).candidates_[0].score)
    assert min(strong) > 1.4 * max(weak)


def test_a_slice_that_only_its_label_shows_is_found_with_the_label():
    table, x, error, truth = make(spot=300, label="dog", rate=0.6)
    best = RegionFinder().fit(table, x, error).candidates_[0]
    assert best.region["within"] == {"target": "dog"}
    inside = inside_of(best, table, x)
    assert (truth & inside).sum() > 0.8 * truth.sum() and truth[inside].mean() > 0.9
    everyone, y, same, _ = make(spot=300, rate=0.6)
    assert RegionFinder().fit(everyone, y, same).candidates_[0].region["within"] == {}


def test_a_long_slice_comes_whole():
    table, x, error, truth = make(n=5000, spot=250, long=True)
    inside = inside_of(RegionFinder().fit(table, x, error).candidates_[0], table, x)
    assert (truth & inside).sum() > 0.7 * truth.sum() and truth[inside].mean() > 0.8


@pytest.mark.parametrize("finder", FINDERS)
def test_no_region_knows_the_error(finder):
    table, x, error, _ = make()
    one = table.assign(pred=table["target"])
    for c in finder().fit(table, x, error).candidates_:
        assert len(c.region["within"]) <= 1
        if "pred" not in c.region["within"]:
            np.testing.assert_array_equal(region_scores(c.region, x, one), region_scores(c.region, x, table))


@pytest.mark.parametrize("finder", FINDERS)
def test_predict_scores_and_regions_agree(finder):
    table, x, error, _ = make()
    found = finder().fit(table, x, error)
    scores = found.scores(table, x)
    first = found.predict(table, x)
    for j, c in enumerate(found.candidates_):
        np.testing.assert_allclose(scores[:, j], region_scores(c.region, x, table), rtol=1e-5, atol=1e-6)
        assert (scores[first == j, j] >= c.region["threshold"]).all()
    assert ((scores >= [c.region["threshold"] for c in found.candidates_]).any(1) == (first >= 0)).all()


def test_the_rows_of_a_region_have_the_rate_of_its_score():
    "A region is written down in 16 bits and with its closest neighbours only, and is still the group that was scored"
    table, x, error, truth = make(n=4000)
    for c in RegionFinder().fit(table[["sample_id"]], x, error).candidates_:
        inside = inside_of(c, table, x)
        assert inside.sum() >= 8
        base = error[~truth].mean()
        rate = (error[inside].sum() + 30 * base) / (inside.sum() + 30) / base
        assert 0.6 < rate / c.score < 1.4  # The rate elsewhere is taken without all the groups, which differ


@pytest.mark.parametrize("finder", FINDERS)
def test_the_same_twice_and_in_both_precisions(finder):
    table, x, error, _ = make()
    a, b = (finder(random_state=3).fit(table, x, error).candidates_ for _ in range(2))
    assert a == b
    c = finder(random_state=3).fit(table, x.astype(np.float32), error).candidates_
    assert [d.region["basis"] for d in c] == [d.region["basis"] for d in a]


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("n", [0, 1, 2, 5, 15, 19, 40])
def test_few_rows(finder, n):
    table, x, error, _ = make(n=max(n, 10), spot=5)
    table, x, error = table[:n], x[:n], error[:n]
    found = finder().fit(table, x, error)
    assert found.scores(table, x).shape == (n, len(found.candidates_))
    assert len(found.predict(table, x)) == n


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_errors_and_all_errors_propose_nothing(finder, value):
    table, x, _, _ = make(n=200)
    assert finder().fit(table, x, np.full(200, value)).candidates_ == []


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # By scikit-learn, of copies
@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize(
    "odd", ["constant", "copies", "one dimension", "zeros in most", "far away", "tiny", "whole numbers"]
)
def test_odd_embeddings(finder, odd):
    table, x, error, _ = make(n=600)
    x = {
        "constant": np.ones_like(x),
        "copies": np.repeat(x[:6], 100, 0),
        "one dimension": x[:, :1],
        "zeros in most": np.where(np.arange(48) < 3, x, 0),
        "far away": x + 1000,
        "tiny": x * 1e-12,
        "whole numbers": (10 * x).astype(np.int16),
    }[odd]
    found = finder().fit(table, x, error)
    scores = found.scores(table, x)
    assert np.isfinite(scores).all() and all(np.isfinite(c.score) for c in found.candidates_)
    json.dumps([c.region for c in found.candidates_], allow_nan=False)


def test_scale_and_place_of_the_embeddings_do_not_matter():
    table, x, error, truth = make()
    for y in (x, 1e-6 * x, 1e6 * x, x + 50):
        best = RegionFinder().fit(table, y, error).candidates_[0]
        assert truth[region_scores(best.region, y, table).argsort()[-10:]].mean() >= 0.9


@pytest.mark.parametrize("finder", FINDERS)
def test_one_class_and_strange_names(finder):
    table, x, error, truth = make()
    one = table.assign(target="a", pred=np.where(error > 0, "b", "a"))
    best = finder().fit(one, x, error).candidates_[0]
    assert truth[region_scores(best.region, x, one).argsort()[-10:]].mean() >= 0.9
    names = {"cat": "<b>'\"\0", "dog": "é" * 10_000, "owl": ""}
    odd = table.assign(target=table["target"].map(names), pred=table["pred"].map(names))
    assert finder().fit(odd, x, error).candidates_


def test_a_table_without_predictions_will_do():
    table, x, error, truth = make()
    best = RegionFinder().fit(table[["sample_id"]], x, error).candidates_[0]
    assert truth[inside_of(best, table[["sample_id"]], x)].mean() > 0.9


def test_a_bounded_loss_is_an_error_too():
    table, x, error, truth = make()
    loss = np.clip(0.8 * error + 0.2 * np.random.default_rng(0).random(len(error)), 0, 1)
    assert truth[inside_of(RegionFinder().fit(table, x, loss).candidates_[0], table, x)].mean() > 0.8


@pytest.mark.parametrize("finder", FINDERS)
def test_bad_input_is_said(finder):
    table, x, error, _ = make(n=300)
    holed = x.copy()
    holed[[7, 9], 3] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 300 embeddings hold NaN, infinite or huge numbers, first in row 7"):
        finder().fit(table, holed, error)
    for bad in (None, x[:-1], x[0], x[:, :0], x.astype(str)):
        with pytest.raises(ValueError, match="embeddings must be numbers"):
            finder().fit(table, bad, error)
    for bad in (error[:-1], error - 1, error * 2, np.where(error > 0, np.nan, 0)):
        with pytest.raises(ValueError, match="error must be 300 numbers from 0 to 1"):
            finder().fit(table, x, bad)


def test_bad_use_of_a_region_is_said():
    table, x, error, _ = make(spot=300, label="dog", rate=0.6)
    region = RegionFinder().fit(table, x, error).candidates_[0].region
    with pytest.raises(ValueError, match="embeddings of 48 numbers, and these have 10"):
        region_scores(region, x[:, :10], table)
    with pytest.raises(ValueError, match="asks for the column 'target'"):
        region_scores(region, x, table[["sample_id"]])
    with pytest.raises(ValueError, match="kind nearest or mixture"):
        region_scores({**region, "kind": "round"}, x, table)


def test_memory_is_linear():
    table, x, error, _ = make(n=50_000, spot=1000)
    x = x.astype(np.float32)
    RegionFinder().fit(table[:5000], x[:5000], error[:5000])
    peaks = []
    for n in (25_000, 50_000):
        tracemalloc.start()
        found = RegionFinder().fit(table[:n], x[:n], error[:n])
        found.scores(table[:n], x[:n])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.5 * peaks[0] and peaks[1] < 50_000 * 3000


def test_ward_agrees_with_scipy():
    rng = np.random.default_rng(0)
    for q in (2, 8):
        c = rng.normal(size=(40, q))
        ours, theirs = _kernels.ward(c, np.ones(40, np.int64)), [{i} for i in range(40)]
        for a, b, *_ in linkage(c, "ward"):
            theirs.append(theirs[int(a)] | theirs[int(b)])
        sets = [set(_kernels.leaves_of(i, ours)) for i in range(79)]
        assert sorted(map(sorted, sets)) == sorted(map(sorted, theirs))


def test_the_ratio_agrees_with_scipy():
    for k, m, base in ((9, 20, 0.1), (20, 20, 0.3), (3, 50, 0.01)):
        expected = binom.logpmf(k, m, k / m) - binom.logpmf(k, m, base)
        assert np.isclose(_kernels.gain(np.array([k]), np.array([m]), np.array([base]))[0], expected)
    assert _kernels.gain(np.array([1]), np.array([20]), np.array([0.1]))[0] == 0


def test_chosen_groups_add_up_to_most():
    rng = np.random.default_rng(0)
    for _ in range(30):
        merges = _kernels.ward(rng.normal(size=(5, 2)), np.ones(5, np.int64))
        value = np.maximum(rng.normal(size=9), 0)
        leaves = [set(_kernels.leaves_of(i, merges)) for i in range(9)]
        apart = [
            nodes
            for k in range(1, 6)
            for nodes in combinations(range(9), k)
            if sum(len(leaves[i]) for i in nodes) == len(set().union(*(leaves[i] for i in nodes)))
        ]
        at, covered = _kernels.choose(value, merges)
        chosen = np.flatnonzero(at)
        assert np.isclose(value[chosen].sum(), max(value[list(nodes)].sum() for nodes in apart))
        assert sorted(i for c in chosen for i in leaves[c]) == np.flatnonzero(covered).tolist()
