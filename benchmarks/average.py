"""Is the average of a training's weights better than the last ones? Accuracy of both, on the same images, order and views.

    python benchmarks/average.py [--sets clothing_small magnetic_tile] [--backbone pocket_vit] [--draws 6] [--images 300]
                                 [--save benchmarks/average.json]

Each draw divides a set anew: so many training photos of clothing_small, half as many for val and the rest of 1,000 for test;
magnetic_tile by physical tile. Both sides are the default recipe of `adapt`, one with `average=0`. Differences are paired by
draw, with Student's 95 % intervals over draws. The last line is JSON.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
from adapt import list_photos, open_backbone
from scipy import stats


def draw(name: str, folder: Path, images: int, seed: int):
    "The set divided anew"
    from dataclasses import replace

    from cvbench.data.dataset import commit

    photos = sorted(list_photos(name, folder), key=lambda s: s.uri)
    if name == "magnetic_tile":
        return commit(
            photos, f"{name}-{seed}", ratios={"train": 0.7, "val": 0.15, "test": 0.15}, group="tile", seed=seed
        )
    order, ends = np.random.default_rng(seed).permutation(len(photos))[:1000], (images, images * 3 // 2)
    splits = ["train" if i < ends[0] else "val" if i < ends[1] else "test" for i in range(len(order))]
    return commit([replace(photos[k], split=s) for k, s in zip(order, splits, strict=True)], f"{name}-{seed}")


def train_one(ds, backbone: str, seed: int, **changes) -> dict:
    "Accuracy on val after every epoch, and on test of what is kept"
    from cvbench.model.predict import predict
    from cvbench.model.recipes import adapt

    model, run = adapt(open_backbone(backbone), ds, seed=seed, tracker="off", say=lambda text: None, **changes)
    test = predict(model, ds.split("test")).table
    right = [a == b for a, b in zip(test["target"].to_pylist(), test["pred"].to_pylist(), strict=True)]
    return {
        "val": [h["val_accuracy"] for h in run.history],
        "best_epoch": run.summary["best_epoch"],
        "test": float(np.mean(right)),
    }


def summarise(rows: list[dict]) -> dict:
    "Differences on test and after each epoch on val, averaged less last, in points"
    test = 100 * np.array([r["average"]["test"] - r["last"]["test"] for r in rows])
    val = 100 * np.array([np.subtract(r["average"]["val"], r["last"]["val"]) for r in rows])
    half = stats.t.ppf(0.975, len(test) - 1) * test.std(ddof=1) / len(test) ** 0.5 if len(test) > 1 else float("nan")
    return {
        "draws": len(rows),
        "test": round(float(test.mean()), 2),
        "half_width": round(float(half), 2),
        "val": val.mean(0).round(2).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", default=["clothing_small", "magnetic_tile"])
    parser.add_argument("--backbone", default="pocket_vit")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--images", type=int, default=300, help="training photos of clothing_small")
    parser.add_argument("--save", type=Path, help="write all figures to this JSON file too")
    args = parser.parse_args()
    record = {
        "benchmark": "average",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"CVBENCH_STORE": folder, "CVBENCH_TRACKER": "off"}
        for seed in range(args.draws):
            for name in args.sets:
                ds = draw(name, Path(folder), args.images, seed)
                row = {"set": name, "backbone": args.backbone, "draw": seed, "images": dict(ds.splits)}
                row["average"] = train_one(ds, args.backbone, seed)
                row["last"] = train_one(ds, args.backbone, seed, average=0.0)
                record["rows"].append(row)
                record["sets"] = {
                    s: summarise([r for r in record["rows"] if r["set"] == s])
                    for s in {r["set"] for r in record["rows"]}
                }
                print(
                    f"{name:<16}draw {seed}: test {row['average']['test']:.3f}, of the last weights {row['last']['test']:.3f}",
                    flush=True,
                )
                if args.save:
                    args.save.write_text(json.dumps(record, indent=1) + "\n")
    for name, s in record["sets"].items():
        print(
            f"{name}, {args.backbone}, {s['draws']} draws: {s['test']:+.1f} ± {s['half_width']:.1f} points on test; "
            f"on val after each epoch {' '.join(f'{v:+.1f}' for v in s['val'])}"
        )
    print(json.dumps({k: record[k] for k in ("benchmark", "machine", "sets")}))


if __name__ == "__main__":
    main()
