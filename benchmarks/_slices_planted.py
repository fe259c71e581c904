"""Planted slices as in dcbench (Eyuboglu et al., 2022): embeddings, targets and predictions with known model failures

A setting is a kind, a shape, a strength and a number of rows. Rows come from an uneven mixture in a low-dimensional space, rotated
into 384 dimensions, with added noise. Several slices are planted in it; every other row errs at the base rate of its class.
"""

from dataclasses import dataclass

import numpy as np

CLASSES, MODES, DIM, LATENT = 4, 10, 384, 32
KINDS = ("rare", "correlation", "noisy label")
SHAPES = ("blob", "elongated", "multi-modal", "label-only")
STRENGTHS = {"strong": (0.45, 0.08), "weak": (0.30, 0.12)}  # Error rate in a slice, and elsewhere


@dataclass(frozen=True)
class Planted:
    "One setting with its ground truth"

    embeddings: np.ndarray  # (n, 384) float32
    target: np.ndarray  # (n,) int
    pred: np.ndarray  # (n,) int
    probs: np.ndarray  # (n, classes), highest for `pred`; confidence is independent of correctness
    slices: np.ndarray  # (n, number of slices) bool

    @property
    def error(self) -> np.ndarray:
        return (self.target != self.pred).astype(float)


class _Space:
    "Positions of the classes and their modes: ten modes per class, with unequal weight and width"

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.sd = (1 + np.arange(LATENT)) ** -0.5
        self.modes = (rng.normal(size=(CLASSES, 1, LATENT)) + 0.8 * rng.normal(size=(CLASSES, MODES, LATENT))) * self.sd
        self.width = rng.uniform(0.4, 0.7, size=(CLASSES, MODES))
        self.weight = rng.dirichlet(np.full(MODES, 3.0), size=CLASSES)

    def around(self, place: np.ndarray, width: np.ndarray | float) -> np.ndarray:
        return place + self.rng.normal(size=place.shape) * self.sd * np.asarray(width)[..., None]

    def background(self, label: np.ndarray) -> np.ndarray:
        mode = (self.rng.random(len(label))[:, None] > np.cumsum(self.weight, 1)[label]).sum(1).clip(max=MODES - 1)
        return self.around(self.modes[label, mode], self.width[label, mode])

    def place(self, label: int) -> np.ndarray:
        "Position near a mode of the class, at three to five of its standard deviations"
        mode = self.rng.integers(MODES)
        return self.modes[label, mode] + self.rng.uniform(3, 5) * self.width[label, mode] * self._direction() * self.sd

    def shaped(self, n: int, at: np.ndarray, shape: str, label: int) -> np.ndarray:
        if shape == "elongated":  # An arc
            along, bend = self._direction() * self.sd, self._direction() * self.sd
            t = self.rng.uniform(-1, 1, n)[:, None]
            return self.around(at + 4 * t * along + 2 * (t**2 - 1 / 3) * bend, 0.35)
        if shape == "multi-modal":
            modes = min(3, max(1, n // 20))
            places = np.stack([at, self.place(label), self.place(label)])
            return self.around(places[np.arange(n) % modes], 0.35)
        return self.around(np.repeat(at[None], n, 0), 0.4)

    def _direction(self) -> np.ndarray:
        v = self.rng.normal(size=LATENT)
        return v / np.linalg.norm(v)


def plant(
    n: int,  # Rows
    kind: str,  # Of `KINDS`
    shape: str,  # Of `SHAPES`
    strength: str,  # Of `STRENGTHS`
    seed: int,
) -> Planted:
    "A setting of five slices of 0.5 to 5 % of the rows"
    rng = np.random.default_rng(seed)
    space = _Space(rng)
    inside, outside = STRENGTHS[strength]
    sizes = (n * rng.permutation(np.geomspace(0.005, 0.05, 5))).round().astype(int)
    zs, labels, owner, wrong = [], [], [], []
    for i, size in enumerate(sizes):
        label, other = rng.choice(CLASSES, 2, replace=False)
        at = space.place(label)
        if kind == "correlation":  # A feature correlated with the other class moves it half the way there
            at = (at + space.place(other)) / 2
        zs.append(space.shaped(size, at, shape, label))
        labels.append(np.full(size, label))
        owner.append(np.full(size, i))
        wrong.append(np.full(size, other))
        if shape == "label-only" or kind == "correlation":  # Same position, another class: not members
            twins = round(1.5 * size) if shape == "label-only" else size
            zs.append(space.around(zs[-1][rng.integers(size, size=twins)], 0.2))
            labels.append(np.full(twins, other))
            owner.append(np.full(twins, -1))
            wrong.append(np.full(twins, label))
    rest = n - sum(map(len, zs))
    label = rng.integers(CLASSES, size=rest)
    zs.append(space.background(label))
    labels.append(label)
    owner.append(np.full(rest, -1))
    wrong.append((label + rng.integers(1, CLASSES, size=rest)) % CLASSES)
    z, true, own, other = (np.concatenate(x) for x in (zs, labels, owner, wrong))
    rate = outside * rng.permutation(np.linspace(0.8, 1.2, CLASSES))[true]
    errs = rng.random(n) < np.where(own >= 0, inside, rate)
    pred, target = np.where(errs, other, true), true.copy()
    if kind == "noisy label":  # In a slice the label is wrong, not the prediction
        flipped = errs & (own >= 0)
        pred[flipped], target[flipped] = true[flipped], other[flipped]
    order = rng.permutation(n)
    turn = np.linalg.qr(rng.normal(size=(DIM, LATENT)))[0]
    x = rng.standard_normal((n, DIM), np.float32)
    x *= np.float32(0.12)
    x += z.astype(np.float32) @ turn.T.astype(np.float32)
    sure = rng.uniform(0.6, 0.99, n)
    probs = np.repeat(((1 - sure) / (CLASSES - 1))[:, None], CLASSES, 1)
    probs[np.arange(n), pred] = sure
    truth = own[:, None] == np.arange(len(sizes))
    return Planted(x[order], target[order], pred[order], probs[order], truth[order])


def judge(
    scores: np.ndarray,  # (n, candidates), best candidate first; higher is more of a member
    slices: np.ndarray,  # (n, slices) bool
) -> list[dict]:  # One row per slice
    "Compare each slice with the candidate of highest average precision, as in Domino's evaluation"
    out = []
    for truth in slices.T:
        best = {"ap": 0.0, "p10": 0.0, "p25": 0.0}
        for s in scores.T:
            hit = truth[np.argsort(-s, kind="stable")]
            ap = float((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())
            if ap > best["ap"]:
                best = {"ap": ap, "p10": float(hit[:10].mean()), "p25": float(hit[:25].mean())}
        out.append(best | {"size": int(truth.sum())})
    return out
