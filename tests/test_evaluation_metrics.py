"""Metrics agree with scikit-learn and torchmetrics, obey their own laws, and load nothing heavy"""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbench.evaluation import metrics as m
from cvbench.evaluation import multilabel as ml


def draw(n, k, seed, ties=False, mix=None):
    rng = np.random.default_rng(seed)
    target = rng.choice(k, n, p=mix)
    logits = rng.normal(size=(n, k)) + 1.2 * np.eye(k)[target]
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if ties:
        scores = np.floor(scores * 4) + 0.5
        scores /= scores.sum(1, keepdims=True)
    return target, scores.argmax(1), scores


grid = [
    pytest.param(n, k, ties, mix, id=f"n{n}-k{k}{'-ties' * ties}-{name}")
    for n in (1, 7, 200, 1500)
    for k, name, mix in (
        (2, "even", None),
        (5, "even", None),
        (5, "rare", [0.9, 0.06, 0.02, 0.02, 0.0]),
        (12, "even", None),
    )
    for ties in (False, True)
]


@pytest.mark.parametrize(("n", "k", "ties", "mix"), grid)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")  # an absent class is the point
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")  # so is a single one
def test_agrees_with_sklearn(n, k, ties, mix):
    from sklearn import metrics as sk

    target, pred, scores = draw(n, k, n + k, ties, mix)
    got, labels = m.make_measure(target, pred, scores)(), range(k)
    assert np.array_equal(m.confusion(target, pred, k), sk.confusion_matrix(target, pred, labels=labels))
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(target, pred))
    assert got["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(target, pred))
    assert got["macro_f1"] == pytest.approx(sk.f1_score(target, pred, average="macro"))
    assert got["micro_f1"] == pytest.approx(sk.f1_score(target, pred, average="micro"))
    assert got["log_loss"] == pytest.approx(sk.log_loss(target, scores, labels=labels))
    p, r, f, _ = sk.precision_recall_fscore_support(target, pred, labels=labels, zero_division=np.nan)
    assert got["precision"] == pytest.approx(p, nan_ok=True)
    assert got["recall"] == pytest.approx(r, nan_ok=True)
    assert got["f1"] == pytest.approx(f, nan_ok=True)
    for c in labels:
        truth = target == c
        assert np.isnan(got["auroc"][c]) == (truth.all() or not truth.any())
        assert np.isnan(got["average_precision"][c]) == (not truth.any())
        if not np.isnan(got["auroc"][c]):
            assert got["auroc"][c] == pytest.approx(sk.roc_auc_score(truth, scores[:, c]))
        if truth.any():
            assert got["average_precision"][c] == pytest.approx(sk.average_precision_score(truth, scores[:, c]))


@pytest.mark.parametrize(("n", "k", "ties", "mix"), [p for p in grid if p.values[0] > 1])
def test_agrees_with_torchmetrics(n, k, ties, mix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries torchmetrics tries to import
        import torch
        from torchmetrics.functional import classification as tm

    target, pred, scores = draw(n, k, 10 * n + k, ties, mix)
    got, t, s = m.make_measure(target, pred, scores)(), torch.tensor(target), torch.tensor(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes without positives are part of the grid
        per_class = tm.multiclass_f1_score(s, t, k, average=None).numpy()
        area = tm.multiclass_auroc(s, t, k, average=None).numpy()
        precise = tm.multiclass_average_precision(s, t, k, average=None).numpy()
        assert got["macro_f1"] == pytest.approx(tm.multiclass_f1_score(s, t, k, average="macro").item(), abs=1e-5)
    assert got["accuracy"] == pytest.approx(tm.multiclass_accuracy(s, t, k, average="micro").item(), abs=1e-6)
    assert got["balanced_accuracy"] == pytest.approx(
        sum(r for r in got["recall"] if r == r) / np.sum(np.bincount(target) > 0)
    )
    for bins in (1, 10, 15):
        error = m.calibration_error(scores.max(1), target == pred, bins)
        assert error == pytest.approx(
            tm.multiclass_calibration_error(s, t, k, n_bins=bins).item(), abs=1e-5
        )  # it sums in float32
    known = ~np.isnan(got["f1"])
    assert got["f1"][known] == pytest.approx(per_class[known], abs=1e-6)
    both = np.bincount(target, minlength=k) > 0
    assert got["auroc"][both & (np.bincount(target, minlength=k) < n)] == pytest.approx(
        area[both & (np.bincount(target, minlength=k) < n)], abs=1e-5
    )
    assert got["average_precision"][both] == pytest.approx(precise[both], abs=1e-5)


def draw_labels(n, k, seed, ties=False):
    rng = np.random.default_rng(seed)
    truth = rng.random((n, k)) < np.linspace(0.5, 0.02, k)
    scores = 1 / (1 + np.exp(-rng.normal(2 * truth - 1, 1.2)))
    return truth, scores >= 0.5, np.round(scores, 1).clip(0.05, 0.95) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "k"), [(5, 2), (60, 3), (800, 8)])
@pytest.mark.filterwarnings("ignore:No positive class found in y_true:UserWarning")  # rare labels on few images
def test_multilabel_agrees_with_sklearn_and_torchmetrics(n, k, ties):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries torchmetrics tries to import
        import torch
        from torchmetrics.functional import classification as tm
    from sklearn import metrics as sk

    truth, pred, scores = draw_labels(n, k, n * k, ties)
    got = ml.make_label_measure(truth, pred, scores)()
    assert got["subset_accuracy"] == pytest.approx(sk.accuracy_score(truth, pred))
    assert got["hamming_loss"] == pytest.approx(sk.hamming_loss(truth, pred))
    assert got["micro_f1"] == pytest.approx(sk.f1_score(truth, pred, average="micro", zero_division=np.nan))
    assert got["macro_f1"] == pytest.approx(sk.f1_score(truth, pred, average="macro", zero_division=np.nan))
    p, r, f, _ = sk.precision_recall_fscore_support(truth, pred, zero_division=np.nan)
    assert got["precision"] == pytest.approx(p, nan_ok=True)
    assert got["recall"] == pytest.approx(r, nan_ok=True)
    assert got["f1"] == pytest.approx(f, nan_ok=True)
    losses = [sk.log_loss(truth[:, c], scores[:, c], labels=[0, 1]) for c in range(k)]
    assert got["log_loss"] == pytest.approx(np.mean(losses))
    some = truth.any(0) & ~truth.all(0)
    assert got["auroc"][some] == pytest.approx(
        [sk.roc_auc_score(truth[:, c], scores[:, c]) for c in np.flatnonzero(some)]
    )
    assert got["average_precision"][some] == pytest.approx(
        [sk.average_precision_score(truth[:, c], scores[:, c]) for c in np.flatnonzero(some)]
    )
    s, t = torch.tensor(scores), torch.tensor(truth).long()
    if not ties:  # torchmetrics compares in float32, where 0.2 lies on another side of the border 3/15
        error = tm.binary_calibration_error(s.ravel(), t.ravel(), n_bins=15).item()
        assert got["calibration_error"] == pytest.approx(error, abs=1e-6)
        assert got["hamming_loss"] == pytest.approx(
            tm.multilabel_hamming_distance(s, t, k, average="micro").item(), abs=1e-6
        )


counts = st.lists(st.integers(0, 3), min_size=30, max_size=30).filter(any)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), ties=st.booleans(), weights=counts, multilabel=st.booleans())
def test_a_weight_is_a_repetition(seed, ties, weights, multilabel):
    "Counting an image twice is having it twice; not at all is not having it"
    if multilabel:
        data, make = draw_labels(30, 3, seed, ties), ml.make_label_measure
    else:
        data, make = draw(30, 3, seed, ties), m.make_measure
    weighted = make(*data)(np.array(weights))
    repeated = make(*(np.repeat(d, weights, axis=0) for d in data))()
    columns = make(*data)(np.array([weights, np.ones(30)], np.float32).T)
    plain = make(*data)()
    for name, value in repeated.items():
        np.testing.assert_allclose(weighted[name], value, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(columns[name][..., 0], value, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(columns[name][..., 1], plain[name], atol=1e-5, err_msg=name)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_order_of_rows_and_names_of_classes_do_not_matter(seed, ties):
    target, pred, scores = draw(40, 4, seed, ties)
    rng = np.random.default_rng(seed)
    rows, names = rng.permutation(40), rng.permutation(4)
    new = np.argsort(names)
    one, two = (
        m.make_measure(target, pred, scores)(),
        m.make_measure(new[target][rows], new[pred][rows], scores[rows][:, names])(),
    )
    for name, value in one.items():
        same = value[names] if name in ("precision", "recall", "f1", "auroc", "average_precision") else value
        np.testing.assert_allclose(two[name], same, atol=1e-12, err_msg=name)


def test_only_what_is_asked_for():
    target, pred, scores = draw(50, 3, 0)
    assert set(m.make_measure(target, pred, scores, only=["accuracy", "macro_auroc"])()) == {"accuracy", "macro_auroc"}


@pytest.mark.parametrize("weights", [np.ones(3), np.ones((2, 2, 2)), [1, -1], [1, np.nan]])
def test_senseless_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights must"):
        m.accuracy([0, 1], [0, 1], weights)


def test_saturated_scores_are_ties():
    "A softmax in float32 gives many exact zeros and ones"
    truth = np.array([1, 1, 0, 0, 1, 0], bool)
    score = np.array([1, 1, 1, 0, 0, 0], np.float32)
    assert m.auroc(truth, score) == pytest.approx(6 / 9)
    assert m.average_precision(truth, score) == pytest.approx(2 / 3 * 2 / 3 + 1 / 3 * 3 / 6)


@pytest.mark.parametrize("module", ["metrics", "multilabel", "intervals"])
def test_import_is_light(module):
    code = (
        f"import cvbench.evaluation.{module}, sys;"
        "bad = {'torch', 'sklearn', 'matplotlib', 'scipy', 'pandas', 'lance', 'IPython'} & {m.split('.')[0] for m in sys.modules};"
        "sys.exit(f'loaded {sorted(bad)}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_evaluation_loads_no_torch():
    code = "import cvbench.evaluation.compare, sys; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
