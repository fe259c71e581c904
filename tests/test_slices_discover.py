"Slices from a prediction table to a report: planted ones found and named, clean twins silent, everything from outside escaped"

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulation import meets, runs

from cvbench.core.predictions import make_predictions, prediction_schema
from cvbench.evaluation.evaluate import evaluate
from cvbench.slices.act import collect, rebalance
from cvbench.slices.confirm import against_rest, confirm, find_rows, split_halves
from cvbench.slices.describe import name_rule, phrases
from cvbench.slices.discover import discover_slices, own_features, read_embeddings
from cvbench.slices.ledger import load_ledger
from cvbench.slices.ledger_check import check_ledger
from cvbench.slices.rule_search import ConditionFinder
from cvbench.slices.slice import Candidate, Slice
from cvbench.slices.slice_report import SliceReport

N = 1600
RNG = np.random.default_rng(0)
META = {
    "material": RNG.choice(["steel", "brass", "wood"], N),
    "light": RNG.choice(["dim", "day"], N),
    "camera": RNG.choice(["A", "B", "C"], N),
    "blur": RNG.uniform(0, 3, N).round(3),
}
TRUTH = RNG.choice(["ok", "dent"], N)
WEAK = (META["material"] == "steel") & (META["light"] == "dim")


def model(share, seed=1, name="m", meta=META, classes=("ok", "dent"), weak=WEAK, **about):
    wrong = np.random.default_rng(seed).random(N) < np.where(weak, share, 0.1)
    first = (TRUTH == "ok") ^ wrong
    scores = np.c_[np.where(first, 0.8, 0.2), np.where(first, 0.2, 0.8)]
    names = np.where(TRUTH == "ok", *classes)
    about = {"dataset_version": "line@v1", "model_id": name} | about
    return evaluate(make_predictions(names, scores, classes, metadata=meta, **about), 50)


def spread(weak=WEAK, seed=0):
    "Embeddings in which the weak images lie together"
    x = np.random.default_rng(seed).normal(size=(N, 24)).astype(np.float32)
    x[weak, :3] += 2.5
    return x


def test_the_planted_slice_is_found_and_named_by_its_conditions():
    report = discover_slices(model(0.4))
    assert report.table["where"].tolist() == ["material == 'steel' and light == 'dim'"]
    assert report.slices[0].name == "material steel, light dim"
    e = report.slices[0].evidence
    held = split_halves(model(0.4).samples)
    assert e["n"] == (WEAK & held).sum() and e["low"] < 0.3 < e["high"] and e["q"] < 0.01
    assert e["impact"] == pytest.approx(e["n"] / held.sum() * e["effect"])


def test_a_whole_class_comes_after_what_the_table_of_classes_does_not_tell():
    hard = TRUTH == "ok"
    report = discover_slices(model(np.where(WEAK, 0.7, 0.4), weak=WEAK | hard))
    where = report.table["where"].tolist()
    assert where[-1] == "target == 'ok'" and "material == 'steel' and light == 'dim'" in where[0]
    impact = [s.evidence["impact"] for s in report]
    assert impact[-1] == max(impact)


def test_the_clean_twin_is_silent_and_says_what_could_have_been_seen():
    report = discover_slices(model(0.1, seed=2), embeddings=spread())
    assert len(report) == 0
    assert "No weak slice" in repr(report) and "points at 5 % of the images" in repr(report)


