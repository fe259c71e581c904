"""Compare the adaptation of a vision transformer: cvbench, HF Trainer with peft, and timm with peft in a plain loop.

    python benchmarks/adapt.py [--only k4 k1 head k12 accuracy sweep embed] [--rounds 3] [--images 96] [--save FILE] [--resume FILE]

Real photos, one run; methods alternate within each round, and every training has its own process. The clock of a process
starts after its imports and stops when the training has ended: it includes decoding, cache building, validation after
every epoch and storing the result. Memory is the largest resident set of the process and its loader workers; shared pages
are counted once. Ratios are computed within a round; tables show their median and range. CPU time is shown too, because
other programs disturb it less; the ratios of the last line are those of the clock.

k4, k1, head, k12   ten epochs at the same hyper-parameters: LoRA in the last k of 12 blocks (or the head alone), random weights
accuracy            real features: seconds until cvbench with default settings reaches the best validation accuracy of the usual
                    recipe (HF Trainer, LoRA in q, k, v of all blocks, random crops and flips, the better of two learning
                    rates, whose search is not counted), and the test images that each of the two predicts correctly;
                    all methods use bfloat16 if the processor supports it, otherwise and in all other parts fp32
sweep               16 Optuna trials over blocks, rank and learning rate, the same pruner and seed on both sides
embed               images per second with `embed`, against the best runtime called directly (benchmarks/embed.py)

With the defaults it takes two hours on two cores; --images 320 --accuracy-images 0 uses all photos.
It may be interrupted: with --resume FILE every finished training is recorded there and not run again.
The photos are read from ../shared/data (or CVBENCH_SHARED) and are not part of the project. The last line is JSON.
"""

import argparse
import functools
import gc
import importlib.util
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

