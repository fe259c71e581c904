"Sweeps: nothing is tried twice, nothing is lost, and luck is called luck"

import json
import os
import signal
import time
import warnings
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from processes import Job
from simulation import meets, runs
from torch import nn

from cvbench.core.digits import read_digits
from cvbench.core.files import read_json
from cvbench.core.runs import load_run, start_run
from cvbench.core.types import Sample, Target
from cvbench.data.commit import commit
from cvbench.model.adapters import FullFineTune, LinearProbe, LoRA
from cvbench.model.backbones import Backbone, Transform
from cvbench.search import sweep as module
from cvbench.search import sweep_plots as plots
from cvbench.search import sweep_result as result
from cvbench.search.space import parse_space
from cvbench.search.study import find_run_folders, open_study, stay_alive
from cvbench.search.sweep import sweep
from cvbench.search.sweep_plots import plot_importance, plot_parallel, plot_tradeoff, write_page
from cvbench.search.sweep_result import Sweep, load_sweep
from cvbench.training.recipe import Recipe

SLOW = Recipe(lr=1e-6, batch_size=16, augment="none", epochs=2)  # a learning rate that moves nothing
TWO = {"lr": (1e-4, 1e-2)}


class Net(nn.Module):
    "32 × 32 pixels in, three blocks of convolutions, 24 features out"

    def __init__(self):
        super().__init__()
        widths = (3, 24, 24, 24)
        self.blocks = nn.Sequential(
            *[nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.ReLU(), nn.Conv2d(o, o, 1), nn.ReLU()) for i, o in zip(widths, widths[1:], strict=False)]
        )  # fmt: skip

    def forward(self, x):
        return self.blocks(x).mean((2, 3))


def small():
    torch.manual_seed(0)
    return Backbone("small", Net(), 24, Transform(32, 1.0), False)


def digits(n=150):
    return commit(list(read_digits())[:n], name="digits")


def run(space=TWO, n=150, **options):
    options = {"adapter": FullFineTune(), "recipe": SLOW, "trials": 4, "name": "s"} | options
    return sweep(small(), digits(n), space, **options)


def values(found):
    kept = [*found.names, "trial", "state", "val_accuracy", "low", "high", "trainable", "epochs", "run"]
    return found.table[kept].to_dict("records")


def test_table_and_best_agree_with_the_runs_on_disk():
    found = run(pruner="none")
    assert list(found.table.trial) == [0, 1, 2, 3] and set(found.table.state) == {"complete"}
    for row in found.table.itertuples():
        one = load_run(row.run)
        assert one.summary["val_accuracy"] == row.val_accuracy and one.config["recipe"]["lr"] == row.lr
        right = read_json(one.path / "val.json")["correct"]
        assert np.mean(right) == pytest.approx(row.val_accuracy) and row.low < row.val_accuracy < row.high
        assert row.epochs == one.summary["epochs"] and row.seconds == one.summary["seconds"]
    assert found.table.lr[0] == SLOW.lr
    assert found.best_run.summary["val_accuracy"] == found.table.val_accuracy.max()
    assert found.best_run.config["recipe"]["lr"] == found.best["lr"]
    assert repr(load_sweep("s")) == repr(found) and found.sentence in repr(found)


def test_asked_again_it_answers_from_disk_and_more_trials_go_on(monkeypatch):
    first = run(trials=2)
    calls, real = [], module.train
    monkeypatch.setattr(module, "train", lambda *a, **k: calls.append(k["name"]) or real(*a, **k))
    assert values(run(trials=2)) == values(first) and not calls
    more = run(trials=4)
    assert calls == ["s-002", "s-003"] and values(more)[:2] == values(first)


JOB = """
import sys
sys.path.insert(0, {tests!r})
from test_search_sweep import run
run(trials=5, pruner="none")
"""


def job(store):
    return Job(JOB.format(tests=os.path.dirname(__file__)), CVBENCH_STORE=str(store))


