"""What an Evaluation says, of which images, and that nothing in the data can speak for itself"""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from evaluation_simulation import Design
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbench.core.predictions import make_predictions, save_predictions
from cvbench.evaluation.evaluate import evaluate, load_evaluation, save_evaluation
from cvbench.evaluation.select import match_rows


def predictions(n=120, classes=("ok", "dent", "scratch"), seed=0, order=None, targets=None, **about):
    rng = np.random.default_rng(seed)
    place = rng.choice(len(classes), n)
    scores = rng.dirichlet(np.ones(len(classes)), n) + 0.4 * np.eye(len(classes))[place]
    scores /= scores.sum(1, keepdims=True)
    meta = {
        "light": np.where(rng.random(n) < 0.5, "dim", "bright"),
        "blur": rng.gamma(2, 1, n),
        "part": rng.integers(0, 3, n),
    }
    order = np.arange(n) if order is None else order
    names = [classes[i] for i in place] if targets is None else targets
    return make_predictions(
        [names[i] for i in order],
        scores[order],
        classes,
        sample_id=[f"{i:04d}" for i in order],
        metadata={k: v[order].tolist() for k, v in meta.items()},
        **about,
    )


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_order_of_rows_changes_nothing_not_even_the_intervals(seed):
    order = np.random.default_rng(seed).permutation(120)
    one, two = (evaluate(predictions(order=o), n_boot=50) for o in (None, order))
    pd.testing.assert_frame_equal(one.metrics, two.metrics)
    pd.testing.assert_frame_equal(one.calibration, two.calibration)


