"The ledger survives people, merges, full disks, killed writers and several at once; and it remembers"

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cvbench.core.predictions import make_predictions, save_predictions
from cvbench.evaluation.evaluate import evaluate
from cvbench.slices.cluster_search import MixtureFinder, RegionFinder
from cvbench.slices.ledger import accept_slice, add_slices, ledger_path, load_ledger, reopen_slice
from cvbench.slices.ledger_check import check_ledger
from cvbench.slices.slice import Slice

DIM = Slice("dim light", "light == 'dim'", evidence={"error": 0.4, "split": "test"})


def lines(data="parts"):
    return ledger_path(data).read_text().splitlines()


def weak_place(finder=RegionFinder):
    "A region as it stands in a ledger, and what it was found on"
    rng = np.random.default_rng(0)
    x, spot = rng.normal(size=(600, 8)), np.arange(600) < 60
    x[spot] += 4
    wrong = rng.random(600) < np.where(spot, 0.6, 0.05)
    table = pd.DataFrame({"sample_id": [f"{i:05d}" for i in range(600)], "target": "ok"})
    table["pred"] = np.where(wrong, "dent", "ok")
    return json.loads(json.dumps(finder().fit(table, x, wrong.astype(float)).candidates_[0].region)), table, x


def line_of(**fields):
    return json.dumps({"event": "found", "name": "new", "where": "a == 1"} | fields)


# Edited by hand, merged, cut off

PLACE = weak_place()[0]
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"event": "found", "name": "x" "where": ""}', "not valid JSON"),
        ('{"event": "renamed", "name": "dim light"}', "'event' must be"),
        ('{"event": "found", "where": "a == 1"}', "no 'name'"),
        ('{"event": "found", "name": "empty"}', "neither a condition nor ids"),
        ('{"event": "found", "name": "x", "where": "a == "}', "cannot be read"),
        ('{"event": "found", "name": "x", "where": "a == 1", "evidence": {"q": NaN}}', "holds NaN"),
        ('{"event": "found", "name": "x", "where": 7}', "'where' is a int"),
        ('{"event": "found", "name": "x", "ids": "abc"}', "'ids' is a str"),
        ('{"event": "checked", "name": "dim light", "status": "gone"}', "'status' must be one of"),
        ('{"event": "checked", "name": "dark", "status": "fixed"}', "no line above has found it"),
        ('{"event": "accepted", "name": "dim light"}', "without a 'reason'"),
        ('{"event": "found", "name": "dim light", "where": "light == \'dark\'"}', "taken by another rule"),
        ("<<<<<<< HEAD", "merge that was not resolved"),
        ("[1, 2]", "it is not an event"),
        (json.dumps({"event": "found", "name": "n" * 10_000, "where": "a == 1"}), "1 to 200 characters"),
        (line_of(evidence={"error": "abc"}), "'error' must be a number, or null. Got 'abc'"),
        (line_of(evidence={"rest_error": [0.1]}), "'rest_error' must be a number"),
        (line_of(evidence={"error": 1}).replace("1}}", "1e999}}"), "'error' must be a number"),
        (line_of(evidence={"seed": "x"}), "'seed' must be a whole number"),
        (line_of(evidence={"group": ["patient"]}), "'group' must be the name of a column"),
        (line_of(evidence={"split": {"test": 1}}), "'split' must be a name, or a list of names"),
        (line_of(evidence={"split": ["test", 1]}), "'split' must be a name, or a list of names"),
        ('{"event": "checked", "name": "dim light", "status": "fixed", "error": "abc"}', "'error' must be a number"),
        (line_of(region={k: v for k, v in PLACE.items() if k != "basis"}), "its region lacks 'basis'"),
        (line_of(region={k: v for k, v in PLACE.items() if k != "threshold"}), "its region lacks 'threshold'"),
        (line_of(region=PLACE | {"basis": "abc"}), "its region cannot be read"),
        (line_of(region=PLACE | {"reach": None}), "its region cannot be read"),
        (line_of(region=PLACE | {"threshold": "high"}), "its region cannot be read"),
        (line_of(region=PLACE | {"kind": ["nearest"]}), "its region cannot be read"),
        (line_of(evidence={"deep": 0}).replace("0}}", DEEP + "}}"), "nested too deeply"),
    ],
)
def test_a_line_broken_by_hand_is_named_and_nothing_is_lost(line, message):
    add_slices([DIM], "parts@v1")
    path = ledger_path("parts")
    path.write_text(path.read_text() + line + "\n" + path.read_text())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="line 2") as error:
        load_ledger("parts")
    assert message in str(error.value) and "take the file from version control" in str(error.value)
    with pytest.raises(ValueError, match="line 2"):
        add_slices([Slice("new", "a == 1")], "parts")
    assert path.read_bytes() == before