def test_killed_and_called_again_it_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setenv("CVBENCH_STORE", str(tmp_path / "whole"))
    whole = run(trials=5, pruner="none")
    store, deaths = tmp_path / "killed", 0
    for ended_runs in (1, 3):
        p, deadline = job(store), time.monotonic() + 120
        while p.poll() is None and time.monotonic() < deadline:
            if (
                len(list(store.glob("runs/*/checkpoint.safetensors")) + list(store.glob("runs/*/summary.json")))
                >= ended_runs
            ):
                p.send_signal(signal.SIGKILL)
            time.sleep(0.002)
        p.communicate()
        deaths += p.returncode == -signal.SIGKILL
        ended = {f: f.stat().st_mtime_ns for f in store.glob("runs/*/summary.json")}
    assert deaths == 2
    monkeypatch.setenv("CVBENCH_STORE", str(store))
    calls, real = [], module.train
    monkeypatch.setattr(module, "train", lambda *a, **k: calls.append(k["name"]) or real(*a, **k))
    again = run(trials=5, pruner="none")
    assert values(again) == values(whole)
    assert ended.items() <= {f: f.stat().st_mtime_ns for f in store.glob("runs/*/summary.json")}.items()
    assert len(calls) == len(set(calls)) <= 5 - len(ended) + 1


def test_an_interrupted_trial_is_taken_up_where_it_was(monkeypatch):
    real, epochs = module.train, []

    def dies_in_the_second_epoch_of_trial_one(*a, on_epoch, **k):
        def watched(entry):
            on_epoch(entry)
            epochs.append((k["name"], entry["epoch"]))
            if k["name"] == "s-001" and entry["epoch"] == 2 and len(epochs) < 8:
                raise KeyboardInterrupt

        return real(*a, on_epoch=watched, **k)

    monkeypatch.setattr(module, "train", dies_in_the_second_epoch_of_trial_one)
    with pytest.raises(KeyboardInterrupt):
        run(trials=3)
    assert list(load_sweep("s").table.state) == ["complete", "waiting"]
    assert list(run(trials=3).table.state.isin(["complete", "pruned"])) == [True] * 3
    assert len(epochs) == len(set(epochs))