def test_it_is_found_by_embeddings_with_the_columns_hidden_and_described_by_them_when_shown():
    report = discover_slices(model(0.5), embeddings=spread(), columns=[])
    assert len(report) == 1 and report.slices[0].region is not None
    rows = find_rows(report.slices[0], model(0.5).samples, spread())
    assert WEAK[rows].mean() > 0.8 and rows[WEAK].mean() > 0.6
    assert report.slices[0].name in ("look-alikes: ok, dent", "look-alikes: dent, ok")
    held = model(0.5).samples[rows & split_halves(model(0.5).samples)]
    told = {(m["target"], m["pred"]): m["n"] for m in report.slices[0].evidence["mistakes"]}
    assert told == held[~held["correct"]].groupby(["target", "pred"]).size().to_dict()
    assert "Most often: " in report._repr_html_()
    from cvbench.slices.cluster_search import RegionFinder

    shown = discover_slices(model(0.5), embeddings=spread(), finders=[RegionFinder()])
    assert shown.slices[0].name == "material steel, light dim (look-alikes)"
    assert "of the images with" in shown.slices[0].evidence["words"]


def test_region_and_rule_of_one_weakness_are_one_slice_and_the_rule_is_kept():
    report = discover_slices(model(0.5), embeddings=spread())
    assert [s.where for s in report] == ["material == 'steel' and light == 'dim'"]
    assert any(x["found_by"] == "regions" for x in report.slices[0].evidence["explains"])
    assert (report.tried["explained_by"] == "material steel, light dim").any()


@runs(200, "slices")
def test_without_a_planted_slice_finders_and_proof_together_stay_within_q(runs):
    from cvbench.slices.cluster_search import RegionFinder

    false, tried = 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        columns = {c: rng.integers(0, 4, 400) for c in "abc"}
        table = pd.DataFrame({"sample_id": [f"{seed}-{i}" for i in range(400)], **columns})
        error, held, space = (rng.random(400) < 0.2).astype(float), split_halves(table), rng.normal(size=(400, 6))
        found = []
        for finder in (ConditionFinder(earn=0.0), RegionFinder()):
            found += finder.fit(table[~held].reset_index(drop=True), space[~held], error[~held]).candidates_
        verdict = confirm(found, table, error, held, space)
        false, tried = false + verdict["confirmed"].any(), tried + len(found)
    assert tried > 2 * runs
    assert meets(false, runs, 0, 0.1)


def test_a_loss_finds_what_right_and_wrong_do_not_show():
    ev = model(0.1)
    scores = ev.predictions.scores.copy()
    unsure = (
        ev.samples.set_index("sample_id").loc[ev.predictions.table["sample_id"].to_pylist(), "light"] == "dim"
    ).to_numpy()
    scores[unsure] = 0.5 + (scores[unsure] - 0.5) * 0.3
    t = ev.predictions.table
    meta = {c: t[c].to_pylist() for c in META}
    ev = evaluate(make_predictions(t["target"].to_pylist(), scores, ["ok", "dent"], metadata=meta), 50)
    assert len(discover_slices(ev)) == 0
    assert "light == 'dim'" in discover_slices(ev, error="loss").table["where"].tolist()
    with pytest.raises(ValueError, match="'wrong'"):
        discover_slices(ev, error="brier")


