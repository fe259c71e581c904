"""A commit that is killed, has no room, may not write, or is not alone leaves the last version whole."""

import ctypes
import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from PIL import Image

from cvbench.core.types import Sample, Target
from cvbench.data import commit as module
from cvbench.data.commit import commit
from cvbench.data.versions import add_column, checkout, log, restore, tag

CHILD = """
import io, os, signal, sys
import numpy as np
from PIL import Image
from cvbench.core.types import Sample, Target
from cvbench.data import commit as module
import lance

store, moment, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
module._PIECE = (8, 10**9)

def encode(i):
    to = io.BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 255, (24, 24, 3), np.uint8)).save(to, "PNG")
    return to.getvalue()

def make(n):
    for i in range(n):
        yield Sample(f"{i}.png", encode(i), Target(("ab"[i % 2],)), meta={"n": i})
    yield Sample(f"broken {n}.png", b"")

def die(*a, **k):
    os.kill(os.getpid(), signal.SIGKILL)

def dying(module, name, when, after=False):
    real, calls = getattr(module, name), [0]
    def wrapped(*a, **k):
        calls[0] += 1
        if calls[0] == when and not after: die()
        out = real(*a, **k)
        if calls[0] == when: die()
        return out
    setattr(module, name, wrapped)

moments = {
    "reading": lambda: dying(module, "check_image", 30),
    "first piece": lambda: dying(lance, "write_dataset", 1),
    "some pieces": lambda: dying(lance, "write_dataset", 3, after=True),
    "splits": lambda: dying(module, "_with_splits", 1),
    "before quarantine": lambda: dying(module, "_write_quarantine", 1),
    "after quarantine": lambda: dying(module, "_write_quarantine", 1, after=True),
    "before rows": lambda: dying(module, "_publish", 1),
    "sync": lambda: dying(os, "fsync", 1),
    "after rows": lambda: dying(module, "_publish", 1, after=True),
    "never": lambda: None,
}
moments.get(moment, lambda: None)()
print("start", flush=True)
ds = module.commit(make(count), "parts", store=store, workers=2)
print(ds.version, ds.fingerprint)
"""


@pytest.fixture
def child(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)

    def run(store, moment, count=60, kill_after=None):
        args = [sys.executable, str(tmp_path / "child.py"), str(store), moment, str(count)]
        process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if kill_after is not None:
            process.stdout.readline()
            time.sleep(kill_after)
            process.kill()
        out, err = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), err
        return process.returncode, out.split()[-2:]

    return run


MOMENTS = ["reading", "some pieces", "splits", "before quarantine", "sync", "before rows", "after rows"]


@pytest.mark.slow
def test_killed_at_every_stage(child, tmp_path):
    "One store is killed at one stage after another, then the commit goes through as if nothing had been"
    child(tmp_path / "clean", "never", 40)
    _, clean = child(tmp_path / "clean", "never", 60)
    assert clean[0] == "2"
    store = tmp_path / "killed"
    for moment in ("first piece", "before rows"):
        assert child(store, moment, 40)[0] == -signal.SIGKILL
        with pytest.raises(FileNotFoundError):
            checkout("parts", store)
    child(store, "after rows", 40)
    first = checkout("parts", store)
    whole = first.table([*first.columns, "image"])
    for i, moment in enumerate(MOMENTS):
        code, _ = child(store, moment, 60)
        assert code == -signal.SIGKILL, moment
        newest = checkout("parts", store)
        assert newest.version == (2 if i == len(MOMENTS) - 1 else 1), moment
        assert first.table([*first.columns, "image"]).equals(whole)
        assert first.quarantine.num_rows == 1
    code, after = child(store, "never", 60)
    assert (code, after) == (0, clean)
    ds = checkout("parts", store)
    assert sorted(map(module.hash_bytes, ds.images(range(60)))) == ds.table()["sample_id"].to_pylist()
    assert log("parts", store).version.tolist() == ["v1", "v2"]
    stored = module.open_table(store / "datasets/parts/images.lance", ds.info["images_version"]).count_rows()
    assert stored == 60, "no image is written twice"


@pytest.mark.slow
def test_killed_at_any_time(child, tmp_path):
    expected = child(tmp_path / "clean", "never", 40)[1]
    store = tmp_path / "killed"
    for delay in np.linspace(0, 0.2, 5):
        child(store, "never", 40, kill_after=float(delay))
    assert child(store, "never", 40) == (0, expected)


def make(n, start=0):
    out = []
    for i in range(start, start + n):
        to = io.BytesIO()
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (96, 96, 3), np.uint8)).save(to, "PNG")
        out.append(Sample(f"{i}.png", to.getvalue(), Target(("ab"[i % 2],))))
    return out


