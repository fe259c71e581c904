"Features are torch's features, whoever computes them, however often it was interrupted"

import functools
import json
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import Job
from test_training_train import digits, small

import cvbench.inference.embed as e
import cvbench.inference.runtimes as g
from cvbench.core.inspection import make_inspection
from cvbench.data.commit import commit
from cvbench.data.versions import add_column, checkout
from cvbench.inference.embed import embed
from cvbench.model.adapters import FullFineTune, LinearProbe, LoRA, VisualPrompt
from cvbench.model.backbones import create_backbone, hash_state, load_square, normalise
from cvbench.model.preprocessing import has_bfloat16

pytestmark = [
    pytest.mark.filterwarnings("ignore:lance is not fork-safe"),  # torch's exporter forks, without lance
    pytest.mark.xdist_group("engines"),  # its first export takes seconds
]
FAST = [n for n in g.engines if n != "torch" and g.find_engine(n)]


@functools.cache
def works(engine: str) -> bool:
    "Whether an engine works on this processor at all"
    backbone = create_backbone("pocket_vit")
    squares = np.zeros((3, backbone.transform.side, backbone.transform.side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        file = g.export_encoder(backbone.module, backbone.transform, Path(folder) / "engine")
        try:
            return len(g.Engine(engine, backbone.transform, file=file)(squares)) == 3
        except ValueError:
            return False


def need(engine: str) -> None:
    "Skip where an engine is not installed, or does not work here"
    if not g.find_engine(engine):
        pytest.skip(f"{engine} is not installed")
    if engine != "torch" and not works(engine):
        pytest.skip(f"{engine} does not work on this processor, or with the instructions it is allowed")


def features_of(ds, column="embedding"):
    array = ds.table([column])[column].combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), -1)


@torch.no_grad()
def by_hand(ds, encoder, transform):
    squares = np.stack([load_square(data, transform) for data in ds.images(range(len(ds)))])
    return encoder.eval()(normalise(torch.from_numpy(squares), transform)).numpy()


@torch.no_grad()
def altered(model):
    for p in model.net.encoder.parameters():
        p.add_(0.05 * torch.randn_like(p))
    return model


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    "Where engines beside torch run, and in the arithmetic that all of them share"
    monkeypatch.setenv("CVBENCH_DEVICE", "cpu")
    monkeypatch.setenv("CVBENCH_PRECISION", "fp32")


@pytest.fixture(scope="module")
def inspection(tmp_path_factory):
    return commit(make_inspection(40, frames=1), name="inspection", store=tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("engine", list(g.engines))
def test_every_engine_gives_torchs_features(engine, inspection):
    need(engine)
    backbone = create_backbone("pocket_vit")
    made = embed(inspection, backbone, engine=engine, column=engine, batch_size=7)
    want = by_hand(inspection, backbone.module, backbone.transform)
    np.testing.assert_allclose(features_of(made, engine), want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("adapter", [LoRA(r=2), FullFineTune()], ids=lambda a: type(a).__name__)
def test_a_models_encoder_is_the_adapted_one(engine, adapter):
    need(engine)
    ds = digits(20)
    model = altered(small(ds, adapter))
    made = embed(ds, model, engine=engine)
    want = by_hand(ds, model.net.encoder, model.backbone.transform)
    np.testing.assert_allclose(features_of(made), want, rtol=1e-3, atol=2e-5)


FAMILIES = ("swin_tiny_patch4_window7_224", "mobilenetv3_small_100", "efficientnet_b0", "regnetx_002", "levit_128s", "mixer_s32_224")  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["resnet10t", "convnext_atto", *(pytest.param(name, marks=pytest.mark.nightly("families")) for name in FAMILIES)],
)
def test_other_architectures_are_exported_too(name, tmp_path):
    if not FAST:
        pytest.skip("no engine beside torch is installed")
    torch.manual_seed(0)
    backbone = create_backbone(name, pretrained=False)
    file = g.export_encoder(backbone.module, backbone.transform, tmp_path / "engine")
    squares = np.random.default_rng(0).integers(0, 256, (3, *[backbone.transform.side] * 2, 3), np.uint8)
    want = g.Engine("torch", backbone.transform, backbone.module)(squares)
    for engine in filter(works, FAST):
        for n in (3, 1):
            got = g.Engine(engine, backbone.transform, file=file)(squares[:n])
            assert g.measure_difference(got, want[:n]) < 1e-4


def test_an_engine_that_differs_is_refused_and_a_damaged_file_is_written_anew(monkeypatch, store):
    if not FAST:
        pytest.skip("no engine beside torch is installed")
    ds = digits(20)
    model = small(ds, LinearProbe())
    wide = embed(ds, model, engine=FAST[0])
    (file,) = store.glob("cache/engine-*/model.onnx")
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2])
    again = embed(wide, model, engine=FAST[0], column="again")
    np.testing.assert_array_equal(features_of(again), features_of(again, "again"))
    assert len(file.read_bytes()) == len(good)
    monkeypatch.setitem(g._TOLERANCE, "fp32", -1.0)
    with pytest.raises(ValueError, match="differ from torch's by .* Use engine='torch'"):
        embed(again, model, engine=FAST[0], column="third")
    auto = embed(again, model, column="fourth")
    assert "fourth" in auto.columns