def test_images_of_one_track_are_not_independent():
    track = np.arange(N) // 8
    hard = np.random.default_rng(3).random(N // 8 + 1) < 0.25
    meta = {"track": track, "lane": track % 9}
    wrong = np.where(hard[track], 0.9, 0.02)
    ev = model(wrong, meta=meta, weak=np.ones(N, bool))
    report = discover_slices(ev, group="track")
    assert len(report) == 0 and report.about["group"] == "track"
    halves = split_halves(ev.samples, "track")
    assert pd.Series(halves).groupby(ev.samples["track"]).nunique().max() == 1


class Propose:
    "Finds what it was told"

    def __init__(self, *where):
        self.where = where

    def fit(self, table, embeddings, error):
        self.candidates_ = [Candidate(w, found_by="told") for w in self.where]
        return self


@pytest.mark.parametrize("name", ["rock and sand and mud", "rock", 'it\'s "rock" and sand'])
def test_a_value_with_and_in_it_is_one_condition(name):
    ev = model(0.5, meta={"ground": np.where(WEAK, name, "grass"), **META})
    two = "material == 'steel' and light == 'dim'"
    report = discover_slices(ev, finders=[Propose(two, f"ground == {name!r}")])
    assert report.table["where"].tolist() == [f"ground == {name!r}"]


@pytest.mark.parametrize("name", ['it\'s "ok"', "back\\slash'", "ok"])
def test_a_class_of_any_name_comes_last(name):
    ev = model(np.where(WEAK, 0.7, 0.4), weak=WEAK | (TRUTH == "ok"), classes=(name, "dent"))
    report = discover_slices(ev, finders=[Propose(f"target == {name!r}", "material == 'steel' and light == 'dim'")])
    assert [s.where for s in report] == ["material == 'steel' and light == 'dim'", f"target == {name!r}"]
    assert report.slices[0].evidence["impact"] < report.slices[1].evidence["impact"]


def test_the_label_of_a_multilabel_task_comes_last_too():
    crack = np.random.default_rng(5).random(N) < 0.4
    wrong = np.random.default_rng(6).random(N) < np.where(WEAK, 0.6, np.where(crack, 0.35, 0.05))
    scores = np.c_[np.where(crack ^ wrong, 0.9, 0.1), np.tile([0.1], N)]
    targets = [["crack"] if c else [] for c in crack]
    ev = evaluate(make_predictions(targets, scores, ["crack", "stain"], "multilabel", metadata=META), 50)
    report = discover_slices(ev, finders=[Propose("'crack' in target", "material == 'steel' and light == 'dim'")])
    assert [s.where for s in report] == ["material == 'steel' and light == 'dim'", "'crack' in target"]
    assert report.slices[0].evidence["impact"] < report.slices[1].evidence["impact"]


def test_columns_that_could_not_be_looked_at_are_named_with_the_reason():
    more = {
        "serial": np.arange(N),
        "site": ["here"] * N,
        "day": [f"day {i % 400}" for i in range(N)],
        "file": [f"{i}.png" for i in range(N)],
        "note": [f"{i} by hand" for i in range(N)],
    }
    said = discover_slices(model(0.4, meta=META | more)).sentences[-1]
    assert said.startswith(
        "Columns not looked at: serial (looks like a running number; name it in columns to use it), "
    )
    assert said.count(" shared by ") == 2 and said.endswith(", …") and "site" not in said
    assert "not looked at:" not in repr(discover_slices(model(0.4)))


# What could have been seen


PART = np.arange(N) // 16


def draw_parts(level, part, rng):
    "Right or wrong, nearly the same for all images of a part"
    alike = rng.random(len(part)) < 0.9
    return (np.where(alike, rng.random(N)[part], rng.random(len(part))) < level).astype(float)


def draw_loss(level, part, rng):
    return rng.beta(5 * level, 5 * (1 - level))


@runs(60, "slices")
@pytest.mark.parametrize(
    ("draw", "asked", "keys"),
    [
        (draw_parts, {"group": "part"}, True),
        (draw_loss, {"error": "loss"}, False),
        (lambda level, part, rng: (rng.random(len(part)) < level).astype(float), {}, False),
    ],
)
def test_a_weakness_of_the_stated_size_would_be_confirmed_in_four_of_five_cases(draw, asked, keys, runs):
    missed = draw(np.full(N, 0.15), PART, np.random.default_rng(0))[:, None]
    scores = np.where((TRUTH == "ok")[:, None] == [True, False], 1 - missed, missed)
    ev = evaluate(make_predictions(TRUTH, scores, ["ok", "dent"], metadata=META | {"part": PART}), 50)
    report = discover_slices(ev, columns=list(META), **asked)
    effect = report.about["power"][2]["effect"]
    part = PART[split_halves(ev.samples, asked.get("group"))]
    inside = np.isin(part, np.unique(part)[: len(np.unique(part)) // 5]) if keys else np.arange(len(part)) % 5 == 0
    seen, cut = [], 0.1 / max(len(report.tried), 1)
    for seed in range(runs):
        error = draw(np.where(inside, 0.15 + effect, 0.15), part, np.random.default_rng(seed))
        seen.append(against_rest([inside], error, part.astype(str) if keys else None)["p"][0] <= cut)
    assert meets(sum(seen), runs, 0.7, 0.9)
    word = "loss" if "error" in asked else "error"
    assert f"if its {word} exceeds that of the rest by" in repr(report)


def test_groups_that_fall_into_one_half_are_said_to():
    one = discover_slices(model(0.4, meta=META | {"part": [1] * N}), group="part")
    half = split_halves(pd.DataFrame({"sample_id": list("abcdefgh"), "part": range(8)}), "part")
    few = np.flatnonzero(half == half[0])[:3]
    three = discover_slices(model(0.4, meta=META | {"part": np.resize(few, N)}), group="part")
    for report, said in ((one, "One group by 'part' is too little"), (three, "3 groups by 'part' are too few")):
        assert report.sentences[0].endswith("all 1,600 images of line@v1, test, fall into one half.")
        assert said in repr(report) and " 0 images" not in repr(report) and "too small" not in repr(report)
    for report in (discover_slices(model(0.4, meta=META | {"part": PART}), group="part"), discover_slices(model(0.4))):
        assert "too few" not in repr(report) and "one half" not in repr(report)


def test_a_level_that_is_none_and_regions_without_embeddings_are_refused():
    from cvbench.slices.cluster_search import RegionFinder

    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        discover_slices(model(0.4), level=95, finders=[])
    with pytest.raises(ValueError, match="none were given. Pass an array"):
        discover_slices(model(0.4), finders=[RegionFinder()])


# Reports


def test_a_report_is_saved_and_read_again(tmp_path):
    report = discover_slices(model(0.5), embeddings={"space": spread()}, columns=[])
    again = SliceReport.load(report.save(tmp_path / "slices.json"))
    assert repr(again) == repr(report) and again._repr_html_() == report._repr_html_()
    assert again.slices[0].id == report.slices[0].id and again.table.equals(report.table)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="not a report of slices"):
        SliceReport.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    "broken",
    [{}, {"slices": [{"name": "a"}]}, {"slices": None}, {"images": {"a": "not base64"}}, {"slices": [{"ids": 3}]}],
)
def test_half_a_report_is_refused(tmp_path, broken):
    path = discover_slices(model(0.5)).save(tmp_path / "slices.json")
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | broken if broken else {"cvbench": "slices"}))
    with pytest.raises(ValueError, match=r"slices.json is an incomplete report of slices \(.*\)\. Save it again"):
        SliceReport.load(path)


