"""Figures: labels are data, never markup, and every figure can be drawn from awkward numbers"""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cvbench.evaluation.task_views import Metric
from cvbench.report import figures

HOSTILE = [
    "<script>alert(1)</script>",
    "$\\frac{1}{$",
    "a$b$c",
    'x" onload="alert(1)',
    "مسمار صغير",
    "漢字クラス",
    "\u202edrow",
    "new\nline\tand\x00nul",
    "",
    "🙂" * 60,
]


def interval_rows(names):
    value = np.linspace(0.4, 0.9, len(names))
    return pd.DataFrame(
        {
            "metric": "f1",
            "class": names,
            "name": names,
            "value": value,
            "low": value - 0.1,
            "high": value + 0.05,
            "n": 9,
        }
    )


def confusion(names):
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.integers(0, 9, (len(names), len(names))), index=names, columns=names)


def bins(n=10):
    x = np.linspace(0.05, 0.95, n)
    return pd.DataFrame(
        {"bin": range(n), "n": [0, *range(1, n)], "confidence": x, "accuracy": x, "low": x - 0.02, "high": x + 0.02}
    )


def charts(names):
    rows = interval_rows(names)
    yield figures.plot_headline(rows, "accuracy", "note")
    yield figures.plot_classes(rows, "f1", baseline=rows)
    yield figures.plot_breakdown(rows[["class", "value", "low", "high", "n"]], names[0], 0.6)
    yield figures.plot_confusion(confusion(names))
    yield figures.plot_confusion(confusion(names), limit=3)
    yield figures.plot_calibration(bins())


def test_hostile_names_give_text_only():
    for chart in charts(HOSTILE):
        svg = chart.to_svg()
        tags = {node.tag for node in ET.fromstring(svg).iter()}
        assert tags <= {"svg", "g", "path", "text", "tspan", "defs", "use", "clipPath", "rect"}, tags
        assert "<script" not in svg and "http" not in svg


def test_dollars_are_dollars():
    svg = figures.plot_headline(interval_rows(["a$b$c", "5 $"])).to_svg()
    text = "".join(ET.fromstring(svg).itertext())
    assert "a$b$c" in text and "5 $" in text


def test_ink_follows_the_page():
    for chart in charts(["a", "b"]):
        svg = chart.to_svg()
        assert "currentColor" in svg
        for colour in figures._VARIABLES:
            assert f": {colour}" not in svg, f"{colour} does not follow the page"


def test_awkward_numbers_are_drawn():
    one = interval_rows(["only"])
    figures.plot_classes(one).to_svg()
    figures.plot_headline(one.assign(low=np.nan, high=np.nan)).to_svg()
    figures.plot_headline(one.assign(value=np.nan, low=np.nan, high=np.nan)).to_svg()
    figures.plot_confusion(pd.DataFrame([[3]], index=["a"], columns=["a"])).to_svg()
    figures.plot_confusion(pd.DataFrame([[0, 0], [0, 4]], index=["a", "b"], columns=["a", "b"])).to_svg()
    figures.plot_calibration(bins(1)).to_svg()


def test_many_classes_show_the_lowest_and_the_confused():
    names = [f"class {i}" for i in range(200)]
    assert len(figures.plot_classes(interval_rows(names)).axes[0].get_yticks()) == 40
    figures.plot_confusion(confusion(names)).to_svg()


def test_confusions_are_counted_off_the_diagonal():
    table = pd.DataFrame([[5, 1, 0], [3, 6, 1], [0, 0, 0]], index=list("abc"), columns=list("abc"))
    found = figures.find_confusions(table)
    assert found.to_numpy().tolist() == [["b", "a", 3, 0.3], ["a", "b", 1, 1 / 6], ["b", "c", 1, 0.1]]
    assert figures.find_confusions(pd.DataFrame(np.eye(3))).empty


@pytest.mark.parametrize("name", HOSTILE)
def test_markup_escapes_data(name):
    rows = pd.DataFrame({"target": [name], "pred": [name + "!"], "score": [0.5], "loss": [1.5], "light": [name]})
    for made in (
        figures.make_table(rows),
        figures.make_tiles([Metric("accuracy", 0.5, 0.4, 0.6, 9)], [name]),
        figures.make_note(name),
        figures.make_gallery([b"?"], rows, columns=["light"]),
    ):
        assert "<script" not in made.text and 'onload="' not in made.text and "\x00" not in made.text


def test_pictures_carry_pixels_only():
    exif = Image.Exif()
    exif[0x010F] = "SECRET CAMERA"
    exif[0x0112] = 6  # to be turned by 90 degrees
    with io.BytesIO() as out:
        Image.new("RGB", (400, 200), "red").save(out, "JPEG", exif=exif)
        uri = figures.make_data_uri(out.getvalue(), 100)
    data = base64.b64decode(uri.partition(",")[2])
    assert b"SECRET" in exif.tobytes() and b"SECRET" not in data
    with Image.open(io.BytesIO(data)) as small:
        assert small.format == "WEBP" and small.size == (50, 100)
    assert figures.make_data_uri(b"not an image") == ""
