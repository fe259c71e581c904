"""Reports: what they refuse, what they keep, what they hide, and that they need nothing else"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from cvbench.cockpit.standalone import read_bundle, script_policy
from cvbench.report.runner import ReportError, check_parameters, find_report, read_parameters, render_report, scrub

REPORTS = Path(__file__).parents[1] / "reports"


def write_notebook(path, *cells, parameters='name = "world"\ntimes = 2\nrate = 0.5\nloud = False'):
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_markdown_cell("# Greeting")]
    if parameters:
        nb.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    nb.cells += [nbformat.v4.new_code_cell(c) for c in cells]
    nbformat.write(nb, path)
    return path


class Page(HTMLParser):
    """Everything a page would load, and every tag that could act"""

    def __init__(self, text):
        super().__init__()
        self.loads, self.tags, self.handlers, self.scripts, self.script = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "poster", "action") and tag != "a":
                self.loads.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
        self.script = dict(attrs) if tag == "script" else None

    def handle_data(self, data):
        if self.script is not None:
            self.scripts.append((self.script, data))

    def handle_endtag(self, tag):
        self.script = None


def check_scripts(page, text):
    """Data may stand in a page, and one program: the bundle that draws a frozen cockpit, allowed by its hash alone"""
    programs = [(attrs, body) for attrs, body in page.scripts if attrs != {"type": "application/json"}]
    for attrs, body in page.scripts:
        if attrs == {"type": "application/json"}:
            json.loads(body)
    (policy,) = re.findall(r'content="([^"]*)"', *re.findall(r"<meta[^>]*Content-Security-Policy[^>]*>", text))
    allowed = [p.split()[1:] for p in policy.split(";") if p.split()[0].startswith("script-src")]
    if not programs:
        assert not allowed and "script" not in page.tags
        return
    assert programs == [({}, read_bundle()[0])], "a script that is not the bundle"
    assert allowed == [[script_policy()]], f"the policy allows {allowed}"


def check_self_contained(text):
    page = Page(text)
    check_scripts(page, text)
    outside = [u for u in page.loads if not u.startswith(("data:", "#"))]
    assert not outside, f"the page loads {outside[:3]}"
    assert not {"iframe", "object", "embed", "form"} & set(page.tags)
    assert not page.handlers
    assert "default-src 'none'" in text
    assert "@import" not in text
    return page


def test_parameters_reach_the_page(tmp_path):
    nb = write_notebook(tmp_path / "hello.ipynb", 'print(f"hello {name} " * times, rate, loud)')
    out = render_report(nb, tmp_path / "hello.html", name="Ada", times="3", rate="1", loud="true")
    text = out.read_text()
    assert "hello Ada hello Ada hello Ada  1.0 True" in text
    check_self_contained(text)
    for fact in ("code version", "lock hash", "seed", "data version", "model id", "-p name=Ada -p times=3"):
        assert fact in text
    assert not list(tmp_path.glob("*.partial.ipynb"))


@pytest.mark.parametrize(
    ("params", "error", "says"),
    [
        ({"nam": "x"}, ValueError, "Did you mean 'name'"),
        ({"zzz": 1}, ValueError, "times=2"),
        ({"times": "often"}, ValueError, "not of the type int"),
        ({"loud": "perhaps"}, ValueError, "not of the type bool"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(tmp_path, params, error, says):
    nb = write_notebook(tmp_path / "hello.ipynb", f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(error, match=says):
        render_report(nb, tmp_path / "hello.html", **params)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hello.ipynb"]


def test_right_parameters_are_kept(tmp_path):
    nb = write_notebook(tmp_path / "hello.ipynb")
    assert check_parameters(nb, {"times": 4, "name": Path("a")}) == {"times": 4, "name": "a"}


def test_missing_tag_is_refused(tmp_path):
    nb = write_notebook(tmp_path / "hello.ipynb", "1", parameters=None)
    with pytest.raises(ValueError, match="no cell tagged 'parameters'"):
        render_report(nb, tmp_path / "hello.html")


def test_unknown_report_names_the_known(tmp_path):
    with pytest.raises(FileNotFoundError, match="evaluation"):
        find_report("no such report")


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_reports_keep_their_tag_and_define_nothing(path, tmp_path):
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    clean = "import sys; from nbdev.clean import nbdev_clean; nbdev_clean(sys.argv[1])"
    subprocess.run([sys.executable, "-c", clean, str(copy)], cwd=REPORTS.parent, check=True, capture_output=True)
    assert read_parameters(copy), "nbdev-clean took the parameters tag away"
    code = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")
    assert "def " not in code and "class " not in code, "what a report defines belongs in nbs/"


def test_failing_cell_keeps_the_old_page_and_the_partial_notebook(tmp_path):
    nb = write_notebook(
        tmp_path / "hello.ipynb", "print('before')", "if name != 'world': raise KeyError(name)", "print('after')"
    )
    out = render_report(nb, tmp_path / "hello.html")
    old = out.read_bytes()
    with pytest.raises(ReportError, match="KeyError: 'x'") as e:
        render_report(nb, out, name="x")
    assert out.read_bytes() == old
    kept = nbformat.read(e.value.partial, 4)
    assert [bool(c.outputs) for c in kept.cells if c.cell_type == "code"][-3:] == [True, True, False]
    render_report(nb, out)
    assert not e.value.partial.exists()


def test_secrets_and_homes_are_scrubbed(tmp_path, monkeypatch):
    secret = "tr0ub4dor&three"
    monkeypatch.setenv("SOME_API_TOKEN", secret)
    code = [
        "import os; from pathlib import Path; os.environ['SOME_API_TOKEN']",
        "print('git clone https://ada:hunter2secret@example.org/x.git', Path.home() / 'photos')",
        "from IPython.display import HTML; HTML('<b>tr0ub4dor&amp;three</b>')",
        "if times > 2: key = os.environ['SOME_API_TOKEN']; raise ValueError(f'bad key {key}')",
    ]
    nb = write_notebook(tmp_path / "hello.ipynb", *code)
    text = render_report(nb, tmp_path / "hello.html").read_text()
    with pytest.raises(ReportError) as e:
        render_report(nb, tmp_path / "hello.html", times=3)
    partial = e.value.partial.read_text()
    assert "[secret]" in text and "[secret]" in partial and "[secret]" in str(e.value)
    for leak in ("tr0ub4dor", "hunter2secret", f"{Path.home()}/photos"):
        assert leak not in text and leak not in partial and leak not in str(e.value)


@pytest.mark.parametrize(
    "leak",
    [
        "hf_" + "aB3" * 12,
        "ghp_" + "aB3d" * 9,
        "wandb_v1_" + "aB3d" * 9,
        "AKIA" + "ABCD2345" * 2,
        "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_forms_of_keys(leak):
    assert scrub(f"x = '{leak}'!", {}) == "x = '[secret]'!"


def test_what_is_no_secret_stays():
    env = {
        "EDITOR_KEY": "vi",
        "TOKENIZERS_PARALLELISM": "tokenizer",
        "SSH_AUTH": "/tmp/agent.sock",
        "NAME": "parts-lora-1a2b3c4d",
    }
    text = "parts-lora-1a2b3c4d at 8b0e59b vi /tmp/agent.sock data:image/webp;base64,AKIAABCD2345ABCD2345 tokenizer: bert key=3"
    assert scrub(text, env) == text


@pytest.mark.parametrize(
    "name", ["MY_API_KEY", "apikey", "DB_PASSWORD_PROD", "AWS_SECRET_ACCESS_KEY", "GH_PAT", "HF_TOKEN", "clientSecret"]
)
def test_names_that_sound_secret(name):
    assert scrub("it is correct-horse-battery.", {name: "correct-horse-battery"}) == "it is [secret]."


def test_kill_leaves_the_old_page(tmp_path):
    nb = write_notebook(
        tmp_path / "hello.ipynb",
        f"import time, pathlib\npathlib.Path({str(tmp_path / 'busy')!r}).touch() if loud else None\ntime.sleep(60 if loud else 0)",
    )
    out = render_report(nb, tmp_path / "hello.html")
    old = out.read_bytes()
    code = f"from cvbench.report.runner import render_report; render_report({str(nb)!r}, {str(out)!r}, loud=True)"
    job = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "busy").exists():
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert out.read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["busy", "hello.html", "hello.ipynb"]
    render_report(nb, out)


def test_write_into_a_file_place_says_what_to_do(tmp_path):
    nb = write_notebook(tmp_path / "hello.ipynb")
    (tmp_path / "blocked").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="blocked"):
        render_report(nb, tmp_path / "blocked" / "hello.html")


def test_the_record_reaches_the_footer(tmp_path):
    code = "from cvbench.report.runner import record_origin; record_origin(data_version='parts@v3', model_id='cafe01', seed=7)"
    text = render_report(write_notebook(tmp_path / "hello.ipynb", code), tmp_path / "hello.html").read_text()
    footer = text[text.index("<footer>") :]
    assert "parts@v3" in footer and "cafe01" in footer and "<dt>seed</dt><dd>7</dd>" in footer


def test_a_dead_kernel_is_an_error_too(tmp_path):
    nb = write_notebook(tmp_path / "hello.ipynb", "print('before')", "import os; os._exit(3)")
    with pytest.raises(ReportError, match="kernel stopped"):
        render_report(nb, tmp_path / "hello.html")
    assert not (tmp_path / "hello.html").exists()


def test_files_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "tr0ub4dor&three")
    code = "from cvbench.report.runner import record_file; record_file('README.md', f'# {name} tr0ub4dor&three')"
    nb = write_notebook(tmp_path / "hello.ipynb", code)
    text = render_report(nb, tmp_path / "out" / "hello.html").read_text()
    assert (tmp_path / "out/README.md").read_text() == "# world [secret]"
    assert "world" not in text[text.index("<main>") : text.index("<footer>")].replace(code, "")
    with pytest.raises(ReportError, match="not usable as a folder name"):
        render_report(write_notebook(tmp_path / "up.ipynb", code.replace("README", "../README")), tmp_path / "up.html")


@pytest.mark.parametrize(
    "value",
    ["</pre></footer><script>alert(1)</script>", "a' onmouseover='alert(1)", "\x1b[31m<b>red</b>", "{{ 7 * 7 }}"],
)
def test_parameters_are_data_too(tmp_path, value):
    nb = write_notebook(tmp_path / "hello.ipynb", "print(name)", "name")
    page = check_self_contained(render_report(nb, tmp_path / "hello.html", name=value).read_text())
    assert "b" not in page.tags
    assert page.tags.count("footer") == 1


def test_quiet_without_a_terminal(tmp_path, capsys):
    nb = write_notebook(tmp_path / "hello.ipynb", "1", "2")
    render_report(nb, tmp_path / "hello.html", progress=False)
    assert capsys.readouterr().err == ""


TOY = """
import numpy as np
from cvbench.core.predictions import make_predictions
from cvbench.evaluation.evaluate import evaluate
from cvbench.cockpit.widget import explore
labels = ["</script><script>alert(1)</script>", "b"]
ev = evaluate(make_predictions(labels * 9, np.random.default_rng(0).dirichlet([1, 1], 18), labels), n_boot=2)
"""


def test_a_cockpit_in_a_report_is_frozen_and_alone_may_run(tmp_path):
    nb = write_notebook(tmp_path / "cockpits.ipynb", TOY + "explore(ev)", "explore(ev, panels=['confusion'])")
    text = render_report(nb, tmp_path / "cockpits.html").read_text()
    page = check_self_contained(text)
    assert page.tags.count("script") == 3 and len(page.scripts) == 3, "two tables and one bundle"
    plain = write_notebook(tmp_path / "plain.ipynb", "from IPython.display import HTML; HTML('<script>1</script>')")
    with pytest.raises(AssertionError):
        check_self_contained(render_report(plain, tmp_path / "plain.html").read_text())
    with pytest.raises(AssertionError, match="not the bundle"):
        check_self_contained(text.replace("</main>", "<script>alert(1)</script></main>"))
    with pytest.raises(AssertionError, match="the policy allows"):
        check_self_contained(text.replace("script-src ", "script-src 'unsafe-inline' "))


def test_only_a_report_is_marked_as_one(tmp_path):
    nb = write_notebook(tmp_path / "mark.ipynb", "import os; print('mark', os.environ.get('CVBENCH_REPORT'))")
    assert "mark 1" in render_report(nb, tmp_path / "mark.html").read_text()
    assert "CVBENCH_REPORT" not in os.environ
