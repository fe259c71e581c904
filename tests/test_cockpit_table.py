"Whatever a column holds, the browser gets something it can show, and nothing that is not so"

import datetime
import decimal
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbench.cockpit.protocol import check_rows
from cvbench.cockpit.table import make_chip, pack_table, read_slices
from cvbench.core.predictions import Predictions, make_predictions
from cvbench.evaluation.compare import compare
from cvbench.evaluation.evaluate import evaluate
from cvbench.evaluation.intervals import wilson
from cvbench.slices.slice import Slice

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "quote \" and ' and `",
    "\0nul\x1b[31m",
    "‮rtl مسمار",
    "x" * 10_000,
    "",
    "=1+1",
    "line\nbreak",
]


def toy(n=60, classes=("ok", "dent"), task="classification", seed=0, **metadata):
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(len(classes)), n) if task == "classification" else rng.random((n, len(classes)))
    target = [classes[i] for i in rng.integers(0, len(classes), n)]
    if task == "multilabel":
        target = [[c for c, on in zip(classes, row, strict=True) if on] for row in rng.random((n, len(classes))) < 0.4]
    return evaluate(make_predictions(target, scores, classes, task, metadata=metadata), n_boot=10)


def read(ev, **more):
    data, columns = pack_table(ev, **more)
    table = pa.ipc.open_stream(data).read_all()
    assert table.column_names == [c["key"] for c in columns]
    assert len(set(table.column_names)) == len(table.column_names)
    return table, {c["key"]: c for c in columns}


def test_the_columns_of_a_classification():
    ev = toy(classes=HOSTILE)
    table, about = read(ev)
    for name in ("sample_id", "split", "target", "pred"):
        assert table[name].to_pylist() == ev.samples[name].tolist()
    assert table["target"].chunk(0).dictionary.to_pylist() == HOSTILE
    np.testing.assert_array_equal(np.array(table["_scores"].to_pylist(), np.float32), ev.predictions.scores)
    np.testing.assert_array_equal(table["correct"].to_numpy(), ev.samples["correct"])
    assert {c["role"] for c in about.values()} >= {"sample_id", "target", "pred", "score", "loss", "correct", "scores"}
    assert len(pa.ipc.open_stream(pack_table(ev)[0]).read_all().to_batches()) == 1


def test_labels_are_places():
    ev = toy(classes=("a", "b", "c"), task="multilabel")
    table, about = read(ev)
    assert about["target"]["kind"] == "labels"
    named = [[ev.classes[i] for i in row] for row in table["target"].to_pylist()]
    assert named == [list(t) for t in ev.samples["target"]]


@pytest.mark.parametrize(
    ("values", "kind", "local"),
    [
        (pa.array(["dim", None, "bright"] * 20), "category", False),
        (pa.array(["dim", None, "bright"] * 20).dictionary_encode(), "category", False),
        (pa.array(["dim", None, "bright"] * 20, pa.large_string()), "category", False),
        (pa.array([f"B{i}" for i in range(60)]), "text", False),
        (pa.array(HOSTILE * 7 + HOSTILE[:4]), "category", False),
        (pa.array([True, None, False] * 20), "bool", False),
        (pa.array([1, None, 3] * 20), "number", False),
        (pa.array([2**60 + i for i in range(60)]), "text", True),
        (pa.array([0.5, math.nan, None] * 20), "number", False),
        (pa.array([math.inf, -math.inf, None] * 20), "number", False),
        (pa.array(np.arange(60, dtype=np.float16)), "number", False),
        (pa.nulls(60), "category", False),
        (pa.array([datetime.date(2026, 1, 1 + i % 9) for i in range(60)]), "category", True),
        (pa.array([datetime.datetime(2026, 1, 1, 0, i) for i in range(60)]), "number", True),
        (
            pa.array([datetime.datetime(1, 1, 1), None, datetime.datetime(9999, 12, 31)] * 20, pa.timestamp("us")),
            "category",
            True,
        ),
        (pa.array([["a"], None, []] * 20), "text", True),
        (pa.array([{"a": 1}, None, {"a": None}] * 20), "text", True),
        (pa.array([b"\xff", None, b""] * 20), "text", True),
        (pa.array([decimal.Decimal("1.5"), None, None] * 20), "text", True),
        (pa.array([datetime.timedelta(1), None, None] * 20), "text", True),
    ],
)
def test_metadata_of_any_kind(values, kind, local):
    preds = toy().predictions
    ev = evaluate(
        Predictions(preds.table.append_column("meta", pa.chunked_array([values])), preds.task, preds.classes), n_boot=10
    )
    table, about = read(ev)
    assert (about["meta"]["kind"], about["meta"].get("local", False)) == (kind, local)
    column = table["meta"]
    assert len(column) == len(ev)
    assert column.null_count >= values.null_count
    if kind == "category" and not local and not pa.types.is_null(values.type):
        assert column.to_pylist() == values.to_pylist()
    if kind == "number" and not local:
        np.testing.assert_array_equal(column.to_numpy(), values.to_numpy(zero_copy_only=False).astype(float))


