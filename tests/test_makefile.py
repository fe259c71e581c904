"What the Makefile does to a .venv: it sets up its own, and leaves alone what it did not make"

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(folder: Path, *arguments: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "PYTHONPATH")}
    done = subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path):
    "A folder with what the Makefile reads, and beside it a .venv that somebody else made"
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    folder, other = tmp_path / "checkout", tmp_path / "other"
    folder.mkdir(), (other / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("pytest", "python"):
        (other / "bin" / name).write_text('#!/bin/sh\necho "$PYTHONPATH" "$@"\n')
        (other / "bin" / name).chmod(0o755)
    return folder, other


@pytest.mark.parametrize("linked", [True, False])
def test_a_venv_that_is_a_link_or_anothers_is_used_and_not_changed(checkout, linked):
    folder, other = checkout
    if linked:
        (folder / ".venv").symlink_to(other)
    else:
        shutil.copytree(other, folder / ".venv")
    before = {p: p.stat().st_mtime_ns for p in sorted((folder / ".venv").rglob("*"))}
    said = make(folder, "test")
    assert "not made by this Makefile" in said and "Setting up" not in said
    assert f"{folder} -n 2" in said, "the package of this folder is the one that is tested"
    make(folder, "clean")
    assert {p: p.stat().st_mtime_ns for p in sorted((folder / ".venv").rglob("*"))} == before


def test_where_there_is_none_or_its_own_it_sets_it_up(checkout):
    folder, other = checkout
    assert "Setting up .venv" in make(folder, "-n", "test")
    shutil.copytree(other, folder / ".venv")
    (folder / ".venv/.cvbench").touch()  # its own, and interrupted
    assert "Setting up .venv" in make(folder, "-n", "test")
    (folder / ".venv/.ready").touch()
    assert "Setting up" not in make(folder, "-n", "test")
    make(folder, "clean")
    assert not (folder / ".venv").exists()
