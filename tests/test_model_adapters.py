"Every adapter on every family of backbones: the interface stays, the right things train, and what is stored comes back"

import copy
import functools
import os
import subprocess
import sys
from types import MethodType

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from cvbench.model.adapters import (
    IA3,
    DoRA,
    FullFineTune,
    LinearProbe,
    LoRA,
    VisualPrompt,
    adapters,
    describe_adapter,
    make_adapter,
)
from cvbench.model.backbones import HFEncoder, Transform, create_backbone, find_blocks, hash_forward
from cvbench.model.models import create_model, load_model, own_state, save_model, what_trains
from cvbench.model.partition import Part
from cvbench.training.recipe import Recipe

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
FAMILIES = {
    "timm_vit": lambda: VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0),
    "timm_swin": lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(2, 2), num_heads=(2, 2), num_classes=0
    ),
    "timm_convnext": lambda: timm.create_model(
        "convnext_atto", dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), ls_init_value=1.0, num_classes=0
    ),
    "timm_resnet": lambda: timm.create_model("resnet10t", num_classes=0),
    "hf_vit": lambda: HFEncoder(ViTModel(ViTConfig(**SMALL))),
    "hf_dinov2": lambda: HFEncoder(Dinov2Model(Dinov2Config(**SMALL))),
    "hf_clip": lambda: HFEncoder(CLIPVisionModel(CLIPVisionConfig(**SMALL))),
    "hf_siglip": lambda: HFEncoder(SiglipVisionModel(SiglipVisionConfig(**SMALL))),
}


class Own(torch.nn.Module):
    def __init__(self, act=torch.relu, rate=1.0):
        super().__init__()
        self.layer, self.act, self.rate = torch.nn.Linear(3, 4), act, rate

    def forward(self, x):
        known = "a" in {"a", "b", "c", "d"}  # a set, whose order differs between processes
        return self.act(self.layer(x.mean((2, 3)))) * self.rate * known * 2


class Tripled(Own):
    def forward(self, x):
        known = "a" in {"a", "b", "c", "d"}
        return self.act(self.layer(x.mean((2, 3)))) * self.rate * known * 3


Tripled.__name__ = "Own"
SIZE = {"timm_swin": 56, "timm_convnext": 64, "timm_resnet": 64}
NO_TOKENS = {"timm_swin", "timm_convnext", "timm_resnet"}


