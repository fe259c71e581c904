"The conjunctions found are the best there are, and their text says exactly which rows are meant"

import datetime
from decimal import Decimal
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbench.core.inspection import make_inspection, weak_slice_rule
from cvbench.evaluation.select import match_rows
from cvbench.slices._lattice import rows_of, sliceline
from cvbench.slices.rule_search import _OWN, ConditionFinder, describe_region, find_conditions, read_columns
from cvbench.slices.slice import Finder

texts = st.text(max_size=8) | st.sampled_from(["dim", "it's", 'a"b', "a`b", "\\", "\\`", "\0", "<b>", "None", "ö", ""])
names = st.text(min_size=1, max_size=8) | st.sampled_from(
    ["class", "a b", "__column0__", "1st", "ﬁ", "in", "x-y", "None"]
)
names = names.filter(lambda name: name not in (*_OWN, "pred"))  # an evaluation's own columns are passed over


def columns_of(n: int):
    few = st.sampled_from
    cells = {
        "text": few(["a", "b", "it's", "a`b`c"]) | st.none(),
        "any": few(["a", 1, True, 0.5, None]),
        "number": few([0.0, -1.5, 2.0, np.nan, np.inf, 1e300]) | st.floats(-3, 3, width=32),
        "whole": st.integers(-3, 3),
        "flag": st.booleans(),
        "list": st.lists(few(["x", "y", "z"]), max_size=3) | st.none(),
        "time": st.datetimes(datetime.datetime(2020, 1, 1), datetime.datetime(2026, 1, 1)) | st.none(),
    }
    return st.one_of([st.lists(v, min_size=n, max_size=n).map(lambda x, k=k: _series(k, x)) for k, v in cells.items()])


def _series(kind: str, values: list) -> pd.Series:
    dtype = {"time": "datetime64[ns]", "any": object, "list": object, "number": float}.get(kind)
    return pd.Series(values, dtype=dtype)


@st.composite
def tables(draw):
    n = draw(st.integers(1, 30))
    named = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    return pd.DataFrame({name: draw(columns_of(n)) for name in named})


def brute(table: pd.DataFrame, error: np.ndarray, k: int, depth: int, alpha: float, min_size: int, **options) -> list:
    "Scores of all conjunctions, best first, one at a time"
    columns, _ = read_columns(table, min_size=min_size, **options)
    n, out = len(error), []
    for d in range(1, depth + 1):
        for places in combinations(range(len(columns)), d):
            if len({columns[p].group for p in places}) < d:
                continue
            for chosen in product(*(range(len(columns[p].texts)) for p in places)):
                rows = np.logical_and.reduce([columns[p].rows(c) for p, c in zip(places, chosen, strict=True)])
                if (size := rows.sum()) >= min_size:
                    score = alpha * (error[rows].mean() / error.mean() - 1) - (1 - alpha) * (n / size - 1)
                    out += [score] if score > 1e-9 else []
    return sorted(out, reverse=True)[:k]


def test_the_columns_of_an_evaluation_are_passed_over_unless_asked_for():
    table = pd.DataFrame({"slice": list("aabb"), "light": list("abab")})
    assert [c.group for c in read_columns(table, min_size=1)[0]] == ["light"]
    assert [c.group for c in read_columns(table, ["slice"], min_size=1)[0]] == ["slice"]


@settings(max_examples=150, deadline=None)
@given(tables(), st.data())
def test_every_condition_holds_for_the_rows_it_was_counted_on(table, data):
    size = data.draw(st.integers(1, 4))
    columns, why = read_columns(table, bins=data.draw(st.integers(2, 5)), min_size=size)
    assert len(columns) + len(why) == table.shape[1]
    for c in columns:
        for i, text in enumerate(c.texts):
            rows = c.rows(i)
            assert size <= rows.sum() < len(table)
            np.testing.assert_array_equal(rows, match_rows(table, text), text)


