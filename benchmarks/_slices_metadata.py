"""Rule search: speed and results compared with the package SliceLine

    uv venv /somewhere/peer && VIRTUAL_ENV=/somewhere/peer uv pip install "sliceline[optimized]==0.3.0"
    python benchmarks/_slices_metadata.py --peer /somewhere/peer/bin/python        # about five minutes; --quick for one

Both search the same tables with the same settings, in turns, each in its own warmed-up process. SliceLine uses its
compiled parts, which need numba. It gets whole numbers, its fastest input; cvbench gets a table with names, and its time
includes reading the table. Times are CPU seconds of all threads, so that other work on the machine has little influence. The
tables are drawn as in SliceLine's own tests (small, with ties), as in its own benchmark (columns of 10 to 1,000 values and
an error between 0 and 1), and as metadata of images with two planted groups.

SliceLine 0.3.0 bounds scores with the number of values in all columns; its paper uses the number of rows. With more values
than rows this is not a valid bound, and it misses the best rule: such tables count as `better`. Results that are `wrong` are
counted too.
The first number of the last line is the lowest ratio of all sizes: how many times as long SliceLine takes.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

EXAMPLES = [  # rows, values of each column, settings
    (20, (2, 2, 3), {"alpha": 0.95, "k": 2, "depth": 2, "min_size": 1}),
    (20, (3, 2, 4, 6, 2, 20), {"alpha": 0.95, "k": 2, "depth": 2, "min_size": 1}),
    (200, (2, 2, 3, 4, 6, 200), {"alpha": 0.95, "k": 2, "depth": 2, "min_size": 1}),
    (200, (2, 2, 3, 4, 6, 200), {"alpha": 0.95, "k": 2, "depth": 2, "min_size": 50}),
    (200, (2, 2, 3, 4, 6, 200), {"alpha": 0.95, "k": 3, "depth": 1, "min_size": 1}),
    (200, (2, 2, 3, 4, 6), {"alpha": 0.7, "k": 3, "depth": 2, "min_size": 1}),
    (200, (2, 2, 3, 4, 6), {"alpha": 0.5, "k": 2, "depth": 2, "min_size": 1}),
    (20, (2, 2, 3), {"alpha": 0.95, "k": 5, "depth": 3, "min_size": 1, "loss": True}),
    (20_000, (2, 2, 3, 4, 6, 500), {"alpha": 0.95, "k": 3, "depth": 3, "min_size": 10}),
    (12, (2, 2, 2, 12), {"alpha": 0.95, "k": 4, "depth": 3, "min_size": 1}),
    (15, (2, 2, 2, 2), {"alpha": 0.01, "k": 2, "depth": 3, "min_size": 7}),
]
OWN = {"alpha": 0.6, "k": 10, "depth": 2, "loss": True}
TIMED = [(10_000, (c,) * 5, {**OWN, "min_size": 10}) for c in (10, 100, 500, 1000)]
TIMED += [(n, (50,) * 10, {**OWN, "min_size": max(10, n // 100)}) for n in (1000, 10_000, 50_000)]
IMAGES = (2, 3, 3, 4, 4, 5, 6, 8, 10, 10, 12, 20)
TIMED += [
    (n, IMAGES, {"alpha": 0.95, "k": 10, "depth": 3, "min_size": max(10, n // 200), "plant": True})
    for n in (1000, 5000, 20_000)
]


def draw(n: int, values: tuple[int, ...], seed: int, loss: bool = False, plant: bool = False, **_):
    "(n, columns) whole numbers, and an error; the first half of the rows of an example is wrong"
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, v, n) for v in values], 1)
    if loss:
        return codes, rng.random(n)
    if not plant:
        return codes, (np.arange(n) < n // 2).astype(float)
    weak = ((codes[:, 1] == 0) & (codes[:, 4] == 1)) | ((codes[:, 5] == 2) & (codes[:, 7] == 3) & (codes[:, 0] == 0))
    return codes, (rng.random(n) < np.where(weak, 0.45, 0.08)).astype(float)


def run_cvbench(codes: np.ndarray, error: np.ndarray, how: dict) -> tuple[float, list]:
    from cvbench.slices.rule_search import find_conditions

    table = pd.DataFrame({f"c{i}": [f"v{v}" for v in column] for i, column in enumerate(codes.T)})
    start = time.process_time()
    found = find_conditions(table, error, how["k"], how["depth"], how["alpha"], how["min_size"], most=10**6)
    return time.process_time() - start, [(r.where, r.n, r.score) for r in found.itertuples()]


def run_sliceline(codes: np.ndarray, error: np.ndarray, how: dict) -> tuple[float, list]:
    from sliceline.slicefinder import Slicefinder

    finder = Slicefinder(how["alpha"], how["k"], how["depth"], how["min_size"], verbose=False)
    start = time.process_time()
    finder.fit(codes, error)
    seconds = time.process_time() - start
    rules = [" and ".join(f"c{i} == 'v{v}'" for i, v in enumerate(s) if v is not None) for s in finder.top_slices_]
    about = finder.top_slices_statistics_
    return seconds, [(r, int(a["slice_size"]), a["slice_score"]) for r, a in zip(rules, about, strict=True)]


def serve() -> None:
    "Answer jobs from the other process, one per line"
    import warnings

    warnings.simplefilter("ignore")
    for line in sys.stdin:
        n, values, how, seed = json.loads(line)
        print(json.dumps(run_sliceline(*draw(n, values, seed, **how), how)), flush=True)


def judge(codes: np.ndarray, error: np.ndarray, how: dict, ours: list, theirs: list) -> str:
    "same; better or worse if the scores differ; wrong if a rule of ours does not have the rows and score it claims"
    for rule, n, score in ours:
        rows = np.logical_and.reduce(
            [codes[:, int(c[1:])] == int(v[2:-1]) for c, v in (p.split(" == ") for p in rule.split(" and "))]
        )
        true = how["alpha"] * (error[rows].mean() / error.mean() - 1) - (1 - how["alpha"]) * (len(rows) / n - 1)
        if rows.sum() != n or not np.isclose(true, score):
            return "wrong"
    mine, other = (
        np.array([s for *_, s in found][: how["k"]] + [0.0] * (how["k"] - len(found))) for found in (ours, theirs)
    )
    if np.allclose(mine, other, atol=1e-9):  # SliceLine returns all rules that tie with the last one
        return "same" if {rule for rule, *_ in ours} <= {rule for rule, *_ in theirs} else "wrong"
    return "better" if (mine >= other - 1e-9).all() else "worse"


def compare(peer: str, rounds: int = 5, quick: bool = False) -> dict:
    "Run everything; prints a table and returns the numbers for the last line"
    with subprocess.Popen(
        [peer, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout

        def ask(*job) -> tuple[float, list]:
            print(json.dumps(job), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        def both(n: int, values: tuple[int, ...], how: dict, seed: int) -> tuple[float, float, str]:
            codes, error = draw(n, values, seed, **how)
            ours, theirs = run_cvbench(codes, error, how), ask(n, values, how, seed)
            return ours[0], theirs[0], judge(codes, error, how, ours[1], theirs[1])

        verdicts = [both(n, values, how, seed)[2] for n, values, how in EXAMPLES for seed in range(10)]
        print(f"{len(verdicts)} small tables: {dict(Counter(verdicts))}")
        print(
            f"{'rows':>8} {'columns':>8} {'values':>7} {'depth':>6} {'cvbench s':>10} {'SliceLine s':>12}  ratio [range]"
        )
        ratios = []
        for n, values, how in TIMED[: 6 if quick else None]:
            both(n, values, how, rounds)  # warm-up
            found = [both(n, values, how, seed) for seed in range(1 if quick else rounds)]
            a, b = (np.array([f[i] for f in found]) for i in (0, 1))
            ratios.append(float(np.median(b / a)))
            verdicts += [f[2] for f in found]
            print(
                f"{n:>8,} {len(values):>8} {max(values):>7} {how['depth']:>6} {np.median(a):>10.3f} {np.median(b):>12.3f}"
                f"  {ratios[-1]:.1f} [{(b / a).min():.1f}, {(b / a).max():.1f}]  {dict(Counter(verdicts[-len(found) :]))}",
                flush=True,
            )
        process.stdin.close()
    n, values, how = 100_000, *TIMED[-1][1:]
    alone = [run_cvbench(*draw(n, values, seed, **how), how)[0] for seed in range(rounds)]
    print(
        f"{n:>8,} {len(values):>8} {max(values):>7} {how['depth']:>6} {np.median(alone):>10.3f}   not run, it takes minutes"
    )
    count = Counter(verdicts)
    return {
        "metadata_vs_sliceline": round(min(ratios), 2),
        "metadata_vs_sliceline_median": round(float(np.median(ratios)), 1),
        **{f"metadata_{v}": count[v] for v in ("same", "better", "worse", "wrong")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python that has sliceline[optimized]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve()
    if not args.peer or not Path(args.peer).exists():
        parser.error("--peer must be the path of a Python with sliceline[optimized]; see the top of this file")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    print(json.dumps(compare(args.peer, args.rounds, args.quick)))


if __name__ == "__main__":
    main()