SHARED = Path(os.environ.get("CVBENCH_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
SHAPES = ("vit_tiny_patch16_224", "vit_small_patch16_224")
PARTS = ("k4", "k1", "head", "k12", "accuracy", "sweep", "embed")
KEYS = (
    "k4_ratio", "k4_4views_ratio", "k1_ratio", "head_ratio", "k12_vs_timm", "time_to_accuracy_ratio", "sweep_ratio",
    "embed_vs_best",
)  # fmt: skip
NAMES = {"trainer": "HF Trainer + peft", "loop": "timm + peft", "cvbench": "cvbench"}

# Settings of every method. `default` lets cvbench choose everything except the seed; `rows` are path, label, split, sample_id.
JOB = {
    "method": "cvbench", "backbone": SHAPES[0], "rows": [], "classes": [], "ref": "", "folder": "",
    "blocks": 4, "r": 8, "lr": 1e-3, "weight_decay": 0.01, "warmup": 0.1, "schedule": "cosine",
    "epochs": 10, "batch": 32, "augment": "none", "views": 1, "seed": 0, "workers": 2,
    "precision": "fp32", "default": False, "predict": False,
}  # fmt: skip
USUAL = {"blocks": 12, "augment": "usual", "warmup": 0.0, "weight_decay": 0.0, "schedule": "linear"}
SPACE = {"blocks": [1, 2, 4], "r": [4, 8, 16], "lr": {"low": 2e-4, "high": 1e-2}}


# Both sides


def open_module(backbone: str, classes: int, seed: int = 0):
    "A timm module with a classifier: real features for the names below, random weights for any other name"
    import timm
    import torch

    import cvbench.model.pocket  # noqa: F401  registers pocket_vit with timm

    torch.manual_seed(seed)
    if backbone == "deit_tiny_clipped":
        spec = importlib.util.spec_from_file_location("load", SHARED / backbone / "load.py")
        load = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(load)
        return load.build(classes)
    if backbone == "deit_tiny_plain":
        overlay = {"file": str(SHARED / backbone / "model.safetensors")}
        return timm.create_model(
            "deit_tiny_patch16_224", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes
        )
    return timm.create_model(backbone, pretrained=backbone == "pocket_vit", num_classes=classes)


# Our side


def open_backbone(name: str):
    "The weights of the opponents, opened by cvbench"
    from cvbench.model.backbones import create_backbone

    if name == "deit_tiny_clipped":
        return create_backbone(open_module(name, 0))
    if name == "deit_tiny_plain":
        return create_backbone("deit_tiny_patch16_224", weights=SHARED / name / "model.safetensors")
    return create_backbone(name, pretrained=name == "pocket_vit")


def run_cvbench(job: dict) -> dict:
    "`create_model` and `train`, with a store that holds the committed images and nothing else"
    import peft  # noqa: F401  loaded by the adapters on first use; the clock starts after the imports

    from cvbench.data.versions import checkout
    from cvbench.inference.predict import predict
    from cvbench.model.adapters import LinearProbe, LoRA
    from cvbench.model.models import create_model
    from cvbench.search.presets import choose
    from cvbench.training.recipe import Recipe
    from cvbench.training.train import train

    start, used, epochs = time.perf_counter(), cpu_seconds(), []

    def on_epoch(entry: dict) -> None:
        at = {"at": time.perf_counter() - start, "cpu": cpu_seconds() - used}
        epochs.append(at | {k: entry[k] for k in ("val_accuracy", "val_loss")})

    ds = checkout(job["ref"])
    backbone = open_backbone(job["backbone"])
    precision = "auto" if job["precision"] == "bf16" else "fp32"
    if job["default"]:
        choice = choose(backbone, ds, seed=job["seed"], precision=precision)
        backbone, adapter, recipe, why = choice.backbone, choice.adapter, choice.recipe, choice.why
    else:
        lora = LoRA(r=job["r"], blocks=job["blocks"], targets="attention")
        adapter, why = lora if job["blocks"] else LinearProbe(), "as the others"
        same = {k: job[k] for k in ("epochs", "lr", "weight_decay", "warmup", "augment", "views", "seed")}
        recipe = Recipe(**same, batch_size=job["batch"], probe_init=False, precision=precision)
    model = create_model(backbone, ds, adapter=adapter, seed=job["seed"])
    run = train(model, ds, recipe, on_epoch=on_epoch, tracker="off")
    out = {"seconds": time.perf_counter() - start, "epochs": epochs, "cache": run.summary.get("cache"), "why": why}
    if job["predict"]:
        table = predict(model, ds.split("test"))
        by_id = dict(zip(table.table["sample_id"].to_pylist(), table.scores.tolist(), strict=True))
        out["test"] = [by_id[r["sample_id"]] for r in job["rows"] if r["split"] == "test"]
    return out


def run_cvbench_sweep(job: dict) -> dict:
    "`sweep` over the same space"
    import optuna  # noqa: F401
    import peft  # noqa: F401

    from cvbench.data.versions import checkout
    from cvbench.model.adapters import LoRA
    from cvbench.search.sweep import sweep
    from cvbench.training.recipe import Recipe

    start = time.perf_counter()
    space = {k: v if isinstance(v, list) else (v["low"], v["high"], "log") for k, v in job["space"].items()}
    same = {k: job[k] for k in ("epochs", "lr", "weight_decay", "warmup", "augment", "views")}
    precision = "auto" if job["precision"] == "bf16" else "fp32"
    found = sweep(
        open_backbone(job["backbone"]), checkout(job["ref"]), space, trials=job["trials"], seed=job["seed"],
        adapter=LoRA(r=job["r"], blocks=job["blocks"], targets="attention"), pruner="median", tracker="off",
        recipe=Recipe(**same, batch_size=job["batch"], precision=precision, probe_init=False),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    trials = found.table[["blocks", "r", "lr", "epochs", "state"]].to_dict("records")
    return {"seconds": seconds, "best": float(found.table["val_accuracy"].max()), "trials": trials}


def work(file: str) -> None:
    "Run one job in this process; adds `cpu_seconds`, including the loader workers"
    import torch

    job = json.loads(Path(file).read_text())
    torch.set_num_threads(job["threads"])
    if job["method"].startswith("cvbench"):  # neither side loads the other's libraries
        import cvbench.search.presets
        import cvbench.search.sweep  # noqa: F401

        methods = {"cvbench": run_cvbench, "cvbench sweep": run_cvbench_sweep}
    else:
        from _opponents import METHODS as methods
    before = cpu_seconds()
    out = methods[job["method"]](job)
    gc.collect()  # ends the loader workers; their time counts only after they have ended
    Path(file).with_suffix(".out").write_text(json.dumps(out | {"cpu_seconds": cpu_seconds() - before}))


def cpu_seconds() -> float:
    "CPU seconds of this process and of its children that have ended"
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


# Data


def list_photos(name: str, folder: Path) -> list:
    "Samples of one set; `magnetic_tile` names the physical tile of each photo, `digits` are written to files"
    from cvbench.core.digits import read_digits
    from cvbench.core.types import Sample, Target
    from cvbench.data.readers import read_folder

    if name == "clothing_small":
        return list(read_folder(SHARED / name))
    if name == "digits":
        (folder / "digits").mkdir(exist_ok=True)
        samples = []
        for s in read_digits():
            (folder / s.uri).write_bytes(s.read())
            samples.append(Sample(str(folder / s.uri), None, s.target, s.split))
        return samples
    import numpy as np
    from PIL import Image
    from pocket_vit import _same_tile, _squash

    files = sorted((SHARED / name).rglob("*.jpg"))
    tiles = _same_tile(files, np.stack([_squash(Image.open(f)) for f in files]))
    labels = [next(p for p in f.parts if p.startswith("MT_")) for f in files]
    return [
        Sample(str(f), None, Target(labels=(label,)), meta={"tile": int(t)})
        for f, label, t in zip(files, labels, tiles, strict=True)
    ]


def prepare(name: str, folder: Path, most: dict[str, int] | None = None) -> dict:
    "Commit a set with a maximum number of images per split, and list the committed images for the opponents"
    from cvbench.data.commit import commit

    samples, chosen = list_photos(name, folder), []
    if most:
        for split, n in most.items():
            part = sorted((s for s in samples if s.split == split), key=lambda s: s.uri)
            chosen += [part[i * len(part) // n] for i in range(min(n, len(part)))] if n else []
    start = time.perf_counter()
    size = "-".join(str(n) for n in (most or {}).values()) or "all"
    ratios = {k: 1.0 for k, n in most.items() if n} if most else None
    group = "tile" if name == "magnetic_tile" else None
    ds = commit(chosen or samples, name=f"{name}-{size}", ratios=ratios, group=group)
    seconds = time.perf_counter() - start
    columns = ["uri", "target", "split", "sample_id", *(["tile"] if "tile" in ds.metadata else [])]
    rows = [
        {"path": r["uri"], "label": r["target"]["labels"][0], "group": r.get("tile", r["sample_id"])} | r
        for r in ds.table(columns).to_pylist()
    ]
    rows = [{k: r[k] for k in ("path", "label", "split", "sample_id", "group")} for r in rows]
    return {"ref": ds.ref, "classes": list(ds.classes), "rows": rows, "commit_seconds": seconds, "name": name}


def count(data: dict, split: str) -> int:
    return sum(r["split"] == split for r in data["rows"])


# Measuring


def memory(process) -> float:
    "Resident MB of a process and all its children, shared pages counted once"
    import psutil

    total = 0
    try:
        for p in [process, *process.children(recursive=True)]:
            total += p.memory_full_info().pss
    except psutil.Error:  # one of them has just ended
        return 0.0
    return total / 2**20


def measure(args, job: dict) -> dict:
    "Run a job in its own process, with an empty cache; adds `peak_mb`"
    import psutil

    from cvbench.core.files import fingerprint, write_json

    store, file = Path(os.environ["CVBENCH_STORE"]), args.folder / "job.json"
    for left in ("cache", "runs", "models", "sweeps"):
        shutil.rmtree(store / left, ignore_errors=True)
    job = JOB | {"threads": args.threads, "precision": args.precision or "fp32"} | job
    rows = [{k: v for k, v in r.items() if k != "path"} for r in job["rows"]]
    if (key := fingerprint(job | {"rows": rows})) in args.known:
        return args.known[key]
    job["folder"] = str(args.folder / "trainer")
    file.write_text(json.dumps(job))
    threads = {k: str(args.threads) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    log = args.folder / "log.txt"
    with log.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, __file__, "--job", str(file)], env=os.environ | threads, stdout=out, stderr=out
        )
        watched, peak = psutil.Process(child.pid), 0.0
        try:
            while child.poll() is None:
                peak = max(peak, memory(watched))
                time.sleep(0.3)
        finally:
            child.kill()
    if child.wait():
        raise RuntimeError(f"{job['method']} failed: {log.read_text()[-3000:]}")
    args.known[key] = json.loads(file.with_suffix(".out").read_text()) | {"peak_mb": peak}
    if args.resume:
        write_json(args.resume, args.known)
    return args.known[key]


def in_turn(args, jobs: dict[str, dict], first: dict[str, dict] | None = None) -> dict[str, list[dict]]:
    "Rounds of all jobs, each round starting with a different one; existing results of the first round are reused"
    out, names = {name: [] for name in jobs}, list(jobs)
    for k in range(args.rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            known = (first or {}).get(name) if k == 0 else None
            result = known or measure(args, {"seed": k} | jobs[name])
            out[name].append(result)
            print(f"  round {k + 1}  {name:<24}{result['seconds']:8.1f} s{result['peak_mb']:8.0f} MB", file=sys.stderr)
    return out


def epoch_seconds(result: dict) -> float:
    "Median over the epochs after the first"
    at = [e["at"] for e in result["epochs"]]
    return statistics.median(b - a for a, b in zip(at, at[1:], strict=False)) if len(at) > 1 else float("nan")


def pick_workers(args, job: dict) -> int:
    "Number of loader workers that gives an opponent its shortest epochs"
    few = [r for split in ("train", "val") for r in [r for r in job["rows"] if r["split"] == split][:64]]
    tried = {
        w: epoch_seconds(measure(args, job | {"workers": w, "epochs": 3, "rows": few, "predict": False}))
        for w in (0, 2)
    }
    return min(tried, key=tried.get)


def spread(values: list[float], digits: int = 2) -> str:
    "Median (least to most)"
    if any(v is None for v in values) or not values:
        return "never"
    if any(math.isnan(v) for v in values):
        return "–"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratios(theirs: list[dict], ours: list[dict], key: str = "seconds") -> list[float]:
    return [a[key] / b[key] for a, b in zip(theirs, ours, strict=True)]


# Limit by the number of operations


@functools.cache
def flops(backbone: str, blocks: int) -> dict[str, float]:
    "Operations per image: a forward pass, a training step with LoRA, one block, and the part of a block that only the class token needs"
    import torch
    from _opponents import add_adapter
    from torch.utils.flop_counter import FlopCounterMode

    module = open_module(backbone, 10)
    for m in module.modules():
        if hasattr(m, "fused_attn"):
            m.fused_attn = False  # its attention kernel is not counted
    size, width = module.patch_embed.img_size[0], module.embed_dim
    x, tokens = torch.randn(1, 3, size, size), module.patch_embed.num_patches + module.num_prefix_tokens
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        module(x)
    with torch.no_grad(), FlopCounterMode(display=False) as block:
        module.blocks[0](torch.randn(1, tokens, width))
    net = add_adapter(module, JOB | {"blocks": blocks}).train()
    with FlopCounterMode(display=False) as step:
        net(x).sum().backward()
    one = (4 * tokens + 20) * width**2 + 4 * tokens * width  # keys, values of all tokens; the rest of one token
    share = one / block.get_total_flops() if module.global_pool == "token" else 1.0
    totals = {"forward": whole, "step": step, "block": block}
    return {k: v.get_total_flops() for k, v in totals.items()} | {"last_share": share}


def work_of(job: dict, train: int, val: int, depth: int = 12) -> tuple[float, float, float]:
    "Operations of a full epoch, of an epoch that reads the frozen part and computes only what the head reads, and of the frozen part"
    from cvbench.model.preprocessing import count_views

    k = job["blocks"]
    f, less = flops(job["backbone"], k), flops(job["backbone"], max(0, k - 1))
    prefix = f["forward"] - k * f["block"] if k < depth else 0.0
    spared = (1 - f["last_share"]) * f["block"] if k else 0.0
    spared_step = spared + (1 - f["last_share"]) * (f["step"] - less["step"])
    plain = train * f["step"] + val * f["forward"]
    rest = train * (f["step"] - prefix - spared_step) + val * (f["forward"] - prefix - spared)
    views = count_views(job.get("views", 1), job["epochs"] - 1, job["epochs"])
    return plain, rest, (train * views + val) * prefix


def limit(job: dict, train: int, val: int) -> float:
    "Upper limit of the ratio, from the number of operations"
    plain, rest, prefix = work_of(job, train, val)
    return job["epochs"] * plain / (job["epochs"] * rest + prefix)


# Parts


def speed(args, part: str, blocks: int, views: int = 1) -> dict:
    "Ten epochs at the same hyper-parameters, on both shapes"
    out, workers, against = {}, None, "loop" if part == "k12" else "trainer"
    for backbone in args.shapes:
        n = args.images if backbone == SHAPES[0] else args.images // 2
        data = prepare("clothing_small", args.folder, {"train": n, "val": n // 4})
        job = {
            "backbone": backbone,
            "blocks": blocks,
            "epochs": args.epochs,
            "augment": "light" if views > 1 else "none",
        }
        job |= {k: data[k] for k in ("rows", "classes", "ref")}
        rivals = [r for r in args.rivals if views == 1 or r == against]
        workers = workers or {r: pick_workers(args, job | {"method": r}) for r in rivals}
        jobs = {r: job | {"method": r, "workers": workers[r]} for r in rivals}
        done = in_turn(args, jobs | {"cvbench": job | {"views": views}})
        most = limit(job | {"views": views}, count(data, "train"), count(data, "val"))
        what = f"LoRA in the last {blocks} of 12 blocks" if blocks else "head only"
        print(
            f"\n{what}, {views} view{'s' * (views > 1)}: {backbone}, {n} + {count(data, 'val')} photos, {args.epochs} epochs"
        )
        print(f"  {'':<20}{'s an epoch':>22}{'s in all':>24}{'peak MB':>10}{'ratio to cvbench':>22}{'by CPU time':>22}")
        for name, results in done.items():
            ratio, by_cpu = (ratios(results, done["cvbench"], key) for key in ("seconds", "cpu_seconds"))
            loaders = f", {workers[name]} workers" if name in jobs else ""
            print(
                f"  {NAMES[name]:<20}{spread([epoch_seconds(r) for r in results]):>22}"
                f"{spread([r['seconds'] for r in results], 1):>24}{max(r['peak_mb'] for r in results):>10.0f}"
                f"{spread(ratio) if name in jobs else '':>22}{spread(by_cpu) if name in jobs else '':>22}{loaders}"
            )
            out.setdefault(backbone, {})[name] = {
                "seconds": [r["seconds"] for r in results], "epoch": [epoch_seconds(r) for r in results],
                "cpu": [r["cpu_seconds"] for r in results], "ratio_by_cpu": by_cpu,
                "peak_mb": [r["peak_mb"] for r in results], "ratio": ratio, "job": {k: v for k, v in job.items() if k != "rows"},
                "workers": workers.get(name),
            }  # fmt: skip
        print(f"  arithmetic limit {most:.2f}; {done['cvbench'][0]['cache'] or 'no cache'}", flush=True)
        out[backbone]["limit"] = most
    out["ratio"] = min(statistics.median(out[b][against]["ratio"]) for b in args.shapes)
    return out


def pick_rate(args, usual: dict) -> tuple[float, dict]:
    "Learning rate with the best validation accuracy of the usual recipe, and the training with it"
    tried = {r: measure(args, usual | {"lr": r, "seed": 0}) for r in args.usual_lr}
    best = max(tried, key=lambda r: best_accuracy(tried[r]))
    return best, tried[best]


def best_accuracy(result: dict) -> float:
    return max(e["val_accuracy"] for e in result["epochs"])


def reached(result: dict, accuracy: float, clock: str = "at") -> float | None:
    "Seconds until the first epoch with that validation accuracy; CPU seconds for the clock `cpu`"
    return next((e[clock] for e in result["epochs"] if e["val_accuracy"] >= accuracy - 1e-9), None)


def accuracy(args) -> dict:
    "Default cvbench against the usual recipe: seconds to its accuracy, and correct test images of both"
    precision = args.precision or natural_precision()
    out = {"cells": [], "precision": precision}
    clothing = (
        {"train": args.accuracy_images, "val": args.accuracy_images // 2, "test": 372} if args.accuracy_images else None
    )
    cells = [(s, b) for s in ("clothing_small", "magnetic_tile") for b in args.backbones] + [("digits", "pocket_vit")]
    cells = [c for c in cells if not args.cells or "/".join(c) in args.cells]
    print(
        f"\nDefault recipe against the usual one (HF Trainer, LoRA in all blocks, random crops and flips, 10 epochs), {precision}"
    )
    for name, backbone in cells:
        data = prepare(name, args.folder, clothing if name == "clothing_small" else None)
        job = {"backbone": backbone, "predict": True, "precision": precision} | {
            k: data[k] for k in ("rows", "classes", "ref")
        }
        usual = job | USUAL | {"method": "trainer", "epochs": args.epochs, "lr": args.usual_lr[0]}
        usual["workers"] = pick_workers(args, usual)
        usual["lr"], first = pick_rate(args, usual)
        done = in_turn(args, {"trainer": usual, "cvbench": job | {"default": True}}, {"trainer": first})
        cell = accuracy_cell(name, backbone, data, done) | {"usual_lr": usual["lr"]}
        out["cells"].append(cell)
        print_cell(cell)
    per_cell = [c["ratio"] for c in out["cells"] if c["set"] != "digits"]
    out["ratio"] = None if any(r is None for r in per_cell) else min(per_cell)
    out["not_worse"] = all(c["not_worse"] for c in out["cells"])
    return out


def accuracy_cell(name: str, backbone: str, data: dict, done: dict[str, list[dict]]) -> dict:
    "Figures of one set and backbone over all rounds; a round that never reaches the accuracy counts as a ratio of 0"
    target = [best_accuracy(r) for r in done["trainer"]]
    theirs, ours = ([reached(r, t) for r, t in zip(done[m], target, strict=True)] for m in ("trainer", "cvbench"))
    each = [a / b if b else 0.0 for a, b in zip(theirs, ours, strict=True)]
    their_cpu, our_cpu = ([reached(r, t, "cpu") for r, t in zip(done[m], target, strict=True)] for m in done)
    by_cpu = [a / b if b else 0.0 for a, b in zip(their_cpu, our_cpu, strict=True)]
    with_commit = [a / (b + data["commit_seconds"]) if b else 0.0 for a, b in zip(theirs, ours, strict=True)]
    test = [r for r in data["rows"] if r["split"] == "test"]
    sides = {m: [answers(data, test, r["test"], f"{m}-{k}") for k, r in enumerate(done[m])] for m in done}
    difference, half = paired(test, *(sides[m] for m in ("trainer", "cvbench")))
    return {
        "set": name, "backbone": backbone, "images": {s: count(data, s) for s in ("train", "val", "test")},
        "target": target, "best": [best_accuracy(r) for r in done["cvbench"]],
        "usual_seconds_to_best": theirs, "usual_seconds": [r["seconds"] for r in done["trainer"]],
        "seconds_to_accuracy": ours, "seconds": [r["seconds"] for r in done["cvbench"]], "ratios": each,
        "ratios_by_cpu": by_cpu, "ratio": statistics.median(each) or None, "ratio_with_commit": statistics.median(with_commit) or None,
        "peak_mb": {m: max(r["peak_mb"] for r in done[m]) for m in done},
        "test_accuracy": {m: [right(p) for p in sides[m]] for m in sides}, "commonest": commonest(data), "epochs": {m: [r["epochs"] for r in done[m]] for m in done},
        "difference": difference, "half_width": half, "not_worse": difference + half >= 0,
        "why": done["cvbench"][0]["why"], "sentence": sentence(*(sides[m][0] for m in ("trainer", "cvbench"))),
    }  # fmt: skip


def answers(data: dict, test: list[dict], scores: list, model: str):
    "Predictions for the test images"
    import numpy as np

    from cvbench.core.predictions import make_predictions

    p = np.asarray(scores, float)
    p /= p.sum(1, keepdims=True)
    ids, labels = [r["sample_id"] for r in test], [r["label"] for r in test]
    own = {"source": [str(r["group"]) for r in test]}
    return make_predictions(
        labels, p, data["classes"], "classification", ids, metadata=own, model_id=model, dataset_version=data["ref"]
    )


def commonest(data: dict) -> dict[str, float]:
    "Accuracy on val and test of always predicting the most common class of the training images"
    labels = {s: [r["label"] for r in data["rows"] if r["split"] == s] for s in ("train", "val", "test")}
    usual = statistics.mode(labels.pop("train"))
    return {s: statistics.mean(label == usual for label in found) for s, found in labels.items()}


def right(predictions) -> float:
    t = predictions.table
    return statistics.mean(a == b for a, b in zip(t["pred"].to_pylist(), t["target"].to_pylist(), strict=True))


def paired(test: list[dict], theirs: list, ours: list) -> tuple[float, float]:
    "Difference of the accuracies over all rounds, ours minus theirs, and half its 95 % interval over sources of images"
    import numpy as np

    def share(side: list) -> np.ndarray:
        tables = [p.table for p in side]
        return np.mean([np.array(t["pred"].to_pylist()) == np.array(t["target"].to_pylist()) for t in tables], 0)

    gap = share(ours) - share(theirs)
    _, group = np.unique([str(r["group"]) for r in test], return_inverse=True)
    error = np.bincount(group, gap - gap.mean())
    return float(gap.mean()), float(1.96 * np.sqrt((error**2).sum() * len(error) / max(1, len(error) - 1)) / len(gap))


def sentence(theirs, ours) -> str:
    "cvbench's own verdict on the first round, photos of one source taken together"
    from cvbench.evaluation.compare import compare

    repeated = len(set(theirs.table["source"].to_pylist())) < len(theirs)
    return compare(theirs, ours, group="source" if repeated else None).sentence


def print_cell(c: dict) -> None:
    test = {m: 100 * statistics.mean(v) for m, v in c["test_accuracy"].items()}
    images = " + ".join(str(n) for n in c["images"].values())
    times = "never" if None in c["seconds_to_accuracy"] else spread(c["seconds_to_accuracy"], 1)
    print(
        f"\n  {c['set']}, {c['backbone']}: {images} photos; cvbench: {c['why']}\n"
        f"    validation accuracy: usual {spread(c['target'], 3)} at a learning rate of {c['usual_lr']:g}, cvbench {spread(c['best'], 3)}\n"
        f"    seconds to the accuracy of the usual recipe: usual {spread(c['usual_seconds_to_best'], 1)} "
        f"(all of it {spread(c['usual_seconds'], 1)}), cvbench {times} (all of it {spread(c['seconds'], 1)})\n"
        f"    ratio {spread(c['ratios'])}, by CPU time {spread(c['ratios_by_cpu'])}, peak MB {c['peak_mb']['trainer']:.0f} and {c['peak_mb']['cvbench']:.0f}\n"
        f"    test accuracy: usual {test['trainer']:.1f} %, cvbench {test['cvbench']:.1f} %, difference "
        f"{100 * c['difference']:+.1f} ± {100 * c['half_width']:.1f} points: "
        f"{'not worse' if c['not_worse'] else 'WORSE'} beyond noise\n    first round: {c['sentence']}\n"
        f"    always the commonest class: {c['commonest']['val']:.3f} of val, {100 * c['commonest']['test']:.1f} % of test",
        flush=True,
    )


def sweep(args) -> dict:
    "Sixteen trials, with the same first trial, sampler seeds and pruner on both sides"
    n = args.images * 3 // 4
    data = prepare("clothing_small", args.folder, {"train": n, "val": n // 2})
    job = {"backbone": args.backbones[0], "epochs": 4, "trials": 16, "space": SPACE}
    job |= {k: data[k] for k in ("rows", "classes", "ref")}
    theirs = job | {"method": "trainer sweep"}
    theirs["workers"] = pick_workers(args, job | {"method": "trainer", "blocks": 2})
    done = in_turn(args, {"trainer": theirs, "cvbench": job | {"method": "cvbench sweep"}})
    each, by_cpu = (ratios(done["trainer"], done["cvbench"], key) for key in ("seconds", "cpu_seconds"))
    most = [sweep_limit(job, data, a["trials"], b["trials"]) for a, b in zip(*done.values(), strict=True)]
    print(f"\nSweep of 16 trials: {job['backbone']}, {n} + {n // 2} photos, at most 4 epochs")
    for name, results in done.items():
        epochs = [sum(t["epochs"] for t in r["trials"]) for r in results]
        print(
            f"  {NAMES[name]:<20}{spread([r['seconds'] for r in results], 1)} s, peak {max(r['peak_mb'] for r in results):.0f} MB, "
            f"epochs {spread(epochs, 0)}, best validation accuracy {spread([r['best'] for r in results], 3)}"
        )
    print(
        f"  ratio {spread(each)}, by CPU time {spread(by_cpu)}, arithmetic limit of these trials {spread(most)}",
        flush=True,
    )
    return {"ratio": statistics.median(each), "ratios": each, "ratios_by_cpu": by_cpu, "limits": most, "done": done}


def sweep_limit(job: dict, data: dict, theirs: list[dict], ours: list[dict]) -> float:
    "Like `limit`, for the trained epochs; the frozen part is computed once for each number of blocks"
    n, m = count(data, "train"), count(data, "val")
    plain = sum(t["epochs"] * work_of(job | t, n, m)[0] for t in theirs)
    rest = sum(t["epochs"] * work_of(job | t, n, m)[1] for t in ours)
    prefix = {t["blocks"]: work_of(job | t, n, m)[2] for t in ours}
    return plain / (rest + sum(prefix.values()))


def embed(args) -> dict:
    "Run benchmarks/embed.py on six times as many photos"
    from embed import measure as measure_embed

    args.embed_images = 6 * args.images
    return measure_embed(args)


def machine(args) -> str:
    "Cores, processor features, and versions"
    import accelerate
    import optuna
    import peft
    import timm
    import torch
    import transformers

    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    flags = (
        ", ".join(k for k in ("avx2", "avx512_f", "avx512_bf16", "avx512_vnni", "amx_bf16") if able.get(k))
        or "none known"
    )
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, timm, peft, transformers, accelerate, optuna))
    precision = args.precision or f"fp32, accuracy in {natural_precision()}"
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores ({flags}), {args.threads} threads, {precision}; {versions}"


def natural_precision() -> str:
    "bf16 where the processor computes in it"
    import torch

    from cvbench.model.preprocessing import has_bfloat16

    return "bf16" if has_bfloat16(torch.device("cpu")) else "fp32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=96, help="training photos of vit_tiny; half as many for vit_small"
    )
    parser.add_argument("--accuracy-images", type=int, default=300, help="training photos of clothing_small; 0 for all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--rivals", nargs="*", default=["trainer", "loop"], choices=("trainer", "loop"))
    parser.add_argument("--backbones", nargs="*", default=["deit_tiny_clipped", "pocket_vit"])
    parser.add_argument(
        "--usual-lr", type=float, nargs="*", default=[1e-3, 5e-3], help="tried first; the best is the usual recipe's"
    )
    parser.add_argument("--cells", nargs="*", help="of accuracy only these, such as magnetic_tile/pocket_vit")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"),
        help="bf16: autocast, on all sides; by default fp32, and for accuracy bf16 where the processor computes in it",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--save", help="write all figures to this JSON file too")
    parser.add_argument(
        "--resume", help="note every training that ended in this JSON file, and make none that is in it"
    )
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        return work(args.job)
    args.folder, started = Path(tempfile.mkdtemp(prefix="adapt-")), time.monotonic()
    args.known = json.loads(Path(args.resume).read_text()) if args.resume and Path(args.resume).exists() else {}
    os.environ |= {"CVBENCH_STORE": str(args.folder / "store"), "CVBENCH_TRACKER": "off", "CVBENCH_DEVICE": "cpu"}
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    print(machine(args), flush=True)
    parts = {
        "k4": lambda: speed(args, "k4", 4), "k1": lambda: speed(args, "k1", 1), "head": lambda: speed(args, "head", 0),
        "k12": lambda: speed(args, "k12", 12), "accuracy": lambda: accuracy(args), "sweep": lambda: sweep(args),
        "embed": lambda: embed(args),
    }  # fmt: skip
    done = {}
    for part in args.only:
        try:
            done[part] = parts[part]()
            if part == "k4":
                done["k4_4views"] = speed(args, "k4", 4, views=4)
        except Exception:
            print(f"{part} failed\n{traceback.format_exc()}", flush=True)
    shutil.rmtree(args.folder, ignore_errors=True)
    parts_of = dict(zip(KEYS, ("k4", "k4_4views", "k1", "head", "k12", "accuracy", "sweep", "embed"), strict=True))
    line = {key: round_or_none(done.get(part, {}).get("ratio")) for key, part in parts_of.items()}
    line |= {"not_worse": done["accuracy"]["not_worse"] if "accuracy" in done else None}
    line |= {"benchmark": "adapt", "machine": machine(args), "seconds": round(time.monotonic() - started)}
    if args.save:
        Path(args.save).write_text(json.dumps(line | {"parts": done}, indent=1) + "\n")
    print(json.dumps(line))


def round_or_none(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


if __name__ == "__main__":
    main()