@settings(max_examples=150, deadline=None)
@given(tables(), st.data())
def test_the_best_are_those_that_brute_force_finds(table, data):
    value = data.draw(st.sampled_from([st.sampled_from([0.0, 1.0]), st.floats(0, 1)]))
    error = np.array(data.draw(st.lists(value, min_size=len(table), max_size=len(table))))
    how = {"k": data.draw(st.integers(1, 12)), "alpha": data.draw(st.sampled_from([0.5, 0.95, 1.0]))}
    how["min_size"] = data.draw(st.integers(1, 4))
    depth = data.draw(st.integers(1, 3))
    found = find_conditions(table, error, max_conditions=depth, bins=3, **how)
    wanted = brute(table, error, depth=depth, bins=3, **how) if error.any() else []
    np.testing.assert_allclose(found["score"], wanted, atol=1e-9)
    for row in found.itertuples():
        rows = match_rows(table, row.where)
        assert rows.sum() == row.n
        assert error[rows].mean() == pytest.approx(row.error)
    assert found["where"].is_unique


# What sliceline 0.3.0 from PyPI finds in the tables of `draw` with alpha=0.95, k=6, max_l=3, min_sup=10
ORACLE = [
    [("c1 == 'v1' and c3 == 'v2'", 41, 1.995016), ("c0 == 'v0' and c1 == 'v1' and c3 == 'v2'", 23, 1.566919),
     ("c1 == 'v1' and c2 == 'v3' and c3 == 'v2'", 11, 0.878656), ("c0 == 'v1' and c1 == 'v1' and c3 == 'v2'", 18, 0.875362),
     ("c3 == 'v2'", 112, 0.436374), ("c1 == 'v1' and c2 == 'v0' and c3 == 'v2'", 15, 0.404348)],
    [("c1 == 'v1' and c3 == 'v2'", 42, 2.373196), ("c0 == 'v0' and c1 == 'v1' and c3 == 'v2'", 21, 2.288513),
     ("c1 == 'v1' and c2 == 'v3' and c3 == 'v2'", 14, 1.364359), ("c1 == 'v1' and c2 == 'v0' and c3 == 'v2'", 15, 1.213402),
     ("c0 == 'v1' and c1 == 'v1' and c3 == 'v2'", 21, 1.029308), ("c0 == 'v0' and c3 == 'v2'", 57, 0.738633)],
    [("c1 == 'v1' and c3 == 'v2'", 42, 2.909524), ("c0 == 'v0' and c1 == 'v1' and c3 == 'v2'", 16, 2.204839),
     ("c0 == 'v1' and c1 == 'v1' and c3 == 'v2'", 26, 2.18933), ("c1 == 'v1' and c2 == 'v1' and c3 == 'v2'", 15, 1.594624),
     ("c1 == 'v1' and c2 == 'v2' and c3 == 'v2'", 12, 1.196774), ("c3 == 'v2'", 123, 1.048597)],
    [("c0 == 'v0' and c1 == 'v1' and c3 == 'v2'", 21, 2.373341), ("c1 == 'v1' and c2 == 'v0' and c3 == 'v2'", 13, 2.316233),
     ("c1 == 'v1' and c3 == 'v2'", 43, 1.84675), ("c0 == 'v0' and c2 == 'v0' and c3 == 'v2'", 22, 1.102505),
     ("c2 == 'v0' and c3 == 'v2'", 37, 1.018493), ("c0 == 'v0' and c1 == 'v1' and c2 == 'v0'", 25, 0.772441)],
]  # fmt: skip


def draw(seed: int, n: int = 600) -> tuple[pd.DataFrame, np.ndarray]:
    "Five columns of names with a planted pair; odd seeds give losses from 0.25 to 1 instead of errors"
    rng = np.random.default_rng(seed)
    table = {f"c{i}": rng.integers(0, k, n) for i, k in enumerate((2, 3, 4, 5, 7))}
    weak = (table["c1"] == 1) & (table["c3"] == 2)
    error = (rng.random(n) < np.where(weak, 0.6, 0.1)).astype(float)
    if seed % 2:
        error = error * rng.integers(1, 5, n) / 4
    return pd.DataFrame(table).map(lambda v: f"v{v}"), error


