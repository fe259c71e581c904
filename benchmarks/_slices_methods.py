"""Slice finders as processes that answer one request after another; those of other packages in their own Python environment

python benchmarks/_slices_methods.py METHOD COUNT SEED        # see slices.py, which starts them

Domino 0.1.5 requires scikit-learn 0.24.2, which has no wheel for a current Python, and meerkat and torch, which its slicer uses
only in annotations. Here its module runs unchanged on scikit-learn 1.3, with empty replacements for those two.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import resource
import sys
import time
import types
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn.mixture._base as base
from sklearn.decomposition import PCA
from sklearn.utils import check_array


def load(package: str, module: str):
    "Load one module of a package without its __init__, which has more dependencies"
    folder = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    names = module.split(".")
    for i in range(len(names)):
        name = ".".join([package, *names[:i]])
        if name not in sys.modules:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(folder.joinpath(*names[:i]))]
    return importlib.import_module(f"{package}.{module}")


def stand_in(name: str, **attributes) -> None:
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(attributes)


def _check_X(X, n_components=None, n_features=None, ensure_min_samples=1):
    return check_array(X, dtype=[np.float64, np.float32], ensure_min_samples=ensure_min_samples)


def domino(x, target, pred, probs, count: int, seed: int) -> np.ndarray:
    slicer = DOMINO(n_slices=count, random_state=seed)
    slicer.fit(embeddings=x, targets=target, pred_probs=probs)
    return slicer.predict_proba(embeddings=x, targets=target, pred_probs=probs)


def sliceguard(x, target, pred, probs, count: int, seed: int) -> np.ndarray:
    "sliceguard's hierarchical clustering and choice of issues, on 32 principal components instead of UMAP's 32 dimensions"
    z = PCA(32, random_state=seed).fit_transform(x)
    frame = pd.DataFrame({"target": target, "pred": pred})
    right = lambda y, p: float((np.asarray(y) == np.asarray(p)).mean())  # noqa: E731
    _, frames, labels, columns, _ = SLICEGUARD.generate_metric_frames(
        z, frame, "target", "pred", right, {"image": "embedding", "more": "embedding"}, False
    )
    groups = SLICEGUARD.detect_issues(frames, labels, columns, 0.01, 10, count, "drop", "max", "overall", False)
    found = []
    for group, column in zip(groups, columns, strict=False):
        for issue, row in group[group["issue"]].iterrows():
            member = (labels[column] == issue).to_numpy()
            found.append((row["drop"], member * (1 + 1 / (1 + np.linalg.norm(z - z[member].mean(0), axis=1)))))
    found.sort(key=lambda f: -f[0])
    return np.stack([s for _, s in found[:count]], 1) if found else np.zeros((len(x), 0))


def own(make):
    "Wrap a finder of cvbench as a method"

    def run(x, target, pred, probs, count: int, seed: int) -> np.ndarray:
        table = pd.DataFrame({"target": target.astype(str), "pred": pred.astype(str)})
        finder = make(n_slices=count, random_state=seed).fit(table, x, (target != pred).astype(float))
        return finder.scores(table, x)

    return run


def methods() -> dict:
    try:
        import _slices_baselines as baselines

        from cvbench.slices import cluster_search as regions
    except ImportError:  # In the Python environment of the peers
        return {"domino": domino, "sliceguard": sliceguard}
    k_means = [(f"k-means {k}", own(partial(baselines.KMeansFinder, clusters=k))) for k in (25, 50, 100)]
    return {
        "regions": own(regions.RegionFinder),
        "mixture": own(regions.MixtureFinder),
        "hdbscan": own(baselines.HDBSCANFinder),
        **dict(k_means),
    }


def load_peers() -> None:
    global DOMINO, SLICEGUARD
    base._check_X = _check_X
    stand_in("meerkat", DataPanel=dict)
    stand_in("torch.nn", Module=object)
    stand_in("torch", nn=sys.modules["torch.nn"])
    module = load("domino", "_slice.domino")
    module.DominoMixture._check_initial_parameters = lambda self, x: self._check_parameters(x)
    DOMINO = module.DominoSlicer
    SLICEGUARD = load("sliceguard", "detection")


def main():
    "For each folder of arrays read from standard input, print seconds and memory; the scores are saved in the folder"
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    method, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    known, answers = methods(), sys.stdout
    if "domino" in known:
        load_peers()
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        for line in sys.stdin:
            folder = Path(line.strip())
            arrays = [np.load(folder / f"{n}.npy") for n in ("embeddings", "target", "pred", "probs")]
            start, used = time.perf_counter(), time.process_time()
            scores = known[method](*arrays, count, seed)
            took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used}
            np.save(folder / "scores.npy", scores)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps(took | {"peak_mb": peak}), file=answers, flush=True)


if __name__ == "__main__":
    main()
