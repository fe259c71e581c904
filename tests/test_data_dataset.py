"""Versions: what makes one, what it holds, and that nothing is rewritten or mixed up."""

import io
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvbench.core.files import hash_bytes
from cvbench.core.types import Sample, Target, encode_rle
from cvbench.data.commit import commit, make_column
from cvbench.data.versions import add_column, checkout, diff, list_datasets, log, restore, tag


def encode(i):
    to = io.BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 255, (12, 16, 3), np.uint8)).save(to, "PNG")
    return to.getvalue()


def make(n, start=0, **meta):
    return [Sample(f"{i}.png", encode(i), Target(("ab"[i % 2],)), meta=dict(meta)) for i in range(start, start + n)]


def test_a_version_gives_back_what_went_in():
    mask = np.zeros((12, 16), bool)
    mask[2:5, 3:9] = True
    target = Target(("a", "b"), [[3, 2, 9, 5]], ("b",), (encode_rle(mask),), ("S/N 7",))
    samples = [
        replace(s, target=target, split=split)
        for s, split in zip(make(4), ("train", "train", "val", "test"), strict=True)
    ]
    ds = commit(samples, "parts", message="one")
    assert ds.task == "multilabel"
    assert ds.classes == ("a", "b")
    assert ds.splits == {"train": 2, "val": 1, "test": 1}
    assert [Target.from_dict(t) for t in ds.table()["target"].to_pylist()] == [target] * 4
    by_id = {hash_bytes(s.image): s for s in samples}
    table = ds.table(["sample_id", "image", "uri", "width", "height", "split"])
    for row in table.to_pylist():
        assert row["image"] == by_id[row["sample_id"]].image
        assert (row["uri"], row["split"]) == (by_id[row["sample_id"]].uri, by_id[row["sample_id"]].split)
        assert (row["width"], row["height"]) == (16, 12)


def test_splits_are_views():
    ds = commit(make(40), "parts")
    parts = [ds.split(s) for s in ds.splits]
    assert sum(map(len, parts)) == len(ds) == 40
    assert (
        sorted(i for p in parts for i in p.table(["sample_id"])["sample_id"].to_pylist())
        == ds.table()["sample_id"].to_pylist()
    )
    for part in parts:
        assert set(part.table(["split"])["split"].to_pylist()) == {part.only}
        assert part.splits == {part.only: len(part)}
        assert part.images(range(len(part))) == part.table(["image"])["image"].to_pylist()
        assert part.classes == ds.classes
    with pytest.raises(KeyError, match="has no sample_id"):
        parts[0].images(parts[1].table()["sample_id"].to_pylist())
    with pytest.raises(IndexError, match="outside parts@v1"):
        parts[1].images([10_000])
    assert parts[0].images([]) == []


def test_batches_have_exactly_their_size():
    ds = commit(make(50), "parts", ratios={"train": 0.9, "test": 0.1}).split("train")
    assert [b.num_rows for b in ds.batches(["sample_id", "image"], 20)] == [20, 20, 5]
    assert [b.schema.names for b in ds.batches(["image"], 40)] == [["image"]] * 2


def test_thumbnails():
    ds = commit(make(3), "parts")
    for small in ds.thumbnails(ds.table()["sample_id"].to_pylist(), 8):
        with Image.open(io.BytesIO(small)) as image:
            assert (image.format, max(image.size)) == ("WEBP", 8)


