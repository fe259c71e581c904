"What every test shares: a store of its own, no tracker, the real images where they are, and what runs when"

import os
import tracemalloc
from pathlib import Path

import pytest

os.environ["CVBENCH_TRACKER"] = "off"
NUMERIC = ("test_core_inspection", "test_evaluation", "test_cockpit_standalone", "test_cockpit_table", "test_model")
NUMERIC += ("test_inference", "test_training", "test_search", "test_slices", "test_walk")
SHARED = Path(os.environ.get("CVBENCH_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def pytest_addoption(parser):
    parser.addoption("--nightly", metavar="PART", help="run what is marked nightly(PART), and nothing else")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    part, keep, drop = config.getoption("--nightly"), [], []
    for item in items:
        if item.module.__name__.startswith(NUMERIC):
            item.add_marker("numeric")
        parts = {mark.args[0] for mark in item.iter_markers("nightly")}
        (keep if (part in parts if part else not parts) else drop).append(item)
    config.hook.pytest_deselected(items=drop)
    items[:] = sorted(keep, key=lambda item: item.module.__name__ != "test_notebooks")  # the longest first


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    "A fresh store for each test"
    monkeypatch.setenv("CVBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CVBENCH_SLICES", str(tmp_path / "slices"))
    yield tmp_path / "store"
    assert not tracemalloc.is_tracing(), "all that comes after would take three times as long: call tracemalloc.stop()"


@pytest.fixture(scope="session")
def shared():
    "Folder of real images; tests that need it skip where it is absent"
    if not SHARED.is_dir():
        pytest.skip(f"no real images at {SHARED}: set CVBENCH_SHARED to the folder that holds data/")
    return SHARED


def lacking(reason: str):
    "Skip a test for want of a tool, or fail where CVBENCH_TOOLS=required says that the tools are there"
    (pytest.fail if os.environ.get("CVBENCH_TOOLS") == "required" else pytest.skip)(reason)
