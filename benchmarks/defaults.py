"""Compare `adapt` with and without one of its defaults: accuracy of both, on the same images and in the same order.

    python benchmarks/defaults.py [average resize_mode] [--sets clothing_small magnetic_tile] [--draws 5] [--images 300]
                                  [--backbones deit_tiny_clipped pocket_vit] [--save benchmarks/defaults.json]

average   average of the weights, or the last weights
resize_mode   resize mode chosen by validation, or the backbone's own

Each draw makes a new split of a set: --images training photos of clothing_small, half as many for val and the rest of 1,000
for test; magnetic_tile is split by physical tile. Differences are paired by draw, with Student's 95 % intervals over draws.
With --save, the results of other defaults in the file are kept. The last line is JSON.
"""

import argparse
import itertools
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
from adapt import list_photos, open_backbone
from scipy import stats


def draw(name: str, folder: Path, images: int, seed: int):
    "A new random split of the set"
    from dataclasses import replace

    from cvbench.data.commit import commit

    photos = sorted(list_photos(name, folder), key=lambda s: s.uri)
    if name == "magnetic_tile":
        return commit(
            photos, f"{name}-{seed}", ratios={"train": 0.7, "val": 0.15, "test": 0.15}, group="tile", seed=seed
        )
    order, ends = np.random.default_rng(seed).permutation(len(photos))[:1000], (images, images * 3 // 2)
    splits = ["train" if i < ends[0] else "val" if i < ends[1] else "test" for i in range(len(order))]
    return commit([replace(photos[k], split=s) for k, s in zip(order, splits, strict=True)], f"{name}-{seed}")


WITHOUT = {
    "average": {"average": 0.0},
    "resize_mode": {"resize_mode": "own"},
}  # Options of `adapt` that turn a default off


def train_one(ds, backbone: str, seed: int, **changes) -> dict:
    "Accuracy on val after every epoch, and on test for the kept weights"
    from cvbench.inference.predict import predict
    from cvbench.search.presets import adapt

    model, run = adapt(open_backbone(backbone), ds, seed=seed, tracker="off", say=lambda text: None, **changes)
    test, seen = predict(model, ds.split("test")).table, model.backbone.transform
    right = [a == b for a, b in zip(test["target"].to_pylist(), test["pred"].to_pylist(), strict=True)]
    return {
        "val": [h["val_accuracy"] for h in run.history], "best_epoch": run.summary["best_epoch"],
        "test": float(np.mean(right)), "seconds": run.summary["seconds"], "side": seen.size, "squash": seen.squash,
    }  # fmt: skip


def summarise(rows: list[dict]) -> dict:
    "Differences on test and after each epoch on val, with the default minus without it, in points"
    test = 100 * np.array([r["with"]["test"] - r["without"]["test"] for r in rows])
    val = 100 * np.array([np.subtract(r["with"]["val"], r["without"]["val"]) for r in rows])
    half = stats.t.ppf(0.975, len(test) - 1) * test.std(ddof=1) / len(test) ** 0.5 if len(test) > 1 else float("nan")
    return {
        "draws": len(rows), "differ": sum(r["with"] != r["without"] for r in rows), "test": round(float(test.mean()), 2),
        "half_width": round(float(half), 2), "val": val.mean(0).round(2).tolist(),
    }  # fmt: skip


def compare(args, default: str, folder: Path, record: dict) -> None:
    "Train with and without a default on every draw of every set; adds to the record"
    for seed, name, backbone in itertools.product(range(args.draws), args.sets, args.backbones):
        ds = draw(name, folder, args.images, seed)
        row = {"set": name, "backbone": backbone, "draw": seed, "images": dict(ds.splits)}
        row["with"] = train_one(ds, backbone, seed)
        row["without"] = train_one(ds, backbone, seed, **WITHOUT[default])  # the stored run if nothing differs
        record["rows"].append(row)
        print(
            f"{default}, {name}, {backbone}, draw {seed}: test {row['with']['test']:.3f}, without {row['without']['test']:.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("defaults", nargs="*", default=[], metavar="DEFAULT", help=" or ".join(WITHOUT))
    parser.add_argument("--sets", nargs="*", default=["clothing_small", "magnetic_tile"])
    parser.add_argument("--backbones", nargs="*", default=["pocket_vit"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--images", type=int, default=300, help="training photos of clothing_small")
    parser.add_argument("--save", type=Path, help="write all figures to this JSON file too")
    args = parser.parse_args()
    if unknown := set(args.defaults) - set(WITHOUT):
        parser.error(f"there is no default called {sorted(unknown)[0]}; choose from {', '.join(WITHOUT)}")
    found = json.loads(args.save.read_text()) if args.save and args.save.is_file() else {}
    for default in args.defaults or WITHOUT:
        record = {"machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores", "rows": []}
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"CVBENCH_STORE": folder, "CVBENCH_TRACKER": "off"}
            compare(args, default, Path(folder), record)
        cells = sorted({(r["set"], r["backbone"]) for r in record["rows"]})
        record["cells"] = [
            {"set": s, "backbone": b} | summarise([r for r in record["rows"] if (r["set"], r["backbone"]) == (s, b)])
            for s, b in cells
        ]
        found[default] = record
        for c in record["cells"]:
            print(
                f"{default}, {c['set']}, {c['backbone']}: {c['test']:+.1f} ± {c['half_width']:.1f} points on test in {c['draws']} draws, "
                f"{c['differ']} of which differ; on val after each epoch {' '.join(f'{v:+.1f}' for v in c['val'])}"
            )
        if args.save:
            args.save.write_text(json.dumps(found, indent=1) + "\n")
    print(
        json.dumps({"benchmark": "defaults"} | {k: {n: v[n] for n in ("machine", "cells")} for k, v in found.items()})
    )


if __name__ == "__main__":
    main()
