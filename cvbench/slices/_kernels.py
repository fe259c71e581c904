"""Numerical functions for cluster search: projection, clusters, their tree, and the scan of the tree for errors

All steps are matrix products or counts, so time is linear in the rows, and no array has rows × rows entries.
"""

from functools import cache
from typing import Any

import numpy as np

_CHUNK = 200_000  # Entries in a block of distances
_NEAR = 1.3  # Distance of neighbouring groups, relative to that of usual neighbours


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_thread() -> Any:
    "A context in which matrix products use one thread: they are small, and more threads would mostly wait"
    return _controller().limit(limits=1, user_api="blas")


def principal(
    x: np.ndarray,  # (n, d) float32
    most: int,
    rng: np.random.Generator,
    rows: int = 10_000,  # Number of random rows for the covariance
) -> np.ndarray:  # (d, q)
    "Up to `most` directions with a variance above the noise, by subspace iteration"
    part = x if len(x) <= rows else x[np.sort(rng.choice(len(x), rows, replace=False))]
    n, d = part.shape
    part = part - part.mean(0)
    size = float(np.abs(part).max()) or 1.0
    part /= size
    cov = (part.T @ part) / n
    q = min(most, d, n)
    v = rng.normal(size=(d, min(d, q + 8))).astype(np.float32)
    for _ in range(6):
        v = np.linalg.qr(cov @ v)[0]
    value, turn = np.linalg.eigh(v.T @ cov @ v)
    value, v = value[::-1][:q], (v @ turn[:, ::-1])[:, :q]
    noise = max(float(np.trace(cov)) - float(value.sum()), 0.0) / max(d - q, 1)
    edge = noise * (1 + np.sqrt(d / n)) ** 2  # Upper end of the noise spectrum (Marchenko and Pastur, 1967)
    return v[:, : max(1, int((value > max(edge, 1e-10 * value[0])).sum()))]


