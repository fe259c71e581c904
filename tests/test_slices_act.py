"Collecting and rebalancing: no image twice, wrong use refused, and properties of the images where a rule asks for them"

import numpy as np
import pandas as pd
import pytest

from cvbench.core.inspection import make_inspection
from cvbench.data.commit import commit
from cvbench.slices.act import collect, rebalance
from cvbench.slices.properties import find_properties
from cvbench.slices.slice import Slice

N = 120
RNG = np.random.default_rng(0)
POOL = pd.DataFrame(
    {"sample_id": [f"{i:03d}" for i in range(N)], "light": ["dim", "day"] * (N // 2), "score": RNG.uniform(0.3, 1, N)}
)
SPACE = RNG.normal(size=(N, 6))
DIM = Slice("dim light", "light == 'dim'")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": -1}, "k must be at least 1"),
        ({"k": 0}, "k must be at least 1"),
        ({"like": SPACE[:5]}, "like needs embeddings of the pool"),
        ({"like": SPACE[:5, :4], "embeddings": SPACE}, r"like must be \(m, 6\).*Got \(5, 4\)"),
        ({"like": SPACE[:0], "embeddings": SPACE}, r"like must be \(m, 6\).*Got \(0, 6\)"),
        ({"like": SPACE[0], "embeddings": SPACE}, r"like must be \(m, 6\).*Got \(6,\)"),
        ({"embeddings": SPACE[:, 0]}, r"embeddings must be \(120, d\).*Got \(120,\)"),
        ({"embeddings": SPACE[1:]}, r"embeddings must be \(120, d\).*Got \(119, 6\)"),
    ],
)
def test_wrong_use_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        collect(DIM, POOL, **given)


@pytest.mark.parametrize("score", [np.nan, np.inf, 7.0, "high"])
def test_scores_that_are_no_shares_are_refused(score):
    odd = POOL.assign(score=POOL["score"].astype(object).where(POOL.index > 2, score))
    with pytest.raises(ValueError, match="3 images of the pool have a score that is not between 0 and 1"):
        collect(DIM, odd, 5, embeddings=SPACE)
    assert len(collect(DIM, odd.drop(columns="score"), 5, embeddings=SPACE)) == 5


@pytest.mark.parametrize(("embeddings", "like"), [(None, None), (SPACE, None), (SPACE, SPACE[:10])])
def test_no_image_is_taken_twice(embeddings, like):
    twice = pd.concat([POOL, POOL], ignore_index=True)
    space = None if embeddings is None else np.r_[embeddings, embeddings]
    taken = collect(DIM, twice, 40, embeddings=space, like=like)
    assert taken["sample_id"].is_unique and len(taken) == 40
    pd.testing.assert_frame_equal(taken, collect(DIM, POOL, 40, embeddings=embeddings, like=like))


def test_a_rule_on_a_property_of_the_images_is_asked_of_a_data_set():
    ds = commit(make_inspection(40, frames=1), name="line")
    bright = find_properties(ds, ds.table(["sample_id"])["sample_id"].to_pylist()).set_index("sample_id")["brightness"]
    middle = float(bright.median())
    dark = Slice("dark", f"brightness < {middle}")
    expected = set(bright.index[bright < middle])
    assert set(collect(dark, ds, 40)["sample_id"]) == expected
    weights = pd.Series(rebalance(dark, ds, share=0.8))
    assert set(weights.index[weights > 1]) == expected
    for ask in (collect, rebalance):
        with pytest.raises(ValueError, match="no column 'lamp'"):
            ask(Slice("lamp", "lamp == 1"), ds)
        with pytest.raises(ValueError, match="no column 'brightness'"):
            ask(dark, POOL)