@pytest.mark.parametrize("seed", range(4))
def test_same_slices_as_the_package_sliceline(seed):
    table, error = draw(seed)
    found = find_conditions(table, error, k=6, alpha=0.95, min_size=10)
    assert [(r.where, r.n, round(r.score, 6)) for r in found.itertuples()] == ORACLE[seed]


@given(st.floats(0.01, 5), st.integers(1, 20), st.floats(0.1, 1), st.data())
def test_no_subset_scores_more_than_the_bound(mean, min_size, alpha, data):
    error = np.array(data.draw(st.lists(st.floats(0, 5), min_size=min_size, max_size=30)))
    score, bound = sliceline(100, mean, 5.0, min_size, alpha)
    worst = np.sort(error)[::-1].cumsum()
    best = max(score(t, worst[t - 1]) for t in range(min_size, len(error) + 1))
    assert best <= bound(len(error), error.sum()) + 1e-9


def planted(n: int = 2000, seed: int = 0, rate: float = 0.5) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "sample_id": [f"{i:05d}" for i in range(n)],
            "target": rng.choice(["crack", "dent", "ok"], n),
            "material": rng.choice(["steel", "brass", "plastic"], n),
            "light": rng.choice(["normal", "bright", "dim"], n),
            "camera": rng.choice(["A", "B", "C"], n),
            "blur": rng.gamma(2, 1, n),
            "serial": [f"R{i:05d}" for i in range(n)],
            "row": np.arange(n),
            "taken": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.uniform(0, 180, n), "D"),
        }
    )
    weak = match_rows(table, weak_slice_rule)
    return table, weak, (rng.random(n) < np.where(weak, rate, 0.08)).astype(float)


def test_the_planted_group_is_found_and_said_in_its_own_words():
    table, _, error = planted()
    finder = ConditionFinder().fit(table, None, error)
    assert isinstance(finder, Finder)
    assert finder.candidates_[0].where == weak_slice_rule
    assert finder.candidates_[0].found_by == "conditions"
    assert finder.skipped_.keys() == {"serial", "row"}


def test_on_the_clean_twin_the_rule_is_not_found():
    found = [
        len(ConditionFinder().fit(t, None, e).candidates_) for t, _, e in (planted(seed=s, rate=0.08) for s in range(8))
    ]
    table, _, error = planted(rate=0.08)
    assert weak_slice_rule not in [c.where for c in ConditionFinder().fit(table, None, error).candidates_]
    assert np.mean(found) <= 5


def test_a_range_and_a_time_are_found_with_readable_edges():
    table, _, _ = planted(4000)
    weak = (table["blur"] >= 3) & (table["taken"] >= "2026-05-01")
    error = np.random.default_rng(1).random(4000) < np.where(weak, 0.6, 0.08)
    where = ConditionFinder().fit(table, None, error).candidates_[0].where
    rows = match_rows(table, where)
    assert (rows & weak).sum() / (rows | weak).sum() > 0.75
    assert len(where) < 60, where


def test_several_groups_are_found_once_each():
    table, _, _ = planted(6000)
    rules = [weak_slice_rule, "camera == 'B' and blur >= 4", "target == 'dent' and light == 'bright'"]
    rate = np.select([match_rows(table, r) for r in rules], [0.6, 0.5, 0.4], 0.08)
    error = (np.random.default_rng(2).random(6000) < rate).astype(float)
    found = [match_rows(table, c.where) for c in ConditionFinder().fit(table, None, error).candidates_]
    for rule in rules:
        truth = match_rows(table, rule)
        assert sum((f & truth).sum() / (f | truth).sum() > 0.6 for f in found) == 1, rule
    assert len(found) <= 8


