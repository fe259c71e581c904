"""Model cards: filled from artefacts, asked from people, read by the hub, and found out when stale"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvbench.core.files import write_json
from cvbench.core.predictions import load_predictions, make_predictions, save_predictions
from cvbench.core.runs import load_run, start_run
from cvbench.evaluation.evaluate import evaluate
from cvbench.report import cards

HOSTILE = "<img src=x onerror=alert(1)> | [x](javascript:alert(1)) `a` *b* $c$ #d"
DATA = {"ref": "parts@v3", "fingerprint": "67f0", "splits": {"train": 200, "test": 80}, "quarantined": 2}
TRAINS = pd.DataFrame(
    {"part": ["head", "all"], "parameters": [386, 5000], "trained": [386, 386], "share": [1.0, 0.0772]}
)


@pytest.fixture
def made(store, tmp_path):
    classes = ["bolt", HOSTILE]
    model = {
        "backbone": "timm/vit_tiny_patch16_224.augreg_in21k", "base_id": "0958", "pretrained": True, "license": "apache-2.0",
        "adapter": {"kind": "lora", "r": 8}, "classes": classes, "task": "classification", "transform": {"size": 96},
    }  # fmt: skip
    run = start_run(
        "parts-lora", {"model": model, "recipe": {"precision": "auto", "augment": "light", "epochs": 2, "seed": 0}}
    )
    write_json(run.path / "summary.json", {"seconds": 36.0, "epochs": 2})
    target = classes * 40
    night = np.arange(80) % 4 < 2
    right = np.where(night, np.arange(80) % 3 == 0, True)
    sure = np.where(right == (np.arange(80) % 2 == 0), 0.8, 0.2)
    light = np.where(night, f"night {HOSTILE}", "day")
    preds = make_predictions(
        target, np.stack([sure, 1 - sure], 1), classes, metadata={"light": light}, dataset_version="parts@v3"
    )
    save_predictions(preds, run.path / "predictions" / "test.parquet")
    ev = evaluate(load_predictions(run.path / "predictions" / "test.parquet"), n_boot=200)
    answers = cards.save_questions(tmp_path / "card.yaml")
    return lambda text="": (
        answers.write_text(text) if text else None,
        cards.make_card(load_run(run.id), ev, answers, DATA, TRAINS),
    )[1]


def test_fields_are_the_template_s():
    import huggingface_hub

    template = Path(huggingface_hub.__file__).parent / "templates/modelcard_template.md"
    names = set(re.findall(r"\{\{\s*(\w+)", template.read_text()))
    assert names == {name for fields in cards.card_sections.values() for name in fields}


def test_counts_move_from_open_to_people(made):
    before = made().counts()
    assert sum(before.values()) == 45 and before["people"] == 0 and before["auto"] >= 25
    after = made("developers: Ada\nmodel_summary: A better one.").counts()
    assert after == {"auto": before["auto"] - 1, "people": 2, "open": before["open"] - 1}


def test_numbers_come_from_the_artefacts(made):
    card = made()
    assert card["hours_used"].text == "0.010"
    assert "386 of 5,000 parameters" in card["model_description"].text
    assert "train 200, test 80" in card["training_data"].text
    assert "night" in card["bias_risks_limitations"].text and "day" not in card["bias_risks_limitations"].text
    assert card["results"].source.startswith("evaluation ")


def test_data_is_never_markup(made):
    import mistune

    card = made(f"direct_use: '{HOSTILE}'")
    for made_html in (cards.make_card_page(card).text, cards.make_fill_rate(card).text, cards.make_heading(card).text):
        assert "<img" not in made_html and 'href="javascript:' not in made_html
    hub = mistune.create_markdown(escape=False, plugins=["table"])(cards.make_readme(card).split("---\n", 2)[2])
    assert "<img" not in hub and 'href="javascript:' not in hub
    assert "&lt;img" in hub


def test_the_hub_reads_the_readme(made):
    from huggingface_hub import ModelCard

    card = made("license: My Own Terms")
    read = ModelCard(cards.make_readme(card), ignore_metadata_errors=False)
    assert read.data.license == "other" and read.data.license_name == "my own terms"
    assert read.data.base_model == "timm/vit_tiny_patch16_224.augreg_in21k"
    values = {r.metric_type: r.metric_value for r in read.data.eval_results}
    assert values["accuracy"] == pytest.approx(
        float(re.search(r"([\d.]+) %", card["results_summary"].text)[1]) / 100, abs=1e-3
    )
    assert {r.dataset_revision for r in read.data.eval_results} == {"v3"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("developer: Ada", "did you mean 'developers'"),
        ("zzz: 1", "Fields are"),
        ("developers: {a: 1}", "must be text"),
        ("- a list", "lines of 'field: text'"),
        ("direct_use: a: b", "not valid YAML"),
    ],
)
def test_wrong_answers_say_what_to_do(tmp_path, text, says):
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(ValueError, match=says):
        cards.read_answers(tmp_path / "card.yaml")


def test_questions_are_a_valid_file_and_never_overwrite(tmp_path):
    file = cards.save_questions(tmp_path / "card.yaml")
    assert cards.read_answers(file) == {}
    file.write_text("co2_emitted: 12\n")
    assert cards.read_answers(cards.save_questions(file)) == {"co2_emitted": "12"}


def test_answers_are_looked_for_here_then_in_the_store(tmp_path, store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cards.find_answers() == store / "card.yaml"
    (tmp_path / "card.yaml").write_text("developers: Ada")
    assert cards.find_answers() == tmp_path / "card.yaml"


def test_stale_sources_are_found(made, tmp_path):
    card = made("developers: Ada")
    (tmp_path / "card.json").write_text(cards.describe_card(card))
    assert cards.find_stale(tmp_path / "card.json").empty
    predictions = next(Path(s) for s in card.sources if s.endswith("test.parquet"))
    predictions.write_bytes(predictions.read_bytes() + b" ")
    Path(next(s for s in card.sources if s.endswith("summary.json"))).unlink()
    assert sorted(cards.find_stale(tmp_path / "card.json")["now"].str.len())[0] == len("gone")
    assert len(cards.find_stale(tmp_path / "card.json")) == 2