def test_the_page_counts_candidates_and_names_what_was_measured():
    report = discover_slices(model(0.4))
    assert "The one candidate that was tried" in report._repr_html_() and "more errors than" in report._repr_html_()
    for times, said in (
        (2, "All 2 candidates that"),
        (40, "All 40 candidates that"),
        (61, "The first 40 of 61 candidates that"),
    ):
        assert said in replace(report, tried=pd.concat([report.tried] * times))._repr_html_()
    by_loss = discover_slices(model(0.4), error="loss")
    assert len(by_loss) and "points more loss than the rest" in by_loss._repr_html_()
    assert "more errors" not in by_loss._repr_html_()
    one, two = (
        discover_slices(model(0.5), finders=[Propose("material == 'steel' and light == 'dim'", *also)])._repr_html_()
        for also in (["light == 'dim'"], ["light == 'dim'", "material == 'steel'"])
    )
    assert "1 more confirmed candidate is explained by it" in one
    assert "2 more confirmed candidates are explained by it" in two


def test_the_ledger_remembers_a_slice_until_it_is_fixed_and_when_it_comes_back():
    bad, good, again = model(0.4, name="a"), model(0.1, seed=2, name="b"), model(0.4, seed=3, name="c")
    report = discover_slices(bad)
    assert len(report.to_ledger()) == 1 and len(report.to_ledger()) == 1
    told = [check_ledger(ev, before=[bad, good]).table.iloc[0] for ev in (good, again)]
    assert [t["status"] for t in told] == ["fixed", "came back"]
    assert told[0]["since_first"][1] > 0 and told[0]["elsewhere"][1] < 0 < told[0]["elsewhere"][2]
    assert len(discover_slices(good)) == 0


