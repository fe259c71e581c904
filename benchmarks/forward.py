"""Seconds per image of a forward pass without gradients, by batch size.

    python benchmarks/forward.py [--models vit_tiny_patch16_224 …] [--batches 8 16 32 64] [--rounds 3] [--threads N] [--save FILE]

Random weights and random images; the network is split and optimised as for training. In float32 and, if the hardware
supports it, in bfloat16. The batch sizes alternate within each round. The last line is JSON: seconds at the batch size that
cvbench uses, as a share of those at the other sizes (median over rounds, least, most).
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import timm
import torch

from cvbench.model.backbones import create_backbone
from cvbench.model.partition import take_parts
from cvbench.model.preprocessing import autocast, forward_batch, has_bfloat16

CPU = torch.device("cpu")


@torch.no_grad()
def seconds_an_image(net: torch.nn.Module, x: torch.Tensor, batch: int, precision: str) -> float:
    start = time.perf_counter()
    with autocast(CPU, precision):
        for part in x.split(batch):
            net(part)
    return (time.perf_counter() - start) / len(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="*",
        default=["vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "convnext_tiny", "resnet50", "pocket_vit"],
    )  # fmt: skip
    parser.add_argument("--batches", nargs="*", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save", type=Path, help="write all figures to this JSON file too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.models:
        backbone = create_backbone(name, pretrained=False)
        size = backbone.transform.size
        net, own = take_parts(backbone.module, size, None)[0], forward_batch(CPU, size)
        x = torch.rand(max(args.batches), 3, size, size)
        for precision in ("fp32", "auto") if has_bfloat16(CPU) else ("fp32",):
            seconds_an_image(net, x[:own], own, precision)
            taken: dict[int, list[float]] = {b: [] for b in {*args.batches, own}}
            for _ in range(args.rounds):
                for batch, found in taken.items():
                    found.append(seconds_an_image(net, x, batch, precision))
            shares = {b: [a / c for a, c in zip(taken[own], t, strict=True)] for b, t in sorted(taken.items())}
            rows.append(
                {"model": name, "size": size, "own": own, "precision": precision, "ms": {b: [round(1e3 * v, 2) for v in t] for b, t in sorted(taken.items())},
                 "shares": {b: [round(f(s), 2) for f in (statistics.median, min, max)] for b, s in shares.items()}}
            )  # fmt: skip
            told = ", ".join(f"{b}: {1e3 * statistics.median(t):.1f}" for b, t in sorted(taken.items()))
            print(f"{name} at {size} px, {'bf16' if precision == 'auto' else precision}, ms an image by images at once: {told}", flush=True)  # fmt: skip
    record = {
        "benchmark": "forward", "rows": rows,
        "machine": f"{platform.system()} {platform.machine()}, {args.threads} threads; torch {torch.__version__}, timm {timm.__version__}",
    }  # fmt: skip
    if args.save:
        args.save.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({k: v for k, v in record.items() if k != "rows"} | {"shares": {f"{r['model']} {r['precision']}": {"own": r["own"]} | r["shares"] for r in rows}}))  # fmt: skip


if __name__ == "__main__":
    main()
