"Chromium, JupyterLab, and the hands of somebody who uses the cockpit: shared by the tests that need a browser"

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import lacking

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "cvbench/cockpit/static"


def artefacts(tmp_path) -> Path:
    "Where screenshots are kept: CVBENCH_ARTEFACTS, else the test's own folder"
    folder = Path(os.environ.get("CVBENCH_ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def chromium():
    "A browser, or a skip that says what to install"
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    flags += ["--disable-quic", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as p:
        try:
            browser = p.chromium.launch(executable_path=found, args=flags)
        except Exception as e:  # no browser at all
            lacking(f"no Chromium: run playwright install chromium, or apt-get install chromium ({str(e)[:80]})")
        yield browser
        browser.close()


class Lab:
    "A JupyterLab of its own, on a free port, with a kernel that can be asked"

    def __init__(self, folder: Path, **env: str):
        self.folder, self.runtime = folder, folder / ".runtime"
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        settings = folder / ".config/lab"
        quiet = settings / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
        quiet.parent.mkdir(parents=True)
        quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
        places = {
            "JUPYTER_CONFIG_DIR": folder / ".config", "JUPYTERLAB_SETTINGS_DIR": settings, "JUPYTER_PLATFORM_DIRS": "1",
            "JUPYTERLAB_WORKSPACES_DIR": folder / ".workspaces", "JUPYTER_RUNTIME_DIR": self.runtime,
            "JUPYTER_DATA_DIR": folder / ".data", "IPYTHONDIR": folder / ".ipython",
        }  # fmt: skip
        python = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self.env = {**os.environ, "PYTHONPATH": python, **{k: str(v) for k, v in places.items()}, **env}

    def __enter__(self):
        options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}"]
        options += [
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=",
            "--ServerApp.password=",
            "--LabApp.news_url=None",
            "--LabApp.expose_app_in_browser=True",
        ]
        self.log = open(self.folder / "lab.log", "w")
        command = [sys.executable, "-m", "jupyter", "lab", *options, f"--ServerApp.root_dir={self.folder}"]
        self.job = subprocess.Popen(command, env=self.env, stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api", timeout=2).read()
                return self
            except OSError:
                assert self.job.poll() is None, (self.folder / "lab.log").read_text()[-2000:]
                time.sleep(0.25)
        raise AssertionError("JupyterLab did not start:\n" + (self.folder / "lab.log").read_text()[-2000:])

    def __exit__(self, *_):
        self.job.terminate()
        try:
            self.job.wait(20)
        except subprocess.TimeoutExpired:
            self.job.kill()
        self.log.close()

    def open(self, page, name, kernel=True):
        "Show a notebook; with a kernel that is idle, or with none"
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{name}?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        if kernel:
            page.wait_for_selector("#jp-main-statusbar >> text=/\\| Idle/")

    def run_all(self, page):
        page.get_by_role("menuitem", name="Run", exact=True).first.click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def python(self, expression: str):
        "The value of an expression in the notebook's kernel, by way of JSON"
        import zmq
        from jupyter_client import BlockingKernelClient

        files = sorted(self.runtime.glob("kernel-*.json"), key=lambda p: p.stat().st_mtime)
        with zmq.Context() as context:  # closed here, and not whenever the client is collected
            client = BlockingKernelClient(connection_file=str(files[-1]), context=context)
            client.load_connection_file()
            client.start_channels(iopub=False, stdin=False, hb=False, control=False)
            try:
                asked = {"value": f"__import__('json').dumps({expression}, default=str)"}
                client.execute("", user_expressions=asked, silent=False, store_history=False)
                reply = client.get_shell_msg(timeout=60)["content"]["user_expressions"]["value"]
            finally:
                client.stop_channels()
        assert reply["status"] == "ok", reply
        return json.loads(eval(reply["data"]["text/plain"]))


def watch(page) -> dict[str, list[str]]:
    "Everything a page says and asks for from now on"
    seen: dict[str, list[str]] = {"errors": [], "requests": [], "dialogs": []}
    page.on("console", lambda m: seen["errors"].append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: seen["errors"].append(str(e)))
    page.on(
        "request",
        lambda r: seen["requests"].append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None,
    )
    page.on("dialog", lambda d: (seen["dialogs"].append(d.message), d.dismiss()))
    return seen


def count(root) -> int:
    "Images selected, as the cockpit says"
    return int(root.locator("[data-testid=count]").text_content().split(" of ")[0].replace(",", ""))


def wait_for(condition, what: str, seconds: float = 20):
    "Try until something holds"
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.05)
    return value


def click_cell(root, target: int, pred: int):
    root.locator(f'[data-panel=confusion] [data-cell="{target},{pred}"]').first.click()


def drag_lasso(page, root, share: float = 0.8):
    "A round lasso about the middle of the map"
    canvas = root.locator("[data-panel=map] canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    steps = np.linspace(0, 2 * np.pi, 25)
    ring = [(x + share * box["width"] / 2 * np.cos(a), y + share * box["height"] / 2 * np.sin(a)) for a in steps]
    page.mouse.move(*ring[0])
    page.mouse.down()
    for point in ring[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def set_threshold(root, value: float):
    slider = root.locator("input[data-testid=threshold]").first
    slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", str(value))


def inside(polygon, x, y) -> np.ndarray:
    "Which points a polygon holds, by matplotlib: the second opinion on a lasso"
    from matplotlib.path import Path as Outline

    return Outline(np.asarray(polygon)).contains_points(np.c_[x, y])
