"""The opponents of adapt.py: adapt a vision transformer with HF Trainer and peft, and with timm and peft in a plain loop.

Both decode with PIL and transform with torchvision in a Dataset, as the guides of both projects do, with loader workers.
Every function takes a job, a dict of plain values (see `adapt.JOB`), and returns its measurements. The clock starts after
the imports and stops when the training has ended; predictions for the test images are made afterwards.
"""

import functools
import math
import time

import numpy as np
import optuna
import peft
import torch
import torch.nn.functional as F
import transformers
from adapt import cpu_seconds, open_module
from PIL import Image
from timm.data import resolve_data_config
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cvbench.core.files import fingerprint


def add_adapter(module: nn.Module, job: dict) -> nn.Module:
    "LoRA on q, k and v of the last `blocks` blocks and a new head, by peft; the head alone for 0 blocks"
    torch.manual_seed(job["seed"])
    if not job["blocks"]:
        module.requires_grad_(False)
        module.get_classifier().requires_grad_(True)
        return module
    count = len(module.blocks)
    names = [f"blocks.{i}.attn.qkv" for i in range(max(0, count - job["blocks"]), count)]
    config = peft.LoraConfig(
        r=job["r"], lora_alpha=2 * job["r"], target_modules=names, modules_to_save=["head"], lora_dropout=0.0
    )
    return peft.get_peft_model(module, config)


class Photos(Dataset):
    "Images read from files, one at a time"

    def __init__(self, rows: list[dict], classes: list[str], transform):
        self.rows, self.place, self.transform = rows, {c: i for i, c in enumerate(classes)}, transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict:
        with Image.open(self.rows[i]["path"]) as image:
            return {
                "pixel_values": self.transform(image.convert("RGB")),
                "labels": self.place[self.rows[i]["label"]],
            }


def make_transform(module: nn.Module, augment: str):
    "The transform that timm gives for the weights; with random crops and flips for training if requested"
    c = resolve_data_config(module.pretrained_cfg, model=module)
    size, kind = c["input_size"][-1], v2.InterpolationMode(c["interpolation"])
    crops = {
        "none": [v2.Resize(int(size / c["crop_pct"]), kind), v2.CenterCrop(size)],
        "light": [v2.RandomResizedCrop(size, (0.6, 1), (0.8, 1.25), kind), v2.RandomHorizontalFlip()],
        "usual": [v2.RandomResizedCrop(size, interpolation=kind), v2.RandomHorizontalFlip()],
    }
    return v2.Compose(
        [*crops[augment], v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(c["mean"], c["std"])]
    )


def make_sets(module: nn.Module, job: dict) -> dict[str, Photos]:
    "Datasets of the splits; only the training images are augmented"
    sets = {}
    for split in ("train", "val", "test"):
        rows = [r for r in job["rows"] if r["split"] == split]
        sets[split] = Photos(
            rows, job["classes"], make_transform(module, job["augment"] if split == "train" else "none")
        )
    return sets


def cosine(step: int, steps: int, warmup: float) -> float:
    "Learning rate as a share of its peak"
    warm = max(1, round(warmup * steps))
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def autocast(job: dict):
    return torch.autocast("cpu", torch.bfloat16, enabled=job["precision"] == "bf16")


@torch.no_grad()
def predict(net: nn.Module, photos: Photos, job: dict) -> np.ndarray:
    "Probabilities, (n, classes)"
    net.eval()
    loader, out = DataLoader(photos, job["batch"]), []
    for batch in loader:
        with autocast(job):
            out.append(net(batch["pixel_values"]).float().softmax(1))
    return torch.cat(out).double().numpy()


class Best:
    "Trained weights after the best epoch, and measurements of every epoch"

    def __init__(self, net: nn.Module, start: float):
        self.net, self.start, self.used, self.epochs, self.state = net, start, cpu_seconds(), [], {}

    def end_epoch(self, accuracy: float, loss: float) -> None:
        if accuracy > max((e["val_accuracy"] for e in self.epochs), default=-1):
            self.state = {n: p.detach().clone() for n, p in self.net.named_parameters() if p.requires_grad}
        at = {"at": time.perf_counter() - self.start, "cpu": cpu_seconds() - self.used}
        self.epochs.append(at | {"val_accuracy": accuracy, "val_loss": loss})

    def finish(self, sets: dict[str, Photos], job: dict) -> dict:
        out = {"seconds": time.perf_counter() - self.start, "epochs": self.epochs}
        if job["predict"]:
            self.net.load_state_dict(self.state, strict=False)
            out["test"] = predict(self.net, sets["test"], job).tolist()
        return out


