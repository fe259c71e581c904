"""COCO, VOC and YOLO: they agree with each other and with what the real sets say of themselves."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw

from cvbench.core.types import Target, decode_rle, encode_rle
from cvbench.data.commit import commit
from cvbench.data.formats import (
    check_target,
    find_format,
    polygon_mask,
    read_coco,
    read_rle,
    read_samples,
    read_voc,
    read_yolo,
)


@pytest.mark.shared
def test_bccd(shared):
    samples = list(read_samples(shared / "bccd"))
    assert len(samples) == 364
    assert Counter(x for s in samples for x in s.target.box_labels) == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert Counter(s.split for s in samples) == {"train": 205, "val": 87, "test": 72}
    ds = commit(samples, "bccd")
    assert len(ds) == 364
    assert ds.task == "multilabel"
    assert ds.quarantine["kind"].to_pylist() == ["annotation", "annotation"]
    assert all("has no area" in r for r in ds.quarantine["reason"].to_pylist())
    assert sum(len(t["boxes"]) for t in ds.table(["target"])["target"].to_pylist()) == 4155 + 372 + 361 - 2


@pytest.mark.shared
def test_coco_and_yolo_agree(shared):
    coco = {s.uri: s.target for s in read_samples(shared / "coco128")}
    yolo = {s.uri: s.target for s in read_yolo(shared / "coco128", labels="labels_yolo")}
    assert coco.keys() == yolo.keys() and len(coco) == 128
    assert sum(len(t.boxes) for t in coco.values()) == 898
    for uri, target in coco.items():
        assert target.box_labels == yolo[uri].box_labels
        assert target.labels == yolo[uri].labels
        np.testing.assert_allclose(target.boxes, yolo[uri].boxes, atol=0.01)
    with pytest.raises(ValueError, match=r"Pass labels="):
        next(read_yolo(shared / "coco128"))


@pytest.mark.shared
def test_masks_have_the_areas_and_boxes_that_coco_states(shared):
    truth = json.loads((shared / "parity/coco_val2014_100/instances_val2014_100.json").read_text())
    sizes = {i["id"]: (i["width"], i["height"]) for i in truth["images"]}
    ours, stated = 0.0, 0.0
    for a in truth["annotations"]:
        width, height = sizes[a["image_id"]]
        if a["iscrowd"]:
            mask = decode_rle(read_rle(a["segmentation"]), height, width)
            y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert [x[0], y[0], x[-1] - x[0], y[-1] - y[0]] == a["bbox"]
        else:
            mask = polygon_mask(a["segmentation"], width, height)
            y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            left, top, w, h = a["bbox"]
            assert np.abs(np.array([x[0], y[0], x[-1] + 1, y[-1] + 1]) - [left, top, left + w, top + h]).max() < 6
            ours, stated = ours + mask.sum(), stated + a["area"]
    assert abs(ours - stated) < 0.001 * stated


@pytest.mark.shared
def test_packed_run_lengths_of_the_official_results(shared):
    found = json.loads((shared / "parity/coco_val2014_100/instances_val2014_fakesegm100_results.json").read_text())
    for r in found:
        runs = read_rle(r["segmentation"])
        assert runs.sum() == np.prod(r["segmentation"]["size"])
        assert pack(runs) == r["segmentation"]["counts"]


def pack(runs):
    "COCO's text form of run lengths, written from its definition"
    out = ""
    for i, run in enumerate(map(int, runs)):
        value, more = run - (int(runs[i - 2]) if i > 2 else 0), True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            out += chr(48 + bits + 32 * more)
    return out


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_in_every_form(mask):
    runs = encode_rle(mask)
    size = list(mask.shape)
    for counts in (runs.tolist(), pack(runs), pack(runs).encode()):
        assert (decode_rle(read_rle({"size": size, "counts": counts}), *size) == mask).all()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=9))
def test_polygons_agree_with_counting_crossings(points):
    "Against the textbook test, pixel centre by pixel centre"
    mask = polygon_mask([np.ravel(points)], 20, 18)
    a = np.array(points)
    b = np.roll(a, -1, 0)
    for y in range(18):
        for x in range(20):
            cy, cx = y + 0.5, x + 0.5
            crosses = (a[:, 1] > cy) != (b[:, 1] > cy)
            at = a[crosses, 0] + (cy - a[crosses, 1]) * (b[crosses, 0] - a[crosses, 0]) / (
                b[crosses, 1] - a[crosses, 1]
            )
            if np.abs(at - cx).min(initial=1) > 1e-6 and np.abs(np.concatenate([a[:, 1], b[:, 1]]) - cy).min() > 1e-9:
                assert mask[y, x] == ((at < cx).sum() % 2 == 1)


def test_polygons_agree_with_pillow_away_from_the_edge():
    points = [(10, 12), (88, 20), (60, 90), (15, 70)]
    image = Image.new("1", (100, 100))
    ImageDraw.Draw(image).polygon(points, fill=1)
    ours, theirs = (
        polygon_mask([np.ravel(points) + 0.5], 100, 100),
        np.asarray(image),
    )  # Pillow counts from pixel centres
    assert ours.sum() > 0 and (ours ^ theirs).sum() < 150, "they differ by half the outline of 290 pixels at most"


def test_a_union_of_polygons_has_no_hole_where_they_overlap():
    squares = [[x, 2, x + 6, 2, x + 6, 8, x, 8] for x in (2, 5)]
    assert polygon_mask(squares, 20, 10).sum() == 9 * 6


NAN = float("nan")


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ([5, 5, 5, 9], "no area"),
        ([9, 5, 5, 9], "no area"),
        ([NAN, 1, 5, 9], "not made of numbers"),
        ([50, 5, 60, 9], "outside the image of 40 × 30"),
        ([-30, 5, 20, 9], "reached beyond"),
    ],
)
def test_a_bad_box_is_reported_and_its_neighbour_stays(box, why):
    good = [1, 1, 8, 8]
    kept, said = check_target(Target(("a", "b"), [good, box], ("a", "b"), texts=("x", "y")), 40, 30)
    assert len(said) == 1 and why in said[0] and "object 2 (b)" in said[0]
    assert kept.boxes[0].tolist() == good
    assert (kept.labels == ("a",)) is (len(kept.boxes) == 1)
    assert len(kept.texts) == len(kept.boxes)


def test_sound_targets_pass_unchanged():
    mask = np.zeros((30, 40), bool)
    mask[2:5, 2:5] = True
    for target in (
        Target(),
        Target(("a",)),
        Target(("a",), [[2, 2, 5, 5]], ("a",), (encode_rle(mask),)),
        Target(masks=(encode_rle(mask),)),
    ):
        assert check_target(target, 40, 30) == (target, [])


def test_a_mask_of_another_size_is_reported():
    wrong = Target(("a",), [[2, 2, 5, 5]], ("a",), (np.array([7], np.uint32),))
    kept, said = check_target(wrong, 40, 30)
    assert not len(kept.boxes) and "another size" in said[0]
    kept, said = check_target(Target(masks=(np.array([7], np.uint32),)), 40, 30)
    assert not kept.masks and "another size" in said[0]


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 30), (i, 0, 0)).save(tmp_path / "val2017" / f"{i}.png")
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 10, 20], "iscrowd": 0}
    crowd = {
        "id": 2,
        "image_id": 0,
        "category_id": 2,
        "bbox": [0, 0, 8, 8],
        "iscrowd": 1,
        "segmentation": {"size": [30, 40], "counts": [0, 8, 1192]},
    }
    data = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(3)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [crowd, box],
    }
    return tmp_path, data


def write(coco):
    folder, data = coco
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(data))
    return folder


def test_crowds_stand_last_and_are_counted(coco):
    first, second, _ = read_samples(write(coco))
    assert first.target.box_labels == ("a", "b")
    assert first.meta == {"crowd": 1} and second.meta == {}
    assert first.target.masks[0].tolist() == [1200]
    assert first.split == "val"
    assert commit([first, second], "coco").metadata == ["crowd"]


def test_annotations_for_another_size_are_set_aside(coco):
    coco[1]["images"][0] |= {"width": 80, "height": 60}
    first, *rest = read_coco(write(coco))
    assert "made for 80 × 60, but the image has 40 × 30" in first.problem
    assert not any(s.problem for s in rest)


def test_annotations_of_unknown_images_are_reported(coco):
    coco[1]["annotations"].append({"id": 9, "image_id": 77, "category_id": 1, "bbox": [1, 1, 2, 2]})
    assert any("image_id 77" in (s.problem or "") for s in read_coco(write(coco)))


def test_images_that_are_nowhere(coco):
    for image in coco[1]["images"]:
        image["file_name"] = "x" + image["file_name"]
    with pytest.raises(FileNotFoundError, match=r"Pass images=<their folder>"):
        next(read_coco(write(coco)))


def test_coco_paths_do_not_lead_out(coco):
    coco[1]["images"][1]["file_name"] = "../../../etc/passwd"
    assert [s.problem for s in read_coco(write(coco)) if s.problem] == ["path out of the folder of images"]


def test_voc_without_trust(tmp_path):
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / name).mkdir()
    for name in "abcd":
        Image.new("RGB", (40, 30), (ord(name), 0, 0)).save(tmp_path / "JPEGImages" / f"{name}.png")
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><annotation><filename>&a;</filename></annotation>'
    (tmp_path / "Annotations/a.xml").write_text(bomb)
    (tmp_path / "Annotations/b.xml").write_text("<annotation><object>")
    half = "<object><name>x</name><bndbox><xmin>1</xmin><ymin>?</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"
    (tmp_path / "Annotations/c.xml").write_text(f"<annotation><filename>../../secret.png</filename>{half}</annotation>")
    ds = commit(read_voc(tmp_path), "voc")
    assert len(ds) == 2
    aside = [(r["uri"][-5:], r["kind"], r["reason"][:26]) for r in ds.quarantine.to_pylist()]
    assert aside == [
        ("a.png", "image", "its annotations in a.xml c"),
        ("b.png", "image", "its annotations in b.xml c"),
        ("c.png", "annotation", "object 1 was left out: cou"),
    ]


def test_yolo_lines_that_cannot_be(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "classes.txt").write_text("bolt\nnut")
    (tmp_path / "a.txt").write_text(
        "0 .5 .5 .2 .2\n7 .5 .5 .2 .2\n0 .5 .5 .2\nzero .5 .5 .2 .2\n0 .5 .5 .2 .2 .93\n\n0 .9 .9 .0 .0\n"
    )
    ds = commit(read_yolo(tmp_path), "yolo")
    assert len(ds) == 1
    assert len(ds.table()["target"][0].as_py()["boxes"]) == 2
    assert ds.quarantine.num_rows == 4
    with pytest.raises(ValueError, match="no class names"):
        next(read_yolo(tmp_path / "labels"))


def test_what_nothing_recognises(tmp_path):
    (tmp_path / "readme.md").write_text("hello")
    (tmp_path / "other.json").write_text("[]")
    for path in (tmp_path, tmp_path / "other.json", tmp_path / "nothing"):
        with pytest.raises(ValueError, match="Looked for"):
            find_format(path)