def test_a_last_line_without_end_that_is_nested_too_deeply_is_named():
    add_slices([DIM], "parts")
    path = ledger_path("parts")
    path.write_text(path.read_text() + DEEP)
    with pytest.raises(ValueError, match="line 2: it is nested too deeply"):
        load_ledger("parts")


@pytest.mark.parametrize("finder", [RegionFinder, MixtureFinder])
def test_a_region_as_it_was_found_is_read_and_asked(finder):
    region, table, x = weak_place(finder)
    add_slices(
        [Slice("a place", region=region | {"embedding": "e"}, evidence={"split": ["test"], "error": None})], "parts"
    )
    preds = make_predictions(
        table["target"].tolist(), np.c_[table["pred"] == "ok", table["pred"] != "ok"], ["ok", "dent"],
        sample_id=table["sample_id"], dataset_version="parts@v1", model_id="one",
    )  # fmt: skip
    told = check_ledger(evaluate(preds, 50), {"e": x})
    assert told.table["status"][0] == "still open" and told.table["n"][0] > 10


def test_bytes_that_are_no_text_are_named():
    add_slices([DIM], "parts")
    path = ledger_path("parts")
    path.write_bytes(path.read_bytes() + b"\xff\xfe\x00\n")
    with pytest.raises(ValueError, match="line 2: it is not UTF-8"):
        load_ledger("parts")


def test_what_editors_do_is_no_harm():
    add_slices([DIM], "parts")
    path = ledger_path("parts")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert [e.name for e in load_ledger("parts")] == ["dim light"]
    path.write_text(path.read_text().strip())  # no newline at the end
    add_slices([Slice("new", "a == 1")], "parts")
    assert [e.name for e in load_ledger("parts")] == ["dim light", "new"]


def test_the_same_slice_twice_as_after_a_merge_is_one():
    add_slices([DIM], "parts")
    path = ledger_path("parts")
    path.write_text(path.read_text() * 2)
    assert len(load_ledger("parts")) == 1


@pytest.mark.parametrize("kept", [1, 30, -2])
def test_half_a_line_at_the_end_costs_only_itself(kept):
    add_slices([DIM, Slice("new", "a == 1")], "parts")
    path = ledger_path("parts")
    first, second = path.read_bytes().splitlines(keepends=True)
    half = second[:kept]
    path.write_bytes(first + half)
    with pytest.warns(UserWarning, match="ends in the middle of a line"):
        assert [e.name for e in load_ledger("parts")] == ["dim light"]
    add_slices([Slice("third", "a == 3")], "parts")
    assert [e.name for e in load_ledger("parts")] == ["dim light", "third"]
    assert path.with_name("parts.jsonl.rest").read_bytes() == half + b"\n"


def test_a_name_is_one_rule_and_a_rule_is_entered_once():
    add_slices([DIM, DIM], "parts")
    add_slices([Slice("another name", " light == 'dim' ")], "parts")
    assert len(lines()) == 1
    with pytest.raises(ValueError, match="Give this one another name"):
        add_slices([Slice("new", "a == 1"), Slice("dim light", "light == 'dark'")], "parts")
    assert len(lines()) == 1


def test_accepting_needs_a_reason_and_a_known_slice():
    add_slices([DIM], "parts")
    with pytest.raises(ValueError, match="needs a reason"):
        accept_slice("dim light", "  ", "parts")
    with pytest.raises(KeyError, match="no slice 'dark'"):
        accept_slice("dark", "why", "parts")
    ledger = accept_slice("dim light", "<b>lamps</b> in May", "parts")
    assert (ledger["dim light"].status, ledger["dim light"].reason) == ("accepted", "<b>lamps</b> in May")
    assert "<b>lamps" not in ledger._repr_html_()
    assert reopen_slice("dim light", "parts@v9")["dim light"].status == "open"


