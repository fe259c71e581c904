"The command line as a person uses it"

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CVBENCH = [sys.executable, "-c", "from cvbench.cli import main; main()"]


def cvbench(*args, cwd=ROOT, **env):
    return subprocess.run(
        [*CVBENCH, *map(str, args)], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=600
    )


def test_help_is_light_and_lists_the_commands():
    code = "import sys; sys.argv = ['cvbench', '--help']\nfrom cvbench.cli import main\ntry: main()\nexcept SystemExit: pass\n"
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


def test_one_command_from_folder_to_report(walked):
    _, _, out = walked
    assert "1 in quarantine" in out and "accuracy" in out
    pages = [Path(line.strip()) for line in out.splitlines() if line.strip().endswith(".html")]
    assert [p.name for p in pages] == ["evaluation.html", "model_card.html"]
    assert all(p.stat().st_size > 10_000 for p in pages)


def test_each_step_alone(walked):
    home, env, _ = walked
    assert "photos" in cvbench("log", "photos", **env).stdout + cvbench("ingest", home / "photos", **env).stdout
    probe = cvbench("adapt", "photos", "--adapter", "probe", **env)
    assert probe.returncode == 0, probe.stderr
    a, b = (
        probe.stdout.split("\n")[-2].split()[0],
        next(p.name for p in (home / "store" / "runs").glob("photos-lora-*")),
    )
    path = cvbench("predict", a, **env).stdout.strip()
    assert path.endswith("test.parquet") and Path(path).exists()
    assert "accuracy" in cvbench("evaluate", a, **env).stdout
    found = cvbench("slices", a, "--enter", "--out", home / "slices.json", **env)
    assert "weak slice" in found.stdout and (home / "slices.json").exists(), found.stderr
    assert cvbench("compare", a, b, **env).stdout.strip().endswith((".", ")"))
    assert cvbench("card", b, **env).stdout.strip().endswith("model_card.html")


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
    done = cvbench(*args, CVBENCH_STORE=str(tmp_path))
    assert done.returncode == 1
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_damaged_file_of_weights_is_one_line(monkeypatch, capsys, tmp_path):
    from safetensors.torch import load_file

    import cvbench.cli

    (tmp_path / "model.safetensors").write_bytes(b"not weights, but words")
    monkeypatch.setattr(cvbench.cli, "app", lambda: load_file(tmp_path / "model.safetensors"))
    with pytest.raises(SystemExit):
        cvbench.cli.main()
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
    } <= set(names)
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import cvbench; from cvbench.report.runner import find_report; from cvbench.model.backbones import create_backbone\n"
    code += "print(cvbench.__file__, find_report('evaluation'), create_backbone('pocket_vit').features)"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path / "site")) == 2