def test_target_and_pred_are_asked_for_and_never_meet():
    table, _, error = planted()
    table["pred"] = np.where(error > 0, "ok", table["target"])
    both = find_conditions(table, error, k=200, alpha=1, target=True, pred=True)["where"]
    assert both.str.contains("pred").any()
    assert not both.str.contains("target.*pred|pred.*target").any()
    neither = find_conditions(table, error, k=200, alpha=1, target=False)["where"]
    assert not neither.str.contains("target|pred").any()


def test_labels_in_lists_are_conditions():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"target": [list(rng.choice(list("abcd"), rng.integers(0, 4), False)) for _ in range(800)]})
    table["light"] = rng.choice(["dim", "bright"], 800)
    weak = match_rows(table, "'b' in target and light == 'dim'")
    error = (rng.random(800) < np.where(weak, 0.7, 0.1)).astype(float)
    assert ConditionFinder().fit(table, None, error).candidates_[0].where == "'b' in target and light == 'dim'"


@pytest.mark.parametrize("dtype", [object, "str", "category", "Int64", "boolean", "float32", "datetime64[ns]"])
def test_missing_values_are_a_group(dtype):
    values = {
        "Int64": [1, 2],
        "boolean": [True, False],
        "float32": [1.5, 2.5],
        "datetime64[ns]": ["2026-01-01", "2026-02-01"],
    }
    value = [*(values.get(dtype, ["x", "y"]) * 40), *[None] * 20]
    table = pd.DataFrame({"c": pd.Series(value, dtype=dtype)})
    (column,), _ = read_columns(table)
    groups = [column.rows(i) for i in range(len(column.texts))]
    assert any((g == table["c"].isna()).all() for g in groups)
    for g, text in zip(groups, column.texts, strict=True):
        np.testing.assert_array_equal(g, match_rows(table, text))
    error = table["c"].isna().to_numpy(float)
    assert len(find_conditions(table, error)) == 1


