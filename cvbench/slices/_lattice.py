"""Exact top-k search over conjunctions of up to three conditions, at most one per column.

Every column is cut into codes, and every condition is a range of codes. So the sizes and errors of all conjunctions over
the same columns are sums over one table of counts. A table takes one pass over the rows, for any number of conditions.
The counts of one level bound the scores of all deeper levels (Sagadeeva & Boehm, SIGMOD 2021). Columns and conditions that
cannot reach the k-th best score are left out of the next level. Sets of columns are visited in the order of their bounds,
so the search stops at the first set that cannot reach it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

Rule = Callable[[Any, Any], Any]  # (sizes, errors) → scores, or bounds of the scores of all subsets


@dataclass(frozen=True, eq=False)
class Column:
    "One column as codes, and its conditions"

    codes: np.ndarray  # (n,) int64 from 0 to `width` − 1
    width: int
    low: np.ndarray  # (conditions,) first code of each condition
    high: np.ndarray  # (conditions,) last code of each condition, plus 1
    texts: tuple[str, ...]  # Each condition in the syntax of `match_rows`
    group: str  # A conjunction has at most one column of a group
    n: int  # Number of rows
    index: np.ndarray | None = None  # Row of each code, if a row may have several codes

    @cached_property
    def ranges(self) -> np.ndarray:  # (conditions, width) 0/1
        codes = np.arange(self.width)
        return ((codes >= self.low[:, None]) & (codes < self.high[:, None])).astype(float)

    @cached_property
    def single(self) -> bool:
        "Whether every condition spans a single code"
        return bool((self.high - self.low == 1).all())

    def rows(self, condition: int) -> np.ndarray:  # (n,) bool
        inside = (self.codes >= self.low[condition]) & (self.codes < self.high[condition])
        if self.index is None:
            return inside
        rows = np.zeros(self.n, bool)
        rows[self.index[inside]] = True
        return rows


class Found(NamedTuple):
    "One conjunction"

    score: float
    size: float  # Number of rows
    error: float  # Sum of the error over its rows
    conditions: tuple[tuple[int, int], ...]  # (index of the column, index of the condition in it), columns ascending


class _Top:
    "The best conjunctions so far; with equal scores the shorter first, then the earlier"

    def __init__(self, k: int, floor: float):
        self.k, self.least, self.found = k, floor, list[Found]()

    def add(self, score: np.ndarray, size: np.ndarray, error: np.ndarray, places, chosen) -> None:
        flat = score.ravel()
        pick = np.flatnonzero(flat > self.least)
        if not len(pick):
            return
        pick = pick[np.argsort(-flat[pick], kind="stable")[: self.k]]
        for i, *at in zip(pick, *np.unravel_index(pick, score.shape), strict=True):
            conditions = tuple((p, int(own[a])) for p, own, a in zip(places, chosen, at, strict=True))
            self.found.append(Found(float(flat[i]), float(size.flat[i]), float(error.flat[i]), conditions))
        self.found = sorted(self.found, key=lambda f: (-f.score, len(f.conditions)))[: self.k]
        if len(self.found) == self.k:
            self.least = self.found[-1].score


class Lattice:
    "The columns of a table, with the error of its rows"

    def __init__(self, columns: Sequence[Column], error: np.ndarray):  # error: (n,), not negative
        self.columns = list(columns)
        wrong = error > 0
        place, values = np.cumsum(wrong) - 1, error[wrong]
        self.weights = None if (values == 1).all() else values
        self.codes = (
            [c.codes for c in columns],
            [c.codes[wrong if c.index is None else wrong[c.index]] for c in columns],
        )
        lists = [None if c.index is None else place[c.index[wrong[c.index]]] for c in columns]
        self.index = [c.index for c in columns], lists

    def count(self, places: Sequence[int], chosen: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        "Number of rows and summed error of each conjunction of the chosen conditions, one axis per column"
        shape = [self.columns[p].width for p in places]
        out = []
        for codes, index, weights in zip(self.codes, self.index, (None, self.weights), strict=True):
            spread = next((index[p] for p in places if index[p] is not None), None)
            key: np.ndarray | int = 0
            for p, width in zip(places, shape, strict=True):
                key = key * width + (codes[p] if spread is None or index[p] is not None else codes[p][spread])
            each = weights if weights is None or spread is None else weights[spread]
            table = np.bincount(key, each, int(np.prod(shape))).astype(float).reshape(shape)
            out.append(self._sum(table, places, chosen))
        return out[0], out[1]

    def _sum(self, table: np.ndarray, places: Sequence[int], chosen: Sequence[np.ndarray]) -> np.ndarray:
        "Convert counts by code to counts by condition, axis by axis"
        for axis, (p, own) in enumerate(zip(places, chosen, strict=True)):
            column = self.columns[p]
            if column.single:
                table = table.take(column.low[own], axis)
            else:
                table = np.moveaxis(np.tensordot(column.ranges[own], table, (1, axis)), 0, axis)
        return table

    def search(
        self,
        k: int,
        depth: int,  # Maximum number of conditions in a conjunction, up to three
        min_size: int,
        score: Rule,
        bound: Rule,
        floor: float = 1e-9,  # Conjunctions must score more
    ) -> list[Found]:
        "The k best conjunctions, best first"
        top, bounds = _Top(k, floor), dict[tuple[int, ...], np.ndarray]()
        reach: dict[tuple[int, ...], float] = {
            (): np.inf
        }  # for a set of columns: bound on the score of conjunctions over them and others
        for level in range(1, depth + 1):
            for limit, places in sorted(self._sets(level, reach, top.least), key=lambda s: -s[0]):
                chosen = self._alive(places, bounds, top.least)
                if limit <= top.least or not all(map(len, chosen)):
                    continue
                size, error = self.count(places, chosen)
                there = size >= max(min_size, 1)
                with np.errstate(divide="ignore", invalid="ignore"):
                    top.add(np.where(there, score(size, error), -np.inf), size, error, places, chosen)
                    if level < depth:
                        whole = np.full([len(self.columns[p].low) for p in places], -np.inf)
                        whole[np.ix_(*chosen)] = np.where(there & (error > 0), bound(size, error), -np.inf)
                        bounds[places], reach[places] = whole, float(whole.max())
        return top.found

    def _sets(self, level: int, reach: dict, least: float) -> Iterator[tuple[float, tuple[int, ...]]]:
        "Sets of columns that can still reach a score above `least`, with their bounds"
        able = [p for p in range(len(self.columns)) if level == 1 or reach.get((p,), -np.inf) > least]
        for places in combinations(able, level):
            limit = min(reach.get(parent, -np.inf) for parent in combinations(places, level - 1))
            if limit > least and len({self.columns[p].group for p in places}) == level:
                yield limit, places

    def _alive(self, places: tuple[int, ...], bounds: dict, least: float) -> list[np.ndarray]:
        "For each column, the conditions whose parents can all still reach more than `least`"
        alive = [np.ones(len(self.columns[p].low), bool) for p in places]
        for kept in combinations(range(len(places)), len(places) - 1) if len(places) > 1 else ():
            can = bounds[tuple(places[i] for i in kept)] > least
            for axis, i in enumerate(kept):
                alive[i] &= can.any(tuple(x for x in range(len(kept)) if x != axis))
        return [np.flatnonzero(a) for a in alive]


def rows_of(columns: Sequence[Column], conditions: Sequence[tuple[int, int]]) -> np.ndarray:  # (n,) bool
    "The rows for which all conditions hold"
    rows = np.ones(columns[0].n, bool)
    for place, condition in conditions:
        rows &= columns[place].rows(condition)
    return rows


def sliceline(n: int, mean: float, most: float, min_size: int, alpha: float) -> tuple[Rule, Rule]:
    "SliceLine's score, and its bound over all subsets of at least `min_size` rows"

    def score(size: Any, error: Any) -> Any:
        return alpha * (error / size / mean - 1) - (1 - alpha) * (n / size - 1)

    def bound(size: Any, error: Any) -> Any:
        return np.maximum(score(np.maximum(error / most, min_size), error), score(size, error))

    return score, bound


def f_score(wanted: int) -> tuple[Rule, Rule]:
    "F1 of finding the `wanted` rows whose error is 1, and its bound over all subsets"
    return lambda size, hits: 2 * hits / (size + wanted), lambda size, hits: 2 * hits / (hits + wanted)
