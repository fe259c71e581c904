"""Compare all adapters on the inspection line with pocket_vit: accuracy, trained parameters and CPU seconds, in one run.

python benchmarks/adapters.py [--n 1500] [--epochs 8] [--seeds 1]
"""

import argparse
import json
import os
import platform
import tempfile
import time

import torch

from cvbench.core.inspection import make_inspection
from cvbench.data.commit import commit
from cvbench.evaluation.compare import compare
from cvbench.evaluation.evaluate import evaluate
from cvbench.inference.predict import predict
from cvbench.model.adapters import IA3, DoRA, FullFineTune, LinearProbe, LoRA, VisualPrompt
from cvbench.model.models import create_model, what_trains
from cvbench.training.train import train

PLAN = {
    "linear probe": (LinearProbe(), True),
    "LoRA, all linear layers": (LoRA(), True),
    "LoRA, attention": (LoRA(targets="attention"), True),
    "LoRA, last 3 blocks": (LoRA(blocks=3), True),
    "DoRA": (DoRA(), True),
    "IA3": (IA3(), True),
    "visual prompts": (VisualPrompt(), True),
    "full fine-tuning": (FullFineTune(), True),
    "LoRA, random weights": (LoRA(), False),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(PLAN))
    args = parser.parse_args()
    os.environ["CVBENCH_STORE"] = tempfile.mkdtemp()
    ds = commit(make_inspection(args.n, frames=1), name="inspection")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(machine, ds, sep="\n")
    rows, evs = [], {}
    for seed in range(args.seeds):
        for name in args.only:
            adapter, pretrained = PLAN[name]
            model = create_model("pocket_vit", ds, adapter=adapter, pretrained=pretrained, seed=seed)
            start = time.process_time()
            lr = 3e-4 if name == "full fine-tuning" else 3e-3
            run = train(model, ds, epochs=args.epochs, lr=lr, seed=seed, tracker="off")
            seconds = time.process_time() - start
            ev = evs[name, seed] = evaluate(predict(run, ds.split("test")))
            trained = int(what_trains(model).trained.iloc[-1])
            rows.append(
                {
                    "adapter": name,
                    "seed": seed,
                    "accuracy": round(ev.headline.value, 4),
                    "trained": trained,
                    "cpu_seconds": round(seconds, 1),
                }
            )
            print(f"{name:26s}seed {seed}  {ev.headline}  {trained:>10,d} trained  {seconds:6.1f} CPU s", flush=True)
        first = "LoRA, all linear layers"
        for name in args.only:
            if first in args.only and name != first:
                print(f"  {first} (B) against {name} (A): {compare(evs[name, seed], evs[first, seed]).sentence}")
    print(json.dumps({"benchmark": "adapters", "machine": machine, "n": args.n, "epochs": args.epochs, "rows": rows}))


if __name__ == "__main__":
    main()
