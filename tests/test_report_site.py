"""The site: the pages `_quarto.yml` lists, whole, linked, and loading nothing"""

from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from cvbench.report.site import build_site, describe_source, find_pages, main, make_readable

ROOT = Path(__file__).parents[1]
CONFIG = """
website:
  sidebar:
    contents:
      - index.ipynb
      - section: Reports
        contents: [{text: Evaluation, href: reports/evaluation.html}]
      - section: Notes
        contents: [{auto: "notes/*"}]
      - section: core
        contents: [{auto: "0*_core.*.ipynb"}]
      - section: empty
        contents: [{auto: "9*.ipynb"}]
"""
EXPORT = """#| export
def shrink(
    image: bytes,  # An encoded image
    *sizes: int,  # Longer sides
    quality: int = 80,  # 1 to 100, `webp`
) -> bytes:  # A small copy
    "Make it <small>"
"""


@pytest.fixture
def root(tmp_path):
    new, md, code = nbformat.v4.new_notebook, nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    (tmp_path / "nbs/notes").mkdir(parents=True)
    (tmp_path / "_quarto.yml").write_text(CONFIG)
    nbformat.write(
        new(cells=[md("# Start\n[core](00_core.toy.ipynb) [note](notes/why.md) [web](https://example.org/a.ipynb)")]),
        tmp_path / "nbs/index.ipynb",
    )
    toy = [
        md("# Toys & <b>more</b>"),
        code("#| default_exp toy"),
        code("#| hide\nimport os"),
        code(EXPORT),
        code("shrink(b'')"),
    ]
    nbformat.write(new(cells=toy), tmp_path / "nbs/00_core.toy.ipynb")
    (tmp_path / "nbs/notes/why.md").write_text("# Why\nBack to [start](../index.ipynb#top). ![dot](dot.png)")
    Image.new("RGB", (2, 2)).save(tmp_path / "nbs/notes/dot.png")
    return tmp_path


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                (self.links if tag == "a" else self.loads).append(value)


def test_every_link_leads_to_a_page(root):
    out = build_site(root / "site", root)
    pages = sorted(out.rglob("*.html"))
    assert len(pages) == 4
    for page in pages:
        found = Links(page.read_text())
        assert all(u.startswith("data:") for u in found.loads)
        assert "script" not in found.tags
        local = [u.partition("#")[0] for u in found.links if not u.startswith(("http", "#"))]
        assert len(local) >= 4
        for link in filter(None, local):
            assert (page.parent / link).resolve().is_file(), f"{page.name} links to {link}"
    assert "data:image/png" in (out / "notes/why.html").read_text()
    assert "https://example.org/a.ipynb" in (out / "index.html").read_text()


def test_a_published_report_is_copied_as_it_is(root, store):
    build_site(root / "site", root)
    assert "has not been rendered yet" in (root / "site/reports/evaluation.html").read_text()
    (store / "reports/some-run").mkdir(parents=True)
    (store / "reports/some-run/evaluation.html").write_text("<p>the report</p>")
    build_site(root / "site", root)
    assert (root / "site/reports/evaluation.html").read_text() == "<p>the report</p>"


def test_only_what_readers_need(root):
    text = (build_site(root / "site", root) / "00_core.toy.html").read_text()
    assert "default_exp" not in text and "import os" not in text
    for piece in (
        "An encoded image",
        "Longer sides",
        "<code>80</code>",
        "1 to 100, <code>webp</code>",
        "A small copy",
        "Make it &lt;small&gt;",
    ):
        assert piece in text


def test_describe_source_tells_public_from_private():
    assert describe_source("def _hidden(a): pass\nx = 1") == ""
    text = describe_source(
        'class Toy:\n    "A toy"\n    size: int = 3  # cm\n    def roll(self, far: float): ...\n    def _own(self): ...'
    )
    assert "Toy.roll" in text and "cm" in text and "_own" not in text


def test_foreign_folder_is_not_replaced(root):
    (root / "thesis").mkdir()
    (root / "thesis/chapter1.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a site of cvbench"):
        build_site(root / "thesis", root)
    assert (root / "thesis/chapter1.txt").read_text() == "years of work"


def test_listed_page_must_exist(root):
    (root / "nbs/index.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match=r"index\.ipynb"):
        find_pages(root)


def test_command_line(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert main(["--out", "site", "--plain"]) == 0
    assert "4 pages, plain HTML" in capsys.readouterr().out


def test_the_sidebar_holds_every_notebook():
    listed = {p.source for p in find_pages(ROOT) if p.source}
    missing = [
        p.name for p in (ROOT / "nbs").rglob("*.ipynb") if p not in listed and ".ipynb_checkpoints" not in p.parts
    ]
    assert not missing


def test_make_readable_keeps_lessons():
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("#| slow\n1 + 1")])
    assert [c.source for c in make_readable(nb).cells] == ["1 + 1"]