def test_order_of_the_images_does_not_matter(tmp_path):
    samples = make(60)
    here = commit(samples, "parts", store=tmp_path / "a")
    there = commit(reversed(samples), "parts", store=tmp_path / "b")
    assert here.fingerprint == there.fingerprint
    assert here.table().drop(["uri"]).equals(there.table().drop(["uri"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[1:],
        lambda s: [*s, *make(1, 99)],
        lambda s: [replace(s[0], target=Target(("b",))), *s[1:]],
        lambda s: [replace(s[0], target=replace(s[0].target, boxes=[[1, 1, 5, 5]], box_labels=("a",))), *s[1:]],
        lambda s: [replace(s[0], meta={"light": "dim"}), *s[1:]],
        lambda s: [replace(s[0], split="holdout"), *s[1:]],
        lambda s: [*s, Sample("broken.png", b"")],
    ],
)
def test_a_version_for_a_change_and_none_without(change):
    samples = make(12, light="bright")
    first = commit(samples, "parts")
    assert commit(samples, "parts").version == 1
    assert commit([replace(s, uri=f"moved/{s.uri}") for s in samples], "parts").version == 1
    second = commit(change(samples), "parts")
    assert second.version == 2
    assert commit(change(samples), "parts").version == 2
    assert checkout("parts@v1") == first


def test_growth_keeps_splits_and_stores_each_image_once(store):
    ds = commit(make(40), "parts")
    size = sum(f.stat().st_size for f in (store / "datasets/parts/images.lance/data").iterdir())
    grown = commit(make(60), "parts")
    old = dict(zip(*(ds.table()[c].to_pylist() for c in ("sample_id", "split")), strict=True))
    new = dict(zip(*(grown.table()[c].to_pylist() for c in ("sample_id", "split")), strict=True))
    assert {k: new[k] for k in old} == old
    assert set(diff(ds, grown).change) == {"added"}
    after = sum(f.stat().st_size for f in (store / "datasets/parts/images.lance/data").iterdir())
    assert after < 1.6 * size
    shrunk = commit(make(30), "parts")
    back = commit(make(60), "parts")
    assert (shrunk.version, back.version) == (3, 4)
    assert back.fingerprint == grown.fingerprint, "images that come back return to their split"


def test_groups_are_whole():
    samples = [replace(s, meta={"film": i // 5}) for i, s in enumerate(make(60))]
    ds = commit(samples, "parts", group="film")
    pairs = set(zip(*(ds.table()[c].to_pylist() for c in ("film", "split")), strict=True))
    assert len(pairs) == 12
    with pytest.raises(ValueError, match=r"group 'track' is not a metadata column. There are \['film'\]"):
        commit(samples, "parts", group="track")


def test_resplit_forgets():
    samples = [replace(s, split="train" if i % 2 else "test") for i, s in enumerate(make(60))]
    assert commit(samples, "parts").splits["test"] == 30
    again = commit(samples, "parts", resplit=True, seed=3)
    assert again.version == 2 and again.splits["test"] == 9


def test_duplicates_name_the_first_and_a_conflict():
    a, b = make(2)
    twin = replace(a, uri="twin.png")
    other = replace(a, uri="other.png", target=Target(("b",)))
    ds = commit([a, b, twin, other], "parts")
    reasons = {r["uri"]: r["reason"] for r in ds.quarantine.to_pylist()}
    assert reasons == {
        "twin.png": "the same bytes as 0.png",
        "other.png": "the same bytes as 0.png, but labelled b here and a there",
    }
    assert len(ds) == 2


def test_quarantine_belongs_to_its_version():
    first = commit([*make(4), Sample("one.png", b"")], "parts")
    second = commit([*make(4), Sample("two.png", b"x")], "parts")
    assert [t["uri"].to_pylist() for t in (first.quarantine, second.quarantine)] == [["one.png"], ["two.png"]]
    assert first.fingerprint == second.fingerprint


def test_references(tmp_path):
    files = []
    for s in make(6):
        files.append(tmp_path / s.uri)
        files[-1].write_bytes(s.image)
    samples = [Sample(str(f), target=Target(("a",))) for f in files]
    ds = commit(samples, "parts", images="reference")
    assert not (ds.path / "images.lance").exists()
    assert sorted(ds.images(range(6))) == sorted(f.read_bytes() for f in files)
    victim = Path(ds.table(["uri"])["uri"][0].as_py())
    data = victim.read_bytes()
    victim.write_bytes(encode(77))
    with pytest.raises(ValueError, match="has changed since it was committed"):
        ds.images([0])
    victim.unlink()
    with pytest.raises(OSError, match="put it back, or commit with images='bytes'"):
        ds.images([0])
    assert "<img" not in ds._repr_html_()
    victim.write_bytes(data)
    copied = commit(samples, "parts")
    assert copied.version == 2 and copied.images([0]) == [data]
    with pytest.raises(ValueError, match="held in memory"):
        commit(make(1), "parts", images="reference")
    with pytest.raises(ValueError, match="Pass 'bytes' or 'reference'"):
        commit(samples, "parts", images="links")


def test_columns_take_the_type_they_can():
    metas = [{"n": 1, "x": 1, "t": "a", "m": 1, "d": date(2026, 1, 1), "at": datetime(2026, 1, 1, 5), "b": True, "np": np.float32(0.5), "big": 2**70}, {"n": 2, "x": 0.5, "m": "x", "d": date(2026, 1, 2), "b": None, "np": float("nan"), "list": [1, "a"]}]  # fmt: skip
    ds = commit([replace(s, meta=m) for s, m in zip(make(2), metas, strict=True)], "parts")
    types = {f.name: f.type for f in ds.table().schema}
    assert (
        types["n"] == pa.int64()
        and types["x"] == types["np"] == pa.float64()
        and types["t"] == types["m"] == types["big"] == types["list"] == pa.string()
    )
    assert types["d"] == pa.date32() and types["at"] == pa.timestamp("us") and types["b"] == pa.bool_()
    assert sorted(filter(None, ds.table()["list"].to_pylist())) == ['[1, "a"]']


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.dates()
    | st.datetimes()
    | st.lists(st.integers(), max_size=2)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=8), st.randoms(use_true_random=False))
def test_any_column(values, random):
    column = make_column(values)
    assert len(column) == len(values)
    assert [v.as_py() is None for v in column] == [v is None or v != v for v in values]
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = make_column([values[i] for i in order])
    assert [shuffled[order.index(i)].as_py() for i in range(len(values))] == column.to_pylist()


@pytest.mark.parametrize(
    "name", ["score", "image", "_image", "_rowid", "a.b", "x`y", "", "größe <b>", "it's", 'a"b', "select", "label"]
)
def test_any_column_name(name):
    samples = [replace(s, meta={name: i, "score_": "taken"}) for i, s in enumerate(make(3))]
    ds = commit(samples, "parts")
    assert len(ds.metadata) == 2
    mine = next(c for c in ds.metadata if c != "score_")
    assert sorted(ds.table([mine])[mine].to_pylist()) == [0, 1, 2]
    assert not set(ds.metadata) & {"score", "image", "_image", "_rowid"}


def test_added_columns_rewrite_nothing(store):
    ds = commit(make(20), "parts")
    home = store / "datasets/parts"
    files = {
        f: (f.stat().st_mtime_ns, f.stat().st_ino, f.read_bytes())
        for f in [*home.glob("*/data/*"), *home.glob("quarantine/*")]
    }
    ids = ds.table()["sample_id"].to_pylist()
    wide = add_column(ds, "embedding", {i: np.full(4, k) for k, i in enumerate(ids[:10])})
    assert {f: (f.stat().st_mtime_ns, f.stat().st_ino, f.read_bytes()) for f in files} == files
    assert len(list(home.glob("images.lance/data/*"))) == 1
    got = wide.table(["embedding"])["embedding"]
    assert got.type == pa.list_(pa.float32(), 4)
    assert got.to_pylist() == [[k] * 4 for k in range(10)] + [None] * 10
    assert add_column(wide, "embedding", {i: np.full(4, k) for k, i in enumerate(ids[:10])}) == wide, (
        "the same again is no version"
    )
    with pytest.raises(ValueError, match="in use or reserved"):
        add_column(wide, "embedding", {})
    named = add_column(wide, "pred_v1", {i: "ab"[k % 2] for k, i in enumerate(ids)})
    assert named.version == 3
    assert named.columns[-2:] == ["embedding", "pred_v1"] and named.metadata == []
    assert named.images(ids) == ds.images(ids)
    assert named.fingerprint == ds.fingerprint
    assert commit(make(20), "parts") == named
    with pytest.raises(ValueError, match="vectors of one length"):
        add_column(named, "bad", {ids[0]: [1, 2], ids[1]: [1]})


def test_restore_log_and_tags():
    first = commit(make(10), "parts", message="one")
    second = commit(make(12), "parts", message="two")
    tag(first, "champion")
    tag(second, "challenger")
    assert checkout("parts@champion") == first
    tag(second, "champion")
    assert checkout("parts@champion") == second
    third = restore(first)
    assert third.version == 3 and third.fingerprint == first.fingerprint
    assert third.table().equals(first.table())
    assert restore(third) == third
    wide = add_column(third, "x", {})
    fourth = restore(second)
    table = log("parts")
    assert table.version.tolist() == ["v1", "v2", "v3", "v4", "v5"]
    assert table.message.tolist() == ["one", "two", "restored v1", "added x", "restored v2"]
    assert table.rows.tolist() == [10, 12, 10, 10, 12]
    assert table.tags.tolist() == ["", "challenger, champion", "", "", ""]
    assert (table.train + table.val + table.test == table.rows).all()
    assert table.time.is_monotonic_increasing
    assert wide.version == 4 and fourth.columns == second.columns


def test_diff_says_what_changed():
    samples = make(8, light="dim")
    a = commit(samples, "parts")
    b = commit(
        [
            replace(samples[0], meta={"light": "bright"}),
            replace(samples[1], target=Target(("b", "c")), split="holdout"),
            *samples[2:7],
        ],
        "parts",
    )
    table = diff(a, b).set_index("sample_id")
    ids = [hash_bytes(s.image) for s in samples]
    assert table.loc[ids[0], "what"] == "light"
    assert table.loc[ids[1], "what"] == "split, target"
    assert table.loc[ids[7], "change"] == "removed"
    assert len(table) == 3
    assert diff(a, a).empty


def test_names_and_refs():
    commit(make(2), "parts")
    for bad in ("../x", "a b", "", ".x"):
        with pytest.raises(ValueError, match="not usable as a folder name"):
            commit(make(2), bad)
    for ref, error, words in (("bolts", FileNotFoundError, "which has \\['parts'\\]"), ("parts@v0", ValueError, "It has v1 to v1"), ("parts@v01", ValueError, "no tags"), ("parts@x", ValueError, "no tags")):  # fmt: skip
        with pytest.raises(error, match=words):
            checkout(ref)
    assert list_datasets() == ["parts"]


def test_a_dataset_is_a_small_value():
    ds = commit(make(5), "parts")
    assert pickle.loads(pickle.dumps(ds)).images([0]) == ds.images([0])
    assert len({ds, checkout("parts"), ds.split("train")}) == 2
    assert repr(ds) == "Dataset(parts@v1: 5 images (train 3 · val 1 · test 1), 2 classes: a, b)"


def test_a_store_made_anew_is_not_mistaken_for_the_old_one(store):
    import shutil

    commit(make(5), "parts").images([0])
    shutil.rmtree(store)
    ds = commit(make(5, 50), "parts")
    assert {hash_bytes(i) for i in ds.images(range(5))} == set(ds.table()["sample_id"].to_pylist())


def test_workers_in_other_processes_read_images(store):
    ds = commit(make(5), "parts")
    code = f"from cvbench.data.versions import checkout; print(len(checkout('parts', {str(store)!r}).images(range(5))))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "5\n"
    assert len(ds.images([0])) == 1


def test_every_message_survives_json_and_unicode():
    ds = commit(make(2), "parts", message='<b> "größe" \\ 😀\n')
    assert log("parts").message.tolist() == ['<b> "größe" \\ 😀\n']
    assert json.loads(json.dumps(ds.info)) == ds.info


def test_memory_does_not_grow_with_the_images(tmp_path):
    "Peak memory of two commits, one with four times the images of the other"
    code = """
import io, resource, sys
import numpy as np
from PIL import Image
from cvbench.core.types import Sample, Target
from cvbench.data import commit as module
module._PIECE = (4096, 4_000_000)
to = io.BytesIO()
Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)).save(to, "PNG")
make = (Sample(str(i), to.getvalue() + str(i).encode(), Target(("a",))) for i in range(int(sys.argv[1])))
module.commit(make, "big", store=sys.argv[2], workers=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    peaks = []
    for n in (500, 2000):
        run = subprocess.run(
            [sys.executable, "-c", code, str(n), str(tmp_path / str(n))],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        peaks.append(int(run.stdout))
    assert peaks[1] - peaks[0] < 40, f"1500 images of 50 KB are 75 MB; peaks were {peaks} MB"


def test_splits_survive_a_change_from_references_to_bytes(tmp_path):
    samples = make(30)
    for s in samples:
        (tmp_path / s.uri).write_bytes(s.image)
    first = commit([replace(s, uri=str(tmp_path / s.uri), image=None) for s in samples], "parts", images="reference")
    second = commit(samples, "parts", seed=7, message="copied")
    assert diff(first, second).empty and second.version == 2


@pytest.mark.parametrize(
    "name", ["../../../x", "/etc", "a/b", "a\\b", ".hidden", "a\0b", "a\nb", "", "x" * 10_000, "<b>"]
)
def test_a_split_that_is_no_file_name_is_refused(name):
    odd = [replace(s, split=name if i == 7 else "train") for i, s in enumerate(make(20))]
    with pytest.raises(ValueError, match="split .* is not usable as a folder name"):
        commit(odd, name="odd")
    with pytest.raises(ValueError, match="split .* is not usable as a folder name"):
        commit(make(20), name="odd", ratios={"train": 0.5, name: 0.5})
    assert not list_datasets()
    assert set(commit(odd, name="odd", resplit=True).splits) <= {"train", "val", "test"}
    assert "hold-out_2.b" in commit([replace(s, split="hold-out_2.b") for s in make(4)], name="fine").splits
