"""Splits: stable under growth, whole groups, right proportions, whatever the data."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbench.data.splits import assign_splits

NAMES = st.sampled_from(["a", "b", "c", "d"])
ROWS = st.lists(
    st.tuples(
        st.lists(NAMES, max_size=3), st.integers(0, 9) | st.none(), st.sampled_from([None, None, "train", "test"])
    ),
    min_size=1,
    max_size=60,
)


def ids_of(n, start=0):
    return [f"{i:020x}" for i in range(start, start + n)]


@settings(max_examples=150, deadline=None)
@given(ROWS, ROWS, st.integers(0, 5), st.booleans())
def test_growth_moves_nobody(first, more, seed, grouped):
    rows = first + more
    ids = ids_of(len(rows))
    labels = [r[0] for r in rows]
    groups = [r[1] for r in rows] if grouped else None
    n = len(first)
    old = assign_splits(ids[:n], labels[:n], groups and groups[:n], seed=seed)
    relabelled = [["d"] if i % 7 == 0 else x for i, x in enumerate(labels)]
    new = assign_splits(ids, relabelled, groups, known=dict(zip(ids, old, strict=False)), seed=seed)
    assert new[:n] == old


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_groups_stay_whole_and_order_does_not_matter(rows, seed, random):
    ids = ids_of(len(rows))
    groups = [r[1] for r in rows]
    splits = assign_splits(ids, [r[0] for r in rows], groups, seed=seed)
    by_group = {}
    for g, s in zip(groups, splits, strict=True):
        if g is not None:
            by_group.setdefault(g, set()).add(s)
    assert all(len(s) == 1 for s in by_group.values())
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = assign_splits(
        [ids[i] for i in order], [rows[i][0] for i in order], [groups[i] for i in order], seed=seed
    )
    assert shuffled == [splits[i] for i in order]


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_the_sources_own_splits_stay(rows):
    ids = ids_of(len(rows))
    given_splits = [r[2] for r in rows]
    splits = assign_splits(ids, [r[0] for r in rows], splits=given_splits)
    assert all(new == old for new, old in zip(splits, given_splits, strict=True) if old == "test")
    assert all(new in ("train", "val", "test") for new in splits)
    if "test" in given_splits:
        assert all(new in ("train", "val") for new, old in zip(splits, given_splits, strict=True) if old == "train")


@pytest.mark.parametrize("sizes", [{"a": 500, "b": 100, "c": 20, "d": 7}, {"a": 12, "b": 11, "c": 10}])
@pytest.mark.parametrize("seed", range(5))
def test_each_class_has_its_share(sizes, seed):
    labels = [[c] for c, n in sizes.items() for _ in range(n)]
    splits = assign_splits(ids_of(len(labels)), labels, seed=seed)
    counts = Counter((x[0], s) for x, s in zip(labels, splits, strict=True))
    for c, n in sizes.items():
        for s, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert abs(counts[c, s] - share * n) <= 1
    total = Counter(splits)
    assert abs(total["val"] - total["test"]) <= 2


def test_many_tiny_classes_leave_no_split_empty():
    for per_class in (1, 2, 3):
        labels = [[f"c{i // per_class}"] for i in range(200)]
        counts = Counter(assign_splits(ids_of(200), labels))
        assert set(counts) == {"train", "val", "test"}
        assert counts["train"] >= 100


def test_three_images_of_a_class_train_at_least_one():
    labels = [["a"]] * 50 + [["b"]] * 3
    splits = assign_splits(ids_of(53), labels)
    assert "train" in splits[50:]


def test_seed_changes_and_repeats():
    ids = ids_of(100)
    assert assign_splits(ids, seed=1) == assign_splits(ids, seed=1) != assign_splits(ids, seed=2)


def test_new_images_of_a_known_group_join_it():
    ids = ids_of(40)
    old = assign_splits(ids[:20], groups=[i // 4 for i in range(20)])
    new = assign_splits(ids, groups=[i % 20 // 4 for i in range(40)], known=dict(zip(ids, old, strict=False)))
    assert new == old + old


def test_growth_without_memory_moves_few():
    "The queue depends on the hash alone, so even without an earlier version most images stay"
    ids = ids_of(2000)
    old, new = assign_splits(ids[:1500]), assign_splits(ids)
    assert np.mean([a == b for a, b in zip(old, new, strict=False)]) > 0.95


def test_a_val_split_is_carved_from_train_only():
    given_splits = ["train"] * 85 + ["test"] * 15
    splits = assign_splits(ids_of(100), [["a"], ["b"]] * 50, splits=given_splits)
    assert Counter(splits) == {"train": 70, "val": 15, "test": 15}
    untouched = assign_splits(ids_of(100), splits=["train"] * 50 + ["val"] * 20 + ["test"] * 30)
    assert Counter(untouched) == {"train": 50, "val": 20, "test": 30}


def test_bad_use():
    with pytest.raises(ValueError, match="unique ids"):
        assign_splits(["a", "a"])
    with pytest.raises(ValueError, match="one label, group and split for each"):
        assign_splits(["a", "b"], labels=[["x"]])
    with pytest.raises(ValueError, match="split apart already"):
        assign_splits(["a", "b", "c"], groups=[1, 1, 2], splits=["train", "test", "val"])
