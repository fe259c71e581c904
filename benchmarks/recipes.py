"""Compare candidates for the default adapter and learning rate: accuracy and seconds, on every available classification set.

    python benchmarks/recipes.py [--sets clothing_small magnetic_tile digits] [--backbones pocket_vit deit_tiny_clipped]
                                 [--images 1000] [--epochs 10] [--save benchmarks/recipes.json]

Every candidate is a `train` run; epochs after the best one on validation are trained but not kept. Accuracies have Wilson
intervals; those on test are not balanced, and they are not used for the choice. `magnetic_tile` is split by physical tile.
A row that is already in the file of --save is not measured again. The last line is JSON.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

from adapt import count, open_backbone, prepare
from scipy.stats import binomtest

LORA = [{"kind": "lora", "blocks": b, "lr": lr} for b in (1, 2, 4, None) for lr in (1e-3, 3e-3)]
CANDIDATES = [
    {"kind": "probe"},
    *LORA,
    {"kind": "lora", "blocks": 4, "lr": 1e-3, "views": 0},
    {"kind": "lora", "blocks": 4, "lr": 1e-3, "views": 1},
]


def wilson(hits: int, n: int) -> list[float]:
    "A share and its 95 % interval"
    low, high = binomtest(hits, n).proportion_ci(method="wilson")
    return [round(v, 4) for v in (hits / n, low, high)]


def name_row(row: dict) -> str:
    "Identity of a row: the candidate and its data"
    return json.dumps([row.get(k) for k in ("set", "backbone", "train", "kind", "blocks", "lr", "views", "epochs")])


def try_candidate(name: str, backbone: str, data: dict, candidate: dict, epochs: int) -> dict:
    "Train one candidate; accuracy on val and test, seconds, trained parameters"
    from cvbench.data.versions import checkout
    from cvbench.inference.predict import predict
    from cvbench.model.adapters import make_adapter
    from cvbench.model.models import create_model
    from cvbench.training.train import train

    ds = checkout(data["ref"])
    options = {k: v for k, v in candidate.items() if k in ("blocks", "r") and v is not None}
    changes = {k: v for k, v in candidate.items() if k in ("lr", "views", "augment")}
    model = create_model(open_backbone(backbone), ds, adapter=make_adapter(candidate["kind"], **options))
    run = train(model, ds, epochs=epochs, tracker="off", **changes)
    test = predict(model, ds.split("test"), precision="auto").table
    hits = sum(a == b for a, b in zip(test["target"].to_pylist(), test["pred"].to_pylist(), strict=True))
    n = count(data, "val")
    return {
        "set": name, "backbone": backbone, "train": count(data, "train"), **candidate, "epochs": epochs,
        "val": wilson(round(run.summary["val_accuracy"] * n), n), "val_loss": round(run.summary["val_loss"], 4),
        "test": wilson(hits, len(test)), "best_epoch": run.summary["best_epoch"],
        "seconds": run.summary["seconds"], "trainable": run.summary["trainable"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", default=["clothing_small", "magnetic_tile", "digits"])
    parser.add_argument("--backbones", nargs="*", default=["pocket_vit", "deit_tiny_clipped"])
    parser.add_argument("--images", type=int, default=1000, help="training images of clothing_small")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--save", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    record = json.loads(args.save.read_text()) if args.save.exists() else {"benchmark": "recipes", "rows": []}
    record["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    known = {name_row(r) for r in record["rows"]}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CVBENCH_STORE"] = folder
        for name in args.sets:
            most = {"train": args.images, "val": 341, "test": 372} if name == "clothing_small" else None
            data = prepare(name, Path(folder), most)
            for backbone in args.backbones if name != "digits" else ["pocket_vit"]:
                for candidate in CANDIDATES:
                    row = {
                        "set": name,
                        "backbone": backbone,
                        "train": count(data, "train"),
                        "epochs": args.epochs,
                    } | candidate
                    if name_row(row) in known:
                        continue
                    record["rows"].append(try_candidate(name, backbone, data, candidate, args.epochs))
                    r = record["rows"][-1]
                    print(
                        f"{name:<16}{backbone:<19}{r['kind']:<6}{r.get('blocks') or 'all':<5}{r.get('lr', '–')!s:<7}{r.get('views', 'auto')!s:<5}"
                        + "".join(f"{k} {'{:.3f} [{:.3f}, {:.3f}]'.format(*r[k]):<24}" for k in ("val", "test"))
                        + f"loss {r['val_loss']:.3f} epoch {r['best_epoch']:<3}{r['seconds']:.0f} s",
                        flush=True,
                    )
                    args.save.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