def test_same_seed_same_numbers_other_seed_other_intervals():
    one, again, other = (evaluate(predictions(), n_boot=50, random_state=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(one.metrics, again.metrics)
    assert one.headline.value == other.headline.value
    assert one.headline.low != other.headline.low
    assert one.id == again.id != other.id


def test_numbers_agree_with_the_table():
    ev = evaluate(predictions(dataset_version="parts@v3", model_id="abc"), n_boot=50)
    assert ev.headline.value == pytest.approx(ev.samples["correct"].mean())
    assert ev.metric("log_loss").value == pytest.approx(ev.samples["loss"].mean(), rel=1e-6)
    assert ev.confusion.to_numpy().sum() == len(ev) == ev.calibration["n"].sum() == 120
    assert np.trace(ev.confusion) == ev.samples["correct"].sum()
    gap = (ev.calibration["n"] * (ev.calibration["accuracy"] - ev.calibration["confidence"]).abs()).sum() / 120
    assert ev.metric("calibration_error").value == pytest.approx(gap)
    assert (ev.dataset_version, ev.model_id) == ("parts@v3", "abc")
    inside = ev.metrics.dropna()
    assert ((inside["low"] <= inside["value"] + 1e-12) & (inside["value"] <= inside["high"] + 1e-12)).all()


def test_unlabelled_rows_are_left_out_and_counted():
    whole = predictions()
    names = whole.table["target"].to_pylist()
    some = evaluate(predictions(targets=[None if i < 20 else t for i, t in enumerate(names)]), n_boot=50)
    assert (some.unlabelled, len(some)) == (20, 100)
    assert "20 images have no target" in repr(some)
    rest = evaluate(predictions(order=np.arange(20, 120)), n_boot=50)
    pd.testing.assert_frame_equal(some.metrics, rest.metrics)
    assert evaluate(whole, n_boot=50).unlabelled == 0
    with pytest.raises(ValueError, match="none of the 120 rows has a target"):
        evaluate(predictions(targets=[None] * 120))


def test_absent_classes_are_not_available_and_not_zero():
    ev = evaluate(predictions(classes=("ok", "dent", "scratch")), n_boot=50).where(
        "target != 'dent' and pred != 'dent'"
    )
    for name in ("recall", "precision", "f1", "auroc", "average_precision"):
        metric = ev.metric(name, "dent")
        assert np.isnan([metric.value, metric.low, metric.high]).all()
        assert (metric.n, metric.text) == (0, "n/a")
    assert not np.isnan(ev.metric("macro_f1").value)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_hardly_any_images(n):
    ev = evaluate(predictions(n), n_boot=50)
    assert 0 <= ev.headline.low <= ev.headline.value <= ev.headline.high <= 1
    assert ev.headline.high - ev.headline.low > 0.5
    assert str(n) in repr(ev)


def test_one_class_only():
    ev = evaluate(make_predictions(["a"] * 5, [[1.0]] * 5, ["a"]), n_boot=50)
    assert ev.headline.value == 1
    assert np.isnan(ev.metric("macro_auroc").value)


EVIL = '<script>alert(1)</script>"&'


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_no_live_html_from_class_names_and_conditions(task):
    targets = [EVIL, "ok"] * 10 if task == "classification" else [[EVIL], [EVIL, "ok"]] * 10
    p = make_predictions(
        targets, [[0.7, 0.3], [0.4, 0.6]] * 10, [EVIL, "ok"], task, dataset_version=EVIL, model_id=EVIL
    )
    ev = evaluate(p, n_boot=20)
    for e in (
        ev,
        ev.where("pred != '<img src=x>'") if task == "classification" else ev.where("'<img src=x>' not in target"),
    ):
        html = e._repr_html_()
        assert "<script" not in html
        assert "<img" not in html
        assert "&lt;script&gt;" in html
    plain = evaluate(make_predictions(["a"] * 3, [[0.9, 0.1]] * 3, ["a", "b"]), n_boot=20)._repr_html_()
    assert "&lt;" not in plain


def test_where_is_an_evaluation_of_those_rows():
    ev = evaluate(predictions(), n_boot=60)
    part = ev.where("light == 'dim' and blur < 2")
    rows = ev.samples.query("light == 'dim' and blur < 2")["sample_id"].astype(int).to_numpy()
    again = evaluate(predictions(order=rows), n_boot=60)
    pd.testing.assert_frame_equal(part.metrics, again.metrics)
    assert part.predictions_id == ev.predictions_id
    assert part.id != ev.id
    assert "light == 'dim'" in repr(part)


TABLE = pd.DataFrame(
    {
        "light": ["dim", "bright", None, "dim"],
        "blur": [0.5, np.nan, 2.0, 3.0],
        "part": [1, 2, 3, 4],
        "good": [True, False, True, False],
        "day": pd.to_datetime(["2024-01-01", "2024-06-01", "2024-07-01", None]),
        "my col": [1, 1, 2, 2],
        "target": [["a"], [], ["a", "b"], ["b"]],
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("light == 'dim'", [0, 3]),
        ("light != 'dim'", [1]),
        ("not light == 'dim'", [1, 2]),
        ("blur > 1", [2, 3]),
        ("0 < part - 1 <= 2", [1, 2]),
        ("part * 2 + 1 == 7 or good", [0, 2]),
        ("part / 2 > 1 and not good", [3]),
        ("part in [1, 4]", [0, 3]),
        ("part not in (1, 4)", [1, 2]),
        ("`my col` == 2", [2, 3]),
        ("'a' in target", [0, 2]),
        ("'im' in light", [0, 3]),
        ("day > '2024-03-01'", [1, 2]),
        ("good", [0, 2]),
        ("-part < -2", [2, 3]),
    ],
)
def test_conditions(condition, rows):
    if condition == "light != 'dim'":
        rows = np.flatnonzero(TABLE["light"] != "dim").tolist()  # pandas decides what a missing value is
    assert np.flatnonzero(match_rows(TABLE, condition)).tolist() == rows


@pytest.mark.parametrize(
    "condition",
    [
        "__import__('os').system('touch pwned')",
        "light.__class__ == 1",
        "light.str.len() > 2",
        "@np.sum(part) > 1",
        "part @ part > 1",
        "part ** 9 > 1",
        "[c for c in light] == 1",
        "(lambda: part)() > 1",
        "f'{light}' == 'x'",
        "light[0] == 'dim'",
        "(x := part) > 1",
        "part if good else blur",
        "'a' * 10 == light",
        "light * 1000000000 == 'x'",
        "part",
        "1 == 1",
        "True",
        "nothere == 1",
        "light >",
        "light > 2",
        "part in 3",
        "part == [1]",
        "part and good",
        "",
        "(" * 5000 + "good" + ")" * 5000,
        "not " * 3000 + "good",
        "x" * 20000,
        "b'x' == light",
        "part is 1",
        "~good",
        "`__class__` == 1",
    ],
)
def test_anything_else_is_refused_with_help(condition, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="condition|column|numbers|compar|join|needs|list"):
        match_rows(TABLE, condition)
    assert not list(tmp_path.iterdir())


words = [
    "light",
    "blur",
    "part",
    "good",
    "day",
    "`my col`",
    "target",
    "'dim'",
    "1",
    "0",
    "2.5",
    "1e999",
    "9" * 30,
    "None",
    "True",
]
words += [
    "and",
    "or",
    "not",
    "in",
    "==",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "(",
    ")",
    "[",
    "]",
    ",",
    "~",
    "%",
    ".",
    "`",
    "'",
    "is",
]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(words), max_size=9).map(" ".join) | st.text(max_size=30))
def test_any_text_is_a_condition_or_a_value_error(text):
    try:
        rows = match_rows(TABLE, text)
    except ValueError:
        return
    assert rows.dtype == bool
    assert rows.shape == (len(TABLE),)


