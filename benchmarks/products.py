"""Time the matrix product of a frozen layer: torch's own against the one that cvbench chooses.

    python benchmarks/products.py [--rounds 30]

Forward (x Wᵀ + b) and the gradient of the input (g W), float32, 32 images of 197 tokens, for the layers of two vision
transformers. Medians, and the ratio with its range over the middle half of the rounds. The last line is JSON.
"""

import argparse
import json
import os
import platform
import statistics
import time

import torch
import torch.nn.functional as F

from cvbench.model.matmul import product

LAYERS = {"vit_tiny": 192, "vit_small": 384}


def seconds(f) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=32 * 197)
    args = parser.parse_args()
    cpu = (
        torch.cpu.get_capabilities().get("cpu_name", "unknown") if hasattr(torch.cpu, "get_capabilities") else "unknown"
    )
    machine = f"{platform.system()} {platform.machine()}, {cpu}, {os.cpu_count()} cores, torch {torch.__version__}"
    print(f"{machine}\n{'layer':<26}{'torch ms':>10}{'cvbench ms':>12}{'GFLOP/s':>9}{'ratio':>22}")
    every = []
    for name, width in LAYERS.items():
        for out, into in ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width)):
            x, w, b = torch.randn(args.tokens, into), torch.randn(out, into), torch.randn(out)
            g = torch.randn(args.tokens, out)
            pairs = {
                "forward": (lambda: F.linear(x, w, b), lambda: product(x, w, b)),  # noqa: B023
                "backward": (lambda: g @ w, lambda: product(g, w.t())),  # noqa: B023
            }
            for way, (theirs, ours) in pairs.items():
                theirs(), ours()
                took = [(seconds(theirs), seconds(ours)) for _ in range(args.rounds)]
                ratio = sorted(a / c for a, c in took)
                low, mid, high = (ratio[int(q * (len(ratio) - 1))] for q in (0.25, 0.5, 0.75))
                a, c = (1e3 * statistics.median(t) for t in zip(*took, strict=True))
                speed = 2 * args.tokens * out * into / c / 1e6
                print(
                    f"{name} {into}→{out} {way:<9}".ljust(26)
                    + f"{a:>10.1f}{c:>12.1f}{speed:>9.0f}{f'{mid:.2f} ({low:.2f}–{high:.2f})':>22}"
                )
                every.append(mid)
    print(
        json.dumps(
            {
                "benchmark": "products",
                "machine": machine,
                "product_ratio": round(statistics.median(every), 3),
                "least": round(min(every), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
