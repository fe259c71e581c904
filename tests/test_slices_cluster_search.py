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
from cvbench.slices.cluster_search import MixtureFinder, RegionFinder, _vary, region_scores
from cvbench.slices.confirm import confirm, split_halves
from cvbench.slices.slice import Finder

FINDERS = [RegionFinder, MixtureFinder]


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


def make_kind(kind, seed=0, planted=True):
    "A spot of 300 among 6,000 rows; rare: it errs; correlation: its cats are taken for the dogs beside; noisy label: its labels are wrong"
    table, x, _, spot = make(n=6000, spot=300, base=0.05, rate=0.05, seed=seed)
    rng = np.random.default_rng(seed + 1000)
    true, pred = table["target"].to_numpy(object), table["pred"].to_numpy(object)
    if kind == "correlation":
        true[spot] = rng.choice(["cat", "dog"], 300)
        pred[spot] = true[spot]
    truth = spot & ((true == "cat") if kind == "correlation" else True)
    wrong = planted & truth & (rng.random(len(x)) < 0.45)
    target = true.copy()
    if kind == "noisy label":
        target[wrong], pred[wrong] = np.where(true[wrong] == "owl", "cat", "owl"), true[wrong]
    else:
        pred[wrong] = np.where(true[wrong] == "dog", "cat", "dog")
    table = table.assign(target=target, pred=pred, sample_id=[f"{seed}-{i}" for i in range(len(x))])
    return table, x, (target != pred).astype(float), truth


def find_and_confirm(table, x, error):
    held_out = split_halves(table)
    seen = ~held_out
    found = RegionFinder().fit(table[seen], x[seen], error[seen]).candidates_
    judged = confirm(found, table, error, held_out, x)
    return [c for c, sure in zip(found, judged["confirmed"], strict=True) if sure]


@pytest.mark.parametrize("kind", ["rare", "correlation", "noisy label"])
def test_a_slice_of_each_kind_is_found_and_confirmed_and_its_clean_twin_is_silent(kind):
    table, x, error, truth = make_kind(kind)
    sure = find_and_confirm(table, x, error)
    inside = inside_of(sure[0], table, x)
    assert truth[inside].mean() > 0.9 and (truth & inside).sum() > 0.6 * truth.sum()
    assert not find_and_confirm(*make_kind(kind, planted=False)[:3])
    false = sum(len(find_and_confirm(*make_kind(kind, seed, planted=False)[:3])) > 0 for seed in range(10))
    assert false <= 3  # At q = 0.1 one in ten is expected, and more than three once in 78 times


def test_a_slice_in_many_places_leaves_room_for_another_kind_of_error():
    "Twelve groups where cats are taken for dogs, then one where owls are, and one that may be chance"
    size, n = 40, 2000
    rows = (np.arange(n)[:, None] // size) == np.arange(14)
    target = np.where(rows[:, :12].any(1), "cat", "owl")
    wrong = (np.arange(n) % size < 16) & rows[:, :13].any(1) | (np.arange(n) % 20 == 0)
    table = pd.DataFrame({"target": target, "pred": np.where(wrong, "dog", target)})
    strength = [*np.linspace(5, 4.5, 12), 4.0, 1.5]
    vary = lambda most: _vary([(s, None, 0, None) for s in strength], rows, table, wrong.astype(float), 5.0, most)  # noqa: E731
    assert vary(10) == [*range(9), 12]  # Strongest first
    assert vary(1) == [0]
    assert vary(13) == list(range(13))  # What may be chance comes last
    assert vary(20) == list(range(14))


def test_no_two_regions_share_half_of_their_errors():
    for seed in range(5):
        table, x, error, _ = make_kind("correlation", seed)
        rows = [inside_of(c, table, x) for c in RegionFinder().fit(table, x, error).candidates_]
        assert len(rows) > 3
        for a, b in combinations(rows, 2):
            assert error[a & b].sum() <= 0.6 * min(error[a].sum(), error[b].sum())  # 16 bits move a few rows


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
        np.testing.assert_allclose(scores[:, j], region_scores(c.region, x, table), rtol=1e-3, atol=1e-6)
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


def test_ward_of_clusters_of_unlike_size_agrees_with_a_plain_search():
    rng = np.random.default_rng(1)
    c, count = rng.normal(size=(30, 4)), rng.integers(1, 200, 30)
    groups, plain = {i: [i] for i in range(30)}, []
    while len(groups) > 1:
        mean = {g: np.average(c[rows], axis=0, weights=count[rows]) for g, rows in groups.items()}
        size = {g: count[rows].sum() for g, rows in groups.items()}
        cost = lambda p: ((mean[p[0]] - mean[p[1]]) ** 2).sum() * size[p[0]] * size[p[1]] / (size[p[0]] + size[p[1]])  # noqa: B023, E731
        a, b = min(combinations(groups, 2), key=cost)
        groups[a] = groups[a] + groups.pop(b)
        plain.append(sorted(groups[a]))
    merges = _kernels.ward(c, count)
    assert sorted(plain) == sorted(_kernels.leaves_of(i, merges).tolist() for i in range(30, 59))


def test_ward_of_points_in_one_place_ends():
    for c in (np.zeros((50, 3)), np.repeat(np.eye(3), 20, 0)):
        merges = _kernels.ward(c, np.ones(len(c), np.int64))
        assert sorted(merges.ravel().tolist()) == list(range(2 * len(c) - 2))
    assert _kernels.ward(np.zeros((1, 3)), np.ones(1, np.int64)).shape == (0, 2)


def test_nearest_agrees_with_all_distances(monkeypatch):
    rng = np.random.default_rng(0)
    z, centres = rng.normal(size=(1000, 6)).astype(np.float32), rng.normal(size=(37, 6)).astype(np.float32)
    plain = ((z[:, None].astype(float) - centres) ** 2).sum(2)
    for chunk in (200_000, 1000, 1):
        monkeypatch.setattr(_kernels, "_CHUNK", chunk)
        assert (_kernels.nearest(z, centres) == plain.argmin(1)).all()
    np.testing.assert_allclose(_kernels.distances(z, centres) + (z * z).sum(1)[:, None], plain, atol=1e-4)


def test_the_first_directions_are_those_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3000, 5)) * [9, 7, 5, 4, 3]) @ rng.normal(size=(5, 200)) + rng.normal(size=(3000, 200))
    basis = _kernels.principal(x.astype(np.float32), 32, rng)
    expected = np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:5].T
    assert 5 <= basis.shape[1] < 12  # Most of the rest, which is noise, is left out
    assert np.linalg.svd(basis[:, :5].T @ expected)[1].min() > 0.999


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


@pytest.mark.parametrize("finder", FINDERS)
def test_without_embeddings_it_is_said_how_to_pass_them(finder):
    table, _, error, _ = make(200)
    with pytest.raises(ValueError, match=r"none were given\. Pass an array"):
        finder().fit(table, None, error)


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("missing", [None, np.nan])
def test_rows_without_target_or_prediction_are_no_trouble(finder, missing):
    table, x, error, truth = make(label="cat", spot=150)
    table = table.assign(
        **{c: table[c].astype(object).where(np.arange(2000) % 9 != k) for k, c in enumerate(["target", "pred"])}
    )
    table = table.where(table.notna(), missing)
    best = finder().fit(table, x, error).candidates_[0]
    assert truth[region_scores(best.region, x, table).argsort()[-10:]].mean() >= 0.5