def test_auto_measures_takes_one_that_is_equal_and_remembers(monkeypatch, capsys):
    if not FAST:
        pytest.skip("no engine beside torch is installed")
    monkeypatch.setattr(g, "_FIND_OUT", 0.0)
    monkeypatch.setattr(g, "_OPEN", 0.0)
    ds = digits(40)
    model = small(ds, LinearProbe())
    wide = embed(ds, model)
    np.testing.assert_allclose(features_of(wide), by_hand(ds, model.net.encoder, model.backbone.transform), atol=2e-5)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "images a second" in said and "×" in said
    monkeypatch.setattr(g, "export_encoder", None)
    monkeypatch.setattr(g, "measure_rate", None)
    embed(wide, model, column="again")
    assert capsys.readouterr().out.split(",")[0] == said.split(",")[0]


def test_without_the_extra_torch_does_it_and_the_others_say_what_to_install(monkeypatch, capsys):
    real = g.importlib.util.find_spec
    monkeypatch.setattr(
        g.importlib.util, "find_spec", lambda n: None if n in ("openvino", "onnxruntime", "ray") else real(n)
    )
    ds = digits(20)
    model = small(ds, LinearProbe())
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(ImportError, match=r"pip install cvbench\[fast\]"):
            embed(ds, model, engine=engine)
    with pytest.raises(ImportError, match=r"pip install cvbench\[ray\]"):
        embed(ds, model, on="ray")
    assert "embedding" in embed(ds, model).columns
    assert "only one installed" in capsys.readouterr().out


def test_asked_twice_nothing_is_computed(monkeypatch):
    ds = digits(30)
    model = small(ds, LinearProbe())
    wide = embed(ds, model)
    monkeypatch.setattr(e, "run_shards", None)
    monkeypatch.setattr(e, "choose_engine", None)
    assert embed(ds, model) == embed(wide, model) == embed(checkout("digits"), model) == wide
    old = add_column(wide, "row", {})
    assert embed(old, model) == old


def test_another_question_for_the_same_column_is_refused():
    ds = digits(30)
    wide = embed(ds, small(ds, LinearProbe()))
    with pytest.raises(
        ValueError, match=r"column 'embedding' of digits@v2 is there already, made with another weights"
    ):
        embed(wide, altered(small(ds, LinearProbe())))
    with pytest.raises(ValueError, match="made with another split"):
        embed(wide.split("test"), small(ds, LinearProbe()))
    named = add_column(wide, "sharpness", {})
    with pytest.raises(ValueError, match="not made by embed"):
        embed(named, small(ds, LinearProbe()), column="sharpness")