def test_a_region_in_the_ledger_is_judged_by_embeddings_or_else_by_its_images():
    bad, good = model(0.5, name="a"), model(0.1, seed=2, name="b")
    discover_slices(bad, embeddings={"space": spread()}, columns=[]).to_ledger()
    by_place = check_ledger(good, {"space": spread()}, before=[bad], record=False).table.iloc[0]
    by_ids = check_ledger(good, before=[bad], record=False).table.iloc[0]
    assert by_place["status"] == by_ids["status"] == "fixed" and by_place["n"] == by_ids["n"]


def test_another_rule_of_the_same_name_gets_another_name():
    report = discover_slices(model(0.4))
    from cvbench.slices.ledger import add_slices

    add_slices([Slice(report.slices[0].name, "camera == 'A'")], "line")
    assert [e.name for e in report.to_ledger()] == ["material steel, light dim", "material steel, light dim (2)"]
    assert len(report.to_ledger()) == 2


@pytest.mark.parametrize(
    "bad", ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "\x00\u202e'quote\\", "x" * 10_000]
)
def test_hostile_labels_and_columns_do_no_harm(bad, tmp_path):
    meta = {"<b>light</b>": np.where(WEAK, bad, "day"), "camera": META["camera"]}
    report = discover_slices(model(0.5, meta=meta, classes=(bad[:200], "dent")))
    report = SliceReport.load(report.save(tmp_path / "x.json"))
    shown = report._repr_html_()
    assert "<script" not in shown and "<img" not in shown and "<b>light" not in shown and "\x00" not in shown
    if len(bad) < 200:
        assert len(report) == 1 and len(report.slices[0].name) <= 200
        report.to_ledger()
        assert len(load_ledger("line")) == 1


def test_too_little_to_look_at_is_said_and_no_error():
    for n in (2, 12):
        preds = make_predictions(["a", "b"] * (n // 2), np.tile([[0.9, 0.1]], (n, 1)), ["a", "b"])
        assert "too few" in repr(discover_slices(evaluate(preds, 20)))
    perfect = make_predictions(["a", "b"] * 100, np.tile(np.eye(2), (100, 1)), ["a", "b"])
    assert "The model makes no errors here" in repr(discover_slices(evaluate(perfect, 20)))


def test_embeddings_that_do_not_fit_are_refused():
    ev = model(0.4)
    with pytest.raises(ValueError, match=r"must be \(1600, d\)"):
        discover_slices(ev, embeddings=np.zeros((3, 4)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        discover_slices(ev, embeddings=np.full((N, 4), np.nan))
    with pytest.raises(ValueError, match="no column 'missing'"):
        discover_slices(ev, embeddings="missing")
    with pytest.raises(ValueError, match="no data set|name no data set"):
        discover_slices(model(0.4, dataset_version="")).to_ledger()


def test_a_multilabel_task_goes_the_same_way():
    classes, truth = ["crack", "stain"], np.random.default_rng(0).random((N, 2)) < 0.4
    wrong = np.random.default_rng(1).random((N, 2)) < np.where(WEAK, 0.35, 0.04)[:, None]
    scores = np.where(truth ^ wrong, 0.9, 0.1)
    targets = [[c for c, t in zip(classes, row, strict=True) if t] for row in truth]
    ev = evaluate(make_predictions(targets, scores, classes, "multilabel", metadata=META), 50)
    report = discover_slices(ev)
    assert "material == 'steel' and light == 'dim'" in report.table["where"].tolist()
    assert "<div" in report._repr_html_()


def holding(values, name="c"):
    "Stands for a data set with one column"
    table = pa.table({"sample_id": [f"{i:06d}" for i in range(N)][::-1], name: pa.array(values)})
    return SimpleNamespace(columns=table.column_names, ref="line@v1", table=table.select)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 3), pa.large_list(pa.float64()), pa.list_(pa.int64())])
def test_a_column_of_embeddings_is_read_by_id(kind):
    rows = np.arange(3 * N).reshape(N, 3)
    name, read = read_embeddings(model(0.4), holding(pa.array(rows.tolist(), kind)), "c")
    assert name == "c:" and (read == rows[::-1]).all()


def test_none_leaves_even_the_column_of_that_name_alone():
    data = holding(np.arange(3 * N).reshape(N, 3).tolist(), "embedding")
    assert read_embeddings(model(0.4), data)[1].shape == (N, 3)
    assert read_embeddings(model(0.4), data, "none") == ("", None)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["dim"] * N, "'c' holds string and no embeddings"),
        (range(N), "'c' holds int64 and no embeddings"),
        ([["a", "b"]] * N, "'c' holds list.* and no embeddings"),
        ([[{"x": 1.0}]] * N, "'c' holds list.* and no embeddings"),
        ([[1.0, 2.0]] * (N - 1) + [[3.0]], "lists of 1 to 2 numbers"),
        ([[1.0, 2.0]] * (N - 2) + [None] * 2, "2 of the evaluated images have no embedding"),
    ],
)
def test_a_column_of_something_else_is_no_embedding(values, says):
    with pytest.raises(ValueError, match=says):
        read_embeddings(model(0.4), holding(values), "c")