def build(family, adapter, seed=0):
    torch.manual_seed(seed)
    return create_model(
        FAMILIES[family](), classes=["a", "b", "c"], adapter=adapter, transform=Transform(SIZE.get(family, 32), 1.0)
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", adapters)
def test_contract(family, kind, tmp_path):
    if kind == "prompt" and family in NO_TOKENS:
        with pytest.raises(ValueError, match="use LoRA|Use LoRA"):
            build(family, VisualPrompt())
        return
    model = build(family, make_adapter(kind))
    size = model.backbone.transform.size
    x = torch.randn(4, 3, size, size)
    before = {n: p.detach().clone() for n, p in model.net.named_parameters()}
    opt = torch.optim.SGD([p for p in model.net.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):  # the second step reaches the adapter: the head starts at zero
        loss = torch.nn.functional.cross_entropy(model.net.train()(x), torch.tensor([0, 1, 2, 0]))
        opt.zero_grad()
        loss.backward()
        opt.step()
    changed = {n for n, p in model.net.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in model.net.named_parameters() if p.requires_grad}
    assert changed <= trained
    assert {"head.weight", "head.bias"} <= changed
    assert (kind == "probe") == (trained == {"head.weight", "head.bias"})
    assert len(changed) > 2 or kind == "probe"

    save_model(model, tmp_path)
    torch.manual_seed(0)
    again = load_model(tmp_path, backbone=FAMILIES[family]())
    assert torch.equal(again.net.eval()(x), model.net.eval()(x))
    assert again.id == model.id


def test_lora_starts_as_the_identity():
    x = torch.randn(2, 3, 32, 32)
    plain, adapted = build("timm_vit", LinearProbe()), build("timm_vit", LoRA())
    assert torch.equal(plain.net.encoder.eval()(x), adapted.net.encoder.eval()(x))


def test_last_blocks_only():
    model = build("timm_vit", LoRA(blocks=1))
    table = what_trains(model).set_index("part")
    assert table.trained["block 1"] == 0 < table.trained["block 2"]
    assert table.trained["all"] == sum(p.numel() for p in model.net.parameters() if p.requires_grad)


def test_what_trains_notices_a_frozen_head():
    model = build("timm_vit", LoRA())
    assert what_trains(model).set_index("part").share["head"] == 1
    model.net.head.requires_grad_(False)
    assert what_trains(model).set_index("part").share["head"] == 0


def test_frozen_batch_norm_keeps_its_statistics():
    def drift(adapter):
        model = build("timm_resnet", adapter)
        before = {n: b.clone() for n, b in model.net.encoder.named_buffers() if "running_mean" in n}
        model.net.train()(torch.randn(4, 3, 64, 64) + 5)
        return any(not torch.equal(b, before[n]) for n, b in model.net.encoder.named_buffers() if n in before)

    assert not drift(LinearProbe())
    assert drift(FullFineTune())


def test_only_what_changed_is_stored():
    model = build("timm_vit", LoRA(r=2))
    stored = sum(t.numel() for t in own_state(model.net).values())
    assert stored < 0.2 * sum(p.numel() for p in model.net.parameters())


def test_every_adapter_describes_itself():
    for adapter in (
        LinearProbe(),
        LoRA(r=3),
        DoRA(r=3, targets=("qkv",)),
        IA3(blocks=1),
        VisualPrompt(2),
        FullFineTune(),
    ):
        about = describe_adapter(adapter)
        assert make_adapter(**about) == adapter


def test_timm_weights_from_a_local_file(shared):
    file = shared / "deit_tiny_plain" / "model.safetensors"
    one, two = (create_backbone("deit_tiny_patch16_224", weights=file) for _ in range(2))
    assert one.weights_id == two.weights_id != create_backbone("deit_tiny_patch16_224", pretrained=False).weights_id
    assert one.features == 192 and len(find_blocks(one.module)) == 12


def test_weights_of_another_architecture_are_refused(shared):
    with pytest.raises(ValueError, match="do not fit"):
        create_backbone("deit_small_patch16_224", weights=shared / "deit_tiny_plain" / "model.safetensors")


def test_a_module_handed_in_is_left_as_it_was():
    module = FAMILIES["timm_vit"]()
    before = {n: p.clone() for n, p in module.state_dict().items()}
    models = [
        create_model(module, classes=["a", "b"], adapter=a, transform=Transform(32, 1.0))
        for a in (LoRA(), FullFineTune())
    ]
    with torch.no_grad():
        models[1].net.encoder.cls_token.add_(1)
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
    assert models[0].base_id == models[1].base_id


def test_weights_from_a_file_are_found_again(shared, tmp_path):
    backbone = create_backbone("deit_tiny_patch16_224", weights=shared / "deit_tiny_plain" / "model.safetensors")
    model = create_model(backbone, classes=["a", "b"], adapter=LoRA(r=2, blocks=1))
    save_model(model, tmp_path)
    assert load_model(tmp_path).id == model.id


def test_dropout_of_the_adapter_acts_and_only_in_training():
    x = torch.randn(2, 3, 32, 32)

    def two_passes(dropout, training):
        model = build("timm_vit", LoRA(dropout=dropout))
        torch.nn.init.normal_(model.net.head.weight)
        for n, p in model.net.named_parameters():
            if "lora_B" in n:
                torch.nn.init.normal_(p)
        net = model.net.train(training)
        return torch.equal(net(x), net(x))

    assert not two_passes(0.9, True)
    assert two_passes(0.9, False) and two_passes(0.0, True)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "resnet10t"])
def test_features_are_those_of_the_forward_pass(name):
    backbone = create_backbone(name, pretrained=False)
    size = backbone.transform.size
    assert backbone.module.eval()(torch.zeros(1, 3, size, size)).shape == (1, backbone.features)