@pytest.fixture
def small_disk(tmp_path):
    "A file system of two megabytes"
    place = tmp_path / "disk"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, b"size=2m") != 0:
        pytest.skip(f"a small file system cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    yield place, libc
    libc.umount2(str(place).encode(), 2)


def test_full_disk(small_disk):
    place, _ = small_disk
    first = commit(make(20), "parts", store=place)
    whole = first.table([*first.columns, "image"])
    with pytest.raises(OSError, match=r"the disk is full. What was there before is intact") as e:
        commit(make(100), "parts", store=place)
    assert e.value.errno == errno.ENOSPC
    assert checkout("parts", place) == first
    assert checkout("parts", place).table([*first.columns, "image"]).equals(whole)
    assert commit(make(22), "parts", store=place).version == 2, "with room again, it goes on"


def test_read_only_disk(small_disk):
    place, libc = small_disk
    first = commit(make(4), "parts", store=place)
    assert libc.mount(None, str(place).encode(), None, 32 | 1, None) == 0
    for write in (
        lambda: commit(make(5), "parts", store=place),
        lambda: commit(make(4), "new", store=place),
        lambda: tag(first, "x"),
        lambda: add_column(first, "x", {}),
    ):
        with pytest.raises(OSError, match="read-only") as e:
            write()
        assert e.value.errno == errno.EROFS
    assert checkout("parts", place).images([0]) == first.images([0])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_errors_of_lance_keep_their_number(code, monkeypatch):
    import lance

    first = commit(make(4), "parts")
    real = lance.write_dataset

    def fails(table, uri, *a, **k):
        raise OSError(
            f"LanceError(IO): Generic LocalFileSystem error: {os.strerror(code)} (os error {code}), src/x.rs:1:2"
        )

    monkeypatch.setattr(lance, "write_dataset", fails)
    with pytest.raises(OSError, match=r"What was there before is intact") as e:
        commit(make(6), "parts")
    assert e.value.errno == code
    monkeypatch.setattr(lance, "write_dataset", real)
    assert checkout("parts") == first
    assert commit(make(6), "parts").version == 2


@pytest.mark.parametrize(
    "error", [RuntimeError("the cable was pulled"), PermissionError(errno.EACCES, "no access", "labels.xml")]
)
def test_an_error_in_the_reader_comes_through(error):
    first = commit(make(4), "parts")

    def breaks():
        yield from make(3)
        raise error

    with pytest.raises(type(error)) as e:
        commit(breaks(), "parts")
    assert e.value is error
    assert checkout("parts") == first


def test_one_writer_at_a_time(store):
    started, release = threading.Event(), threading.Event()

    def slow():
        yield from make(3)
        started.set()
        assert release.wait(30)

    done = []
    other = threading.Thread(target=lambda: done.append(commit(slow(), "parts")))
    other.start()
    assert started.wait(30)
    with pytest.raises(RuntimeError, match="another process is writing to parts"):
        commit(make(4), "parts")
    assert commit(make(4), "bolts").version == 1, "another data set is not in the way"
    release.set()
    other.join()
    assert done[0].version == 1 and len(done[0]) == 3
    assert commit(make(4), "parts").version == 2


def test_writers_in_a_crowd(tmp_path):
    "Four processes at once: each has its version or a clear error, and all versions are whole"
    code = textwrap.dedent("""
        import io, sys
        import numpy as np
        from PIL import Image
        from cvbench.core.types import Sample, Target
        from cvbench.data.commit import commit
        def encode(i):
            to = io.BytesIO(); Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)).save(to, "PNG"); return to.getvalue()
        k = int(sys.argv[2])
        try:
            print("made", commit([Sample(str(i), encode(i), Target(("a",))) for i in range(k, k + 20)], "parts", store=sys.argv[1], workers=1).version)
        except RuntimeError as e:
            print("refused", e)
    """)
    crowd = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(10 * k)], stdout=subprocess.PIPE, text=True)
        for k in range(4)
    ]
    said = [p.communicate(timeout=60)[0].split()[0] for p in crowd]
    assert set(said) <= {"made", "refused"} and "made" in said
    assert len(log("parts", tmp_path)) == said.count("made")
    for version in range(1, said.count("made") + 1):
        ds = checkout(f"parts@v{version}", tmp_path)
        assert sorted(map(module.hash_bytes, ds.images(range(20)))) == ds.table()["sample_id"].to_pylist()


def test_what_an_interrupted_write_left_is_swept_up(store):
    commit(make(4), "parts")
    data = store / "datasets/parts/images.lance/data"
    (data / "0123.lance").write_bytes(b"half")
    commit(make(5), "parts")
    assert not (data / "0123.lance").exists()
    assert restore(checkout("parts@v1")).images([0]) == checkout("parts@v1").images([0])
