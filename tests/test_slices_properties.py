"Properties agree with images worked out by hand and with other libraries; what cannot be read is missing with a reason"

import colorsys
import functools
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage, stats

from cvbench.core.arrays import list_cache
from cvbench.core.inspection import make_inspection
from cvbench.core.types import Sample, Target, encode_rle
from cvbench.data.commit import commit
from cvbench.evaluation.select import match_rows
from cvbench.slices.properties import add_properties, find_properties, measure_image
from cvbench.slices.rule_search import ConditionFinder


def encode(pixels, format: str = "PNG", **options) -> bytes:
    Image.fromarray(np.asarray(pixels, np.uint8)).save(to := io.BytesIO(), format, **options)
    return to.getvalue()


def plain(colour, size=(32, 32)) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3))


def photo(seed: int = 0, size: tuple[int, int] = (120, 200)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.uniform(0, 255, (*size, 3)), (1, 1, 0)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_plain_image(grey):
    found = measure_image(encode(plain((grey,) * 3)))
    assert found.pop("brightness") == pytest.approx(grey / 255)
    assert found.pop("file_size") == len(encode(plain((grey,) * 3)))
    assert found.pop("hue") == "grey"
    assert all(v == 0 for v in found.values()), found


def test_a_chessboard_by_hand():
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * np.full(3, 255)
    found = measure_image(encode(board))
    assert (found["brightness"], found["contrast"], found["entropy"]) == (0.5, 0.5, 1.0)
    assert found["sharpness"] == (4 * 255) ** 2  # every Laplacian is ±4 · 255
    assert found["colourfulness"] == found["saturation"] == 0


@pytest.mark.parametrize(
    ("colour", "hue"),
    [((255, 0, 0), "red"), ((200, 10, 30), "red"), ((255, 128, 0), "orange"), ((255, 255, 0), "yellow"),
     ((0, 160, 40), "green"), ((0, 255, 255), "cyan"), ((20, 40, 220), "blue"), ((130, 0, 255), "purple"),
     ((255, 0, 200), "pink"), ((130, 128, 126), "grey"), ((4, 0, 0), "grey")],
)  # fmt: skip
def test_the_dominant_hue(colour, hue):
    pixels = plain(colour).copy()
    pixels[:4] = (0, 255, 0) if hue not in ("green", "grey") else pixels[0, 0]
    assert measure_image(encode(pixels))["hue"] == hue


def test_agreement_with_other_libraries():
    rgb = photo()
    found, grey = measure_image(encode(rgb)), np.asarray(Image.fromarray(rgb).convert("L"), float)
    assert found["brightness"] == pytest.approx(grey.mean() / 255)
    assert found["contrast"] == pytest.approx(grey.std() / 255)
    assert found["sharpness"] == pytest.approx(ndimage.laplace(grey)[1:-1, 1:-1].var())
    assert found["entropy"] == pytest.approx(stats.entropy(np.unique(grey, return_counts=True)[1], base=2))
    hsv = np.array([colorsys.rgb_to_hsv(*p) for p in rgb.reshape(-1, 3) / 255])
    assert found["saturation"] == pytest.approx(hsv[:, 1].mean(), abs=0.01)


def test_colourfulness_of_two_colours_by_hand():
    pixels = plain((255, 0, 0)).copy()
    pixels[16:] = (0, 0, 255)
    # red: rg 255, yb 127.5; blue: rg 0, yb −255; deviations 127.5 and 191.25, means 127.5 and −63.75
    wanted = np.hypot(127.5, 191.25) + 0.3 * np.hypot(127.5, 63.75)
    assert measure_image(encode(pixels))["colourfulness"] == pytest.approx(wanted)


def test_large_photos_are_measured_on_a_small_copy():
    rgb = np.asarray(Image.fromarray(photo(size=(300, 400))).resize((2000, 1500), Image.Resampling.BICUBIC))
    large = measure_image(encode(rgb, "JPEG", quality=95))
    small = measure_image(encode(Image.fromarray(rgb).resize((256, 192), Image.Resampling.BOX)))
    for name in ("brightness", "contrast", "colourfulness", "saturation", "entropy"):
        assert large[name] == pytest.approx(small[name], rel=0.1), name
    with pytest.raises(ValueError, match="too large"):
        measure_image(encode(rgb, "JPEG"), max_megapixels=1)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I;16", "CMYK"])
def test_every_kind_of_pixel(mode):
    image = (
        Image.new("RGB", (40, 30), (90, 90, 90)).convert(mode) if mode != "I;16" else Image.new(mode, (40, 30), 20000)
    )
    image.save(to := io.BytesIO(), "TIFF" if mode in ("CMYK", "I;16") else "PNG")
    assert 0 <= measure_image(to.getvalue())["brightness"] <= 1


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG", b"<html>", b"\0" * 100, encode(photo())[:900], encode(photo(), "JPEG")[:900]]
)
def test_bytes_that_are_no_image(data):
    with pytest.raises(ValueError, match="empty|damaged|not an image"):
        measure_image(data)


def samples(n: int = 12) -> list[Sample]:
    out = []
    for i in range(n):
        mask = np.zeros((40, 60), bool)
        mask[:10, : 6 * (i % 3)] = True
        boxes = [[0, 0, 30, 20], [5, 5, 10, 10]][: i % 3]
        masks = tuple(encode_rle(mask) for _ in boxes) if i % 2 else ()
        target = Target(("a" if i % 2 else "b",), np.array(boxes, np.float32), ("x",) * len(boxes), masks)
        out.append(Sample(f"{i}.png", encode(photo(i, (40, 60))), target, ("train", "test")[i % 2]))
    return out