def test_an_untrained_pooler_is_not_used(tmp_path):
    from transformers import ViTForImageClassification, ViTImageProcessor

    ViTForImageClassification(ViTConfig(**SMALL)).save_pretrained(tmp_path / "cls")
    ViTModel(ViTConfig(**SMALL)).save_pretrained(tmp_path / "whole")
    for folder in ("cls", "whole"):
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / folder)
    x = torch.randn(1, 3, 32, 32)
    a, b = (create_backbone(tmp_path / "cls", seed=s) for s in (0, 1))
    assert torch.equal(a.module.eval()(x), b.module.eval()(x)) and not a.module.pooled
    assert create_backbone(tmp_path / "whole").module.pooled
    assert a.transform == Transform(32, 1.0, (0.5,) * 3, (0.5,) * 3, "bilinear")


def test_weights_are_never_dropped_without_a_word(shared, tmp_path):
    file = shared / "deit_tiny_plain" / "model.safetensors"
    one = create_backbone("deit_tiny_patch16_224", weights=file, pretrained=False)
    assert one.weights_id == create_backbone("deit_tiny_patch16_224", weights=file).weights_id
    for source in (FAMILIES["timm_vit"](), "transformers/x", "hf-hub:a/b", str(tmp_path)):
        with pytest.raises(ValueError, match="weights= goes with"):
            create_backbone(source, weights=file)


def test_an_adapted_encoder_is_not_adapted_again():
    model = build("timm_vit", LoRA())
    with pytest.raises(ValueError, match="an adapter already"):
        create_model(model.backbone, classes=["a", "b"])


def test_the_square_is_that_of_torchvision_and_a_long_strip_costs_no_memory():
    import io
    import tracemalloc

    import numpy as np
    from PIL import Image
    from torchvision.transforms import v2

    from cvbench.model.backbones import load_square

    def encoded(pixels):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        return data.getvalue()

    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((360, 240), Image.Resampling.BICUBIC))
    reference = v2.Compose([v2.Resize(64, v2.InterpolationMode.BICUBIC), v2.CenterCrop(64)])(Image.fromarray(pixels))
    ours = load_square(encoded(pixels), Transform(64, 1.0))
    assert np.abs(ours.astype(int) - np.asarray(reference)).max() <= 1

    strip = encoded(np.zeros((8, 20_000, 3), np.uint8))
    tracemalloc.start()
    try:
        assert load_square(strip, Transform(256, 1.0)).shape == (256, 256, 3)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def forwards():
    "Fingerprints of the forward passes of all families, plain and adapted"
    found = {k: hash_forward(f()) for k, f in FAMILIES.items()} | {"own": hash_forward(Own())}
    found["pocket_vit"] = hash_forward(create_backbone("pocket_vit").module)
    return found | {f"lora {k}": hash_forward(build(k, LoRA(r=2)).net.encoder) for k in ("timm_vit", "hf_dinov2")}


def test_a_forward_pass_is_known_again_in_another_process():
    here = forwards()
    assert len(set(here.values())) == len(here)
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_model_adapters as t; print(t.forwards())"
    env = os.environ | {"PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, text=True)
    assert out.stdout.strip() == str(here), out.stderr


@pytest.mark.parametrize("family", ["timm_vit", "hf_dinov2", "timm_resnet"])
@pytest.mark.parametrize("adapter", [LinearProbe(), LoRA(r=2), FullFineTune()])
def test_a_forward_pass_is_the_same_after_training_and_in_a_copy(family, adapter):
    net = build(family, adapter).net
    before = hash_forward(net.encoder)
    opt = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad])
    net.train()(torch.randn(4, 3, SIZE.get(family, 32), SIZE.get(family, 32))).square().sum().backward()
    opt.step()
    assert hash_forward(net.encoder) == hash_forward(net.eval().encoder) == before
    assert hash_forward(copy.deepcopy(net.encoder)) == before


