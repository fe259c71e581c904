"What every test shares: a store of its own, no tracker, and the real images where they are"

import os
from pathlib import Path

import pytest

os.environ["CVBENCH_TRACKER"] = "off"
SHARED = Path(os.environ.get("CVBENCH_SHARED", Path(__file__).parents[2] / "shared")) / "data"


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    "A fresh store for each test"
    monkeypatch.setenv("CVBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CVBENCH_SLICES", str(tmp_path / "slices"))
    return tmp_path / "store"


@pytest.fixture(scope="session")
def shared():
    "Folder of real images; tests that need it skip where it is absent"
    if not SHARED.is_dir():
        pytest.skip(f"no real images at {SHARED}: set CVBENCH_SHARED to the folder that holds data/")
    return SHARED