def test_a_data_set_and_its_split_share_what_was_measured(store):
    ds = commit(samples(), "parts")
    whole = find_properties(ds)
    assert len(whole) == 12 and whole["problem"].isna().all()
    assert len(list_cache()) == 1
    part = find_properties(ds.split("test"))
    assert len(list_cache()) == 1
    wanted = whole[whole["sample_id"].isin(part["sample_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, wanted)
    ids = whole["sample_id"].tolist()[::-2]
    assert find_properties(ds, ids)["sample_id"].tolist() == ids
    pd.testing.assert_frame_equal(
        find_properties(ds, ids[:3], workers=1), whole.iloc[[11, 9, 7]].reset_index(drop=True)
    )
    with pytest.raises(KeyError, match="no sample_id 'nobody' \\(1 missing\\)"):
        find_properties(ds, [ids[0], "nobody"])


def test_the_second_time_no_image_is_decoded(store, monkeypatch):
    ds = commit(samples(), "parts")
    first = find_properties(ds.split("test"))
    monkeypatch.setattr("cvbench.slices.properties._measure", lambda *_: pytest.fail("decoded again"))
    pd.testing.assert_frame_equal(find_properties(ds.split("test")), first)


def test_without_room_in_the_cache_nothing_is_lost(store, monkeypatch):
    ds = commit(samples(), "parts")
    wanted = find_properties(ds)
    monkeypatch.setenv("CVBENCH_CACHE_GB", "0")
    monkeypatch.setenv("CVBENCH_STORE", str(store))
    for path, *_ in list_cache():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    pd.testing.assert_frame_equal(find_properties(ds), wanted)
    assert list_cache() == []


def test_objects_by_mask_and_by_box(store):
    ds = commit(samples(), "parts")
    table = find_properties(ds).merge(ds.table(["sample_id", "uri"]).to_pandas())
    table.index = table["uri"].str.extract(r"(\d+)\.png")[0].astype(int)
    assert table.loc[0, "objects"] == 0 and np.isnan(table.loc[0, "object_size"])
    assert table.loc[4, "objects"] == 1 and table.loc[4, "object_size"] == pytest.approx(30 * 20 / 2400)
    assert table.loc[5, "objects"] == 2 and table.loc[5, "object_size"] == pytest.approx(10 * 12 / 2400)
    assert (table["width"] == 60).all() and (table["aspect"] == 1.5).all()


def test_without_boxes_there_are_no_object_columns(store):
    plain_samples = [Sample(f"{i}.png", encode(photo(i)), Target(("a",)), "test") for i in range(3)]
    assert "objects" not in find_properties(commit(plain_samples, "plain")).columns


def test_files_that_are_gone_are_missing_with_the_reason(store, tmp_path):
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(encode(photo(i)))
    given = [Sample(str(tmp_path / f"{i}.png"), None, Target(("a",)), "test") for i in range(6)]
    ds = commit(given, "referenced", images="reference")
    (tmp_path / "2.png").unlink()
    (tmp_path / "4.png").write_bytes(b"no image")
    found = find_properties(ds)
    bad = found["problem"].notna()
    assert bad.sum() == 2
    assert found.loc[bad, ["brightness", "hue", "file_size"]].isna().all(axis=None)
    assert found.loc[~bad, ["brightness", "hue", "file_size"]].notna().all(axis=None)
    assert found["problem"].str.contains("cannot be read.*2.png").sum() == 1
    (tmp_path / "2.png").write_bytes(encode(photo(2)))
    assert find_properties(ds)["problem"].notna().sum() == 1


def test_properties_are_joined_by_id_and_clash_with_nothing(store):
    ds = commit(samples(), "parts")
    properties = find_properties(ds)
    table = pd.DataFrame({"sample_id": [*properties["sample_id"][::-1], "other"], "brightness": "mine"}, index=[7] * 13)
    joined = add_properties(table, properties)
    assert joined["sample_id"].tolist() == table["sample_id"].tolist()
    assert (joined["brightness"] == "mine").all()
    assert joined["image_brightness"].tolist()[:12] == properties["brightness"].tolist()[::-1]
    assert joined["entropy"].isna().tolist() == [False] * 12 + [True]
    assert "problem" not in joined.columns
    for wrong, message in ((table[["brightness"]], "no column sample_id"), (joined, "added before")):
        with pytest.raises(ValueError, match=message):
            add_properties(wrong, properties)
    with pytest.raises(ValueError, match="more than once"):
        add_properties(table, pd.concat([properties, properties]))


@functools.cache
def draw_line():
    return make_inspection(500, size=64, frames=1)


@pytest.mark.parametrize("planted", [True, False])
def test_dark_images_are_found_by_their_pixels(store, planted):
    ds = commit(draw_line(), "line")
    found = find_properties(ds)
    dark = found["brightness"] < found["brightness"].quantile(0.2)
    error = (np.random.default_rng(0).random(len(found)) < np.where(dark & planted, 0.6, 0.1)).astype(float)
    table = add_properties(found[["sample_id"]], found)
    rules = [c.where for c in ConditionFinder().fit(table, None, error).candidates_]
    if planted:
        rows = match_rows(table, rules[0])
        assert "brightness" in rules[0]
        assert (rows & dark).sum() > 0.8 * rows.sum() and rows.sum() > 0.3 * dark.sum()
    else:
        assert len(rules) <= 2, rules
