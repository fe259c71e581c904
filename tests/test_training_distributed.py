"Several processes give what one gives, share the work, and outlive the death of any of them"

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_search_resize_mode import draw

from cvbench.core.digits import read_digits
from cvbench.data.commit import commit

JOB = """
import json, os, sys
sys.path.insert(0, {tests!r})
import torch
import cvbench.training.train as t
from cvbench.data.versions import checkout
from cvbench.model.adapters import FullFineTune, LinearProbe, LoRA
from cvbench.training.distill import distill
from cvbench.search.presets import adapt
from test_training_train import small


torch.set_num_threads(1)
ds, rank, feeds = checkout("digits"), os.environ.get("RANK", "0"), []
t.Activations = lambda *a, _real=t.Activations: feeds.append(_real(*a)) or feeds[-1]
same = dict(epochs=3, batch_size=14, precision="fp32")


def fail(entry):
    if rank == "1" and entry["epoch"] == 1:
        raise ValueError("worker 1 had enough")


def cached(**more):
    return t.train(small(ds, LoRA(r=2, blocks=1)), ds, cache="fp32", name="cached", **same, **more)


for kind in sys.argv[1:]:
    if kind == "cached":
        run = cached()
        computed = [sum(a.computed for a in f.arrays.values() if a) for f in feeds]
        (run.path / f"worker{{rank}}.json").write_text(json.dumps(computed))
    elif kind == "slow":
        t._SAVE_EVERY = 0
        cached()
    elif kind == "fails":
        cached(on_epoch=fail)
    elif kind == "whole":
        t.train(small(ds, FullFineTune()), ds, balance="loss", views=0, name=kind, **same)
    elif kind == "taught":
        teacher = small(ds, LinearProbe())
        t.train(teacher, ds)
        distill(teacher, small(ds, FullFineTune()), ds, name=kind, **same)
    elif kind == "framed":
        adapt("pocket_vit", checkout("strips"), adapter=LoRA(r=2, blocks=1), **same)
"""


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(store):
    "Without a GPU, for two processes may not share one"
    plain = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | plain | {"CVBENCH_STORE": str(store)}


def launch(store, *command, workers=2):
    "Start a program of several workers, on a store with a data set"
    if not store.exists():
        commit(list(read_digits())[:150], name="digits", store=store)
    many = ["-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={workers}"]
    many += [f"--main_process_port={port()}"]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *(many if workers > 1 else ()), *map(str, command)],
        env=environment(store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def job(folder):
    file = folder / "job.py"
    file.write_text(JOB.format(tests=os.path.dirname(__file__)))
    return file


def finish(p):
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "A store where one process did the work"
    folder = tmp_path_factory.mktemp("alone")
    finish(launch(folder / "store", job(folder), "cached", "whole", "taught", workers=1))
    return folder / "store"


def outcome(store, kind):
    (folder,) = store.glob(f"runs/{kind}-*")
    history = json.loads((folder / "history.json").read_text())
    computed = [json.loads(f.read_text()) for f in sorted(folder.glob("worker*.json"))]
    return folder.name, history, load_file(folder / "model" / "model.safetensors"), computed


def assert_same(one, two):
    assert one[0] == two[0] or one[0].startswith("taught-")  # that id tells its teacher, to the last bit
    assert len(one[1]) == len(two[1])
    for a, b in zip(one[1], two[1], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert one[2].keys() == two[2].keys()
    for name, t in one[2].items():
        torch.testing.assert_close(t, two[2][name], rtol=1e-3, atol=1e-4)


def test_two_workers_give_what_one_gives_and_share_the_work(tmp_path, alone):
    store = tmp_path / "store"
    finish(launch(store, job(tmp_path), "cached", "whole", "taught"))
    for kind in ("cached", "whole", "taught"):
        assert_same(outcome(alone, kind), outcome(store, kind))
    assert len({tuple(h["train_loss"] for h in outcome(store, k)[1][1:]) for k in ("cached", "whole", "taught")}) == 3
    (whole,), parts = outcome(alone, "cached")[3], outcome(store, "cached")[3]
    extra = np.sum(parts, 0) - whole  # in a batch of one image the idle worker looks at that one too
    assert 0 <= extra[0] <= 3 and extra[1] == 0
    assert all(abs(a - b) <= 0.2 * max(a, b) for a, b in zip(*parts, strict=True))


def test_a_worker_killed_midway_ends_the_launch_and_the_same_command_goes_on(tmp_path, alone):
    store, script = tmp_path / "store", job(tmp_path)
    p, deadline = launch(store, script, "slow"), time.monotonic() + 120
    while p.poll() is None and place(store) < (1, 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    victim = next(c for c in psutil.Process(p.pid).children() if c.environ().get("RANK") == "1")
    victim.send_signal(signal.SIGKILL)
    _, err = p.communicate(timeout=120)
    assert p.returncode != 0 and place(store) >= (1, 2), err
    finish(launch(store, script, "slow"))
    assert_same(outcome(alone, "cached"), outcome(store, "cached"))


def test_all_workers_take_the_framing_that_the_data_ask_for(tmp_path):
    found = {}
    for workers in (1, 2):
        store = tmp_path / str(workers)
        commit(list(read_digits())[:150], name="digits", store=store)
        commit([draw(i, 4) for i in range(120)], name="strips", store=store)
        out = finish(launch(store, job(tmp_path), "framed", workers=workers))
        assert out.count("the whole image at 96 px (val loss") == workers
        found[workers] = outcome(store, "strips")
    assert_same(found[1], found[2])


def place(store):
    "Epoch and step of the checkpoint"
    for file in store.glob("runs/*/checkpoint.safetensors"):
        try:
            with safe_open(file, "np") as f:
                at = json.loads(f.metadata()["progress"])
                return at["epoch"], at["step"]
        except OSError:
            pass
    return -1, 0


def test_an_error_in_one_worker_ends_all(tmp_path):
    p = launch(tmp_path / "store", job(tmp_path), "fails")
    _, err = p.communicate(timeout=120)
    assert p.returncode != 0 and "worker 1 had enough" in err


def test_on_the_command_line_all_take_the_same_recipe_and_one_speaks(tmp_path):
    store = tmp_path / "store"
    command = ("-m", "cvbench.cli.main", "adapt", "digits", "--backbone", "pocket_vit", "--budget", "1s")
    out = finish(launch(store, *command))
    (run,) = store.glob("runs/*")
    assert out.count(run.name) == 1 and out.count("trained  share") == 1
    assert json.loads((run / "summary.json").read_text())["val_accuracy"] > 0.5
