"""Embedding throughput: `embed` against torch, ONNX Runtime and OpenVINO called directly, on the same photos.

    python benchmarks/embed.py [--rounds 3] [--images 1536] [--shapes ...] [--threads N] [--save FILE]

Methods alternate within each round, in one process. If a runtime is called directly, the photos are read from their files,
decoded by the same function in threads ahead of the runtime, and the features stay in memory. `embed` reads from the data
set, checks its runtime against torch, writes shards and adds the column: all of this is in its time (in float32, like the
others), except for the first call, which exports the encoder and measures the runtimes; it is shown separately. The smaller
shape gets all images, the larger ones half. A ratio is our rate divided by the fastest of the others within a round. CPU
time is useful if other work disturbs the clock. `difference` is the distance of the features from torch's, relative to
their length. The last line is JSON.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

SHARED = Path(os.environ.get("CVBENCH_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
SHAPES = ("vit_tiny_patch16_224", "vit_small_patch16_224")
BATCH = 32


def feed(files: list[Path], transform) -> Iterator[np.ndarray]:
    "(≤ BATCH, 3, size, size) float32, decoded in threads one batch ahead"
    import torch

    from cvbench.model.backbones import load_square, normalise

    def decode(some: list[Path]) -> np.ndarray:
        squares = np.stack(list(pool.map(lambda f: load_square(f.read_bytes(), transform), some)))
        return normalise(torch.from_numpy(squares), transform).numpy()

    chunks = [files[i : i + BATCH] for i in range(0, len(files), BATCH)]
    with ThreadPoolExecutor() as pool, ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(decode, chunks[0])
        for following in [*chunks[1:], None]:
            x = coming.result()
            if following:
                coming = ahead.submit(decode, following)
            yield x


def engines(module, size: int, threads: int, folder: Path) -> dict[str, Callable[[Iterator[np.ndarray]], np.ndarray]]:
    "Functions from batches to features, each runtime used as its own documentation says"
    import onnxruntime
    import openvino
    import torch

    file = folder / "model.onnx"
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        dynamic = ({0: torch.export.Dim("batch")},)
        example = torch.zeros(2, 3, size, size)
        torch.onnx.export(module, (example,), dynamo=True, dynamic_shapes=dynamic, verbose=False).save(str(file))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (name,) = (i.name for i in session.get_inputs())
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    latency, throughput = (
        openvino.Core().compile_model(str(file), "CPU", exact | {"PERFORMANCE_HINT": hint})
        for hint in ("LATENCY", "THROUGHPUT")
    )

    def by_torch(batches):
        with torch.inference_mode():
            return np.concatenate([module(torch.from_numpy(x)).numpy() for x in batches])

    def by_queue(batches):
        out, queue = {}, openvino.AsyncInferQueue(throughput)
        queue.set_callback(lambda request, i: out.__setitem__(i, request.get_output_tensor(0).data.copy()))
        for i, x in enumerate(batches):
            queue.start_async({0: x}, userdata=i)
        queue.wait_all()
        return np.concatenate([out[i] for i in sorted(out)])

    return {
        "torch": by_torch,
        "onnxruntime": lambda batches: np.concatenate([session.run(None, {name: x})[0] for x in batches]),
        "openvino": lambda batches: np.concatenate([latency(x)[0].copy() for x in batches]),
        "openvino, queue": by_queue,
    }


def compare(shape: str, files: list[Path], rounds: int, threads: int, folder: Path) -> dict:
    "Images per second of every method in every round"
    from cvbench.core.types import Sample
    from cvbench.data.commit import commit
    from cvbench.inference import runtimes as own
    from cvbench.inference.embed import embed
    from cvbench.model.backbones import create_backbone

    backbone = create_backbone(shape, pretrained=False)
    ds = commit((Sample(str(f)) for f in files), "photos", store=folder / "store")
    files = [Path(uri) for uri in ds.table(["uri"])["uri"].to_pylist()]
    module = backbone.module.eval()
    hand = engines(module, backbone.transform.size, threads, folder)
    for run in hand.values():
        run(feed(files[:BATCH], backbone.transform))
    usual, own._FIND_OUT = own._FIND_OUT, 0.0  # compare the runtimes, even if the set is small
    start = time.perf_counter()
    made = embed(ds, backbone, column="first", precision="fp32")
    first, out, rates, own._FIND_OUT = time.perf_counter() - start, {}, {}, usual
    cpu: dict[str, list[float]] = {}

    def clocked(name: str, work: Callable):
        start, used = time.perf_counter(), time.process_time()
        value = work()
        rates.setdefault(name, []).append(len(files) / (time.perf_counter() - start))
        cpu.setdefault(name, []).append((time.process_time() - used) / len(files) * 1e3)
        return value

    for k in range(rounds):
        made = clocked("embed", lambda ds=made, k=k: embed(ds, backbone, column=f"round{k}", precision="fp32"))
        for name, run in hand.items():
            out[name] = clocked(name, lambda run=run: run(feed(files, backbone.transform)))
        print(f"  round {k + 1}  " + "  ".join(f"{n} {r[-1]:.1f}" for n, r in rates.items()), flush=True)
    ours = made.table(["first"])["first"].combine_chunks().flatten().to_numpy().reshape(len(files), -1)
    scale = np.linalg.norm(out["torch"], axis=1)
    off = {
        n: float((np.linalg.norm(f - out["torch"], axis=1) / scale).max()) for n, f in (out | {"embed": ours}).items()
    }
    best = [max(r[k] for n, r in rates.items() if n != "embed") for k in range(rounds)]
    ratio = [a / b for a, b in zip(rates["embed"], best, strict=True)]
    return {
        "images": len(files), "rates": rates, "cpu_ms": cpu, "ratio": statistics.median(ratio), "ratios": ratio,
        "first_call_seconds": first, "difference_from_torch": off,
    }  # fmt: skip


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def measure(args) -> dict:
    "All shapes; `ratio` is the median over rounds, for the shape with the lowest median"
    import torch

    was, threads = torch.get_num_threads(), args.threads or os.cpu_count()
    torch.set_num_threads(threads)
    photos = sorted((SHARED / "clothing_small").rglob("*.jpg"))
    if not photos:
        raise FileNotFoundError(
            f"no photos in {SHARED / 'clothing_small'}. Set CVBENCH_SHARED to the folder with data/."
        )
    wanted, shapes = getattr(args, "embed_images", 1536), {}
    try:
        for i, shape in enumerate(args.shapes):
            files = photos[:: max(len(photos) // max(wanted // (1 + (i > 0)), 1), 1)][: wanted // (1 + (i > 0))]
            print(f"embed {shape}, {len(files)} photos", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                done = shapes[shape] = compare(shape, files, args.rounds, threads, Path(folder))
            for name, rates in done["rates"].items():
                off, cpu = done["difference_from_torch"][name], done["cpu_ms"][name]
                print(
                    f"  {name:<16}{spread(rates):>24} images/s{spread(cpu):>24} CPU ms an image   difference {off:.0e}"
                )
            print(f"  embed against the best by hand: {spread(done['ratios'], 2)}", flush=True)
    finally:
        torch.set_num_threads(was)
    return {"ratio": min(s["ratio"] for s in shapes.values()), "shapes": shapes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", dest="embed_images", type=int, default=1536)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--save", help="write all figures to this JSON file too")
    args = parser.parse_args()
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "CVBENCH_DEVICE": "cpu"}
    import onnxruntime
    import openvino
    import timm
    import torch

    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    flags = ", ".join(k for k in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(k)) or "none known"
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, timm, onnxruntime, openvino))
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores ({flags}), {args.threads} threads, fp32; {versions}"
    print(machine, flush=True)
    done = measure(args)
    if args.save:
        Path(args.save).write_text(json.dumps({"machine": machine, **done}, indent=1) + "\n")
    line = {"benchmark": "embed", "machine": machine, "embed_vs_best": round(done["ratio"], 3)}
    print(json.dumps(line | {s: [round(r, 3) for r in d["ratios"]] for s, d in done["shapes"].items()}))


if __name__ == "__main__":
    main()
