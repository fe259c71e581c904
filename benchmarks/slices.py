"""Planted slices: how many cvbench's finders recover, and how fast, compared with Domino, sliceguard, HDBSCAN and k-means

python benchmarks/slices.py [--quick] [--only regions domino] [--save benchmarks/slices.json]

Every method gets the same arrays in turn, in its own warmed-up process, and may propose ten slices, twice as many as are
planted. A planted slice is compared with the proposal of highest average precision, as in Domino's own evaluation; it counts as
recovered if 20 of that proposal's first 25 images belong to it. Seconds are for fitting and scoring all rows. Domino,
sliceguard and SliceLine (the opponent of the metadata finder) run in virtual environments that uv makes on demand outside
the repository. All settings take about seven minutes on two cores. The seeds were not used during development of the finders;
those of `TUNED_ON` were.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from _slices_planted import KINDS, SHAPES, STRENGTHS, judge, plant

HERE = Path(__file__).parent
TUNED_ON = range(100, 400)  # Seeds used during development of cvbench's finders
FIRST = 9000  # First seed of this benchmark
PEERS = [
    "numpy==1.26.4",
    "scipy==1.11.4",
    "scikit-learn==1.3.2",
    "pandas==2.1.4",
    "hnne==0.1.10",
    "fairlearn==0.10.0",
    "tqdm==4.67.1",
]
SLICELINE = ["sliceline[optimized]==0.3.0", "numba==0.68.1", "scikit-learn==1.9.1", "numpy==2.4.6", "pandas==3.1.1"]
ALONE = ["domino==0.1.5", "sliceguard==0.0.35"]  # Installed without the dependencies that they do not use here
OWN = ("regions", "mixture", "hdbscan", "k-means 25", "k-means 50", "k-means 100")
ONE_THREAD = ", one thread"  # Domino also runs so: on a busy machine its threads wait for each other
MOST = {"hdbscan": 20_000, "sliceguard": 5000}  # Maximum rows; more takes too long


def settings(quick: bool) -> list[tuple[int, str, str, str, int]]:
    "Rows, kind, shape, strength and seed; few rows first, because peak memory never decreases"
    cross = [(kind, shape, strength) for strength in STRENGTHS for kind in KINDS for shape in SHAPES]
    plan = [(5000, c) for c in cross]
    plan += [(20_000, c) for c in (cross[::5] if quick else cross[::3])]
    plan += [(100_000, c) for c in (cross[1::15] if quick else cross[1::9])]
    return [(n, *c, FIRST + i) for i, (n, c) in enumerate(plan)]


def make_python(name: str, packages: list[str], alone: list[str] = ()) -> str:
    "A Python environment with pinned packages"
    folder = Path(tempfile.gettempdir()) / name
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    python = str(folder / "bin" / "python")
    if not (folder / "done").exists():
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "-q", "--python", python]
        subprocess.run([*install, *packages], check=True)
        if alone:
            subprocess.run([*install, "--no-deps", *alone], check=True)
        (folder / "done").touch()
    return python


class Method:
    "A running process"

    def __init__(self, name: str, python: str, proposals: int):
        env = os.environ | {"PYTHONPATH": str(HERE.parent) if name in OWN else ""}
        if name.endswith(ONE_THREAD):
            env["OMP_NUM_THREADS"] = "1"
        self.process = subprocess.Popen(
            [python, HERE / "_slices_methods.py", name.removesuffix(ONE_THREAD), str(proposals), "0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip

    def ask(self, folder: Path) -> dict:
        print(folder, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a method ended; its error is above")
        return json.loads(answer) | {"scores": np.load(folder / "scores.npy")}


def run(plan: list, names: list[str], python: str, proposals: int = 10) -> pd.DataFrame:
    "One row per setting, method and planted slice"
    running = {name: Method(name, sys.executable if name in OWN else python, proposals) for name in names}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for i, (n, kind, shape, strength, seed) in enumerate([(2000, *plan[0][1:4], 1), *plan]):
            p = plant(n, kind, shape, strength, seed)
            for array in ("embeddings", "target", "pred", "probs"):
                np.save(folder / f"{array}.npy", getattr(p, array))
            for name, method in running.items():
                if n > MOST.get(name, n):
                    continue
                took = method.ask(folder)
                if i:  # The first one is only a warm-up
                    about = {"n": n, "kind": kind, "shape": shape, "strength": strength, "seed": seed, "method": name}
                    about |= {k: took[k] for k in ("seconds", "cpu", "peak_mb")}
                    rows += [about | found for found in judge(took["scores"], p.slices)]
            print(f"\r{i} of {len(plan)} settings", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for method in running.values():
        method.process.stdin.close()
        method.process.wait()
    out = pd.DataFrame(rows)
    return out.assign(recovered=out["p25"] >= 0.8)


def show(found: pd.DataFrame) -> None:
    how = {"p10": ("p10", "mean"), "p25": ("p25", "mean"), "recovered": ("recovered", "mean"), "ap": ("ap", "mean")}
    how |= {"seconds": ("seconds", "median"), "cpu": ("cpu", "median"), "peak_mb": ("peak_mb", "max")}
    for (n, strength), part in found.groupby(["n", "strength"], sort=False):
        print(f"\n{n:,} rows, {strength}: {part.groupby(['kind', 'shape', 'seed']).ngroups} settings")
        print(part.groupby("method", sort=False).agg(**how).round(3).to_string())
    found = found.assign(share=(100 * found["size"] / found["n"]).round(1).astype(str) + " %")
    for column in ("kind", "shape", "share"):
        print(f"\nprecision@10 by {column}")
        print(
            found.pivot_table(index=["strength", column], columns="method", values="p10", sort=False)
            .round(3)
            .to_string()
        )


def margins(found: pd.DataFrame, strength: str) -> dict:
    "Precision@10 of `regions` minus that of the best baseline, by kind; each pair on the settings that both ran"
    part = found[found["strength"] == strength]
    p10 = part.pivot_table(index=["kind", "n", "seed"], columns="method", values="p10")
    base = [m for m in p10 if m != "regions"]
    both = {b: p10[["regions", b]].dropna().groupby("kind").mean() for b in base}
    return pd.DataFrame({b: x["regions"] - x[b] for b, x in both.items()}).min(axis=1).to_dict()


def summary(found: pd.DataFrame) -> dict:
    "The numbers of the last line; a speed is the shorter of Domino's times divided by that of `regions`"
    mean = found.groupby(["strength", "method"])[["p10", "recovered"]].mean()
    methods = found["method"].unique()
    base = [m for m in methods if m != "regions"]
    out = {
        "strong_p10": mean.p10.get(("strong", "regions")),
        "weak_p10": mean.p10.get(("weak", "regions")),
        "weak_best_baseline_p10": max((mean.p10["weak", b] for b in base), default=None),
    }
    if "regions" in methods and base:
        out |= {f"{strength}_margin_by_kind": margins(found, strength) for strength in STRENGTHS}
    took = found.groupby(["n", "seed", "method"])[["seconds", "cpu"]].first().unstack("method")  # noqa: PD010
    if {"regions", "domino"} <= set(methods):
        domino = mean.recovered["strong", "domino"]
        out["recovered_vs_domino"] = mean.recovered["strong", "regions"] / domino if domino else None
        for n, name in ((5000, "5k"), (20_000, "20k"), (100_000, "100k")):
            for unit, key in (("seconds", "speed"), ("cpu", "cpu_speed")):
                ours, theirs = (took[unit].filter(regex=f"^{m}").loc[n].min(axis=1) for m in ("regions", "domino"))
                ratio = theirs / ours
                out[f"{key}_{name}"] = ratio.median()
                out[f"{key}_{name}_range"] = [ratio.min(), ratio.max()]
    if "regions" in methods:
        ours = found[found["method"] == "regions"].groupby("n")
        out["seconds_100k"] = took["seconds"]["regions"].loc[100_000].median()
        out["peak_mb"] = {str(n): mb for n, mb in ours["peak_mb"].max().items()}
    return out


def rounded(x):
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return round(float(x), 3) if isinstance(x, float | np.floating) else x


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer settings, and fewer tables for the metadata finder")
    parser.add_argument("--only", nargs="*", default=[*OWN, "domino", "domino" + ONE_THREAD, "sliceguard", "metadata"])
    parser.add_argument("--proposals", type=int, default=10, help="slices that every method may propose")
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    plan = settings(args.quick)
    assert not {s[-1] for s in plan} & set(TUNED_ON)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}"
    print(
        f"{machine}\n{len(plan)} settings, seeds {plan[0][-1]} to {plan[-1][-1]}; tuned on seeds {TUNED_ON[0]} to {TUNED_ON[-1]}"
    )
    for n, kind, shape, strength, seed in plan:
        print(f"  seed {seed}: {n:,} rows, {kind}, {shape}, {strength}")
    names = [n for n in args.only if n != "metadata"]
    python = "" if set(names) <= set(OWN) else make_python("cvbench-slices-peers", PEERS, ALONE)
    found = run(plan, names, python, args.proposals)
    show(found)
    last = {
        "benchmark": "slices",
        "machine": machine,
        "settings": len(plan),
        "proposals": args.proposals,
        **rounded(summary(found)),
    }
    if "metadata" in args.only:
        from _slices_metadata import compare

        print("\nConjunctions of conditions against SliceLine")
        last |= compare(make_python("cvbench-slices-sliceline", SLICELINE), rounds=2, quick=args.quick)
    if args.save:
        columns = ["p10", "p25", "recovered", "ap", "seconds", "cpu", "peak_mb"]
        rows = found.groupby(["n", "strength", "kind", "shape", "seed", "method"], sort=False)[columns].mean().round(3)
        args.save.write_text(json.dumps({**last, "rows": rows.reset_index().to_dict("records")}, indent=1) + "\n")
    print(json.dumps(last))


if __name__ == "__main__":
    main()
