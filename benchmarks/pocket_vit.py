"""Does `pocket_vit` earn its name? Linear probes on four sets of real images that it never saw.

    python benchmarks/pocket_vit.py [--weights FILE] [--sets clothing_small ...] [--save FILE] [--cache FOLDER]

On every set a logistic regression reads frozen features of the pretrained network, of the same network untrained (three seeds),
and downsized pixels (16 x 16 and 32 x 32 RGB). Features are standardised, the penalty is chosen inside the training part. The
opponents are taken at their best on the test part. Intervals and paired differences are bootstrapped
over sources: whole images where crops are scored, physical tiles where one tile was photographed several times.
The real sets are read from ../shared/data (or CVBENCH_SHARED) and are not part of the project.
"""

import argparse
import functools
import json
import os
import platform
import re
import time
import warnings
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.sparse.csgraph import connected_components
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cvbench.model.pocket  # noqa: F401  registers pocket_vit

SHARED = Path(os.environ.get("CVBENCH_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass
class Data:
    "Images of one set, and which part of them is for testing"

    images: np.ndarray  # (n, 96, 96, 3), uint8
    labels: np.ndarray  # (n,) class names
    groups: np.ndarray  # (n,) source of each: image, or physical tile
    balanced: bool  # whether the score is balanced accuracy
    split: np.ndarray | None = None  # (n,) train, val, test; cross-validated over groups if None


def _squash(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((96, 96), Image.Resampling.BICUBIC))


def _crops(rows, least: int, most: int, seed=0) -> Data:
    "Boxes (file, label, xyxy) of at least 4 px, of classes with `least` of them, at most `most` a class"
    rows = [r for r in rows if min(r[2][2] - r[2][0], r[2][3] - r[2][1]) >= 4]
    rows = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    counts, taken, chosen = Counter(r[1] for r in rows), Counter(), []
    for file, label, box in rows:
        if counts[label] >= least and taken[label] < most:
            taken[label] += 1
            chosen.append((file, label, box))
    images = np.stack([_squash(Image.open(f).crop([round(v) for v in b])) for f, _, b in chosen])
    labels, groups = (np.array(c) for c in zip(*((label, f.name) for f, label, _ in chosen), strict=True))
    return Data(images, labels, groups, balanced=True)


def read_clothing_small(every: int = 1) -> Data:
    files = sorted((SHARED / "clothing_small").glob("*/*/*"))[::every]
    splits = {"train": "train", "validation": "val", "test": "test"}
    images = np.stack([_squash(Image.open(f)) for f in files])
    return Data(
        images,
        np.array([f.parent.name for f in files]),
        np.arange(len(files)),
        False,
        np.array([splits[f.parts[-3]] for f in files]),
    )


def _same_tile(files: list[Path], images: np.ndarray) -> np.ndarray:
    "Group of each photo: a tile was photographed under six exposures, one after the other, so numbers are near or pictures alike"
    number = np.array([int(re.search(r"num_(\d+)", f.name)[1]) for f in files])
    small = pixel_features(images, 24).reshape(len(images), -1, 3).mean(-1)
    small -= small.mean(1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True) + 1e-9
    return connected_components((np.abs(number[:, None] - number) <= 200) | (small @ small.T >= 0.99))[1]


def read_magnetic_tile() -> Data:
    files = sorted((SHARED / "magnetic_tile").rglob("*.jpg"))
    labels = np.array([next(p for p in f.parts if p.startswith("MT_")) for f in files])
    images = np.stack([_squash(Image.open(f)) for f in files])
    return Data(images, labels, _same_tile(files, images), True)


def read_bccd() -> Data:
    rows = []
    for file in sorted((SHARED / "bccd" / "Annotations").glob("*.xml")):
        for item in ET.parse(file).getroot().iter("object"):
            box = [float(item.find(f"bndbox/{k}").text) for k in ("xmin", "ymin", "xmax", "ymax")]
            rows.append((SHARED / "bccd" / "JPEGImages" / f"{file.stem}.jpg", item.findtext("name"), box))
    return _crops(rows, least=300, most=340)


def read_coco128() -> Data:
    data = json.loads((SHARED / "coco128" / "instances.json").read_text())
    name = {c["id"]: c["name"] for c in data["categories"]}
    files = {f.name: f for f in (SHARED / "coco128" / "images").rglob("*.jpg")}
    file = {i["id"]: files[Path(i["file_name"]).name] for i in data["images"]}
    rows = [
        (file[a["image_id"]], name[a["category_id"]], (x, y, x + w, y + h))
        for a in data["annotations"]
        for x, y, w, h in [a["bbox"]]
    ]
    return _crops(rows, least=20, most=400)


SETS = {
    "clothing_small": read_clothing_small,
    "magnetic_tile": read_magnetic_tile,
    "bccd": read_bccd,
    "coco128": read_coco128,
}


def pocket_features(images: np.ndarray, weights: str | None = None, seed: int | None = None) -> np.ndarray:
    "Pooled features, (n, 192): of the embedded weights, of a file, or of random weights of a seed"
    if seed is not None:
        torch.manual_seed(seed)
    model = timm.create_model("pocket_vit", pretrained=weights is None and seed is None).eval()
    if weights is not None:
        model.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    mean, std = (torch.tensor(model.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    out = []
    with torch.inference_mode():
        for part in np.array_split(images, max(1, len(images) // 128)):
            x = (torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255 - mean) / std
            out.append(model.forward_head(model.forward_features(x), pre_logits=True))
    return torch.cat(out).numpy()


def pixel_features(images: np.ndarray, size: int) -> np.ndarray:
    "Area-averaged RGB, (n, 3 size²)"
    step = 96 // size
    return images.reshape(len(images), size, step, size, step, 3).mean((2, 4)).reshape(len(images), -1) / 255


def _probe(c: float, balanced: bool):
    return make_pipeline(
        StandardScaler(),
        LogisticRegression(C=c, max_iter=1000, tol=1e-3, class_weight="balanced" if balanced else None),
    )


def _fit_predict(x, data: Data, train: np.ndarray, test: np.ndarray, inner) -> np.ndarray:
    "Predictions of the probe whose penalty does best on the inner splits of the training part"
    score = balanced_accuracy_score if data.balanced else accuracy_score
    x, y = x.astype(np.float32), data.labels
    best = max(
        PENALTIES,
        key=lambda c: np.mean([score(y[v], _probe(c, data.balanced).fit(x[t], y[t]).predict(x[v])) for t, v in inner]),
    )
    return _probe(best, data.balanced).fit(x[train], y[train]).predict(x[test])


def predict_set(x: np.ndarray, data: Data) -> np.ndarray:
    "Predicted class of every image for testing; '' for the others"
    pred = np.full(len(x), "", data.labels.dtype)
    if data.split is not None:
        train, val, test = (np.flatnonzero(data.split == s) for s in ("train", "val", "test"))
        pred[test] = _fit_predict(x, data, train, test, [(train, val)])
        return pred
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(x, data.labels, data.groups):
        folds = StratifiedGroupKFold(3, shuffle=True, random_state=1).split(
            x[train], data.labels[train], data.groups[train]
        )
        pred[test] = _fit_predict(x, data, train, test, [(train[t], train[v]) for t, v in folds])
    return pred


def bootstrap(correct: np.ndarray, data: Data, draws=4000, seed=0) -> np.ndarray:
    "Scores (methods, 1 + draws) of `correct` (methods, n): the observed one, then resamples of whole source images"
    _, group = np.unique(data.groups, return_inverse=True)
    classes, label = np.unique(data.labels, return_inverse=True)
    if not data.balanced:
        label[:] = 0
    cells = np.zeros((1 + len(correct), group.max() + 1, label.max() + 1))
    for table, value in zip(cells, [np.ones(len(group)), *correct], strict=True):
        np.add.at(table, (group, label), value)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(cells[0]), np.full(len(cells[0]), 1 / len(cells[0])), draws)
    total, *hits = np.einsum("dg,mgc->mdc", np.concatenate([np.ones((1, len(cells[0]))), counts]), cells)
    return np.stack([np.nanmean(np.where(total > 0, h / np.maximum(total, 1), np.nan), -1) for h in hits])


def compare_set(name: str, data: Data, weights: str | None = None, seeds: int = 3, cache: str | None = None) -> dict:
    "Scores of all methods on one set, and by how much the pretrained features are ahead of the best opponents"
    features = {"pocket_vit": lambda: pocket_features(data.images, weights)}
    features |= {f"untrained {s}": functools.partial(pocket_features, data.images, seed=s) for s in range(seeds)}
    features |= {f"pixels {s}": functools.partial(pixel_features, data.images, s) for s in (16, 32)}
    tested = np.ones(len(data.labels), bool) if data.split is None else data.split == "test"
    part = Data(data.images, data.labels[tested], data.groups[tested], data.balanced)
    correct = []
    for method, make in features.items():
        file = Path(cache or "", f"{name} {method}.npy")
        kept = cache and method != "pocket_vit" and file.exists()
        correct.append(np.load(file) if kept else (predict_set(make(), data) == data.labels)[tested])
        if cache and method != "pocket_vit":
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, correct[-1])
    scores = dict(zip(features, bootstrap(np.stack(correct), part), strict=True))
    row = {
        "set": name,
        "n": int(tested.sum()),
        "classes": len(set(part.labels)),
        "score": "balanced accuracy" if data.balanced else "accuracy",
    }
    best = {
        k: max((m for m in scores if m.startswith(k)), key=lambda m: scores[m][0])
        for k in ("pocket_vit", "untrained", "pixels")
    }
    for key, method in best.items():
        row[key] = [round(float(v), 4) for v in (scores[method][0], *np.percentile(scores[method][1:], (2.5, 97.5)))]
    for key in ("untrained", "pixels"):
        gap = scores["pocket_vit"] - scores[best[key]]
        row[f"ahead of {key}"] = [round(float(v), 4) for v in (gap[0], *np.percentile(gap[1:], (2.5, 97.5)))]
    return row | {"all": {k: round(float(v[0]), 4) for k, v in scores.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a safetensors file instead of the embedded weights")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--cache", help="folder to keep the opponents' answers in, for trying several weights")
    parser.add_argument("--save", help="write the figures to this JSON file too")
    args, started, rows = parser.parse_args(), time.monotonic(), []
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(machine)
    columns = ("pocket_vit", "untrained", "pixels", "ahead of untrained", "ahead of pixels")
    print(f"{'set':<16}{'n':>5} {'score':<18}" + "".join(f"{c:<23}" for c in columns))
    for name in args.sets:
        if not (SHARED / name).is_dir():
            print(f"{name:<16} skipped: {name} is not in the folder of shared data")
            continue
        row = compare_set(name, SETS[name](), args.weights, cache=args.cache)
        rows.append(row)
        print(
            f"{name:<16}{row['n']:>5} {row['score']:<18}"
            + "".join(f"{'{:.3f} [{:.3f}, {:.3f}]'.format(*row[c]):<23}" for c in columns),
            flush=True,
        )
    holds = all(min(r["ahead of untrained"][1], r["ahead of pixels"][1]) > 0 for r in rows) if rows else None
    record = {
        "benchmark": "pocket_vit",
        "holds": holds,
        "machine": machine,
        "seconds": round(time.monotonic() - started),
        "rows": rows,
    }
    if args.save:
        Path(args.save).write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
