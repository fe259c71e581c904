"The command line as a person uses it"

import io
import os
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cvbench.cli.main import app, main
from cvbench.model.adapters import LinearProbe, LoRA

ROOT = Path(__file__).parents[1]
CVBENCH = [sys.executable, "-c", "from cvbench.cli.main import main; main()"]


def cvbench(*args, cwd=ROOT, **env):
    return subprocess.run(
        [*CVBENCH, *map(str, args)], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=600
    )


def inside(*args, **env):
    "The same in this process, where torch is loaded already"
    said, failed, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(failed):
        patch.setattr(sys, "argv", ["cvbench", *map(str, args)])
        for name, value in env.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as e:
            code = e.code or 0
    return SimpleNamespace(returncode=code, stdout=said.getvalue(), stderr=failed.getvalue())


def test_help_is_light_and_lists_the_commands():
    code = "import sys; sys.argv = ['cvbench', '--help']\nfrom cvbench.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'numpy', 'pandas', 'lance', 'sklearn', 'matplotlib', 'IPython'} & set(sys.modules); sys.exit(f'loaded {heavy}' if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in (
        "demo",
        "run",
        "ingest",
        "log",
        "adapt",
        "sweep",
        "distill",
        "embed",
        "predict",
        "evaluate",
        "compare",
        "slices",
        "report",
        "card",
        "backbones",
    ):
        assert command in done.stdout


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    "A small walk from a folder to a report, done once by the command a newcomer types"
    from cvbench.core.inspection import write_inspection

    home = tmp_path_factory.mktemp("walk")
    photos = write_inspection(home / "photos", n=90)
    (photos / "train" / "ok" / "broken.jpg").write_bytes(b"")
    env = {"CVBENCH_STORE": str(home / "store"), "CVBENCH_SLICES": str(home / "slices"), "CVBENCH_TRACKER": "off"}
    done = cvbench("run", photos, "--epochs", 1, "--blocks", 1, **env)
    assert done.returncode == 0, done.stderr
    return home, env, done.stdout


@pytest.mark.xdist_group("walked")
def test_one_command_from_folder_to_report(walked):
    _, _, out = walked
    assert "1 in quarantine" in out and "accuracy" in out
    pages = [Path(line.strip()) for line in out.splitlines() if line.strip().endswith(".html")]
    assert [p.name for p in pages] == ["evaluation.html", "model_card.html"]
    assert all(p.stat().st_size > 10_000 for p in pages)