def test_by_covers_every_image_once():
    p = predictions()
    ev = evaluate(p, n_boot=50)
    for column, values in (("light", 2), ("part", 3), ("blur", 4), ("target", 3)):
        table = ev.by(column)
        assert (len(table), table["n"].sum()) == (values, 120)
        assert np.average(table["value"], weights=table["n"]) == pytest.approx(ev.headline.value)
    errors = ev.by("light", metric="calibration_error").set_index("light")
    assert errors.loc["dim", "low"] == ev.where("light == 'dim'").metric("calibration_error").low
    table = ev.by("light", metric="macro_f1").set_index("light")
    assert table.loc["dim", "value"] == pytest.approx(ev.where("light == 'dim'").metric("macro_f1").value)
    assert table.loc["dim", "low"] == pytest.approx(ev.where("light == 'dim'").metric("macro_f1").low)
    with pytest.raises(ValueError, match="there is no column 'ligth'"):
        ev.by("ligth")
    with pytest.raises(KeyError, match="accuracy"):
        ev.by("light", metric="acuracy")
    with pytest.raises(ValueError, match="too finely"):
        evaluate(predictions(250), n_boot=10).by("sample_id")


def test_by_keeps_missing_values():
    p = make_predictions(
        ["a"] * 4, [[0.9, 0.1]] * 4, ["a", "b"], metadata={"m": ["x", None, "x", None], "k": [1, None, 2, 3]}
    )
    ev = evaluate(p, n_boot=20)
    assert ev.by("m").set_index("m")["n"].to_dict() == {"x": 2, "missing": 2}
    assert ev.by("k")["n"].sum() == 4


def test_worst_are_wrong_and_sorted():
    worst = evaluate(predictions(), n_boot=20).worst(7)
    assert not worst["correct"].any()
    assert worst["loss"].is_monotonic_decreasing


@pytest.mark.parametrize("multilabel", [False, True])
def test_saved_and_loaded_is_the_same(tmp_path, multilabel):
    p = Design(80, (0.5, 0.3, 0.2), 2.0, multilabel=multilabel).predictions(0)
    ev = evaluate(p, n_boot=40, level=0.9, random_state=3, stratify=False, bins=10)
    path = tmp_path / "e.parquet"
    for e in (ev, ev.where("score > 0.5")):
        back = load_evaluation(save_evaluation(e, path))
        for name in ("metrics", "calibration", "confusion", "samples"):
            pd.testing.assert_frame_equal(getattr(back, name), getattr(e, name))
        assert (repr(back), back.id) == (repr(e), e.id)
        pd.testing.assert_frame_equal(back.where("score > 0.6").metrics, e.where("score > 0.6").metrics)
    assert [f.name for f in tmp_path.iterdir()] == ["e.parquet"]
    save_predictions(p, tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="not evaluated"):
        load_evaluation(tmp_path / "p.parquet")
    with pytest.raises(FileNotFoundError):
        load_evaluation(tmp_path / "none.parquet")


def test_evaluates_without_torch_in_a_fresh_process(tmp_path):
    save_predictions(predictions(), tmp_path / "p.parquet")
    code = (
        "import sys; from cvbench.core.predictions import load_predictions; from cvbench.evaluation.evaluate import evaluate;"
        "print(evaluate(load_predictions(sys.argv[1]), n_boot=20)); assert not {'torch', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p.parquet")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert "120 images, 3 classes" in done.stdout


def test_task_without_metrics_says_so():
    from dataclasses import replace

    with pytest.raises(ValueError, match="classification, multilabel"):
        evaluate(replace(predictions(), task="tracking"))
