"Slices from a prediction table to a report: planted ones found and named, clean twins silent, everything from outside escaped"

import json

import numpy as np
import pandas as pd
import pytest

from cvbench.core.predictions import make_predictions
from cvbench.evaluate.evaluation import evaluate
from cvbench.slices.act import collect, rebalance
from cvbench.slices.conditions import ConditionFinder
from cvbench.slices.confirm import confirm, find_rows, split_halves
from cvbench.slices.describe import name_rule, phrases
from cvbench.slices.discover import SliceReport, discover_slices
from cvbench.slices.ledger import check_ledger, read_ledger
from cvbench.slices.slice import Candidate, Slice

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
    from cvbench.slices.regions import RegionFinder

    shown = discover_slices(model(0.5), embeddings=spread(), finders=[RegionFinder()])
    assert shown.slices[0].name == "material steel, light dim (look-alikes)"
    assert "of the images with" in shown.slices[0].evidence["words"]


def test_region_and_rule_of_one_weakness_are_one_slice_and_the_rule_is_kept():
    report = discover_slices(model(0.5), embeddings=spread())
    assert [s.where for s in report] == ["material == 'steel' and light == 'dim'"]
    assert any(x["found_by"] == "regions" for x in report.slices[0].evidence["explains"])
    assert (report.tried["explained_by"] == "material steel, light dim").any()


def test_without_a_planted_slice_finders_and_proof_together_stay_within_q():
    from cvbench.slices.regions import RegionFinder

    false, runs, tried = 0, 200, 0
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
    assert false / runs <= 0.1 + 1.64 * np.sqrt(0.09 / runs)


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


# Reports


def test_a_report_is_saved_and_read_again(tmp_path):
    report = discover_slices(model(0.5), embeddings={"space": spread()}, columns=[])
    again = SliceReport.load(report.save(tmp_path / "slices.json"))
    assert repr(again) == repr(report) and again._repr_html_() == report._repr_html_()
    assert again.slices[0].id == report.slices[0].id and again.table.equals(report.table)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="not a report of slices"):
        SliceReport.load(tmp_path / "other.json")


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
        assert len(read_ledger("line")) == 1


def test_too_little_to_look_at_is_said_and_no_error():
    for n in (2, 12):
        preds = make_predictions(["a", "b"] * (n // 2), np.tile([[0.9, 0.1]], (n, 1)), ["a", "b"])
        assert "too few" in repr(discover_slices(evaluate(preds, 20)))
    perfect = make_predictions(["a", "b"] * 100, np.tile(np.eye(2), (100, 1)), ["a", "b"])
    assert "Not one image is wrong" in repr(discover_slices(evaluate(perfect, 20)))


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
    with pytest.raises(ValueError, match="phrases are told from the images"):
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
    from cvbench.data.dataset import commit
    from cvbench.model.adapters import LoRA
    from cvbench.model.features import read_features
    from cvbench.model.models import create_model
    from cvbench.model.predict import predict
    from cvbench.model.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVBENCH_STORE", str(tmp_path_factory.mktemp("line") / "store"))
        ds = commit(inspection.make_inspection(4000, frames=1), name="line")
        recipe = {"epochs": 5, "lr": 3e-3, "batch_size": 16, "label_smoothing": 0.1, "augment": "none"}
        run = train(create_model("pocket_vit", ds, adapter=LoRA()), ds, quiet=True, **recipe)
        test = ds.split("test")
        ev = evaluate(predict(run, test), 50)
        yield ds, ev, read_features(run, test, ev.samples["sample_id"].tolist())


@pytest.mark.slow
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


@pytest.mark.slow
def test_and_by_embeddings_with_the_metadata_hidden(line):
    from cvbench.core.inspection import weak_slice_rule

    ds, ev, features = line
    report = discover_slices(ev, ds, features, columns=[], properties=False)
    weak = find_rows(Candidate(weak_slice_rule), ev.samples)
    shares = [weak[find_rows(s, ev.samples, next(iter(features.values())))].mean() for s in report]
    assert max(shares, default=0) > 3 * weak.mean()