@pytest.mark.xdist_group("walked")
def test_each_step_alone(walked):
    home, env, _ = walked
    assert "photos" in inside("log", "photos", **env).stdout + inside("ingest", home / "photos", **env).stdout
    probe = inside("adapt", "photos", "--adapter", "probe", **env)
    assert probe.returncode == 0, probe.stderr
    a, b = (
        probe.stdout.split("\n")[-2].split()[0],
        next(p.name for p in (home / "store" / "runs").glob("photos-lora-*")),
    )
    path = inside("predict", a, **env).stdout.strip()
    assert path.endswith("test.parquet") and Path(path).exists()
    assert "accuracy" in inside("evaluate", a, **env).stdout
    found = inside("slices", a, "--enter", "--out", home / "slices.json", **env)
    assert "weak slice" in found.stdout and (home / "slices.json").exists(), found.stderr
    assert inside("compare", a, b, **env).stdout.strip().endswith((".", ")"))
    assert inside("card", b, **env).stdout.strip().endswith("model_card.html")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("ingest", "nowhere"), "nowhere"),
        (("log", "nothing"), "nothing"),
        (("evaluate", "no-such-run"), "no run 'no-such-run'"),
        (("report", "evaluatoin"), "evaluation"),
        (("report", "evaluation", "-p", "run"), "-p run=value"),
        (("run", str(ROOT / "tests"), "--adapter", "lorra"), "lorra"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(args, says, tmp_path):
    done = inside(*args, CVBENCH_STORE=str(tmp_path))
    assert done.returncode == 1
    assert says in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def with_ledger(store):
    "A data set with one known slice, and a run that predicted it"
    import numpy as np

    from cvbench.core.files import write_json
    from cvbench.core.predictions import make_predictions, save_predictions
    from cvbench.slices.ledger import add_slices
    from cvbench.slices.slice import Slice

    add_slices([Slice("dim light", "light == 'dim'")], "parts@v1")
    run = store / "runs" / "parts-1"
    preds = make_predictions(["a", "b"], np.eye(2), ["a", "b"], dataset_version="parts@v1")
    save_predictions(preds, run / "predictions" / "test.parquet")
    save_predictions(make_predictions(["a", "b"], np.eye(2), ["a", "b"]), store / "unnamed.parquet")
    write_json(run / "run.json", {"id": "parts-1", "config": {}})
    return store


@pytest.mark.parametrize(
    "source", ["parts", "parts@v1", "parts-1", "runs/parts-1", "runs/parts-1/predictions/test.parquet"]
)
def test_a_slice_is_accepted_by_data_set_run_folder_or_predictions(source, with_ledger, monkeypatch):
    monkeypatch.chdir(with_ledger)
    done = inside("slices", source, "--accept", "dim light", "--reason", "lamps in May")
    assert done.returncode == 0 and "accepted   dim light (lamps in May)" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("source", "name", "says"),
    [
        ("parts", "nope", "cvbench: no slice 'nope' in "),
        ("parts-1", "nope", "cvbench: no slice 'nope' in "),
        ("partz", "dim light", "'partz' is no data set with slices in a ledger"),
        ("partz", "dim light", "nor a run: no run 'partz' in"),
        ("unnamed.parquet", "dim light", "name no data set"),
    ],
)
def test_accepting_what_is_not_there_says_where_it_was_looked_for(source, name, says, with_ledger, monkeypatch):
    monkeypatch.chdir(with_ledger)
    done = inside("slices", source, "--accept", name, "--reason", "x")
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr


def test_a_damaged_file_of_weights_is_one_line(monkeypatch, capsys, tmp_path):
    from safetensors.torch import load_file

    import cvbench.cli.main

    (tmp_path / "model.safetensors").write_bytes(b"not weights, but words")
    monkeypatch.setattr(cvbench.cli.main, "app", lambda: load_file(tmp_path / "model.safetensors"))
    with pytest.raises(SystemExit):
        cvbench.cli.main.main()
    assert capsys.readouterr().err.startswith("cvbench: Error while deserializing header")


def test_the_wheel_works_outside_the_repository(tmp_path):
    "Built, unpacked and run elsewhere, without the checkout on the path"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        "cvbench/_reports/evaluation.ipynb",
        "cvbench/_reports/model_card.ipynb",
        "cvbench/_reports/slices.ipynb",
        "cvbench/model/weights/pocket_vit.safetensors",
        "cvbench/__init__.pyi",
        "cvbench/py.typed",
    } <= set(names)
    assert not [n for n in names if "pretrain" in n or "_synthesis" in n]
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import cvbench; from cvbench.report.runner import find_report; from cvbench.model.backbones import create_backbone\n"
    code += "print(cvbench.__file__, find_report('evaluation'), create_backbone('pocket_vit').features)"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path / "site")) == 2


@pytest.mark.parametrize("command", [["adapt", "digits", "--estimate"], ["run", "folder"]], ids=lambda c: c[0])
def test_an_option_of_the_adapter_counts_where_it_is_0_too(command, monkeypatch):
    asked, nothing = [], SimpleNamespace(why="", adapter="", recipe="", estimate="")
    monkeypatch.setattr("cvbench.data.versions.checkout", lambda data: data)
    monkeypatch.setattr("cvbench.search.presets.choose", lambda *a, **k: asked.append(k["adapter"]) or nothing)
    monkeypatch.setattr("cvbench.flows.walk.walk", lambda *a, **k: asked.append(k["adapter"]))

    def call(*options):
        return CliRunner().invoke(app, [*command, *options]).exception

    assert not any(map(call, ("--r=1", "--blocks=0", "--adapter=probe"))) and not call()
    assert asked == [LoRA(r=1), LoRA(blocks=0), LinearProbe(), None]
    assert "must be an int of 1 or more. Got 0" in str(call("--r=0"))
    assert "adapter '' is not known" in str(call("--adapter=")) and len(asked) == 4
