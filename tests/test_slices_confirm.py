"Confirmation holds what it promises: few false discoveries, intervals that cover, and silence on the clean twin"

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulation import meets, runs

from cvbench.slices.confirm import (
    against_rest,
    confirm,
    difference_interval,
    find_rows,
    judge,
    merge,
    q_values,
    smallest_effect,
    split_halves,
)
from cvbench.slices.slice import Candidate, Slice

COLUMNS = {"light": ["dim", "day", "flash"], "metal": ["steel", "brass", "zinc", "tin"], "line": list("ABCDE")}


def make_table(n, seed):
    rng = np.random.default_rng(seed)
    columns = {name: rng.choice(values, n) for name, values in COLUMNS.items()}
    return pd.DataFrame({"sample_id": [f"{seed}-{i}" for i in range(n)], **columns}), rng


ONE = [(c, v) for c, values in COLUMNS.items() for v in values]
TRIED = [(a,) for a in ONE] + [(a, b) for i, a in enumerate(ONE) for b in ONE[i + 1 :] if a[0] != b[0]]
CANDIDATES = [Candidate(" and ".join(f"{c} == '{v}'" for c, v in rule), found_by="all") for rule in TRIED]


def draw_groups(n, rng):
    "Rows of every candidate, on columns drawn anew"
    columns = {name: rng.integers(len(values), size=n) for name, values in COLUMNS.items()}
    alone = {(c, v): columns[c] == COLUMNS[c].index(v) for c, v in ONE}
    return [np.logical_and.reduce([alone[part] for part in rule]) for rule in TRIED]


# The half of an image


