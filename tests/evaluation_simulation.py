"""Test sets drawn from models whose true metrics are known, for the tests of intervals and comparisons"""

from dataclasses import dataclass

import numpy as np

from cvbench.core.predictions import Predictions, make_predictions
from cvbench.evaluation.evaluate import evaluate
from cvbench.evaluation.metrics import make_measure
from cvbench.evaluation.multilabel import make_label_measure


@dataclass(frozen=True)
class Design:
    "How test sets come about"

    n: int  # Images
    mix: tuple[float, ...]  # Share of each class; multi-label: how often each label is there
    skill: float  # Shift of the true class's logit
    sharp: float = 1.0  # Logits are multiplied by it: over- or under-confidence
    random_mix: bool = False  # Classes are drawn, not in fixed numbers
    multilabel: bool = False

    @property
    def classes(self) -> list[str]:
        return [f"c{i}" for i in range(len(self.mix))]

    def draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        "Targets and scores of n images"
        k = len(self.mix)
        if self.multilabel:
            truth = rng.random((n, k)) < self.mix
            logits = rng.normal(size=(n, k)) + 0.5 * rng.normal(size=(n, 1)) + self.skill * (truth - 0.5)
            return truth, 1 / (1 + np.exp(-self.sharp * logits))
        exact = np.repeat(np.arange(k), np.round(np.array(self.mix) * n).astype(int))
        target = rng.choice(k, n, p=self.mix) if self.random_mix else exact
        logits = rng.normal(size=(len(target), k))
        logits[np.arange(len(target)), target] += np.linspace(self.skill - 0.5, self.skill + 0.5, k)[target]
        scores = np.exp(self.sharp * (logits - logits.max(1, keepdims=True)))
        return target, scores / scores.sum(1, keepdims=True)

    def truth(self) -> dict[str, np.ndarray]:
        "Metrics on 300,000 images"
        target, scores = self.draw(np.random.default_rng(12345), 300_000)
        if self.multilabel:
            return make_label_measure(target, scores >= 0.5, scores)()
        return make_measure(target, scores.argmax(1), scores)()

    def predictions(self, seed: int) -> Predictions:
        target, scores = self.draw(np.random.default_rng(seed), self.n)
        names = np.array(self.classes)
        labels = [names[t].tolist() for t in target]
        return make_predictions(labels, scores, self.classes, "multilabel" if self.multilabel else "classification")


def coverage(
    design: Design, sets: int, n_boot: int = 300, stratify: bool | None = None
) -> dict[str, tuple[float, float, int]]:
    "How often intervals at 95 % hold the truth, their mean width, and how many there were: overall and pooled per class"
    truth, held, wide = design.truth(), {}, {}
    for seed in range(sets):
        how = not design.random_mix if stratify is None else stratify
        ev = evaluate(design.predictions(seed), n_boot=n_boot, random_state=seed, stratify=how)
        for metric, of, _, low, high, _ in ev.metrics.dropna(subset=["low"]).itertuples(index=False):
            one = metric if of is None else f"{metric} of a class"
            true = truth[metric] if of is None else truth[metric][design.classes.index(of)]
            held.setdefault(one, []).append(low <= true <= high)
            wide.setdefault(one, []).append(high - low)
    return {name: (float(np.mean(h)), float(np.mean(wide[name])), len(h)) for name, h in held.items()}