@pytest.mark.parametrize("given", [{}, {"a": np.zeros((N, 2)), "b": np.zeros((N, 2))}])
def test_embeddings_by_name_are_one_array(given):
    with pytest.raises(ValueError, match=f"must be one array, with or without its name. Got {len(given)}"):
        discover_slices(model(0.4), embeddings=given)


def test_the_own_features_are_those_of_the_run_that_predicted(store):
    assert own_features(model(0.4)) is None and own_features(model(0.4), "no-such-run") is None
    ids = model(0.4).samples["sample_id"].tolist()
    for run, shift in (("r1", 0), ("r2", 1)):
        x = np.arange(2 * N, dtype=np.float32).reshape(N, 2) / N + shift
        preds = make_predictions(["a"] * N, np.ones((N, 1)), ["a"], sample_id=ids[::-1], info={"features": f"of {run}"})
        column = pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float16).ravel()), 2)
        table = preds.table.append_column("_features", column)
        folder = store / "runs" / run / "predictions"
        folder.mkdir(parents=True)
        (folder.parent / "run.json").write_text(json.dumps({"id": run, "kind": "train", "config": {}}))
        schema = prediction_schema("classification", ["a"], info=preds.info).append(table.schema.field("_features"))
        pq.write_table(table.cast(schema), folder / "test.parquet")
        (folder / "broken.parquet").write_bytes(b"PAR1")
        for found in (own_features(model(0.4, info={"run": run})), own_features(model(0.4), run)):
            ((name, values),) = found.items()
            assert name == f"of {run}"
            np.testing.assert_allclose(values, x[::-1], atol=2e-3)
    assert own_features(model(0.4)) is None


