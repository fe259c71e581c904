"""Comparisons agree with statsmodels, keep quiet between equals, and find what is there"""

from dataclasses import replace

import numpy as np
import pytest
from evaluation_simulation import Design
from simulation import meets, runs

from cvbench.core.predictions import make_predictions
from cvbench.evaluation.compare import compare, mcnemar, sign_flip
from cvbench.evaluation.evaluate import evaluate


def pair(seed, n=150, gain=0.0, noise=0.8, classes=("a", "b", "c"), ids=None, own=None):
    "Two models that see the same images, each with its own noise; b sees more by `gain`"
    rng = np.random.default_rng(seed)
    k = len(classes)
    place = np.arange(n) % k
    image = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[place]
    for extra in (0.0, gain):
        logits = image + extra * np.eye(k)[place] + noise * rng.normal(size=(n, k))
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        yield make_predictions(
            [classes[i] for i in place], scores, classes, sample_id=ids, metadata=own, model_id=f"m{extra}"
        )


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 0), (5, 5), (3, 12), (21, 9), (200, 160)])
def test_mcnemar_agrees_with_statsmodels(fixed, broken):
    from scipy.stats import binom
    from statsmodels.stats.contingency_tables import mcnemar as reference

    middle, exact = mcnemar(fixed, broken)
    assert exact == pytest.approx(reference([[7, fixed], [broken, 4]], exact=True).pvalue)
    pmf = binom.pmf(min(fixed, broken), fixed + broken, 0.5)
    assert middle == pytest.approx(exact - pmf if fixed != broken else 1.0)
    assert mcnemar(broken, fixed) == (middle, exact)


@runs(80, "intervals")
def test_equals_are_called_different_in_at_most_one_of_twenty(runs):
    calls, held = {"accuracy": 0, "macro_f1": 0, "log_loss": 0}, 0
    for seed in range(runs):
        c = compare(*pair(seed), n_boot=150, random_state=seed)
        for metric in calls:
            calls[metric] += replace(c, metric=metric).verdict != "unclear"
        first = c.metrics.iloc[0]
        held += first["low"] <= 0 <= first["high"]
    assert all(meets(wrong, runs, 0, 0.05) for wrong in calls.values()), calls
    assert meets(held, runs, 0.93, 0.97), held / runs


def test_a_real_difference_is_found_in_both_directions():
    found = [compare(a, b, n_boot=100) for a, b in (pair(seed, n=400, gain=0.8) for seed in range(10))]
    assert [c.verdict for c in found] == ["better"] * 10
    back = [compare(b, a, n_boot=100) for a, b in (pair(seed, n=400, gain=0.8) for seed in range(3))]
    assert [c.verdict for c in back] == ["worse"] * 3
    np.testing.assert_allclose(back[0].metrics["difference"], -found[0].metrics["difference"])
    assert back[0].counts["fixed"] == found[0].counts["broken"]


def test_lower_is_better_where_it_is():
    a, b = pair(0, n=400, gain=0.8)
    assert compare(a, b, "log_loss", n_boot=100).verdict == "better"
    assert compare(b, a, "log_loss", n_boot=100).verdict == "worse"


def test_differences_are_those_of_the_evaluations():
    a, b = pair(3)
    one, two, c = evaluate(a, n_boot=30), evaluate(b, n_boot=30), compare(a, b, n_boot=30)
    for row in c.metrics[c.metrics["class"].isna()].itertuples():
        assert row.difference == pytest.approx(two.metric(row.metric).value - one.metric(row.metric).value)
    right = two.samples["correct"].astype(int) - one.samples["correct"].astype(int)
    assert c.counts["fixed"] == (right == 1).sum()
    assert c.ids("broken") == one.samples["sample_id"][right == -1].tolist()
    assert compare(one, two, n_boot=30).sentence == c.sentence
    assert c.model_ids == ("m0.0", "m0.0")


def test_pairing_narrows_the_interval():
    "Two models that see the same are compared more sharply than their own intervals suggest"
    a, b = pair(0, n=400, noise=0.2)
    one, difference = evaluate(a, n_boot=200).headline, compare(a, b, n_boot=200).metrics.iloc[0]
    assert difference["high"] - difference["low"] < one.high - one.low


