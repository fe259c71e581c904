"The walk, as a newcomer takes it: a folder, ten lines, a page"

import ast
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_demo_compares_three_models_names_its_pages_and_trains_nothing_the_second_time():
    from cvbench.core.settings import load_settings
    from cvbench.flows.walk import demo

    said: list[str] = []
    pages = demo(n=120, epochs=1, say=said.append)
    text = "\n".join(said)
    assert [p.name for p in pages] == ["evaluation.html", "model_card.html"]
    assert (
        text.count("accuracy") >= 3
        and "LoRA, pretrained" in text
        and "linear probe" in text
        and "random weights" in text
    )
    assert str(pages[0]) in said[-2] and str(pages[1]) in said[-1]
    models = {p: p.stat().st_mtime_ns for p in (load_settings().store / "runs").glob("*/model/model.safetensors")}
    demo(n=120, epochs=1, say=lambda text: None)
    assert len(models) == 3 and models == {p: p.stat().st_mtime_ns for p in models}


def test_the_quickstart_is_about_ten_lines():
    cells = json.loads((ROOT / "nbs" / "tutorials" / "quickstart.ipynb").read_text())["cells"]
    code = [
        "".join(c["source"])
        for c in cells
        if c["cell_type"] == "code" and not "".join(c["source"]).startswith("#| hide")
    ]
    statements = [s for text in code for s in ast.parse(text).body if not isinstance(s, ast.ImportFrom)]
    verbs = [s for s in statements if isinstance(s, ast.Assign)]
    assert len(statements) <= 14 and len(verbs) <= 10
