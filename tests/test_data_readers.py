"""Readers against hostile folders and real ones."""

import csv
import io
import os
import struct
import unicodedata
import zlib
from collections import Counter
from datetime import date, datetime

import numpy as np
import pytest
from PIL import ExifTags, Image

from cvbench.core.types import decode_rle
from cvbench.data.commit import commit
from cvbench.data.formats import read_samples
from cvbench.data.readers import normal_split, read_folder, read_hf, read_manifest


def picture(seed=0, size=(24, 16), mode="RGB"):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).convert(mode)


def put(path, image=None, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture(sum(map(ord, path.name)))).save(path, **how)
    return path


@pytest.fixture
def hostile(tmp_path):
    "Everything that goes wrong in one folder, and six good images"
    root = tmp_path / "photos"
    evil, plain = root / "<script>alert('x')<", root / "défaut ‮ 😀"
    put(evil / "good.png")
    put(plain / "cmyk.jpg", picture(2, mode="CMYK"))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    put(plain / "rotated.jpg", picture(3), exif=exif)
    put(plain / "deep.png", Image.fromarray(np.random.default_rng(4).integers(0, 65535, (16, 24), np.uint16)))
    put(plain / "png called.jpg", picture(5), format="PNG")
    put(plain / "alpha.png", picture(6, mode="RGBA"))
    (plain / "zero.jpg").write_bytes(b"")
    whole = io.BytesIO()
    picture(7, (200, 200)).save(whole, "JPEG")
    (plain / "truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (plain / "text.jpg").write_text("Dear customer, the image is attached.")
    put(plain / "animated.gif", picture(8), save_all=True, append_images=[picture(9), picture(10)])
    put(plain / "dot.png", Image.new("RGB", (1, 1)))
    bomb = bytearray((evil / "good.png").read_bytes())
    bomb[16:24] = struct.pack(">II", 40_000, 40_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    (plain / "bomb.png").write_bytes(bomb)
    (plain / "copy of good.png").write_bytes((evil / "good.png").read_bytes())
    outside = put(tmp_path / "private" / "secret.png", picture(11))
    (plain / "link.png").symlink_to(outside)
    (plain / "broken.png").symlink_to(tmp_path / "gone.png")
    (root / "linked class").symlink_to(outside.parent, target_is_directory=True)
    os.mkfifo(plain / "pipe.png")
    put(plain / ".hidden.png")
    put(root / ".cache" / "x.png")
    (plain / "notes.txt").write_text("no image")
    return root


def test_the_hostile_folder(hostile):
    ds = commit(read_folder(hostile), "hostile")
    assert len(ds) == 6
    assert ds.classes == ("<script>alert('x')<", "défaut ‮ 😀")
    aside = {os.path.basename(r["uri"]): r["reason"] for r in ds.quarantine.to_pylist()}
    expected = {
        "zero.jpg": "empty file", "truncated.jpg": "truncated", "text.jpg": "not an image but text", "animated.gif": "animated, 3 frames",
        "dot.png": "too small: 1 × 1", "bomb.png": "too large: 40000 × 40000", "link.png": "link out of the folder", "broken.png": "broken link",
        "linked class": "link to a folder", "pipe.png": "not a regular file", "copy of good.png": "the same bytes as",
    }  # fmt: skip
    assert set(aside) == set(expected)
    for name, reason in expected.items():
        assert reason in aside[name]
    assert "labelled défaut" in aside["copy of good.png"]
    sizes = dict(
        zip(
            [os.path.basename(u) for u in ds.table()["uri"].to_pylist()],
            zip(ds.table()["width"].to_pylist(), ds.table()["height"].to_pylist(), strict=True),
            strict=True,
        )
    )
    assert sizes["rotated.jpg"] == (16, 24)
    assert sizes["deep.png"] == (24, 16)
    assert "<script" not in ds._repr_html_()
    assert "&lt;script" in ds._repr_html_()


def test_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path) + b"/photos/caf\xe9"
    os.makedirs(folder)
    with open(folder + b"/\xff.png", "wb") as f:
        picture().save(f, "PNG")
    ds = commit(read_folder(tmp_path / "photos"), "bytes")
    assert ds.classes == ("caf?",)
    assert len(ds) == 1


def test_split_folders_by_any_name(tmp_path):
    for split in ("Training", "valid", "test"):
        put(tmp_path / split / "a" / f"{split}.png")
    samples = list(read_folder(tmp_path))
    assert {s.split for s in samples} == {"train", "val", "test"}
    assert {s.target.labels for s in samples} == {("a",)}


def test_a_class_called_test_beside_another_is_a_class(tmp_path):
    put(tmp_path / "test" / "1.png")
    put(tmp_path / "scratch" / "2.png")
    assert {s.target.labels for s in read_folder(tmp_path)} == {("test",), ("scratch",)}
    assert {s.split for s in read_folder(tmp_path)} == {None}


def test_flat_folder_has_no_labels(tmp_path):
    put(tmp_path / "1.png")
    (sample,) = read_folder(tmp_path)
    assert sample.target.labels == () and sample.split is None


def test_one_class_in_two_unicode_forms(tmp_path):
    put(tmp_path / "train" / unicodedata.normalize("NFD", "é") / "1.png")
    put(tmp_path / "test" / unicodedata.normalize("NFC", "é") / "2.png")
    assert {s.target.labels for s in read_folder(tmp_path)} == {("é",)}


def test_a_mask_beside_its_image_and_two_images_of_one_stem(tmp_path):
    put(tmp_path / "dent" / "a.jpg", picture(1, (40, 30)))
    mask = np.zeros((30, 40), np.uint8)
    mask[5:9, 10:20] = 250
    put(tmp_path / "dent" / "a.png", Image.fromarray(mask))
    put(tmp_path / "dent" / "b.jpg", picture(2))
    put(tmp_path / "dent" / "b.png", picture(3, mode="L"))
    samples = {os.path.basename(s.uri): s.target for s in read_folder(tmp_path)}
    assert set(samples) == {"a.jpg", "b.jpg", "b.png"}
    assert samples["a.jpg"].boxes.tolist() == [[10, 5, 20, 9]]
    assert decode_rle(samples["a.jpg"].masks[0], 30, 40).sum() == 40
    assert not len(samples["b.jpg"].boxes)


def test_metadata_beside_the_images(tmp_path):
    put(tmp_path / "ok" / "1.png")
    put(tmp_path / "ok" / "2.png")
    (tmp_path / "metadata.csv").write_text(
        "file_name,light,label\nok/1.png,dim,better\n./ok/2.png,bright,\ngone.png,dim,x\n"
    )
    one, two, gone = read_folder(tmp_path)
    assert (one.target.labels, one.meta) == (("better",), {"light": "dim"})
    assert (two.target.labels, two.meta) == (("ok",), {"light": "bright"})
    assert "listed in metadata.csv only" in gone.problem


def test_csv_types_and_dialects(tmp_path):
    put(tmp_path / "1.png")
    rows = [["Path", "Label", "zip", "n", "x", "day", "at", "ok", "mixed", "nul"], ["1.png", "a|b", "007", "1", "1.5", "2026-01-31", "2026-01-31 10:00", "true", "1", ""], ["1.png", "", "1", "-2", "3", "2026-02-01", "2026-01-31 10:00:01", "false", "x", ""]]  # fmt: skip
    for delimiter in ",;\t":
        with open(tmp_path / "m.csv", "w", encoding="utf-8-sig", newline="") as f:
            csv.writer(f, delimiter=delimiter).writerows(rows)
        first, _ = read_manifest(tmp_path / "m.csv")
        assert first.target.labels == ("a", "b")
        assert first.meta == {
            "zip": "007",
            "n": 1,
            "x": 1.5,
            "day": date(2026, 1, 31),
            "at": datetime(2026, 1, 31, 10),
            "ok": True,
            "mixed": "1",
        }


def test_csv_quotes_and_newlines(tmp_path):
    put(tmp_path / "1.png")
    (tmp_path / "m.csv").write_text('path,label,note\n1.png,a,"first, ""second""\nthird"\n')
    (sample,) = read_manifest(tmp_path / "m.csv")
    assert sample.meta["note"] == 'first, "second"\nthird'


def test_parquet_with_bytes_and_lists(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = put(tmp_path / "1.png").read_bytes()
    pq.write_table(pa.table({"image": [{"bytes": data, "path": None}, {"bytes": None, "path": "1.png"}], "labels": [["a", "b"], None], "split": ["dev", None]}), tmp_path / "m.parquet")  # fmt: skip
    first, second = read_manifest(tmp_path / "m.parquet")
    assert first.read() == second.read() == data
    assert first.target.labels == ("a", "b") and first.split == "val"
    assert second.target.labels == () and second.split is None


def test_manifest_paths_do_not_lead_out(tmp_path):
    put(tmp_path / "secret.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "m.csv").write_text(
        f"path,label\n../secret.png,a\n{tmp_path}/secret.png,a\nhttp://x/y.png,a\n,a\n"
    )
    samples = list(read_manifest(tmp_path / "set" / "m.csv"))
    assert [bool(s.problem) for s in samples] == [True] * 4
    allowed = list(read_manifest(tmp_path / "set" / "m.csv", allow_outside=True))
    assert [bool(s.problem) for s in allowed] == [False, False, True, True]


def test_hugging_face_round_trip(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]), light=datasets.Value("string")
    )
    parts = {}
    for split in ("train", "validation"):
        rows = [{"image": picture(i + len(split)), "label": i % 2, "light": "dim"} for i in range(4)]
        parts[split] = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "hf")
    samples = list(read_samples(tmp_path / "hf"))
    assert Counter((s.split, s.target.labels) for s in samples) == {
        (s, (c,)): 2 for s in ("train", "val") for c in "ab"
    }
    assert samples[0].meta == {"light": "dim"}
    assert commit(samples, "hf").splits.keys() == {"train", "val", "test"}
    many = datasets.Features(photo=datasets.Image(), labels=datasets.List(datasets.ClassLabel(names=["a", "b"])))
    datasets.Dataset.from_list([{"photo": picture(1), "labels": [0, 1]}], features=many).save_to_disk(
        tmp_path / "multi"
    )
    (sample,) = read_hf(tmp_path / "multi")
    assert sample.target.labels == ("a", "b")