def test_one_split_leaves_the_others_empty():
    ds = digits(40)
    model = small(ds, LinearProbe())
    test = embed(ds.split("test"), model)
    assert (test.only, test.version) == ("test", 2)
    np.testing.assert_allclose(features_of(test), by_hand(test, model.net.encoder, model.backbone.transform), atol=2e-5)
    assert checkout("digits").table(["embedding"])["embedding"].null_count == 40 - len(test)


def test_the_column_survives_checkout_and_tells_its_origin():
    ds = digits(30)
    made = features_of(embed(ds, small(ds, LinearProbe())))
    back = checkout("digits")
    np.testing.assert_array_equal(features_of(back), made)
    assert "embedding" not in checkout("digits@v1").columns
    header = back.table(["embedding"]).schema.field("embedding").metadata
    weights = hash_state(small(ds, LinearProbe()).net.encoder.state_dict())
    assert json.loads(header[b"cvbench"])["weights"] == weights


def test_bad_use_is_told():
    ds = digits(30)
    with pytest.raises(ValueError, match="Pass auto, torch, onnxruntime, openvino"):
        embed(ds, engine="tensorrt")
    with pytest.raises(ValueError, match="precision 'int8' is not known"):
        embed(ds, precision="int8")
    with pytest.raises(ValueError, match="precision 'int8' is not known"):
        embed(ds, precision="int8", engine=FAST[0] if FAST else "torch")
    with pytest.raises(ValueError, match="on='mars' is not known"):
        embed(ds, on="mars")
    for name in ("image", "a.b", "_x", ""):
        with pytest.raises(ValueError, match="is no name for new features"):
            embed(ds, column=name)
    commit([*make_inspection(5, frames=1)], name="digits")
    with pytest.raises(ValueError, match="is not the newest version"):
        embed(ds)


@pytest.mark.parametrize("engine", ["torch", *FAST])
def test_bfloat16_stays_near_and_fp32_is_never_bfloat16(engine, monkeypatch, capsys):
    monkeypatch.delenv("CVBENCH_PRECISION")
    need(engine)
    ds, backbone = commit(make_inspection(12, frames=1), name="few"), create_backbone("pocket_vit")
    want, native = by_hand(ds, backbone.module, backbone.transform), has_bfloat16(torch.device("cpu"))
    made = embed(ds, backbone, engine=engine)
    native = native and engine != "onnxruntime"  # which computes in fp32 everywhere
    assert f"in {'bf16' if native else 'fp32'} by" in capsys.readouterr().out
    assert g.measure_difference(features_of(made), want) < g._TOLERANCE["bf16"]
    exact = embed(made, backbone, engine=engine, column="exact", precision="fp32")
    assert g.measure_difference(features_of(exact, "exact"), want) < 1e-5
    assert embed(exact, backbone, column="exact") == exact  # auto takes a column of either precision
    if native:
        with pytest.raises(ValueError, match="made with another precision"):
            embed(exact, backbone, precision="fp32")
    else:
        with pytest.raises(ValueError, match="does not compute in bf16|computes in fp32"):
            embed(exact, backbone, precision="bf16", engine=engine, column="more")


def test_an_engine_that_answers_with_another_number_of_rows_is_refused(monkeypatch, capsys):
    if not FAST:
        pytest.skip("no engine beside torch is installed")
    monkeypatch.setattr(g, "_FIND_OUT", 0.0)
    for name in FAST:
        monkeypatch.setattr(g, f"_open_{name}", lambda engine: lambda squares: np.zeros((0, 12), np.float32))
    ds = digits(20)
    model = small(ds, LinearProbe())
    with pytest.raises(
        ValueError, match=f"engine '{FAST[0]}' cannot run .*fails on this processor: 2 images in, 0 rows out"
    ):
        embed(ds, model, engine=FAST[0])
    made = embed(ds, model)
    assert "fails on this processor" in capsys.readouterr().out
    np.testing.assert_allclose(features_of(made), by_hand(ds, model.net.encoder, model.backbone.transform), atol=2e-5)