def test_long_text_is_cut_and_vectors_stay_away():
    preds = toy().predictions
    long, vector = (
        pa.array([f"{i}" + "y" * 5000 for i in range(60)]),
        pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(60 * 64, np.float32)), 64),
    )
    table = preds.table.append_column("long", long).append_column("vector", vector)
    table, about = read(evaluate(Predictions(table, preds.task, preds.classes), n_boot=10))
    assert "vector" not in about and max(map(len, table["long"].to_pylist())) == 300


def test_many_classes_and_rows_send_no_scores():
    ev = toy(n=300, classes=tuple(f"class {i}" for i in range(2000)))
    table, about = read(ev)
    assert "_scores" not in about
    place = [ev.classes.index(t) for t in ev.samples["target"]]
    np.testing.assert_array_equal(table["_target_score"].to_numpy(), ev.predictions.scores[np.arange(300), place])
    assert len(table["target"].chunk(0).dictionary) == 2000


def test_a_metadata_column_cannot_take_the_place_of_another():
    _, about = read(toy(_x=list(range(60)), outcome=["o"] * 60), place=np.zeros((60, 2)))
    assert about["_x"]["role"] == "x" and about["_x·"]["local"]
    assert "role" not in about["outcome"]


def test_the_second_model_agrees_with_compare():
    a, b = toy(seed=0), toy(seed=0)
    b = evaluate(make_predictions(b.samples["target"].tolist(), np.random.default_rng(9).dirichlet([1, 1], 60), ("dent", "ok"),
                                  sample_id=b.samples["sample_id"].tolist()), n_boot=10)  # fmt: skip
    table, _ = read(a, other=b)
    told = compare(a, b, n_boot=10).samples
    assert table["_outcome"].to_pylist() == told["kind"].tolist()
    assert table["_pred_b"].to_pylist() == told["pred_b"].tolist()
    with pytest.raises(ValueError, match="no image in common"):
        pack_table(a, other=evaluate(make_predictions(["ok"], [[1, 0]], ("ok", "dent"), sample_id=["z"]), n_boot=2))


def test_images_only_one_model_saw_have_no_outcome():
    a = toy()
    half = a.where(ids=a.samples["sample_id"][:30])
    table, _ = read(a, other=half)
    assert table["_outcome"].null_count == 30 == table["_pred_b"].null_count


def test_chips_are_counted_right():
    ev = toy(light=["dim", "bright", None] * 20)
    part = Slice("dim", "light == 'dim'", evidence={"q": 0.02})
    rows = part.rows(ev.samples)
    chip = make_chip(part, rows, ev.samples["correct"].to_numpy())
    right = ev.samples["correct"][rows]
    assert (chip["n"], chip["metric"], chip["q"]) == (20, right.mean(), 0.02)
    assert (chip["low"], chip["high"]) == tuple(wilson(right.mean(), 20))
    assert make_chip(part, np.zeros(60, bool), np.ones(60, bool))["metric"] is None


def test_slices_in_a_table():
    table = pd.DataFrame({"name": ["a", "b"], "where": ["light == 'dim'", ""], "ids": [None, ["x", "y"]]})
    assert [(s.where, s.ids) for s in read_slices(table)] == [("light == 'dim'", None), ("", ("x", "y"))]
    assert read_slices(pa.Table.from_pandas(table))[1].ids == ("x", "y")
    assert read_slices(pd.DataFrame({"slice": [Slice("a", "b > 1")]}))[0].name == "a"
    with pytest.raises(TypeError, match="name and where"):
        read_slices(pd.DataFrame({"rule": ["x"]}))


@given(
    st.one_of(
        st.none(),
        st.text(),
        st.floats(),
        st.dictionaries(st.text(), st.integers()),
        st.lists(st.one_of(st.integers(), st.text(), st.booleans(), st.floats(), st.none())),
    )
)
@settings(max_examples=300, deadline=None)
def test_only_rows_pass(sent):
    fine = isinstance(sent, list) and all(type(r) is int and 0 <= r < 5 for r in sent)
    if fine:
        assert check_rows(sent, 5) == sent
    else:
        with pytest.raises(ValueError, match="whole numbers"):
            check_rows(sent, 5)