def distances(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    "Squared distances, minus the squared norm of each row"
    out = z @ (-2 * centres.T)
    out += (centres * centres).sum(1)
    return out


def nearest(z: np.ndarray, centres: np.ndarray) -> np.ndarray:
    out = np.empty(len(z), np.int64)
    step = max(1, _CHUNK // len(centres))
    weight, offset = np.ascontiguousarray(-2 * centres.T), (centres * centres).sum(1)
    block = np.empty((min(step, len(z)), len(centres)), z.dtype)
    for i in range(0, len(z), step):
        part = z[i : i + step]
        far = np.matmul(part, weight, out=block[: len(part)])
        far += offset
        far.argmin(1, out=out[i : i + step])
    return out


def sums(labels: np.ndarray, z: np.ndarray, k: int) -> np.ndarray:
    from scipy.sparse import csc_matrix

    n = len(labels)
    return csc_matrix((np.ones(n, z.dtype), labels, np.arange(n + 1)), (k, n)) @ z


def k_means(
    z: np.ndarray,  # (n, q)
    k: int,
    rng: np.random.Generator,
    rounds: int = 4,
    rows: int = 20_000,  # Number of random rows from which the centres are learnt
) -> tuple[np.ndarray, np.ndarray]:  # (k, q) centres of non-empty clusters, and the nearest centre of each row
    "Lloyd's algorithm, started from random rows"
    part = z if len(z) <= rows else z[np.sort(rng.choice(len(z), rows, replace=False))]
    centres = part[np.sort(rng.choice(len(part), min(k, len(part)), replace=False))]
    for _ in range(rounds):
        labels = nearest(part, centres)
        count = np.bincount(labels, minlength=len(centres))
        held = count > 0
        centres = (sums(labels, part, len(centres))[held] / count[held, None]).astype(z.dtype)
    labels = nearest(z, centres)
    held, labels = np.unique(labels, return_inverse=True)
    return centres[held], labels


def whiten(z: np.ndarray, centres: np.ndarray, labels) -> np.ndarray:
    "Matrix after which the spread of rows around their centres is the same in all directions"
    rest = z - centres[labels]
    cov = (rest.T @ rest) / max(len(z), 1)
    value, turn = np.linalg.eigh(cov.astype(np.float64))
    if value[-1] <= 0:
        return np.eye(len(cov), dtype=z.dtype)
    return (turn / np.sqrt(np.maximum(value, 1e-6 * value[-1]))).astype(z.dtype)


def ward(
    centres: np.ndarray,  # (k, q)
    count: np.ndarray,
) -> np.ndarray:  # (k-1, 2) the two joined nodes; the join in row i is node k + i
    "Ward's tree of weighted clusters: all pairs of mutual nearest neighbours are joined at once (Murtagh, 1983)"
    c, size, node = centres.astype(np.float64), count.astype(np.float64), np.arange(len(centres))
    merges: list[np.ndarray] = []
    done = len(c)
    while len(c) > 1:
        norm = (c * c).sum(1)
        far = (norm[:, None] + norm - 2 * (c @ c.T)) * (size[:, None] * size / (size[:, None] + size))
        np.fill_diagonal(far, np.inf)
        to, own = far.argmin(1), np.arange(len(c))
        a = np.flatnonzero((to[to] == own) & (own < to))
        if not len(a):  # Only if rounding breaks a tie in two ways
            a = np.array([far.min(1).argmin()])
        b = to[a]
        merges.append(np.stack([node[a], node[b]], 1))
        both = size[a] + size[b]
        c[a] = (size[a, None] * c[a] + size[b, None] * c[b]) / both[:, None]
        size[a], node[a] = both, done + np.arange(len(a))
        done += len(a)
        left = np.delete(own, b)
        c, size, node = c[left], size[left], node[left]
    return np.concatenate([np.empty((0, 2), np.int64), *merges])


def log_likelihood(errors: np.ndarray, count: np.ndarray, rate: np.ndarray) -> np.ndarray:
    "Log-likelihood of `errors` among `count`, each with probability `rate`"
    from scipy.special import xlogy

    return xlogy(errors, rate) + xlogy(count - errors, 1 - rate)


def gain(errors: np.ndarray, count: np.ndarray, base: np.ndarray) -> np.ndarray:
    "Log-likelihood ratio of the observed rate against `base`; 0 if it is not higher (Kulldorff, 1997)"
    rate = errors / np.maximum(count, 1)
    return np.where(rate > base, log_likelihood(errors, count, rate) - log_likelihood(errors, count, base), 0.0)


def add_up(leaves: np.ndarray, merges: np.ndarray) -> np.ndarray:  # (k-1, 2)
    "Values of the leaves, followed by the sums of every join"
    out = np.concatenate([leaves, np.zeros((len(merges), *leaves.shape[1:]))])
    for i, (a, b) in enumerate(merges, len(leaves)):
        out[i] = out[a] + out[b]
    return out


def choose(value: np.ndarray, merges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # (2k - 1,) and (k,) bool
    "Disjoint nodes with the greatest sum of values, and the leaves that they cover"
    k = len(merges) + 1
    best, own, pairs = value.tolist(), (value > 0).tolist(), merges.tolist()
    for i, (a, b) in enumerate(pairs, k):
        below = best[a] + best[b]
        own[i] = own[i] and best[i] >= below
        best[i] = max(best[i], below)
    free, chosen = [True] * len(best), [False] * len(best)
    for i in range(len(best) - 1, -1, -1):
        chosen[i] = own[i] and free[i]
        if i >= k:
            a, b = pairs[i - k]
            free[a] = free[b] = free[i] and not chosen[i]
    at = np.array(chosen)
    return at, at[:k] | ~np.array(free)[:k]


def leaves_of(node: int, merges: np.ndarray) -> np.ndarray:  # (k-1, 2)
    k, todo, out = len(merges) + 1, [node], []
    while todo:
        i = todo.pop()
        if i < k:
            out.append(i)
        else:
            todo.extend(merges[i - k])
    return np.sort(np.array(out))


def neighbours(centres: np.ndarray, own: np.ndarray) -> np.ndarray:  # (groups, groups) bool
    "Which groups are neighbours: their nearest clusters are no farther apart than usual neighbours"
    away = distances(centres, centres) + (centres * centres).sum(1)[:, None]
    np.fill_diagonal(away, np.inf)
    usual = np.median(away.min(1, initial=np.inf))
    out = np.zeros((len(own), len(own)), bool)
    for i, mine in enumerate(own):
        least = away[mine].min(0)
        out[i] = np.where(own, least, np.inf).min(1) < _NEAR * usual
    return out


def log_gaussian(z: np.ndarray, means: np.ndarray, precisions: np.ndarray) -> np.ndarray:
    "Log density of each row in each component, without a constant"
    shape = z @ (means * precisions).T - 0.5 * (z * z) @ precisions.T
    return shape + 0.5 * (np.log(precisions) - means**2 * precisions).sum(1)