def test_a_half_depends_on_the_image_alone_and_groups_stay_whole():
    table = pd.DataFrame({"sample_id": [f"{i:05d}" for i in range(6000)], "part": np.arange(6000) // 3})
    half = split_halves(table, "part")
    assert 0.46 < half.mean() < 0.54
    assert (half.reshape(-1, 3).std(1) == 0).all()
    shuffled = table.sample(frac=0.5, random_state=0)
    assert (split_halves(shuffled, "part") == half[shuffled.index]).all()
    assert (split_halves(table, "part", seed=1) != half).mean() > 0.3


def test_images_without_a_group_stand_alone():
    table = pd.DataFrame({"sample_id": [f"{i:05d}" for i in range(2000)], "part": [None] * 2000})
    assert (split_halves(table, "part") == split_halves(table)).all()
    with pytest.raises(ValueError, match="no column 'patient'"):
        split_halves(table, "patient")


# One group against the rest


def test_right_and_wrong_agree_with_fishers_test():
    rng = np.random.default_rng(0)
    error = (rng.random(400) < 0.2).astype(float)
    groups = [rng.random(400) < share for share in (0.03, 0.1, 0.5, 0.9)]
    found = against_rest(groups, error)
    for inside, p in zip(groups, found["p"], strict=True):
        table = [
            [(error * inside).sum(), ((1 - error) * inside).sum()],
            [(error * ~inside).sum(), ((1 - error) * ~inside).sum()],
        ]
        exact = stats.fisher_exact(table, alternative="greater").pvalue
        point = stats.hypergeom.pmf(table[0][0], 400, error.sum(), inside.sum())
        assert p == pytest.approx(exact - point / 2, abs=1e-9)


@pytest.mark.parametrize("n", [15, 60, 300])
def test_a_loss_agrees_with_drawing_groups(n):
    rng = np.random.default_rng(n)
    loss = rng.beta(0.4, 2, 800)
    drawn = np.array([loss[rng.permutation(800)[:n]].mean() for _ in range(6000)])
    for quantile in (0.5, 0.9, 0.99):
        inside = np.zeros(800, bool)
        inside[rng.permutation(800)[:n]] = True
        shift = np.quantile(drawn, quantile) - loss[inside].mean()
        moved = np.clip(loss + shift * inside, 0, 1)
        by_hand = np.array([moved[rng.permutation(800)[:n]].mean() for _ in range(6000)])
        p = (by_hand >= moved[inside].mean()).mean()
        assert against_rest([inside], moved)["p"][0] == pytest.approx(
            p, abs=4 * np.sqrt(max(p * (1 - p), 1e-4) / 6000) + 0.15 * p
        )


def test_q_values_agree_with_scipy():
    p = np.random.default_rng(0).random(200) ** 2
    assert q_values(p) == pytest.approx(stats.false_discovery_control(p))


def test_empty_whole_and_tiny_groups_are_not_tested():
    error = np.r_[np.ones(5), np.zeros(95)]
    groups = [np.zeros(100, bool), np.ones(100, bool), np.arange(100) < 5]
    found = against_rest(groups, error, min_images=10)
    assert (found["p"] == 1).all()
    assert np.isnan(found["effect"][0]) and np.isnan(found["effect"][1]) and found["effect"][2] == 1


@pytest.mark.parametrize("bad", [np.nan, 2.0, -0.1, np.inf])
def test_errors_outside_0_to_1_are_refused(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        against_rest([np.arange(4) < 2], np.array([0, 1, 0, bad]))


# False discoveries


@runs(60, "slices")
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_without_a_planted_slice_hardly_anything_is_confirmed(rate, runs):
    false = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        false += judge(draw_groups(300, rng), (rng.random(300) < rate).astype(float), q=0.1)["confirmed"].any()
    assert meets(false, runs, 0, 0.1)


@runs(60, "slices")
def test_nor_where_a_finder_chose_the_worst_of_what_it_saw(runs):
    false, chosen, same_half = 0, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        error = (rng.random(600) < 0.15).astype(float)
        groups = np.array(draw_groups(600, rng))
        seen = np.arange(600) < 300
        worst = np.argsort([-error[seen & g].mean() if (seen & g).sum() > 9 else 0 for g in groups])[:15]
        false += judge(groups[worst][:, ~seen], error[~seen])["confirmed"].any()
        same_half += judge(groups[worst][:, seen], error[seen])["confirmed"].any()
        chosen += len(worst)
    assert chosen == 15 * runs
    assert meets(false, runs, 0, 0.1)
    assert same_half / runs > 0.2  # judged on the images they were chosen on, chance looks like a finding


@runs(60, "slices")
def test_with_a_planted_slice_few_of_those_confirmed_are_false(runs):
    shares, planted = [], TRIED.index((("light", "dim"), ("metal", "tin")))
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        groups = draw_groups(750, rng)
        error = (rng.random(750) < np.where(groups[planted], 0.45, 0.1)).astype(float)
        hit = np.flatnonzero(judge(groups, error)["confirmed"])
        false = [not (groups[i] & groups[planted]).any() for i in hit]  # what shares images with it is weak in truth
        shares.append(np.mean(false) if len(hit) else 0)
    assert np.mean(shares) <= 0.1 + 2 * np.std(shares) / np.sqrt(runs)


@runs(60, "slices")
def test_images_filmed_four_times_are_not_four_images(runs):
    false = {"with": 0, "without": 0}
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        part = np.repeat(np.arange(75), 4)
        error = (rng.random(75) < 0.2).astype(float)[part] * (rng.random(300) < 0.9)
        groups = [(part * 7) % 11 == k for k in range(11)]
        false["with"] += judge(groups, error, part.astype(str))["confirmed"].any()
        false["without"] += judge(groups, error)["confirmed"].any()
    assert meets(false["with"], runs, 0, 0.1)
    assert false["without"] / runs > 0.2


# Intervals


@pytest.mark.parametrize(
    ("n", "rest", "share", "rest_share"),
    [
        (10, 200, 0.4, 0.1),
        (15, 500, 0.3, 0.05),
        (30, 2000, 0.2, 0.1),
        (50, 500, 0.3, 0.2),
        (400, 100, 0.2, 0.1),
        (20, 2000, 0.02, 0.02),
    ],
)
def test_the_interval_of_a_difference_covers(n, rest, share, rest_share):
    rng = np.random.default_rng(n)
    a, b = rng.binomial(n, share, 8000) / n, rng.binomial(rest, rest_share, 8000) / rest
    low, high = difference_interval(a, b, np.full(8000, n), np.full(8000, rest))
    assert 0.93 <= ((low <= share - rest_share) & (share - rest_share <= high)).mean() <= 0.97


@runs(100, "slices")
@pytest.mark.parametrize("share", [0.25, 0.35, 0.6])  # of low, middling and high power
def test_intervals_of_confirmed_slices_cover(share, runs):
    covered, plain, total = 0, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        groups = draw_groups(450, rng)
        chance = np.where(groups[12 + seed % 40], share, 0.1)
        found = judge(groups, (rng.random(450) < chance).astype(float))
        shown = found[found["confirmed"]]
        truth = np.array([chance[groups[i]].mean() - chance[~groups[i]].mean() for i in shown.index])
        covered += ((shown["low"] <= truth) & (truth <= shown["high"])).sum()
        low, high = difference_interval(shown["error"], shown["rest_error"], shown["n"], shown["rest"])
        plain += ((low <= truth) & (truth <= high)).sum()
        total += len(shown)
    assert total > runs / 3
    assert meets(covered, total, 0.93, 0.97), covered / total
    assert share > 0.5 or plain / total < 0.93  # why ordinary intervals would not do


@runs(100, "slices")
def test_intervals_of_a_loss_and_of_groups_cover(runs):
    hits = {"loss": 0, "groups": 0}
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        inside, part = np.arange(800) < 80, np.arange(800) // 4
        loss = np.where(inside, rng.beta(2, 3, 800), rng.beta(1, 6, 800))
        level = np.where(inside, 0.4, 1 / 7)
        for kind, error, truth in (
            ("loss", loss, 0.4 - 1 / 7),
            ("groups", ((rng.random(200)[part] < level) & (rng.random(800) < 0.9)).astype(float), 0.9 * (0.4 - 1 / 7)),
        ):
            row = against_rest([inside], error, part.astype(str) if kind == "groups" else None).iloc[0]
            low, high = difference_interval(row["error"], row["rest_error"], row["weight"], row["rest_weight"])
            hits[kind] += low <= truth <= high
    assert meets(hits["loss"], runs, 0.93, 0.97), hits
    assert meets(hits["groups"], runs, 0.93, 0.97), hits


ALIKE = np.repeat(np.arange(40), 15)  # images of a group are all wrong or all right


def draw_alike(share, rest_share, rng, groups=4):
    return (rng.random(40) < np.where(np.arange(40) < groups, share, rest_share))[ALIKE].astype(float)


@pytest.mark.parametrize(("right", "elsewhere"), [(0, 0), (0, 7), (1, 7)])
def test_four_groups_that_are_alike_count_as_four_even_where_all_their_images_are_wrong(right, elsewhere):
    error = np.where(ALIKE < 4, 1.0, np.isin(ALIKE, np.arange(4, 4 + elsewhere)))
    error[:right] = 0
    row = against_rest([ALIKE < 4], error, ALIKE.astype(str)).iloc[0]
    assert row["weight"] == pytest.approx(4, abs=0.1) and row["rest_weight"] == pytest.approx(36, abs=1)


@runs(100, "slices")
@pytest.mark.parametrize(("share", "rest_share"), [(0.8, 0.2), (0.2, 0.2), (0.5, 0.5)])
def test_intervals_of_few_groups_that_are_alike_cover(share, rest_share, runs):
    covered = 0
    for seed in range(runs):
        error = draw_alike(share, rest_share, np.random.default_rng(seed))
        row = against_rest([ALIKE < 4], error, ALIKE.astype(str)).iloc[0]
        low, high = difference_interval(row["error"], row["rest_error"], row["weight"], row["rest_weight"])
        covered += low <= share - rest_share <= high
    assert meets(covered, runs, 0.93, 0.97), covered / runs


@pytest.mark.parametrize("level", [95, 1, 0, -1, np.nan])
def test_a_level_that_is_no_confidence_is_refused(level):
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        difference_interval(0.4, 0.1, 30, 1000, level)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        judge([np.arange(100) < 30], (np.arange(100) % 3 == 0).astype(float), level=level)


# Merging, power, rules


def test_the_planted_conjunction_explains_its_neighbours_and_a_second_slice_stays():
    table, rng = make_table(6000, 1)
    one = find_rows(Candidate("light == 'dim' and metal == 'steel'"), table)
    two = find_rows(Candidate("line == 'E'"), table)
    error = (rng.random(6000) < np.where(one, 0.45, np.where(two, 0.25, 0.1))).astype(float)
    tried = CANDIDATES
    found = confirm(tried, table, error, split_halves(table))
    kept = [i for i in found.index if found["confirmed"][i]]
    held = split_halves(table)
    groups = merge(
        [find_rows(tried[i], table)[held] for i in kept],
        error[held],
        [1 + tried[i].where.count(" and ") for i in kept],
        0.001,
    )
    names = [tried[kept[k]].where for k, _ in groups]
    assert set(names) == {"light == 'dim' and metal == 'steel'", "line == 'E'"}
    assert sorted(i for k, absorbed in groups for i in (k, *absorbed)) == list(range(len(kept)))


def test_the_stated_power_is_what_is_found():
    n, rest, mean, tried = 60, 540, 0.1, 40
    effect = smallest_effect(n, rest, mean, tried)
    rng = np.random.default_rng(0)
    k, other = rng.binomial(n, mean + effect, 4000), rng.binomial(rest, mean, 4000)
    p = stats.hypergeom.sf(k, 600, k + other, n) + stats.hypergeom.pmf(k, 600, k + other, n) / 2
    assert 0.74 < (p <= 0.1 / tried).mean() < 0.86
    assert np.isnan(smallest_effect(2, 600, 0.1, 500))


def test_a_region_without_embeddings_knows_its_images_by_id():
    table = pd.DataFrame({"sample_id": ["a", "b", "c"]})
    assert find_rows(Slice("r", ids=("b",), region={"threshold": 0}), table).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="region in embedding space"):
        find_rows(Slice("r", region={"threshold": 0}), table)
    with pytest.raises(ValueError, match="2 embeddings for 3 rows"):
        find_rows(Slice("r", region={"threshold": 0}), table, np.zeros((2, 4)))
    for ask in (find_rows, lambda c, t: confirm([c], t, np.zeros(3), np.ones(3, bool))):
        with pytest.raises(ValueError, match="none were given. Pass embeddings"):
            ask(Candidate(region={"threshold": 0}), table)


def test_nothing_tried_is_no_error():
    table, _ = make_table(50, 0)
    found = confirm([], table, np.zeros(50), split_halves(table))
    assert len(found) == 0 and "confirmed" in found