def test_ten_thousand_names_and_other_columns_that_say_nothing():
    n = 20_000
    table = pd.DataFrame(
        {
            "many": [f"name{i % 10_000}" for i in range(n)],
            "id": np.arange(n),
            "constant": "same",
            "empty": None,
            "nan": np.nan,
            "infinite": np.inf,
            "dict": [{"a": 1}] * n,
            "long": ["x" * 10_000, "y" * 10_000] * (n // 2),
            "a`b": ["x", "y"] * (n // 2),
            7: ["x", "y"] * (n // 2),
            "gap": pd.to_timedelta(np.arange(n), "s"),
            "day": [datetime.date(2026, 1, 1 + i % 9) for i in range(n)],
            "money": [Decimal(i % 3) for i in range(n)],
            "imaginary": np.arange(n) * 1j,
            "mixed": [["a"], "a"] * (n // 2),
        }
    )
    table = pd.concat([table, table[["constant"]].rename(columns={"constant": "twice"})], axis=1)
    table = pd.concat([table, table[["twice"]]], axis=1)
    columns, why = read_columns(table)
    assert columns == []
    assert set(why) == {*map(str, table.columns)}
    assert find_conditions(table, np.arange(n) % 2).empty
    assert ConditionFinder().fit(table, None, np.arange(n) % 2).candidates_ == []


def test_running_numbers_are_used_when_asked_for():
    table = pd.DataFrame({"track": np.random.default_rng(0).permutation(3000)[:600]})
    assert read_columns(table)[0] == []
    assert len(read_columns(table, ["track"])[0]) == 1
    sizes = pd.DataFrame({"bytes": np.random.default_rng(0).lognormal(9, 1, 600).astype(int)})
    assert len(read_columns(sizes)[0]) == 1


@pytest.mark.parametrize("error", [0.0, 1.0, 0.3])
def test_the_same_error_everywhere_is_no_weakness(error):
    table, _, _ = planted(300)
    assert find_conditions(table, np.full(300, error)).empty
    assert ConditionFinder().fit(table, None, np.full(300, error)).candidates_ == []


def test_empty_tables():
    table, _, _ = planted(10)
    assert find_conditions(table[:0], np.zeros(0)).empty
    assert ConditionFinder().fit(table[:0], None, np.zeros(0)).candidates_ == []
    assert find_conditions(table[:1], np.ones(1)).empty


def test_the_index_of_the_table_does_not_matter():
    table, _, error = planted(500)
    odd = pd.concat([table[:250], table[250:].reset_index(drop=True)])
    pd.testing.assert_frame_equal(find_conditions(odd, error), find_conditions(table, error))


def test_scaling_the_error_changes_nothing():
    table, _, error = planted(800)
    pd.testing.assert_series_equal(
        find_conditions(table, error * 0.125)["where"], find_conditions(table, error)["where"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"error": np.zeros(3)}, "one number for each of the 50 rows"),
        ({"error": np.full(50, np.nan)}, "not finite"),
        ({"error": np.full(50, -1.0)}, "negative"),
        ({"k": 0}, "at least 1"),
        ({"min_size": 0}, "at least 1"),
        ({"alpha": 0}, "alpha must be"),
        ({"max_conditions": 4}, "1, 2 or 3"),
        ({"columns": ["lihgt"]}, "lihgt.*material"),
        ({"bins": 1}, "bins"),
    ],
)
def test_wrong_use_is_told(change, message):
    table, _, error = planted(50)
    with pytest.raises(ValueError, match=message):
        find_conditions(table, **{"error": error, **change})


def test_a_cluster_is_described_and_random_rows_are_not():
    table, weak, _ = planted()
    rng = np.random.default_rng(0)
    rule = describe_region(weak & (rng.random(len(weak)) < 0.9), table)
    assert (rule.where, rule.recall) == (weak_slice_rule, 1.0)
    assert rule.precision == pytest.approx(0.9, abs=0.05)
    assert rule.f1 == pytest.approx(2 * rule.precision / (1 + rule.precision))
    assert rule.n == weak.sum()
    assert describe_region(rng.random(len(weak)) < 0.1, table).f1 < 0.3


@settings(max_examples=60, deadline=None)
@given(tables(), st.data())
def test_the_rule_of_a_cluster_has_the_best_f1(table, data):
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(table), max_size=len(table))))
    if not mask.any():
        return
    rule = describe_region(mask, table, bins=3, gain=0.0, max_conditions=2)
    columns, _ = read_columns(table, bins=3, min_size=max(1, min(10, int(mask.sum()) // 4)))
    conditions = [[(p, i) for i in range(len(c.texts))] for p, c in enumerate(columns)]
    pairs = [
        x
        for a, b in combinations(conditions, 2)
        for x in product(a, b)
        if columns[x[0][0]].group != columns[x[1][0]].group
    ]
    rows = [rows_of(columns, x) for x in [*[(c,) for own in conditions for c in own], *pairs]]
    best = max((2 * (mask & r).sum() / (mask.sum() + r.sum()) for r in rows), default=0.0)
    assert (rule.f1 if rule else 0.0) == pytest.approx(best)
    if rule:
        found = match_rows(table, rule.where)
        assert rule.f1 == pytest.approx(2 * (mask & found).sum() / (mask.sum() + found.sum()))


def test_the_weak_slice_of_the_embedded_images_is_named():
    samples = [s for s in make_inspection(1200, size=64, frames=1, workers=2) if s.split == "test"]
    table = pd.DataFrame([{"sample_id": s.uri, "target": s.target.labels[0], **s.meta} for s in samples])
    weak = match_rows(table, weak_slice_rule)
    error = (np.random.default_rng(0).random(len(table)) < np.where(weak, 0.5, 0.08)).astype(float)
    finder = ConditionFinder().fit(table, None, error)
    assert finder.candidates_[0].where == weak_slice_rule
    assert "running number" in finder.skipped_["track"]
