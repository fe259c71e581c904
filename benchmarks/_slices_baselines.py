"""Two simple slice finders to compare with: clusters of the embeddings, ranked by error rate

The first uses k-means, the second HDBSCAN (both from scikit-learn). HDBSCAN leaves out sparse areas. It compares all pairs, so it
learns from at most ten thousand rows.
"""

from typing import Any, Self

import numpy as np
import pandas as pd

from cvbench.slices import cluster_search as search
from cvbench.slices.slice import Candidate


class KMeansFinder(search._RegionFinder):
    "Clusters by k-means, ranked by error rate"

    def __init__(
        self,
        n_slices: int = 10,  # Maximum number of candidates
        clusters: int = 50,
        min_size: int = 8,  # Minimum number of images of a candidate
        dims: int = 64,  # Maximum number of principal components
        random_state: int = 0,
    ):
        self.n_slices, self.clusters, self.min_size = n_slices, clusters, min_size
        self.dims, self.random_state = dims, random_state

    def fit(
        self,
        table: pd.DataFrame,
        embeddings: np.ndarray | None,  # (n, d)
        error: np.ndarray,  # (n,) 0 to 1
    ) -> Self:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        x, e = search._read_embeddings(embeddings, len(table)), search._read_error(error, len(table))
        self.candidates_ = []
        if len(e) < 2 * self.min_size or not 0 < e.sum() < len(e):
            return self
        with search._kernels.one_thread():
            space = search._make_space(x, self.dims, np.random.default_rng(self.random_state), whiten=False)
        z = space(x)
        distinct = len(np.unique(z[: 20 * self.clusters], axis=0))
        with threadpool_limits(2):
            fitted = KMeans(min(self.clusters, distinct), n_init=1, random_state=self.random_state).fit(z)
        self.candidates_ = _by_rate(self, "k-means", space, z, e, fitted.labels_)
        return self


def _by_rate(
    finder: Any, name: str, space: search._Space, z: np.ndarray, error: np.ndarray, labels: np.ndarray
) -> list[Candidate]:
    "Clusters as candidates; label -1 means no cluster"
    held = np.unique(labels[labels >= 0])
    if not len(held):
        return []
    centres = np.stack([z[labels == c].mean(0) for c in held])
    size = np.array([(labels == c).sum() for c in held])
    rate = np.array([error[labels == c].mean() for c in held])
    order = [i for i in np.argsort(-rate, kind="stable") if size[i] >= finder.min_size][: finder.n_slices]
    others = lambda i: np.delete(centres, i, 0)  # noqa: E731
    return [
        Candidate(
            region=search._make_nearest(space, centres[i : i + 1], others(i), z[labels == held[i]], centres[i], {}),
            found_by=name,
            score=float(rate[i] / error.mean()),
        )
        for i in order
    ]


class HDBSCANFinder(search._RegionFinder):
    "Dense areas by HDBSCAN, ranked by error rate"

    def __init__(
        self,
        n_slices: int = 10,  # Maximum number of candidates
        min_size: int = 15,  # Minimum number of images of a dense area
        dims: int = 32,  # Maximum number of dimensions in which distances are compared
        random_state: int = 0,
    ):
        self.n_slices, self.min_size, self.dims, self.random_state = n_slices, min_size, dims, random_state

    def fit(
        self,
        table: pd.DataFrame,
        embeddings: np.ndarray | None,  # (n, d)
        error: np.ndarray,  # (n,) 0 to 1
    ) -> Self:
        from sklearn.cluster import HDBSCAN

        x, e = search._read_embeddings(embeddings, len(table)), search._read_error(error, len(table))
        self.candidates_ = []
        if len(e) < 2 * self.min_size or not 0 < e.sum() < len(e):
            return self
        rng = np.random.default_rng(self.random_state)
        with search._kernels.one_thread():
            space = search._make_space(x, self.dims, rng)
        part = np.sort(rng.choice(len(x), min(len(x), 10_000), replace=False))
        z = space(x[part])
        labels = HDBSCAN(min_cluster_size=self.min_size, min_samples=5, copy=True).fit_predict(z)
        self.candidates_ = _by_rate(self, "hdbscan", space, z, e[part], labels)
        return self
