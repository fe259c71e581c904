"""Time all metrics with their intervals, and compare with a plain loop over scikit-learn

    python benchmarks/evaluate.py             # minutes; OMP_NUM_THREADS=1 for one core
    python benchmarks/evaluate.py --coverage  # also how often the intervals contain the true value, over more sets than the tests draw

The loop resamples rows and calls scikit-learn for each metric that `evaluate` gives. It is timed over a few resamples and
extrapolated to 1,000; this is fair, because every resample costs the same. Both sides alternate in the same process. Times
are CPU seconds, so that other work on the machine has little influence.
"""

import argparse
import json
import os
import platform
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from cvbench.core.predictions import make_predictions
from cvbench.core.runs import code_version
from cvbench.evaluation.evaluate import evaluate

N_BOOT = 1000


def draw(n: int, k: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) + 2.5 * np.eye(k)[target]
    scores = np.exp(logits)
    return target, (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def sklearn_resamples(target: np.ndarray, scores: np.ndarray, n_boot: int, seed: int = 0) -> None:
    from sklearn import metrics as sk

    rng, k = np.random.default_rng(seed), scores.shape[1]
    strata = [np.flatnonzero(target == c) for c in range(k)]
    for _ in range(n_boot):
        rows = np.concatenate([rng.choice(s, len(s)) for s in strata])
        t, s = target[rows], scores[rows]
        pred, truth = s.argmax(1), t[:, None] == np.arange(k)
        sk.accuracy_score(t, pred)
        sk.balanced_accuracy_score(t, pred)
        sk.f1_score(t, pred, average="macro")
        sk.f1_score(t, pred, average="micro")
        sk.log_loss(t, s, labels=range(k))
        sk.precision_recall_fscore_support(t, pred, labels=range(k), zero_division=0)
        sk.roc_auc_score(truth, s, average=None)
        sk.average_precision_score(truth, s, average=None)
        edges = np.minimum((s.max(1) * 15).astype(int), 14)
        np.abs(np.bincount(edges, (pred == t) - s.max(1).astype(float), 15)).sum() / len(t)


def seconds(f) -> float:
    start = time.process_time()
    f()
    return time.process_time() - start


def compare_speed(n: int, k: int, few: int, rounds: int) -> dict:
    target, scores = draw(n, k)
    names = [f"c{i}" for i in range(k)]
    preds = make_predictions([names[i] for i in target], scores, names)
    evaluate(preds, n_boot=10)
    sklearn_resamples(target, scores, 1)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: evaluate(preds, n_boot=N_BOOT)))
        theirs.append(seconds(lambda: sklearn_resamples(target, scores, few)) * N_BOOT / few)
    ratios = np.array(theirs) / np.array(ours)
    row = {
        "rows": n,
        "classes": k,
        "cvbench_cpu_s": round(float(np.median(ours)), 2),
        "sklearn_cpu_s": round(float(np.median(theirs)), 1),
    }
    row |= {
        "ratio": round(float(np.median(ratios)), 1),
        "ratio_min": round(float(ratios.min()), 1),
        "ratio_max": round(float(ratios.max()), 1),
    }
    print(
        f"{n:>7,} × {k:<4} evaluate {row['cvbench_cpu_s']:>7} s   scikit-learn loop {row['sklearn_cpu_s']:>8} s (from {few} resamples)   "
        f"ratio {row['ratio']} [{row['ratio_min']}, {row['ratio_max']}] over {rounds} rounds",
        flush=True,
    )
    return row


def measure_coverage(sets: int) -> list[dict]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from evaluation_simulation import Design, coverage

    rare = (0.6, 0.2, 0.1, 0.07, 0.03)
    designs = {
        "50 images, 2 classes": Design(50, (0.5, 0.5), 2.0),
        "300 images, 5 classes": Design(300, (0.2,) * 5, 2.5, 1.5),
        "300 images, 5 classes, 98 % accurate": Design(300, (0.2,) * 5, 4.5),
        "1000 images, rare classes": Design(1000, rare, 2.5),
        "1000 images, rare classes, random mix": Design(1000, rare, 2.5, random_mix=True),
        "400 images, 4 labels": Design(400, (0.5, 0.2, 0.1, 0.04), 2.5, 1.5, random_mix=True, multilabel=True),
    }
    rows = []
    for name, design in designs.items():
        got = coverage(design, sets, n_boot=300)
        rows.append(
            {"design": name, "sets": sets, **{metric: round(100 * held, 1) for metric, (held, _, _) in got.items()}}
        )
        print(f"\n{name}, {sets} sets: intervals at 95 % that hold the truth (mean width)")
        for metric, (held, width, _) in got.items():
            print(f"    {metric:<30}{100 * held:5.1f} %  ({width:.3f})", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coverage", action="store_true", help="simulate coverage too")
    parser.add_argument("--sets", type=int, default=600, help="simulated test sets for --coverage")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each timing")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, Python {platform.python_version()}, numpy {np.__version__}"
    print(f"{N_BOOT:,} resamples, every metric, CPU seconds; {machine}; load {os.getloadavg()[0]:.1f}")
    speed = [compare_speed(10_000, 10, 10, args.rounds), compare_speed(50_000, 100, 2, args.rounds)]
    held = measure_coverage(args.sets) if args.coverage else []
    print(
        json.dumps(
            {
                "benchmark": "evaluate",
                "code": code_version(),
                "machine": machine,
                "n_boot": N_BOOT,
                "speed": speed,
                "coverage": held,
            }
        )
    )


if __name__ == "__main__":
    main()