@pytest.mark.slow
def test_two_workers_do_everything_once_and_a_killed_one_is_replaced(monkeypatch, store):
    real = module._start_worker
    started, killed = count(), []

    def start(*a):
        p = real(*a)
        if next(started) == 0:
            killed.append(p)
        return p

    def refresh(bar):
        def look(slots):
            if killed and any(t.state.name == "RUNNING" for t in slots.values()):
                killed.pop().kill()

        return look

    monkeypatch.setattr(module, "_start_worker", start)
    monkeypatch.setattr(module, "_make_refresh", refresh)
    found = run({"lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]}, trials=6, workers=2, pruner="none")
    assert not killed and next(started) == 3
    assert sorted(found.table.trial) == [0, 1, 2, 3, 4, 5] and set(found.table.state) == {"complete"}
    assert sorted(found.table.lr) == [1e-6, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    assert len(list(store.glob("runs/*/summary.json"))) == 6 and not list(store.glob("sweeps/s/*.live"))


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
def test_a_worker_that_is_stopped_puts_its_trial_back(monkeypatch, store, background):
    def interrupted(bar):
        def look(slots):
            if any(t.intermediate_values for t in slots.values()):
                raise KeyboardInterrupt

        return look

    monkeypatch.setattr(module, "_make_refresh", interrupted)
    options = {"trials": 2, "epochs": 200, "workers": 2, "pruner": "none"}
    before = signal.getsignal(signal.SIGINT)
    try:
        if background:  # as a shell starts what ends with &
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        with pytest.raises(KeyboardInterrupt):
            run(**options)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "waiting" in set(load_sweep("s").table.state) and not list(store.glob("sweeps/s/*.live"))


def test_a_worker_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr(module, "_work_code", "raise SystemExit('no such thing')")
    with pytest.raises(RuntimeError, match="worker . of the sweep 's' failed: no such thing"):
        run(workers=2)


def test_a_space_smaller_than_the_trials_is_tried_whole_and_once():
    found = run({"lr": [1e-4, 1e-3], "batch_size": [16, 32]}, trials=9, epochs=1, pruner="none")
    tried = list(zip(found.table.lr, found.table.batch_size, strict=True))
    assert len(tried) == len(set(tried)) == 5


def _trial(study, lr, accuracies):
    trial = study.ask()
    trial.set_user_attr("trial", len(study.trials) - 1)
    on_epoch = module._watch(SimpleNamespace(path=study.folder), trial, len(accuracies) - 1)
    for epoch, accuracy in enumerate(accuracies):
        on_epoch({"epoch": epoch, "val_accuracy": accuracy})
    study.tell(trial, accuracies[-1])


@pytest.mark.parametrize("pruner", ["median", "halving", "none"])
def test_the_hopeless_are_pruned_and_the_good_are_not(pruner, tmp_path):
    import optuna

    with open_study(tmp_path / "study.db", create=True) as study:
        study.pruner, study.folder = module._make_pruner(pruner, 8), tmp_path
        for _ in range(4):
            _trial(study, 1e-3, [0.5, 0.6, 0.7, 0.8, 0.85])
        _trial(study, 1e-3, [0.5, 0.65, 0.75, 0.82, 0.9])
        if pruner == "none":
            _trial(study, 1.0, [0.95, 0.1, 0.1, 0.1, 0.1])  # a good head start, then ruin
        else:
            with pytest.raises(optuna.TrialPruned):
                _trial(study, 1.0, [0.95, 0.1, 0.1, 0.1, 0.1])  # a good head start, then ruin


def test_a_trial_that_ruins_the_network_is_pruned_and_leaves_no_checkpoint(store):
    options = {"recipe": Recipe(lr=1e-3, batch_size=8, augment="none"), "epochs": 4, "n": 500}
    space = {"lr": [7e-4, 8e-4, 9e-4, 100.0]}
    run(space, trials=1, **options)
    with open_study(store / "sweeps" / "s" / "study.db") as study:
        for slot, lr in enumerate([7e-4, 8e-4, 100.0, 9e-4], 1):
            study.enqueue_trial({"lr": lr}, user_attrs={"trial": slot})
    found = run(space, trials=5, **options)
    state = found.table.set_index("lr").state
    assert state[100.0] == "pruned" and state[1e-3] == state[7e-4] == "complete"
    assert not (load_run(found.table.run[3]).path / "checkpoint.safetensors").exists()
    assert found.table.epochs[3] < 4 and "pruned" in found.sentence


def test_a_planted_difference_is_found_and_no_warning_is_given():
    untaught = replace(SLOW, probe_init=False)  # so the default, which moves nothing, guesses
    found = run({"lr": [3e-3, 5e-3]}, n=900, trials=3, epochs=4, recipe=untaught, pruner="none")
    assert found.beats_default and "Warning" not in found.sentence and "more than noise" in found.sentence
    assert found.best["lr"] in (3e-3, 5e-3)


def test_luck_is_called_luck():
    recipe = Recipe(lr=3e-3, batch_size=8, augment="none")
    found = run({"seed": [1, 2, 3]}, n=900, trials=4, epochs=4, recipe=recipe, pruner="none")
    assert found.table.val_accuracy.min() < found.table.val_accuracy.max()
    assert not found.beats_default and ("luck of one training" in found.sentence or found.best == {"seed": 0})


@pytest.mark.parametrize(("varied", "wins"), [("seed", False), ("lr", True)])
def test_another_seed_is_luck_however_much_it_gains_and_another_rate_is_not(store, varied, wins):
    for trial, share in enumerate((0.6, 0.9)):
        folder = store / "runs" / f"r{trial}"
        folder.mkdir(parents=True)
        right = np.arange(400) < 400 * share
        (folder / "val.json").write_text(json.dumps({"sample_ids": list(range(400)), "correct": right.tolist()}))
    rows = {
        "trial": [0, 1],
        "state": "complete",
        "lr": 1e-3,
        "seed": 0,
        "val_accuracy": [0.6, 0.9],
        "low": [0.55, 0.87],
        "high": [0.65, 0.93],
    }
    table = pd.DataFrame(rows | {"trainable": 10, "run": ["r0", "r1"], varied: [0, 7]})
    found = Sweep("s", store / "sweeps" / "s", {"space": {"lr": {}, "seed": {}}, "data": "parts@v1"}, table)
    assert found.comparison["low"] > 0.2
    assert found.beats_default is wins and ("luck of one training" in found.sentence) is not wins


@runs(200, "intervals")
def test_the_claim_allows_for_the_choice_among_many(runs):
    "Of equal trials the best beats the default in at most five sweeps of a hundred; without the allowance it would far more often"
    rng, alarms, naive = np.random.default_rng(0), 0, 0
    for _ in range(runs):
        hard = rng.random(200)
        right = (rng.random((16, 200)) < np.clip(0.4 + hard, 0, 1)).astype(int)
        best = right[1:][right[1:].mean(1).argmax()]
        honest, plain = result._compare(right[0], best, 15), result._compare(right[0], best, 1)
        alarms += honest["p"] < 0.05 and honest["low"] > 0
        naive += plain["p"] < 0.05 and plain["low"] > 0
    assert meets(alarms, runs, 0, 0.05) and naive > 0.15 * runs


def test_the_test_is_that_of_mcnemar_and_the_interval_that_of_wilson():
    from scipy.stats import binom
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.proportion import proportion_confint

    rng = np.random.default_rng(1)
    for n in (20, 200):
        a, b = rng.integers(0, 2, (2, n))
        table = [[((a == i) & (b == j)).sum() for j in (0, 1)] for i in (0, 1)]
        exact, (won, lost) = mcnemar(table, exact=True).pvalue, (table[0][1], table[1][0])
        middle = exact - binom.pmf(min(won, lost), won + lost, 0.5)
        assert result._compare(a, b, 1)["p"] == pytest.approx(1.0 if won == lost else middle)
        assert result._mean_interval(a) == pytest.approx(proportion_confint(a.sum(), n, method="wilson"))
    same = result._compare(a, a, 3)
    assert same["p"] == 1 and same["low"] < 0 < same["high"]


def test_shares_of_labels_are_compared_by_students_test():
    from scipy import stats

    a, b = np.random.default_rng(3).integers(0, 5, (2, 60)) / 4
    c, reference = result._compare(a, b, 1), stats.ttest_rel(b, a)
    assert (c["p"], c["test"]) == (pytest.approx(reference.pvalue), "paired t")
    assert (c["low"], c["high"]) == pytest.approx(tuple(reference.confidence_interval()))


@runs(300, "intervals")
def test_the_interval_of_a_difference_holds_the_truth(runs):
    rng, hits = np.random.default_rng(2), 0
    for _ in range(runs):
        both = rng.choice(4, 100, p=[0.1, 0.05, 0.15, 0.7])
        c = result._compare((both % 2).astype(int), (both // 2).astype(int), 1)
        hits += c["low"] <= 0.10 <= c["high"]
    assert meets(hits, runs, 0.93, 0.97)


def test_names_and_values_that_do_not_fit_are_refused_before_anything_is_trained(store):
    for space, words in (
        ({"rank": [1]}, "cannot vary .*rank.*It can vary adapter"),
        ({"r": [2]}, "adapter full cannot vary"),
        ({"lr": 1e-3}, "list of choices, or a range"),
        ({"lr": (1e-2, 1e-4)}, "from low to high"),
        ({"lr": (0, 1.0)}, "above 0"),
        ({"lr": [1e-3, 1e-3]}, "must differ"),
        ({"augment": ["light", "wild"]}, "'wild' cannot be tried"),
        ({"blocks": [1, 9]}, "blocks = 9 cannot be tried"),
        ({"adapter": ["lora", "magic"]}, "must be a list of probe, lora"),
        ({}, "cannot vary nothing"),
    ):
        with pytest.raises(ValueError, match=words):
            run(space)
    with pytest.raises(ValueError, match="nothing to search"):
        run(None, adapter=LinearProbe())
    with pytest.raises(ValueError, match="must be one of median"):
        run(pruner="mean")
    with pytest.raises(ValueError, match="needs val"):
        sweep(small(), digits().split("train"), TWO)
    assert not (store / "sweeps").exists()


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "a b"])
def test_hostile_names_are_refused(name, store):
    with pytest.raises(ValueError, match="sweep .* is not usable as a folder name"):
        run(name=name)
    with pytest.raises(ValueError, match="not usable"):
        load_sweep(name)
    assert not (store / "sweeps").exists()


def test_a_name_in_use_for_something_else_is_refused():
    run(trials=1, epochs=1)
    with pytest.raises(ValueError, match="'s' is there already, with another space"):
        run({"lr": [1e-3]}, trials=1, epochs=1)
    with pytest.raises(ValueError, match="with another recipe"):
        run(trials=1, epochs=2)
    with pytest.raises(FileNotFoundError, match="which has .*'s'"):
        load_sweep("t")


def test_a_trial_that_fails_is_a_row_but_a_default_that_fails_is_an_error(monkeypatch):
    real, broken = module.train, ["s-001"]

    def train(*a, name, **k):
        if name in broken:
            raise FloatingPointError("the training loss became nan")
        return real(*a, name=name, **k)

    monkeypatch.setattr(module, "train", train)
    found = run(trials=3, epochs=1)
    assert list(found.table.state) == ["complete", "failed", "complete"]
    assert "became nan" in found.table.problem[1] and "1 failed" in found.sentence
    broken[:] = ["t-000"]
    with pytest.raises(FloatingPointError):
        run(trials=2, epochs=1, name="t")
    broken.clear()
    assert set(run(trials=2, epochs=1, name="t").table.state) == {"complete"}


def test_a_trial_whose_process_dies_each_time_is_given_up(store):
    run(trials=1, epochs=1)
    folder = store / "sweeps" / "s"
    with open_study(folder / "study.db") as study:
        trial = study.ask()
        for key, value in {"trial": 1, "values": {"lr": 1e-3}, "owner": "gone", "deaths": 2}.items():
            trial.set_user_attr(key, value)
        trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    found = run(trials=2, epochs=1)
    assert list(found.table.state) == ["complete", "failed"] and "died three times" in found.table.problem[1]


def test_a_trial_in_living_hands_is_left_alone(store):
    run(trials=1, epochs=1)
    folder = store / "sweeps" / "s"
    with open_study(folder / "study.db") as study, stay_alive(folder) as owner:
        trial = study.ask()
        for key, value in {"trial": 1, "values": {"lr": 1e-3}, "owner": owner}.items():
            trial.set_user_attr(key, value)
        assert list(run(trials=2, epochs=1).table.state) == ["complete", "running"]
    assert list(run(trials=2, epochs=1).table.state) == ["complete", "complete"]


def test_kinds_of_adapters_and_pictures():
    space = {"adapter": ["lora", "full", "probe"], "r": [2, 4], "blocks": [1, 2], "lr": (1e-4, 1e-2)}
    found = run(space, adapter=LoRA(), trials=6, epochs=1, pruner="none")
    probes = found.table[found.table.adapter == "probe"]
    assert probes.r.isna().all() and probes.lr.isna().all() and len(probes) <= 1
    assert found.table[found.table.adapter == "lora"].r.notna().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for plot in (plot_importance, plot_parallel, plot_tradeoff):
            assert plot(found)._repr_png_()[:4] == b"\x89PNG"
    page = write_page(found).read_text()
    assert page.count("data:image/png;base64,") == 3 and found.name in page


def test_pictures_of_too_few_trials_say_so():
    found = run(trials=1, epochs=1)
    assert "three complete trials" in plot_importance(found).axes[0].texts[0].get_text()
    assert all(plot(found)._repr_png_() for plot in (plot_importance, plot_parallel, plot_tradeoff))


def test_what_mattered_is_what_was_planted(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"trial": range(40), "state": "complete", "lr": 10 ** rng.uniform(-4, -2, 40), "r": rng.choice([2, 8], 40)}
    )
    table["val_accuracy"] = 0.8 + 0.05 * np.log10(table.lr) + 1e-3 * rng.random(40)
    space = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "r": {"choices": [2, 8]}}
    config = {"space": space, "recipe": {"lr": 1e-3}, "adapter": {"kind": "lora", "r": 8}}
    shares = plots._weigh(Sweep("s", tmp_path, config, table))
    assert shares["lr"] > 0.95 and sum(shares.values()) == pytest.approx(1)
    flat = table.assign(val_accuracy=0.5)
    assert "nothing mattered" in plots._weigh(Sweep("s", tmp_path, config, flat))


def test_without_labels_on_val_nothing_is_compared():
    unlabelled = (
        Sample(s.uri, s.image, Target() if s.split == "val" else s.target, s.split) for s in list(read_digits())[:60]
    )
    with pytest.raises(ValueError, match="no image of the split val"):
        sweep(small(), commit(unlabelled, name="bare"), TWO, epochs=1, adapter=FullFineTune())


def test_spaces_from_text():
    assert parse_space("r=2:64:log,blocks=1|all,targets=all-linear|qkv+proj") == {
        "r": (2, 64, "log"), "blocks": [1, None], "targets": ["all-linear", ("qkv", "proj")],
    }  # fmt: skip
    for text in ("lr", "lr=", "=1", "lr=1,lr=2"):
        with pytest.raises(ValueError, match="name=values"):
            parse_space(text)


def test_the_runs_are_grouped_under_the_name_of_the_sweep(monkeypatch):
    groups, real = [], module.train
    monkeypatch.setattr(module, "train", lambda *a, **k: groups.append((k["group"], k["tracker"])) or real(*a, **k))
    run(trials=2, epochs=1, tracker="off")
    assert groups == [("s", "off")] * 2


def test_the_command_says_what_it_found_and_where():
    from typer.testing import CliRunner

    from cvbench.cli.main import app

    digits(60)
    line = ["sweep", "digits", "--trials", "2", "--epochs", "1", "--name", "s", "--space", "lr=1e-4:1e-2,blocks=1|2"]
    done = CliRunner().invoke(app, line, catch_exceptions=False)
    assert done.exit_code == 0 and load_sweep("s").sentence in done.stdout
    assert done.stdout.strip().endswith("sweep.html") and set(load_sweep("s").table.blocks) <= {1, 2, "all"}
    failed = CliRunner().invoke(app, [*line[:-1], "rank=1|2"])
    assert failed.exit_code and "cannot vary" in str(failed.exception)


def test_a_sweep_reads_its_own_runs_and_not_those_of_another_whose_name_begins_like_it():
    found = run(trials=2, pruner="none", name="exp")
    other = run({"seed": [0, 5]}, trials=2, pruner="none", name="exp-001", recipe=Recipe(lr=1e-9, epochs=1))
    start_run("exp-001-005", {"no": "val.json"})
    for one in (found, other):
        again = load_sweep(one.name)
        assert values(again) == values(one) and again.sentence == one.sentence
    mine = find_run_folders(found.path, 1)
    assert [f.name for f in mine] == [found.table.run[1]]


def test_a_name_that_leaves_its_runs_no_room_is_refused_before_anything_is_made(store):
    with pytest.raises(ValueError, match="sweep of 1 trials must have 87 characters or fewer.*Got 88"):
        run(trials=1, name="b" * 88)
    assert not (store / "sweeps").exists()
    assert len(run(trials=1, name="b" * 87).table.run[0]) == 100


def test_the_default_name_tells_other_inputs_apart():
    ds, options = digits(), {"adapter": FullFineTune(), "recipe": SLOW, "trials": 1}
    backbones = small(), small(), replace(small(), transform=Transform(32, 0.9))
    first, same, cropped = (sweep(b, ds, TWO, **options).name for b in backbones)
    assert first == same != cropped
