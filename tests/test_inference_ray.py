"On Ray or alone: the same numbers, whoever dies meanwhile"

import os
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from test_inference_embed import features_of
from test_training_train import digits, small

import cvbench.inference.embed as e
import cvbench.inference.predict as p
import cvbench.training.precompute as f
from cvbench.inference.jobs import ForwardShard, list_shards, run_shards
from cvbench.model.adapters import LinearProbe, LoRA
from cvbench.model.backbones import Transform
from cvbench.training.recipe import Recipe
from cvbench.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module", autouse=True)
def two_workers():
    "A cluster of two workers on this machine"
    ray = pytest.importorskip("ray")
    from cvbench.inference._ray import start_ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray's own sockets
        start_ray(num_cpus=2)
        yield
        ray.shutdown()


def test_embedding_equals_the_single_process(monkeypatch):
    monkeypatch.setenv("CVBENCH_PRECISION", "fp32")
    monkeypatch.setattr(e, "_SHARD", 40)
    ds = digits()
    model = small(ds, LoRA(r=2))
    alone = e.embed(ds, model)
    spread = e.embed(alone, model, column="spread", on="ray")
    np.testing.assert_allclose(features_of(spread, "spread"), features_of(alone), atol=1e-5)


def test_an_exported_engine_travels(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CVBENCH_PRECISION", "fp32")
    monkeypatch.setattr(e, "_SHARD", 40)
    ds = digits(80)
    model = small(ds, LinearProbe())
    alone = e.embed(ds, model, engine="torch")
    spread = e.embed(alone, model, column="spread", engine="onnxruntime", on="ray")
    np.testing.assert_allclose(features_of(spread, "spread"), features_of(alone), atol=1e-5)


def test_prediction_equals_the_single_process_and_goes_on_where_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr(p, "_PART", 40)
    ds = digits()
    model = small(ds, LinearProbe())
    alone = p.predict(model, ds, path=tmp_path / "alone.parquet")
    spread = p.predict(model, ds, path=tmp_path / "spread.parquet", on="ray")
    assert spread.table["sample_id"].equals(alone.table["sample_id"])
    np.testing.assert_allclose(spread.scores, alone.scores, atol=1e-5)
    assert p.predict(model, ds, path=tmp_path / "spread.parquet", on="ray").path == spread.path


def test_prefixes_filled_by_two_workers_are_what_training_reads(monkeypatch):
    monkeypatch.setattr(f, "_SHARD", 40)
    ds = digits()
    same = {"epochs": 2, "views": 2, "precision": "fp32", "probe_init": False}
    alone = train(small(ds, LoRA(r=2, blocks=1)), ds, **same, cache="off")
    plan = f.fill_cache(small(ds, LoRA(r=2, blocks=1)), ds, **same, cache="fp32", on="ray")
    work = f.FillShard(small(ds, LoRA(r=2, blocks=1)), ds, Recipe(**same), "float32", "cpu", 40)
    assert plan.dtype == "float32" and len(work.shards) > 6 and work.missing() == {}
    cached = train(small(ds, LoRA(r=2, blocks=1)), ds, **same, cache="fp32")
    losses = [[h["val_loss"] for h in run.history] for run in (alone, cached)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@dataclass(frozen=True)
class Deadly:
    "Kills the worker it is in, the first time"

    forward: p.Scorer
    mark: Path
    often: int = 1

    lanes, device = 1, "cpu"

    @property
    def transform(self):
        return self.forward.transform

    def __call__(self, squares):
        for i in range(self.often):
            if not (mark := self.mark / str(i)).exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.forward(squares)


def shards_of(forward, ds, folder, on):
    files, todo = list_shards(folder, len(ds), 40)
    run_shards(ForwardShard(ds, forward, folder, 40, 16), todo, on)
    return np.concatenate([np.load(file) for file in files])


def test_a_worker_killed_midway_is_survived(tmp_path):
    ds = digits()
    forward = p.Scorer(small(ds, LinearProbe()))
    (tmp_path / "marks").mkdir()
    want = shards_of(forward, ds, tmp_path / "alone", "local")
    got = shards_of(Deadly(forward, tmp_path / "marks", often=2), ds, tmp_path / "killed", "ray")
    assert len(list((tmp_path / "marks").iterdir())) == 2
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_an_error_in_the_work_comes_back_as_it_is_and_what_was_done_stays(tmp_path):
    ds = digits()
    forward, folder = p.Scorer(small(ds, LinearProbe())), tmp_path / "shards"
    work, fails = ForwardShard(ds, forward, folder, 40, 16), Failing()
    run_shards(work, {2: 40}, "ray")
    before = (folder / "000002.npy").stat().st_mtime_ns
    with pytest.raises(FloatingPointError, match="nothing but noise"):
        run_shards(ForwardShard(ds, fails, folder, 40, 16), list_shards(folder, len(ds), 40)[1], "ray")
    assert (folder / "000002.npy").stat().st_mtime_ns == before
    assert set(list_shards(folder, len(ds), 40)[1]) == {0, 1, 3, 4, 5}


class Failing:
    lanes, device = 1, "cpu"
    transform = Transform(32, 1.0)

    def __call__(self, squares):
        raise FloatingPointError("nothing but noise")