def test_what_tensors_do_not_tell_of_a_forward_pass_is_told():
    vit = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_classes": 0}
    others = [
        Own(),
        Own(torch.tanh),
        Own(rate=2.0),
        Tripled(),
        VisionTransformer(**vit, num_heads=2),
        VisionTransformer(**vit, num_heads=4),
        VisionTransformer(**vit, num_heads=2, act_layer=torch.nn.ReLU),
        *(
            HFEncoder(ViTModel(ViTConfig(**SMALL | o)))
            for o in ({}, {"num_attention_heads": 4}, {"hidden_act": "relu"})
        ),
    ]
    assert len({hash_forward(m) for m in others}) == len(others)


def vit(change=None):
    torch.manual_seed(0)
    net = FAMILIES["timm_vit"]()
    if change:
        attention = net.blocks[1].attn
        attention.forward = change(attention)
    return net


def clip(at, method="clamp"):
    def forward(self, x, *_, **__):
        return getattr(x, method)(-at["q"][0], at["q"][0])

    return lambda m: MethodType(forward, m)


def wrap(m, by):
    @functools.wraps(m.forward)
    def forward(x, *_, **__):
        return by * x

    return forward


def hooked(at):
    net = vit()
    net.norm.register_forward_hook(lambda m, args, out: at * out)
    return net


def test_a_forward_pass_put_on_a_module_is_told_with_its_values_and_one_of_ours_is_not():
    def changed():
        changes = [
            None, clip({"q": [1.0]}), clip({"q": [2.0]}), clip({"q": [torch.tensor(1.0)]}), clip({"q": [np.float32(3)]}),
            clip({"q": np.ones(2)}), clip({"q": np.ones(3)}), clip({"q": np.array([None])}),
            clip({"q": [1.0]}, "clip"), lambda m: wrap(m, 1), lambda m: wrap(m, 2), lambda m: torch.relu,
            lambda m: torch.sigmoid, lambda m: functools.partial(torch.clamp, min=0), lambda m: lambda x, _by=2: _by * x,
            lambda m: functools.partial(torch.clamp, min=1), lambda m: lambda x, _by=3: _by * x,
        ]  # fmt: skip
        return [*(vit(c) for c in changes), hooked(1), hooked(2)]

    nets, again = changed(), changed()
    assert len({hash_forward(m) for m in nets}) == len(nets)
    assert [hash_forward(m) for m in again] == [hash_forward(copy.deepcopy(m)) for m in nets]
    assert hash_forward(vit(lambda m: m.forward)) == hash_forward(nets[0])  # put back by a library that had replaced it
    assert hash_forward(Part(nets[0], 32).module) == hash_forward(nets[0])


@torch.no_grad()
def test_a_copy_of_a_prompted_encoder_has_prompts_of_its_own():
    encoder, x = build("timm_vit", VisualPrompt(tokens=2)).net.encoder, torch.randn(2, 3, 32, 32)
    twin, before = copy.deepcopy(encoder), encoder(x)
    assert torch.equal(twin(x), before)
    encoder.prompts.mul_(100)
    assert torch.equal(twin(x), before) and not torch.equal(encoder(x), before)
    twin.prompts.zero_()
    assert not torch.equal(twin(x), before)
    assert copy.deepcopy(encoder).to("meta")(x.to("meta")).shape == before.shape  # nothing stays behind


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (Recipe, {"batch_size": 16.0}),
        (Recipe, {"batch_size": 0}),
        (Recipe, {"epochs": 1.5}),
        (Recipe, {"epochs": None}),
        (Recipe, {"seed": -1}),
        (Recipe, {"seed": "a"}),
        (Recipe, {"views": 0.5}),
        (Recipe, {"lr": float("nan")}),
        (VisualPrompt, {"tokens": 0}),
        (VisualPrompt, {"tokens": 2.0}),
        (LoRA, {"r": 0}),
        (LoRA, {"r": 4.0}),
        (LoRA, {"alpha": 0}),
        (DoRA, {"alpha": -1}),
    ],
)
def test_values_that_cannot_be_are_refused_where_they_are_given(make, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {make.__name__} must be .* Got {value!r} instead"):
        make(**wrong)


def test_values_of_numpy_are_taken():
    recipe = Recipe(epochs=np.int64(2), lr=np.float32(1e-3), seed=np.uint8(3), patience=None)
    assert (recipe.epochs, LoRA(r=np.int32(4), alpha=0.5).r) == (2, 4)