def run_loop(job: dict) -> dict:
    "timm and peft in a plain loop: AdamW, cosine schedule, gradients clipped at 1"
    start = time.perf_counter()
    module = open_module(job["backbone"], len(job["classes"]))
    sets = make_sets(module, job)
    net = add_adapter(module, job)
    keep = {"num_workers": job["workers"], "persistent_workers": job["workers"] > 0}
    shuffled = torch.Generator().manual_seed(job["seed"])
    loader = DataLoader(sets["train"], job["batch"], shuffle=True, generator=shuffled, **keep)
    val_loader = DataLoader(sets["val"], job["batch"], **keep)
    trained = [p for p in net.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(trained, lr=job["lr"], weight_decay=job["weight_decay"])
    steps = job["epochs"] * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: cosine(s, steps, job["warmup"]))
    best = Best(net, start)
    for _ in range(job["epochs"]):
        net.train()
        for batch in loader:
            with autocast(job):
                loss = F.cross_entropy(net(batch["pixel_values"]), batch["labels"])
            opt.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            opt.step()
            schedule.step()
        best.end_epoch(*validate(net, val_loader, job))
    return best.finish(sets, job)


@torch.no_grad()
def validate(net: nn.Module, loader: DataLoader, job: dict) -> tuple[float, float]:
    "Accuracy and mean loss"
    net.eval()
    right, loss, n = 0, 0.0, 0
    for batch in loader:
        with autocast(job):
            z = net(batch["pixel_values"]).float()
        right += int((z.argmax(1) == batch["labels"]).sum())
        loss += float(F.cross_entropy(z, batch["labels"], reduction="sum"))
        n += len(z)
    return right / n, loss / n


class Wrapped(nn.Module):
    "A classifier with the interface that Trainer needs"

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, pixel_values, labels=None):
        logits = self.net(pixel_values)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Watch(transformers.TrainerCallback):
    "Calls a function with accuracy and loss after each evaluation"

    def __init__(self, call):
        self.call = call

    def on_evaluate(self, args, state, control, metrics, **_):
        self.call(metrics["eval_accuracy"], metrics["eval_loss"])


def make_trainer(net: nn.Module, sets: dict[str, Photos], job: dict, watch) -> transformers.Trainer:
    "Arguments of HF Trainer without options that cost time: no files, no reports, no columns dropped"
    steps = job["epochs"] * math.ceil(len(sets["train"]) / job["batch"])
    args = transformers.TrainingArguments(
        output_dir=job["folder"], num_train_epochs=job["epochs"], seed=job["seed"], use_cpu=True,
        per_device_train_batch_size=job["batch"], per_device_eval_batch_size=job["batch"],
        learning_rate=job["lr"], weight_decay=job["weight_decay"], optim="adamw_torch",
        lr_scheduler_type=job["schedule"], warmup_steps=round(job["warmup"] * steps), bf16=job["precision"] == "bf16",
        eval_strategy="epoch", save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
        dataloader_num_workers=job["workers"], dataloader_persistent_workers=job["workers"] > 0,
        remove_unused_columns=False, label_names=["labels"],
    )  # fmt: skip
    trainer = transformers.Trainer(
        Wrapped(net), args, train_dataset=sets["train"], eval_dataset=sets["val"], callbacks=[Watch(watch)],
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
    )  # fmt: skip
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def run_trainer(job: dict) -> dict:
    "HF Trainer and peft"
    start = time.perf_counter()
    module = open_module(job["backbone"], len(job["classes"]))
    sets = make_sets(module, job)
    net = add_adapter(module, job)
    best = Best(net, start)
    make_trainer(net, sets, job, best.end_epoch).train()
    return best.finish(sets, job)


def run_sweep(job: dict) -> dict:
    "An Optuna study of Trainer runs that report every epoch to a median pruner, with the same sampler seeds as cvbench's sweep"
    start = time.perf_counter()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    few = max(4, job["trials"] // 4)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(few, n_warmup_steps=1))
    study.enqueue_trial({k: job[k] for k in job["space"]})
    for slot in range(job["trials"]):
        seed = int(fingerprint(job["seed"], slot, length=8), 16)
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=few, seed=seed)
        study.optimize(functools.partial(objective, job), n_trials=1)
    trials = [{**t.params, "epochs": len(t.intermediate_values), "state": t.state.name} for t in study.trials]
    return {"seconds": time.perf_counter() - start, "best": study.best_value, "trials": trials}


def objective(job: dict, trial: optuna.Trial) -> float:
    "Best validation accuracy of one trial"
    setting, seen = job | {k: suggest(trial, k, v) for k, v in job["space"].items()}, []
    module = open_module(job["backbone"], len(job["classes"]))
    sets = make_sets(module, setting)

    def watch(accuracy: float, loss: float) -> None:
        seen.append(accuracy)
        trial.report(accuracy, len(seen))
        if len(seen) < job["epochs"] and trial.should_prune():
            raise optuna.TrialPruned

    make_trainer(add_adapter(module, setting), sets, setting, watch).train()
    return max(seen)


def suggest(trial: optuna.Trial, name: str, values) -> float:
    "A list means choices; a pair of floats means a range on a logarithmic scale"
    if isinstance(values, list):
        return trial.suggest_categorical(name, values)
    return trial.suggest_float(name, values["low"], values["high"], log=True)


METHODS = {"trainer": run_trainer, "loop": run_loop, "trainer sweep": run_sweep}