def test_hugging_face_image_folder(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    for split in ("train", "test"):
        for label in "ab":
            put(tmp_path / "set" / split / label / f"{split}{label}.png")
    samples = list(read_hf(tmp_path / "set", cache_dir=tmp_path / "cache"))
    assert {(s.split, s.target.labels) for s in samples} == {(s, (c,)) for s in ("train", "test") for c in "ab"}


def test_without_datasets_the_error_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install cvbench\[hf\]"):
        next(read_hf("somewhere"))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("TRAIN", "train"),
        ("valid", "val"),
        ("test2017", "test"),
        ("unsupervised", "unsupervised"),
        (None, None),
        (" ", None),
    ],
)
def test_split_names(name, split):
    assert normal_split(name) == split


@pytest.mark.shared
def test_clothing(shared):
    samples = list(read_samples(shared / "clothing_small"))
    assert len(samples) == 3781
    assert Counter(s.split for s in samples) == {"train": 3068, "val": 341, "test": 372}
    assert len({s.target.labels for s in samples}) == 10
    assert not any(s.problem for s in samples)


@pytest.mark.shared
def test_magnetic_tile(shared):
    samples = list(read_folder(shared / "magnetic_tile", pattern=r"exp(?P<exposure>\d)_num"))
    assert len(samples) == 792
    assert {s.meta["exposure"] for s in samples} == set("0123456")
    assert all(
        bool(s.target.masks) is (s.target.labels != ("MT_Free",)) for s in samples if s.target.labels != ("MT_Uneven",)
    )
    one = next(s for s in samples if s.target.masks)
    with Image.open(one.uri.replace(".jpg", ".png")) as mask:
        on = np.asarray(mask) >= 128
    assert (decode_rle(one.target.masks[0], *on.shape) == on).all()
    x0, y0, x1, y1 = one.target.boxes[0].astype(int)
    assert (
        on[y0:y1, x0:x1].sum() == on.sum()
        and on[y0].any()
        and on[y1 - 1].any()
        and on[:, x0].any()
        and on[:, x1 - 1].any()
    )


def test_splits_beside_other_folders_are_asked_about(tmp_path):
    for name in ("train/a/1.png", "test/a/2.png", "extra/a/3.png"):
        put(tmp_path / name)
    with pytest.raises(ValueError, match=r"called like splits, \['test', 'train'\], beside others, \['extra'\]"):
        next(read_folder(tmp_path))
    assert {s.split for s in read_folder(tmp_path, splits=True)} == {"train", "test", "extra"}
    assert {s.target.labels[0] for s in read_folder(tmp_path, splits=False)} == {"train", "test", "extra"}