def test_report_and_command_line_find_the_same_and_take_groups_together(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from cvbench.cli.main import app
    from cvbench.core.predictions import save_predictions

    saved, made = [], evaluate
    ev = model(0.5, meta={"part": PART})
    path = tmp_path / "test.parquet"
    save_predictions(ev.predictions, path)
    monkeypatch.setattr("cvbench.slices.discover.own_features", lambda ev, run="": {"own": spread()})
    for name in ("cvbench.evaluation.evaluate.evaluate", "cvbench.evaluate"):
        monkeypatch.setattr(name, lambda *a, **k: saved.append(k.get("group")) or made(*a, **k))
    done = CliRunner().invoke(app, ["slices", str(path), "--group", "part", "--out", str(tmp_path / "found.json")])
    assert done.exit_code == 0, done.output
    cells = json.loads((Path(__file__).parents[1] / "reports" / "slices.ipynb").read_text())["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    names = {"display": lambda x: None}
    for cell in [code[0], f"predictions, group, n_boot = {str(path)!r}, 'part', 50", *code[1:]]:
        exec(cell, names)
    assert saved == ["part", "part"]
    there, here = SliceReport.load(tmp_path / "found.json"), names["found"]
    assert any(s.region for s in here) and here.table.equals(there.table)


# Words and action


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("a == 'x' and b != 3", "a x, b not 3"),
        ("`odd name` >= 1 and `odd name` < 2 and c == True", "odd name 1 to 2, c yes"),
        ("not (a == 'x')", "not (a x)"),
        ("a == 'x' or a == 'y'", "a x or a y"),
        ("'crack' in target", "target crack"),
        ("a != a", "a missing"),
        ("not depth == depth", "depth missing"),
        ("not `odd name` == `odd name` and b == 1", "odd name missing, b 1"),
        ("not depth == 'depth'", "not (depth depth)"),
        ("depth != 'depth'", "depth not depth"),
        ("camera == 10234", "camera 10234"),
        ("camera == 10231.0 or camera == -12345678", "camera 10231 or camera −12345678"),
        ("at >= 0.123456 and at < 1e300", "at 0.1235 to 1e+300"),
        ("a + b > 2", "a + b > 2"),
        ("this is no condition", "this is no condition"),
    ],
)
def test_rules_in_words(where, words):
    assert name_rule(where) == words


def test_names_are_short_and_clean():
    assert len(name_rule("a == '" + "x" * 5000 + "'")) <= 120
    assert "\x00" not in name_rule("a == 'x\\x00y'")


def test_phrases_need_embeddings_that_fit_and_none_is_chosen_by_chance():
    rng = np.random.default_rng(0)
    chosen = [
        len(phrases(["a", "b", "c"], rng.normal(size=(3, 8)), rng.normal(size=(300, 8)), rng.random(300) < 0.2))
        for _ in range(100)
    ]
    assert np.mean(np.array(chosen) > 0) <= 0.17
    with pytest.raises(ValueError, match="need embeddings"):
        phrases(["a"], np.zeros((1, 4)), np.zeros((3, 5)), np.zeros(3, bool))


class Telling:
    "Stands for an image–text model in whose space the weak images lie by one phrase"

    def embed_texts(self, texts):
        return np.eye(24, dtype=np.float32)[: len(texts)]

    def embed_images(self, ds, ids):
        assert len(ids) == N
        x = np.random.default_rng(0).normal(size=(N, 24)).astype(np.float32)
        x[pd.Index(ids).get_indexer(model(0.5).samples["sample_id"])[WEAK], 0] += 2
        return x


def test_an_image_text_model_says_which_phrases_separate_a_slice(monkeypatch):
    ev = model(0.5)
    with pytest.raises(ValueError, match="phrases need the images"):
        discover_slices(ev, image_text=Telling())
    said = ["<b>dim</b> steel", "a cat", "a dog"]
    monkeypatch.setattr("cvbench.slices.discover._find_data", lambda ev, ds: (object(), []))
    monkeypatch.setattr("cvbench.slices.discover._pictures", lambda *_: ({}, {}))
    report = discover_slices(ev, embeddings=spread(), image_text=Telling(), phrases=said, properties=False)
    found = report.slices[0].evidence["phrases"]
    assert [p["phrase"] for p in found] == said[:1] and found[0]["separation"] > 0.8
    assert "“&lt;b&gt;dim&lt;/b&gt; steel”" in report._repr_html_()
    assert not discover_slices(ev, embeddings=spread(), properties=False).slices[0].evidence["phrases"]


