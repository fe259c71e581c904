"One import gives every name that a user needs, and loads nothing heavy until one is used"

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_architecture import ALLOWED, NUMBERS

import cvbench as cv

ROOT = Path(__file__).parents[1]
STUB = ast.parse((ROOT / "cvbench/__init__.pyi").read_text())
HOME = {a.name: f"cvbench.{node.module}" for node in STUB.body for a in node.names}
PLANNED = {"quality", "release", "deploy", "monitor"}  # rooms to come
VERBS = "commit read_samples create_model train predict evaluate explore discover_slices render_report compare adapt sweep embed"
NOUNS = "Sample Target Dataset Model Run Predictions Evaluation Slice LoRA Recipe"


def test_the_names_of_the_walk_are_there():
    assert set(dir(cv)) == set(HOME) >= {*VERBS.split(), *NOUNS.split()}


def test_no_name_equals_a_room():
    assert not set(dir(cv)) & ({*ALLOWED} | PLANNED)


@pytest.mark.parametrize("name", sorted(HOME))
def test_every_name_is_what_its_module_exports(name):
    module = sys.modules.get(HOME[name]) or __import__(HOME[name], fromlist=[name])
    assert HOME[name] in NUMBERS and name in module.__all__ and getattr(cv, name) is getattr(module, name)


def loads(code: str) -> set[str]:
    "Packages in memory after some code in a fresh process"
    code += "; import json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)))


def test_the_import_loads_nothing_heavy():
    heavy = {"torch", "pandas", "lance", "numpy", "pyarrow", "matplotlib", "transformers", "timm"}
    assert not loads("import cvbench; dir(cvbench)") & heavy
    assert "pandas" in loads("import cvbench; cvbench.evaluate") & heavy


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="evalute"):
        cv.evalute  # noqa: B018


@pytest.mark.parametrize("page", ["README.md", *(f"nbs/{p}" for p in ("tutorials", "explanations"))])
def test_pages_use_the_one_import(page):
    files = sorted((ROOT / page).glob("*.ipynb")) if (ROOT / page).is_dir() else [ROOT / page]
    for file in files:
        text = file.read_text()
        text = "\n".join("".join(c["source"]) for c in json.loads(text)["cells"]) if file.suffix == ".ipynb" else text
        for module, names in re.findall(r"^from (cvbench[.\w]*) import ([\w, ]+)", text, re.M):
            deep = [n for n in names.split(", ") if HOME.get(n) == module]
            assert not deep, f"{file.name} imports {deep} from {module}, which cvbench gives"
        for name in re.findall(r"\bcv\.(\w+)", text):
            assert name in HOME, f"{file.name} uses cv.{name}, which is not there"
