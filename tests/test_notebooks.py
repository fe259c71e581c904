"Every notebook runs from top to bottom"

import io
import os
import sys
import traceback
from multiprocessing import get_context
from pathlib import Path

import pytest

NBS = Path(__file__).parents[1] / "nbs"
LESSONS = sorted(NBS.rglob("*.ipynb"), key=lambda p: ("tutorials" not in p.parts, p))  # the longest first
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"} | {"CVBENCH_TRACKER": "off"}


def run_notebook(path: Path, environment: dict[str, str]) -> str:
    "The traceback of the cell that fails, or nothing; what a notebook puts into the environment ends with it"
    from nbdev.test import test_nb as run_all

    os.environ.clear()
    os.environ.update(environment)
    before, sys.__stderr__ = sys.__stderr__, io.StringIO()
    try:
        passed, _ = run_all(path, skip_flags=["notest", "slow", "gpu"], basepath=NBS.parent)
        return "" if passed else sys.__stderr__.getvalue() or "failed without a word"
    except BaseException:
        return traceback.format_exc()
    finally:
        sys.__stderr__ = before


@pytest.fixture(scope="session")
def beside():
    "A process that notebooks share, and no test"
    with get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.mark.numeric
@pytest.mark.parametrize("path", LESSONS, ids=lambda p: str(p.relative_to(NBS)))
def test_notebook(path, beside):
    if failed := beside.apply_async(run_notebook, (path, ENVIRONMENT)).get(timeout=1800):
        pytest.fail(failed, pytrace=False)
