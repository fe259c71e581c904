"""Compare bfloat16 with float32 on a processor with both: seconds of training and embedding, and accuracy, in pairs.

    python benchmarks/precision.py [--rounds 3] [--train 800] [--blocks 4] [--epochs 5] [--save FILE]

The photos of shared/data/clothing_small get a new split in each round, seeded by the round's number: --train photos for
training, a quarter of that number for val, and all others for test. In each round both precisions adapt deit_tiny_plain
(LoRA in the last blocks, everything included, from decoding on) and embed the test photos with each runtime, each in its own
store, in an order that changes from round to round. A ratio is seconds in float32 divided by seconds in bfloat16 of one
round. Accuracy is reported twice: for the adapted models, both evaluated in float32, and for a linear probe on each kind of
features. Differences are paired, photo by photo, with a 95 % interval over all rounds. Training turns different rounding into
different models, so a part of the first difference is chance. If the processor has no bfloat16, the script says so and
measures nothing. The last line is JSON.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

SHARED = Path(os.environ.get("CVBENCH_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
PRECISIONS = ("fp32", "bf16")


def draw_split(n_train: int, seed: int) -> list:
    "All photos, as samples in three splits"
    from cvbench.data.readers import read_folder

    samples = sorted(read_folder(SHARED / "clothing_small"), key=lambda s: s.uri)
    order, n_val = np.random.default_rng(seed).permutation(len(samples)), n_train // 4
    names = np.array(["train"] * n_train + ["val"] * n_val + ["test"] * (len(samples) - n_train - n_val))
    return [replace(samples[i], split=str(s)) for i, s in zip(order, names, strict=True)]


def backbone():
    from cvbench.model.backbones import create_backbone

    return create_backbone("timm/deit_tiny_patch16_224", weights=SHARED / "deit_tiny_plain/model.safetensors")


def measure(samples: list, precision: str, args: argparse.Namespace) -> dict:
    "Seconds, test predictions of an adapted model, and features by runtime, in a new store"
    from cvbench.data.commit import commit
    from cvbench.inference.embed import embed
    from cvbench.inference.predict import predict
    from cvbench.inference.runtimes import engines, find_engine
    from cvbench.model.adapters import LoRA
    from cvbench.model.models import create_model
    from cvbench.training.train import train

    os.environ["CVBENCH_STORE"] = tempfile.mkdtemp(dir=args.folder)
    ds = commit(samples, name="photos")
    model = create_model(backbone(), ds, adapter=LoRA(blocks=args.blocks))
    start = time.perf_counter()
    run = train(model, ds, precision=precision, epochs=args.epochs, quiet=True)
    found = {"train": time.perf_counter() - start, "id": run.id, "engines": {}, "features": {}}
    assert run.summary["precision"] == precision
    test = ds.split("test")
    table = predict(run, test).table
    found["right"] = dict(
        zip(
            table["sample_id"].to_pylist(), (np.array(table["target"]) == np.array(table["pred"])).tolist(), strict=True
        )
    )
    for name in (n for n in engines if n != "onnxruntime" and find_engine(n)):  # onnxruntime always computes in float32
        start = time.perf_counter()
        made = embed(test, backbone(), engine=name, precision=precision, column=name)
        found["engines"][name] = time.perf_counter() - start
        rows = made.table(["sample_id", "target", name])
        found["features"][name] = (
            rows["sample_id"].to_pylist(),
            [t["labels"][0] for t in rows["target"].to_pylist()],
            np.stack(rows[name].to_pylist()),
        )
        test = made
    shutil.rmtree(os.environ["CVBENCH_STORE"])
    return found


def probe(ids: list[str], labels: list[str], features: np.ndarray, seed: int) -> dict[str, bool]:
    "For each photo, whether a logistic regression fitted on the other half of the photos is correct"
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    half, y = np.random.default_rng(seed).random(len(ids)) < 0.5, np.array(labels)
    x, right = StandardScaler().fit_transform(features), np.zeros(len(ids), bool)
    for fit in (half, ~half):
        right[~fit] = LogisticRegression(C=0.01, max_iter=300).fit(x[fit], y[fit]).predict(x[~fit]) == y[~fit]
    return dict(zip(ids, right.tolist(), strict=True))


def difference(pairs: list[tuple[dict, dict]]) -> dict[str, float]:
    "Accuracy of the second minus the first, in points, over all photos of all rounds, with the half width of its 95 % interval"
    d = np.concatenate([[float(b[i]) - float(a[i]) for i in a] for a, b in pairs])
    return {
        "points": round(100 * d.mean(), 2),
        "half_width": round(196 * d.std(ddof=1) / len(d) ** 0.5, 2),
        "differ": round(100 * (d != 0).mean(), 1),
        "photos": len(d),
    }


def main() -> None:
    import torch

    from cvbench.model.preprocessing import has_bfloat16

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--save", help="write all figures to this JSON file too")
    args = parser.parse_args()
    able = torch.cpu.get_capabilities()
    flags = ", ".join(k for k in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(k))
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads ({flags}); torch {torch.__version__}"
    print(machine)
    if not has_bfloat16(torch.device("cpu")):
        print("This processor has no bfloat16: nothing to compare.")
        print(json.dumps({"benchmark": "precision", "machine": machine, "measured": False}))
        return
    os.environ |= {"CVBENCH_TRACKER": "off", "CVBENCH_DEVICE": "cpu"}
    args.folder, rounds = tempfile.mkdtemp(prefix="precision-"), []
    for r in range(args.rounds):
        samples = draw_split(args.train, r)
        rounds.append({p: measure(samples, p, args) for p in PRECISIONS[:: -1 if r % 2 else 1]})
        assert len({rounds[-1][p]["id"] for p in PRECISIONS}) == 2
        told = ", ".join(
            f"{p} training {m['train']:.1f} s, " + ", ".join(f"{e} {s:.1f} s" for e, s in m["engines"].items())
            for p, m in rounds[-1].items()
        )
        print(f"round {r + 1}: {told}", flush=True)
    shutil.rmtree(args.folder)
    took = {"train": [[m[p]["train"] for p in PRECISIONS] for m in rounds]}
    took |= {
        f"embed_{e}": [[m[p]["engines"][e] for p in PRECISIONS] for m in rounds] for e in rounds[0]["fp32"]["engines"]
    }
    line: dict = {"benchmark": "precision", "machine": machine, "measured": True}
    for name, pairs in took.items():
        ratios = [a / b for a, b in pairs]
        print(f"{name}: bf16 is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}–{max(ratios):.2f})")
        line[name] = round(statistics.median(ratios), 2)
    line["adapted"] = difference([tuple(m[p]["right"] for p in PRECISIONS) for m in rounds])
    for name in rounds[0]["fp32"]["features"]:
        line[f"probe_{name}"] = difference(
            [tuple(probe(*m[p]["features"][name], r) for p in PRECISIONS) for r, m in enumerate(rounds)]
        )
    for name in ("adapted", *(f"probe_{n}" for n in rounds[0]["fp32"]["features"])):
        d = line[name]
        print(
            f"{name}: accuracy of bf16 − fp32 {d['points']:+.2f} ± {d['half_width']:.2f} points, {d['differ']} % of {d['photos']:,} answers differ"
        )
    if args.save:
        Path(args.save).write_text(json.dumps(line | {"seconds": took}, indent=1) + "\n")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