def test_equal_on_few_images_is_not_known_to_be_equal():
    for n in (3, 30, 300):
        a, _ = pair(0, n=n)
        c = compare(a, a, n_boot=30)
        row = c.metrics.iloc[0]
        assert c.verdict == "unclear"
        assert row["low"] < 0 < row["high"]
        assert row["high"] == pytest.approx(1.96 / (n + 2), rel=0.01)
    assert "No difference can be shown" in c.sentence


def test_sentence_says_what_the_numbers_say():
    a, b = pair(0, n=400, gain=0.8)
    c = compare(a, b, n_boot=100, names=("probe", "LoRA"))
    row, k = c.metrics.iloc[0], c.counts
    assert c.sentence.startswith("LoRA is better than probe: accuracy +")
    assert (
        f"{100 * row['difference']:+.1f} points [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}] on 400 images"
        in c.sentence
    )
    assert f"it fixes {k['fixed']} and breaks {k['broken']} (McNemar mid-p " in c.sentence
    small = compare(*pair(1, n=30), n_boot=100).sentence
    assert "too few to tell models apart" in small
    assert "enough to find" in compare(*pair(1, n=400), n_boot=100).sentence


def test_other_images_are_an_error_unless_said():
    (a, _), (_, b) = pair(0, n=60), pair(0, n=60, ids=[f"{i:06d}" for i in range(60)])
    part = replace(b, table=b.table.slice(10))
    with pytest.raises(ValueError, match="share 50 labelled images; 10 are only in a and 0 only in b.*how='common'"):
        compare(a, part)
    assert len(compare(a, part, how="common", n_boot=20)) == 50
    _, strangers = pair(0, n=60, ids=[f"x{i}" for i in range(60)])
    with pytest.raises(ValueError, match="share 0 labelled images"):
        compare(a, strangers, how="common")
    with pytest.raises(ValueError, match="how must be"):
        compare(a, b, how="outer")
    _, relabelled = pair(0, n=60, classes=("b", "a", "c"))
    with pytest.raises(ValueError, match="other targets in b"):
        compare(a, relabelled)
    with pytest.raises(ValueError, match="classes only one of them has: .*'d'"):
        compare(a, list(pair(0, n=60, classes=("a", "b", "d")))[1])
    with pytest.raises(ValueError, match="Pass one of accuracy"):
        compare(a, b, "f1", n_boot=20)


def test_order_of_rows_and_of_classes_does_not_matter():
    a, b = pair(2, n=90)
    order = np.random.default_rng(0).permutation(90)
    names = ["c", "a", "b"]
    scores = b.scores[order][:, [b.classes.index(c) for c in names]]
    ids, target = (b.table[c].to_pylist() for c in ("sample_id", "target"))
    mixed = make_predictions([target[i] for i in order], scores, names, sample_id=[ids[i] for i in order])
    one, two = compare(a, b, n_boot=40), compare(a, mixed, n_boot=40)
    assert one.sentence == two.sentence
    np.testing.assert_allclose(one.metrics["low"], two.metrics["low"])


def test_multilabel_and_unlabelled():
    design = Design(200, (0.5, 0.3, 0.1), 2.0, multilabel=True)
    a = design.predictions(0)
    truth = a.table["target"].to_pylist()
    truth[:5] = [None] * 5
    sharper = np.clip(a.scores + 0.4 * (np.array([[c in (t or ()) for c in a.classes] for t in truth]) - 0.5), 0, 1)
    c = compare(a, make_predictions(truth, sharper, a.classes, "multilabel"), how="common", n_boot=100)
    assert (c.metric, c.verdict, len(c)) == ("macro_f1", "better", 195)
    assert "macro F1 +" in c.sentence