def test_collecting_takes_images_of_the_slice_that_differ_and_are_unsure():
    rng = np.random.default_rng(0)
    pool = pd.DataFrame({"sample_id": [f"p{i}" for i in range(N)], **META, "score": rng.random(N)})
    weak = Slice("weak", "material == 'steel' and light == 'dim'")
    taken = collect(weak, pool, 40, embeddings=spread())
    rows = pool.set_index("sample_id").loc[taken["sample_id"]]
    assert len(taken) == 40 and taken["sample_id"].is_unique
    assert (rows["material"] == "steel").all() and rows["score"].mean() < 0.45
    assert len(collect(weak, pool.head(30), 40)) == WEAK[:30].sum()


def test_predictions_stand_in_for_targets_nobody_knows():
    ev = model(0.4)
    table = ev.predictions.table.drop_columns(["scores"]).to_pandas().assign(target=None)
    taken = collect(Slice("dents", "target == 'dent'"), table, 20)
    assert set(table.set_index("sample_id").loc[taken["sample_id"], "pred"]) == {"dent"}


def test_rebalancing_keeps_the_mean_and_reaches_the_share():
    table = pd.DataFrame({"sample_id": [f"p{i}" for i in range(N)], **META})
    weak = Slice("weak", "material == 'steel' and light == 'dim'")
    weights = pd.Series(rebalance(weak, table, share=0.4))
    assert weights.mean() == pytest.approx(1) and weights[WEAK].sum() / weights.sum() == pytest.approx(0.4)
    assert pd.Series(rebalance(weak, table, share=0.01)).std() == pytest.approx(0, abs=1e-12)
    assert max(rebalance(weak, table, share=0.9, most=3).values()) < 3
    with pytest.raises(ValueError, match="share must lie"):
        rebalance(weak, table, share=2)


# The inspection line, with a model


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    "Predictions and features of a model trained on the inspection line, which knows little of steel in dim light"
    import cvbench.core.inspection as inspection
    from cvbench.data.commit import commit
    from cvbench.inference.features import extract_features
    from cvbench.inference.predict import predict
    from cvbench.model.adapters import LoRA
    from cvbench.model.models import create_model
    from cvbench.training.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVBENCH_STORE", str(tmp_path_factory.mktemp("line") / "store"))
        ds = commit(inspection.make_inspection(4000, frames=1), name="line")
        recipe = {"epochs": 5, "lr": 3e-3, "batch_size": 16, "label_smoothing": 0.1, "augment": "none"}
        run = train(create_model("pocket_vit", ds, adapter=LoRA()), ds, quiet=True, **recipe)
        test = ds.split("test")
        ev = evaluate(predict(run, test), 50)
        yield ds, ev, extract_features(run, test, ev.samples["sample_id"].tolist())


@pytest.mark.xdist_group("line")
@pytest.mark.nightly("slices")
def test_the_weak_slice_of_the_inspection_line_is_found_and_named(line):
    ds, ev, _ = line
    report = discover_slices(ev, ds, properties=False)
    assert "material == 'steel' and light == 'dim'" in {
        " and ".join(sorted(s.where.split(" and "), reverse=True)) for s in report
    }
    first = report.slices[0]
    assert first.name in ("material steel, light dim", "light dim, material steel")
    assert report.images and len(report.examples[first.name]) == 6
    assert json.dumps(first.evidence)


@pytest.mark.xdist_group("line")
@pytest.mark.nightly("slices")
def test_and_by_embeddings_with_the_metadata_hidden(line):
    from cvbench.core.inspection import weak_slice_rule

    ds, ev, features = line
    report = discover_slices(ev, ds, features, columns=[], properties=False)
    weak = find_rows(Candidate(weak_slice_rule), ev.samples)
    shares = [weak[find_rows(s, ev.samples, next(iter(features.values())))].mean() for s in report]
    assert max(shares, default=0) > 3 * weak.mean()