def test_a_name_that_is_no_file_is_refused():
    with pytest.raises(ValueError, match="not usable"):
        add_slices([DIM], "../parts")


def test_no_ledger_is_an_empty_one_and_reading_makes_none():
    assert len(load_ledger("parts")) == 0 and repr(load_ledger("parts")).endswith("empty")
    assert not ledger_path("parts").exists()


# Several at once, and killed

WRITER = """
import sys
from cvbench.slices.ledger import add_slices
from cvbench.slices.slice import Slice
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[2])):
    add_slices([Slice(f"{sys.argv[1]} {i}", f"a == {i} and b == '{sys.argv[1]}'", evidence={"long": "x" * 5000})], "parts")
    print(i, flush=True)
"""


def writers(names, n):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    for p in started:
        assert p.stdout.readline() == "ready\n"
    for p in started:
        p.stdin.write("go\n")
        p.stdin.flush()
    return started


def test_several_processes_write_at_once_and_every_line_is_there():
    started = writers("ABC", 12)
    for p in started:
        p.communicate(timeout=120)
        assert p.returncode == 0
    assert {e.name for e in load_ledger("parts")} == {f"{w} {i}" for w in "ABC" for i in range(12)}


def test_a_killed_writer_loses_nothing_it_has_confirmed():
    for wait in (0.0, 0.004, 0.02):
        (p,) = writers([f"w{wait}"], 1000)
        p.stdout.readline()
        time.sleep(wait)
        p.send_signal(signal.SIGKILL)
        done = 1 + sum(1 for _ in p.stdout)
        p.wait()
        p.stdin.close(), p.stdout.close()
        add_slices([Slice(f"after {wait}", f"c == {wait}")], "parts")  # the lock of the dead is gone
        names = {e.name for e in load_ledger("parts")}
        assert {f"w{wait} {i}" for i in range(done)} | {f"after {wait}"} <= names