def test_html_is_escaped():
    evil = "<script>x</script>"
    a, b = pair(0, n=40)
    html = compare(a, b, n_boot=20, names=(evil, evil))._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def in_groups(seed, groups=40, each=6, gain=0.0, together=2.5):
    "Two equally good models with a difference of their own on every part, of which there are several images"
    rng = np.random.default_rng(seed)
    part, place = np.repeat(np.arange(groups), each), np.tile(np.arange(2), groups * each // 2)
    image = rng.normal(size=groups * each)
    for extra in (0.0, gain):
        z = image + together * rng.normal(size=groups)[part] + 1.0 + extra
        p = 1 / (1 + np.exp(-np.where(place == 1, z, -z)))
        own = {"part": [f"p{i}" for i in part]}
        yield make_predictions(
            [("a", "b")[i] for i in place], np.stack([1 - p, p], 1), ("a", "b"), metadata=own, model_id=f"m{extra}"
        )


@runs(60, "intervals")
def test_equals_that_differ_by_group_are_called_equal_only_when_the_groups_are_told(runs):
    told, untold = 0, 0
    for seed in range(runs):
        a, b = in_groups(seed)
        told += compare(a, b, n_boot=100, group="part").verdict != "unclear"
        untold += compare(a, b, n_boot=100).verdict != "unclear"
    assert meets(told, runs, 0, 0.05), told / runs
    assert untold / runs > 0.2
    found = [compare(*in_groups(seed, groups=150, gain=3.0), n_boot=100, group="part") for seed in range(5)]
    assert [c.verdict for c in found] == ["better"] * 5
    assert "in 150 groups of equal part" in found[0].sentence


def test_groups_of_one_image_change_nothing():
    a, b = pair(4, gain=0.3, own={"part": [str(i) for i in range(150)]})
    one, two = compare(a, b, n_boot=200), compare(a, b, n_boot=200, group="part")
    assert (two.p_value, two.p_exact) == pytest.approx((one.p_value, one.p_exact))
    assert two.n_groups == one.n_groups == 150
    np.testing.assert_allclose(two.metrics["high"], one.metrics["high"], atol=0.03)
    with pytest.raises(ValueError, match="no column 'track'"):
        compare(a, b, group="track")


@pytest.mark.parametrize("gap", [(3, 1, -2), (5, 5, -1, 0), (1, -1, 2, 2, -4), (7,), (0, 0)])
def test_the_sign_flip_test_counts_all_flips(gap):
    from itertools import product

    sums = [abs(sum(s * g for s, g in zip(signs, gap, strict=True))) for signs in product((1, -1), repeat=len(gap))]
    assert sign_flip(np.array(gap))[1] == pytest.approx(np.mean([s >= abs(sum(gap)) for s in sums]))


def test_an_image_without_a_group_stands_alone():
    a, b = pair(5, n=60, own={"part": [None if i % 2 else f"p{i // 10}" for i in range(60)]})
    assert compare(a, b, n_boot=50, group="part").n_groups == 30 + 6


def test_groups_whose_images_are_strangers_hide_nothing():
    part = np.repeat(np.arange(60), 10)
    own = {"part": part.tolist()}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        a, b = (
            make_predictions(
                ["a"] * 600,
                np.where((rng.random(600) < right)[:, None], [0.9, 0.1], [0.1, 0.9]),
                ("a", "b"),
                metadata=own,
            )
            for right in (0.8, 0.9)
        )
        plain, c = compare(a, b, n_boot=200), compare(a, b, n_boot=200, group="part")
        assert plain.verdict == c.verdict == "better"
        wide, narrow = (x.metrics.iloc[0]["high"] - x.metrics.iloc[0]["low"] for x in (c, plain))
        assert wide == pytest.approx(narrow, rel=0.35)


def test_one_group_decides_nothing_and_evaluations_bring_their_group():
    a, b = in_groups(0, gain=3.0)
    alone = [replace(p, table=p.table.append_column("all", [[1] * len(p)])) for p in (a, b)]
    c = compare(*alone, "balanced_accuracy", n_boot=50, group="all")
    assert c.verdict == "unclear" and "not defined" in c.sentence
    assert compare(evaluate(a, n_boot=20, group="part"), b, n_boot=20).group == "part"
    bare = replace(a, table=a.table.drop_columns(["part"]))
    assert compare(bare, b, n_boot=20, group="part").n_groups == 40
