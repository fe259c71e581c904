"""Evaluate `pocket_vit`: linear probes on sets of real images that it was not trained on.

    python benchmarks/pocket_vit.py [--weights FILE] [--sets clothing_small ...] [--save FILE] [--cache FOLDER]

On every set a logistic regression is trained on frozen features of the pretrained network, on those of the same network
untrained (three seeds), and on downsized pixels (16 x 16 and 32 x 32 RGB). Features are standardised, and the penalty is chosen
inside the training part. For the opponents, the variant that is best on the test part counts. Intervals and paired differences
are bootstrapped over sources: whole images if crops are scored, physical tiles if one tile was photographed several times.
The last two sets were defined before the current weights were scored on anything, and contain images that no earlier scoring
used: photos of the train and validation parts of `clothing_small`, and the objects of `coco128` whose class has 8 to 19 boxes.
The real sets are read from ../shared/data (or CVBENCH_SHARED) and are not part of the project.
"""

import argparse
import functools
import json
import math
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

import cvbench.model.pocket  # noqa: F401  registers pocket_vit

SHARED = Path(os.environ.get("CVBENCH_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass
class Data:
    "Images of one set, and their test part"

    images: np.ndarray  # (n, 96, 96, 3), uint8
    labels: np.ndarray  # (n,) class names
    groups: np.ndarray  # (n,) source of each: image, or physical tile
    balanced: bool  # whether the score is balanced accuracy
    split: np.ndarray | None = None  # (n,) train, val, test; cross-validated three times over groups if None


def _squash(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((96, 96), Image.Resampling.BICUBIC))


def _window(image: Image.Image, box, grow: float, least: float = 0) -> np.ndarray:
    "The square around a box (xyxy), moved inside the image if possible"
    (x0, y0, x1, y1), (w, h) = box, image.size
    side = min(max(grow * max(x1 - x0, y1 - y0), least), w, h)
    x, y = np.clip((x0 + x1 - side) / 2, 0, w - side), np.clip((y0 + y1 - side) / 2, 0, h - side)
    return _squash(image.crop([round(v) for v in (x, y, x + side, y + side)]))


def _crops(rows, least: int, most: int, seed=0, below=math.inf) -> Data:
    "Boxes (file, label, xyxy) of at least 4 px, of classes with `least` of them and fewer than `below`, at most `most` a class"
    rows = [r for r in rows if min(r[2][2] - r[2][0], r[2][3] - r[2][1]) >= 4]
    rows = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    counts, taken, chosen = Counter(r[1] for r in rows), Counter(), []
    for file, label, box in rows:
        if least <= counts[label] < below and taken[label] < most:
            taken[label] += 1
            chosen.append((file, label, box))
    images = np.stack([_window(Image.open(f), b, 1.25) for f, _, b in chosen])
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


def read_clothing_unseen() -> Data:
    "Every third photo that is in no test part; for cross-validation"
    data = read_clothing_small(every=3)
    kept = data.split != "test"
    return Data(data.images[kept], data.labels[kept], data.groups[kept], False)


def _same_tile(files: list[Path], images: np.ndarray) -> np.ndarray:
    "Group of each photo: a tile was photographed with six exposures in sequence, so file numbers are close or images similar"
    number = np.array([int(re.search(r"num_(\d+)", f.name)[1]) for f in files])
    small = pixel_features(images, 24).reshape(len(images), -1, 3).mean(-1)
    small -= small.mean(1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True) + 1e-9
    return connected_components((np.abs(number[:, None] - number) <= 200) | (small @ small.T >= 0.99))[1]


def _defect(file: Path) -> tuple[int, int, int, int] | None:
    "Box around the mask file of a photo; None if the mask is empty"
    y, x = np.nonzero(np.asarray(Image.open(file.with_suffix(".png")).convert("L")) >= 128)
    return (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else None


def read_magnetic_tile(seed: int = 0) -> Data:
    "Windows around the defects; for photos without a defect, a random window of the same size as one of those"
    files = sorted((SHARED / "magnetic_tile").rglob("*.jpg"))
    photos, boxes = [Image.open(f).convert("RGB") for f in files], [_defect(f) for f in files]
    rng, images = np.random.default_rng(seed), []
    sizes = [max(b[2] - b[0], b[3] - b[1]) for b in boxes if b]
    for photo, box in zip(photos, boxes, strict=True):
        x, y, size = *rng.uniform((0, 0), photo.size), rng.choice(sizes)
        images.append(_window(photo, box or (x - size / 2, y - size / 2, x + size / 2, y + size / 2), 1.6, least=64))
    labels = np.array([next(p for p in f.parts if p.startswith("MT_")) for f in files])
    return Data(np.stack(images), labels, _same_tile(files, np.stack([_squash(p) for p in photos])), True)


def read_bccd() -> Data:
    rows = []
    for file in sorted((SHARED / "bccd" / "Annotations").glob("*.xml")):
        for item in ET.parse(file).getroot().iter("object"):
            box = [float(item.find(f"bndbox/{k}").text) for k in ("xmin", "ymin", "xmax", "ymax")]
            rows.append((SHARED / "bccd" / "JPEGImages" / f"{file.stem}.jpg", item.findtext("name"), box))
    return _crops(rows, least=300, most=340)


def read_coco128(least: int = 20, below: float = math.inf) -> Data:
    data = json.loads((SHARED / "coco128" / "instances.json").read_text())
    name = {c["id"]: c["name"] for c in data["categories"]}
    files = {f.name: f for f in (SHARED / "coco128" / "images").rglob("*.jpg")}
    file = {i["id"]: files[Path(i["file_name"]).name] for i in data["images"]}
    rows = [
        (file[a["image_id"]], name[a["category_id"]], (x, y, x + w, y + h))
        for a in data["annotations"]
        for x, y, w, h in [a["bbox"]]
    ]
    return _crops(rows, least=least, most=400, below=below)


SETS = {
    "clothing_small": read_clothing_small,
    "magnetic_tile": read_magnetic_tile,
    "bccd": read_bccd,
    "coco128": read_coco128,
    "clothing_small, unseen": read_clothing_unseen,
    "coco128, rare": functools.partial(read_coco128, least=8, below=20),
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


def _fit_predict(x, data: Data, train: np.ndarray, test: np.ndarray, inner) -> np.ndarray:
    "Predictions for the test part by the probe whose penalty is best on the inner splits of the training part"
    y, score = data.labels, balanced_accuracy_score if data.balanced else accuracy_score
    z = ((x - x[train].mean(0)) / (x[train].std(0) + 1e-6)).astype(np.float32)
    if z.shape[1] > len(
        train
    ):  # a rotation; it changes no prediction, because directions outside the span of the training part have no weight
        z = z @ np.linalg.qr(z[train].T)[0]

    def fit(c, rows):
        weight = "balanced" if data.balanced else None
        return LogisticRegression(C=c, max_iter=1000, tol=1e-3, class_weight=weight).fit(z[rows], y[rows])

    best = max(PENALTIES, key=lambda c: np.mean([score(y[v], fit(c, t).predict(z[v])) for t, v in inner]))
    return fit(best, train).predict(z[test])


def answer(x: np.ndarray, data: Data, repeats: int = 3) -> np.ndarray:
    "For every image of the test part, whether it was correct: 0 or 1, or the mean over repeated cross-validation"
    if data.split is not None:
        train, val, test = (np.flatnonzero(data.split == s) for s in ("train", "val", "test"))
        return _fit_predict(x, data, train, test, [(train, val)]) == data.labels[test]
    correct = np.zeros((repeats, len(x)))
    for k in range(repeats):
        for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=k).split(x, data.labels, data.groups):
            folds = StratifiedGroupKFold(3, shuffle=True, random_state=k).split(
                x[train], data.labels[train], data.groups[train]
            )
            inner = [(train[t], train[v]) for t, v in folds]
            correct[k, test] = _fit_predict(x, data, train, test, inner) == data.labels[test]
    return correct.mean(0)


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
    "Scores of all methods on one set, and the lead of the pretrained features over the best opponents"
    features = {"pocket_vit": lambda: pocket_features(data.images, weights)}
    features |= {f"untrained {s}": functools.partial(pocket_features, data.images, seed=s) for s in range(seeds)}
    features |= {f"pixels {s}": functools.partial(pixel_features, data.images, s) for s in (16, 32)}
    tested = np.ones(len(data.labels), bool) if data.split is None else data.split == "test"
    part = Data(data.images, data.labels[tested], data.groups[tested], data.balanced)
    correct = []
    for method, make in features.items():
        file = Path(cache or "", f"{name} {method}.npy")
        kept = cache and method != "pocket_vit" and file.exists()
        correct.append(np.load(file) if kept else answer(make(), data))
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
    warnings.filterwarnings("ignore", "The least populated class|y_pred contains classes", UserWarning)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(machine)
    columns = ("pocket_vit", "untrained", "pixels", "ahead of untrained", "ahead of pixels")
    print(f"{'set':<24}{'n':>5} {'score':<18}" + "".join(f"{c:<23}" for c in columns))
    for name in args.sets:
        if not (SHARED / name.split(",")[0]).is_dir():
            print(f"{name:<24} skipped: {name} is not in the folder of shared data")
            continue
        row = compare_set(name, SETS[name](), args.weights, cache=args.cache)
        rows.append(row)
        print(
            f"{name:<24}{row['n']:>5} {row['score']:<18}"
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