def test_a_writer_that_waits_too_long_says_for_what(monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    from cvbench.slices import ledger as module

    add_slices([DIM], "parts")
    fd = os.open(ledger_path("parts"), os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    wait = module._locked
    monkeypatch.setattr(module, "_locked", lambda path: wait(path, patience=0.1))
    with pytest.raises(RuntimeError, match="another process has been writing"):
        accept_slice("dim light", "why", "parts")
    os.close(fd)
    assert len(lines()) == 1


def test_a_full_disk_leaves_the_file_as_it_was(monkeypatch):
    add_slices([DIM], "parts")
    before = ledger_path("parts").read_bytes()
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="disk is full"):
            accept_slice("dim light", "why", "parts")
    assert ledger_path("parts").read_bytes() == before


# Later models

N = 1200
RNG = np.random.default_rng(0)
LIGHT = np.where(np.arange(N) % 6 == 0, "dim", "day")
METAL = RNG.choice(["steel", "brass"], N)
TRUTH = np.where(RNG.random(N) < 0.5, "ok", "dent")


def model(name, dim, rest=0.1, split="test", seed=None, metadata=True, rows=slice(None)):
    noise = np.random.default_rng(abs(hash_of(name)) if seed is None else seed).random(N)
    wrong = noise < np.where(LIGHT == "dim", dim, rest)
    right = np.where((TRUTH == "ok") ^ wrong, 0.9, 0.1)
    meta = {"light": LIGHT[rows], "metal": METAL[rows]} if metadata else {}
    preds = make_predictions(
        TRUTH[rows], np.c_[right, 1 - right][rows], ["ok", "dent"], sample_id=[f"{i:05d}" for i in range(N)][rows], split=split,
        metadata=meta, model_id=name, dataset_version="parts@v1", info={"run": f"run-{name}"},
    )  # fmt: skip
    return evaluate(preds, 50)


def hash_of(text):
    return int.from_bytes(text.encode(), "little") % 2**31


def test_fixed_then_come_back_with_paired_intervals_and_neighbours_unharmed():
    add_slices([DIM], "parts@v1", model="one")
    one, two, three, four = model("one", 0.5), model("two", 0.1), model("three", 0.5), model("four", 0.5)
    assert check_ledger(one).table["status"][0] == "still open"
    told = check_ledger(two, before=[one]).table.iloc[0]
    change, low, high = told["since_first"]
    paired = two.samples.set_index("sample_id")["correct"].astype(float) - one.samples.set_index("sample_id")["correct"]
    dim = two.samples.set_index("sample_id")["light"] == "dim"
    assert told["status"] == "fixed" and low > 0 and change == pytest.approx(paired[dim].mean())
    assert high - low == pytest.approx(2 * 1.96 * paired[dim].std() / np.sqrt(dim.sum()), rel=0.15)
    assert (
        told["elsewhere"][0] == pytest.approx(paired[~dim].mean()) and told["elsewhere"][1] < 0 < told["elsewhere"][2]
    )
    back = check_ledger(three, before=[one, two])
    assert back.table["status"][0] == "came back" and back.table["since_previous"][0][2] < 0
    assert "came back: dim light" in repr(back)
    assert check_ledger(four, before=[one, three]).table["status"][0] == "came back"
    assert check_ledger(two, before=[one, four]).table["status"][0] == "fixed"
    assert [json.loads(x)["status"] for x in lines()[1:]] == ["still open", "fixed", "came back", "came back"]


@pytest.mark.parametrize(
    ("course", "last"),
    [
        (["open", "fixed", "unclear"], "came back"),
        (["open", "fixed", "worse", "accepted"], "came back"),
        (["open", "fixed", "accepted", "reopened"], "came back"),
        (["open", "unclear"], "still open"),
        (["open", "accepted", "reopened"], "still open"),
    ],
)
def test_what_was_once_fixed_and_is_worse_again_came_back_whatever_lies_between(course, last):
    add_slices([DIM], "parts@v1", model="one")
    one = model("one", 0.5)
    for step in course:
        if step == "accepted":
            accept_slice("dim light", "why", "parts")
        elif step == "reopened":
            reopen_slice("dim light", "parts")
        else:
            asked = one if step == "open" else model(step, 0.5 if step == "worse" else 0.1)
            check_ledger(asked, before=[] if step == "unclear" else [one])  # not paired, so not shown to be better
    told = check_ledger(model("late", 0.5), before=[one])
    assert told.table["status"][0] == last


def test_an_evaluation_says_that_slices_are_known():
    ev = model("two", 0.1)
    assert "known weak slice" not in repr(ev)
    add_slices([DIM, Slice('a "quoted" name', "metal == 'steel'")], "parts@v1", model="one")
    accept_slice("dim light", "why", "parts")
    assert "1 known weak slice of this data set: check_ledger(ev)" in repr(ev) and "known weak" in ev._repr_html_()
    reopen_slice("dim light", "parts")
    assert "2 known weak slices" in repr(ev)
    check_ledger(ev, before=[model("one", 0.5)])
    assert load_ledger("parts")["dim light"].status == "fixed" and "known weak" not in repr(ev)
    path = ledger_path("parts")
    moved = [json.dumps(dict(reversed(json.loads(x).items()))) for x in lines()]  # keys in another order
    path.write_text("\n".join([*moved[:2], "half a li", "[1]", *moved[:3]]))
    assert "1 known weak slice " in repr(ev)


def test_asking_twice_writes_once_and_asking_without_record_never():
    add_slices([DIM], "parts@v1", model="one")
    two = model("two", 0.1)
    check_ledger(two, record=False)
    assert len(lines()) == 1
    check_ledger(two)
    check_ledger(two)
    assert len(lines()) == 2
    three = model("three", 0.5)
    for asked in (three, two, three, two):
        check_ledger(asked)
    assert len(lines()) == 3


def test_no_longer_significant_is_not_fixed():
    add_slices([DIM], "parts@v1", model="one")
    few = slice(0, 90)  # 15 images of the slice
    one, two = model("one", 0.2, seed=3, rows=few), model("two", 0.15, seed=3, rows=few)
    told = check_ledger(two, before=[one])
    assert told.table["status"][0] == "unclear" and "nor to be better than before" in repr(told)


def test_an_accepted_slice_is_still_measured():
    add_slices([DIM], "parts@v1", model="one")
    accept_slice("dim light", "lamps in May", "parts")
    told = check_ledger(model("two", 0.5))
    assert told.table["status"][0] == "still open" and "Accepted: lamps in May" in repr(told)
    assert load_ledger("parts")["dim light"].status == "accepted"


def test_earlier_predictions_are_found_in_the_store(store):
    add_slices([DIM], "parts@v1", model="one", run="run-one")
    save_predictions(model("one", 0.5).predictions, store / "runs" / "run-one" / "predictions" / "test.parquet")
    (store / "runs" / "bad" / "predictions").mkdir(parents=True)
    (store / "runs" / "bad" / "predictions" / "test.parquet").write_bytes(b"not parquet")
    assert check_ledger(model("two", 0.1)).table["since_first"][0] is not None
    add_slices([Slice("brass", "metal == 'brass'")], "parts@v1", model="gone")
    told = check_ledger(model("three", 0.1))
    assert told.table["since_first"][1] is None and "not in this store" in told.table["note"][1]
    add_slices([Slice("steel", "metal == 'steel'")], "parts@v1")
    assert "names no first model" in check_ledger(model("three", 0.1)).table["note"][2]


def test_what_cannot_be_judged_says_why_and_is_not_recorded():
    rules = [DIM, Slice("other split", "light == 'dim'  and metal == 'steel'", evidence={"split": "val"})]
    rules += [Slice("nobody", "light == 'night'"), Slice("region", ids=("x",), region={"threshold": 0.5})]
    add_slices(rules, "parts@v1", model="one")
    told = check_ledger(model("two", 0.1, metadata=False))
    assert set(told.table["status"]) == {"not judged"}
    assert "no column 'light'" in told.table["note"][0] and "found on val" in told.table["note"][1]
    assert len(lines()) == 4
    told = check_ledger(model("two", 0.1))
    assert told.table["status"].tolist() == ["unclear", "not judged", "not judged", "not judged"]


@pytest.mark.parametrize(
    ("found", "now", "note"),
    [
        ("test, val", ["test", "val"], ""),
        ("test, val", ["test"], ""),
        (["test", "val"], ["val"], ""),
        ("nan", [None], ""),
        ("None, test", [None, "test"], ""),
        ("val", ["test", "train", "val"], "found on val, and these are images of test, train."),
        (["test", "val"], ["train"], "found on test, val, and these are images of train."),
        ("test", ["test", None], "found on test, and these are images of no split."),
        ("nan", ["test"], "found on no split, and these are images of test."),
    ],
)
def test_a_slice_of_several_splits_or_none_is_judged_on_these_and_on_no_others(found, now, note):
    add_slices([Slice("dim light", "light == 'dim'", evidence={"split": found})], "parts@v1", model="one")
    preds = model("two", 0.5).predictions
    splits = pa.array(np.resize(np.array(now, object), N).tolist(), pa.string())
    table = preds.table.set_column(preds.table.column_names.index("split"), "split", splits)
    told = check_ledger(evaluate(replace(preds, table=table), 50)).table.iloc[0]
    assert told["status"] == ("not judged" if note else "still open") and note in told["note"]


def test_images_that_belong_together_are_judged_together_or_not_at_all():
    ids = tuple(f"{i:05d}" for i in range(0, N, 6))
    add_slices([Slice("dim light", ids=ids, evidence={"group": "metal"})], "parts@v1", model="one")
    told = check_ledger(model("two", 0.5, metadata=False))
    assert told.table["status"][0] == "not judged" and len(lines()) == 1
    assert "images of one 'metal' together, and these predictions have no column 'metal'" in told.table["note"][0]
    assert check_ledger(model("two", 0.5)).table["status"][0] != "not judged"


def test_the_verdict_falls_on_held_out_images_where_the_slice_was_found_on_the_others():
    found = Slice("dim light", "light == 'dim'", evidence={"split": "test", "seed": 0})
    add_slices([found], "parts@v1", model="one")
    assert check_ledger(model("two", 0.1)).table["n"][0] < 0.65 * (LIGHT == "dim").sum()


def relabelled(ev, rows, classes=("ok", "dent")):
    "The same answers, where some labels were others"
    target, t = np.where((TRUTH == "ok") ^ np.isin(np.arange(N), rows), *classes), ev.predictions.table
    return make_predictions(target, ev.predictions.scores, classes, sample_id=t["sample_id"].to_pylist(), model_id=ev.model_id)  # fmt: skip


def test_other_labels_or_other_images_are_not_paired_and_the_note_says_so():
    add_slices([DIM], "parts@v1", model="one")
    one, two = model("one", 0.5), model("two", 0.1)
    p = one.predictions
    renamed = make_predictions(
        TRUTH, np.c_[p.scores, np.zeros(N)], ["ok", "dent", "rust"], sample_id=p.table["sample_id"].to_pylist(), model_id="one"
    )  # fmt: skip
    others = {
        "0 of these 200 images with the target": relabelled(one, range(N)),
        "17 of these 200 images with the target": model("one", 0.5, rows=slice(0, 100)),
        "cannot be paired: ": renamed,
    }
    for why, before in others.items():
        told = check_ledger(two, before=[before], record=False).table.iloc[0]
        assert told["since_first"] is None and told["status"] == "unclear"
        assert why in told["note"] and "not in this store" not in told["note"]


def test_a_few_corrected_labels_leave_the_others_paired():
    add_slices([DIM], "parts@v1", model="one")
    one, two = model("one", 0.5), model("two", 0.1)
    told = check_ledger(two, before=[relabelled(one, [0, 1, 6])]).table.iloc[0]
    same = np.isin(np.arange(N), [0, 1, 6], invert=True)
    paired = two.samples["correct"].astype(float) - one.samples["correct"]
    assert told["status"] == "fixed" and told["since_first"][0] == pytest.approx(paired[(LIGHT == "dim") & same].mean())
    assert told["elsewhere"][0] == pytest.approx(paired[(LIGHT != "dim") & same].mean())
    assert "paired" not in told["note"]


def test_labels_of_html_do_no_harm():
    name = "<script>alert(1)</script>"
    add_slices([Slice(name, "light == '<img src=x onerror=1>'")], "parts", model="m")
    shown = load_ledger("parts")._repr_html_() + check_ledger(model("two", 0.1), data="parts")._repr_html_()
    assert "<script" not in shown and "<img" not in shown and "&lt;script&gt;" in shown


def test_a_data_set_without_name_is_refused():
    preds = make_predictions(["a", "b"], np.eye(2), ["a", "b"])
    with pytest.raises(ValueError, match="name no data set"):
        check_ledger(evaluate(preds, 10))


def test_the_table_has_the_latest_numbers():
    add_slices([DIM], "parts@v1", model="one")
    assert load_ledger("parts").table["error"][0] == 0.4
    check_ledger(model("two", 0.1))
    table = load_ledger("parts").table
    assert isinstance(table, pd.DataFrame) and table["model"][0] == "two" and table["error"][0] < 0.2


# The whole loop, with training; in every run of the tests the tutorial weak_slices goes through one


@pytest.mark.nightly("slices")
def test_a_model_mends_a_slice_and_a_later_one_loses_it_again(store):
    from cvbench.core.inspection import make_inspection
    from cvbench.core.types import Target
    from cvbench.data.commit import commit
    from cvbench.inference.predict import predict
    from cvbench.model.adapters import LinearProbe
    from cvbench.model.models import create_model
    from cvbench.slices.discover import discover_slices
    from cvbench.training.train import train

    def label(part, careless):
        "Good or defective; whoever is careless sees no defect on steel in dim light, but the test images are right"
        unseen = careless and part.split != "test" and part.meta["material"] == "steel" and part.meta["light"] == "dim"
        return replace(part, target=Target(("ok" if unseen or part.target.labels == ("ok",) else "defect",)))

    def adapt(careless, seed=0):
        ds = commit([label(p, careless) for p in parts], name="line")
        run = train(create_model("pocket_vit", ds, adapter=LinearProbe()), ds, seed=seed, quiet=True)
        return evaluate(predict(run, ds.split("test")), 50)

    parts = make_inspection(1500, frames=1, weak_slice=False)
    before = adapt(careless=True)
    report = discover_slices(before, properties=False)
    weak = next(s for s in report if "material == 'steel'" in s.where and "target == 'defect'" in s.where)
    report.to_ledger()

    def ask(ev, *earlier):
        return check_ledger(ev, before=earlier).table.set_index("name").loc[weak.name]

    after = adapt(careless=False)
    told = ask(after, before)
    assert told["status"] == "fixed" and told["since_first"][1] > 0
    assert told["elsewhere"][1] < 0 < told["elsewhere"][2]
    again = ask(adapt(careless=True, seed=1), before, after)
    assert again["status"] == "came back" and again["since_previous"][2] < 0