JOB = """
import sys
sys.path.insert(0, {tests!r})
import cvbench.inference.embed as e
from test_training_train import digits, small
from cvbench.model.adapters import LinearProbe
e._SHARD = 8
ds = digits()
print(e.embed(ds, small(ds, LinearProbe())).ref)
"""


def start(store):
    return Job(JOB.format(tests=os.path.dirname(__file__)), CVBENCH_STORE=str(store))


def test_killed_in_the_middle_it_goes_on_and_gives_the_same(tmp_path):
    ds = digits()
    whole = features_of(embed(ds, small(ds, LinearProbe())))
    store, deadline = tmp_path / "killed", time.monotonic() + 120
    p = start(store)
    while p.poll() is None and time.monotonic() < deadline:
        if list(store.glob("datasets/digits/.shards/*/000004.npy")):
            break
        time.sleep(0.002)
    p.send_signal(signal.SIGKILL)
    p.communicate()
    left = list(store.glob("datasets/digits/.shards/*/*.npy"))
    assert p.returncode == -signal.SIGKILL and len(left) >= 5
    out, err = start(store).communicate(timeout=300)
    assert "digits@v2" in out and f"embed {240 - 8 * len(left)} images" in out, err
    assert not list(store.glob("datasets/digits/.shards/*"))
    np.testing.assert_allclose(features_of(checkout("digits", store)), whole, atol=1e-5)


def test_what_cannot_be_exported_stays_with_torch_unless_asked(monkeypatch, capsys):
    if not FAST:
        pytest.skip("no engine beside torch is installed")
    monkeypatch.setattr(g, "_FIND_OUT", 0.0)

    def fails(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(g, "export_encoder", fails)
    ds = digits(20)
    model = small(ds, VisualPrompt(tokens=2))
    with pytest.raises(ValueError, match=r"cannot be exported \(RuntimeError: no such operator\). Use engine='torch'"):
        embed(ds, model, engine=FAST[0])
    made = embed(ds, model)
    assert "no such operator" in capsys.readouterr().out
    np.testing.assert_allclose(features_of(made), by_hand(ds, model.net.encoder, model.backbone.transform), atol=2e-5)


def test_from_the_shell(capsys):
    from typer.testing import CliRunner

    from cvbench.cli.main import app

    digits(20)
    done = CliRunner().invoke(
        app, ["embed", "digits", "--backbone", "pocket_vit", "--engine", "torch", "--column", "deep"]
    )
    assert done.exit_code == 0 and done.output.splitlines()[-1] == "digits@v2 has deep"
    assert "deep" in checkout("digits").columns


def test_what_another_process_finished_meanwhile_is_the_answer(monkeypatch):
    ds = digits(30)
    model, real, said = small(ds, LinearProbe()), e.run_shards, []

    def overtaken(*a, **k):
        real(*a, **k)
        monkeypatch.setattr(e, "run_shards", real)
        said.append(embed(ds, model, engine="torch"))

    monkeypatch.setattr(e, "run_shards", overtaken)
    made = embed(ds, model, engine="torch")
    assert made == said[0] == checkout("digits") and made.ref == "digits@v2"
    assert not list((ds.path / ".shards").iterdir())


def test_another_column_that_came_meanwhile_is_an_error(monkeypatch):
    ds, real = digits(30), e.run_shards
    monkeypatch.setattr(e, "run_shards", lambda *a, **k: (real(*a, **k), add_column(ds, "sharpness", {})))
    with pytest.raises(ValueError, match="not the newest version"):
        embed(ds, small(ds, LinearProbe()), engine="torch")
