"An encoder cut anywhere is the encoder"

import copy
from types import MethodType

import pytest
import timm
import torch
from torch import nn

from cvbench.model import partition as parts
from cvbench.model.adapters import IA3, DoRA, FullFineTune, LinearProbe, LoRA, VisualPrompt, apply_adapter
from cvbench.model.backbones import HFEncoder, find_blocks
from cvbench.model.matmul import count_operations
from cvbench.model.partition import Part, frozen_blocks, take_parts

TIMM = {
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 4},
    "vit_small_patch14_reg4_dinov2": {"img_size": 56, "depth": 3},
    "deit_tiny_distilled_patch16_224": {"img_size": 64, "depth": 3},
    "vit_small_patch16_dinov3": {"img_size": 64, "depth": 3},
    "eva02_tiny_patch14_224": {"img_size": 56, "depth": 3},
    "vit_base_patch16_siglip_224": {"img_size": 64, "depth": 2, "embed_dim": 96, "num_heads": 3},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "depths": (1, 1, 2, 1), "embed_dim": 24, "window_size": 4},
    "convnext_atto": {},
    "resnet18": {},
    "efficientnet_b0": {},
    "mobilenetv3_small_050": {},
}


def timm_encoder(name):
    torch.manual_seed(0)
    options = TIMM[name]
    return timm.create_model(name, num_classes=0, **options).eval(), options.get("img_size", 64)


def hf_encoder(kind):
    import transformers as t

    torch.manual_seed(0)
    size = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
    size |= {"image_size": 32, "patch_size": 8}
    config, model = {
        "vit": (t.ViTConfig, t.ViTModel),
        "dinov2": (t.Dinov2Config, t.Dinov2Model),
        "dinov3": (t.DINOv3ViTConfig, t.DINOv3ViTModel),
        "clip": (t.CLIPVisionConfig, t.CLIPVisionModel),
        "siglip": (t.SiglipVisionConfig, t.SiglipVisionModel),
    }[kind]
    return HFEncoder(model(config(**size))).eval(), 32


ENCODERS = [*TIMM, *(f"hf:{k}" for k in ("vit", "dinov2", "dinov3", "clip", "siglip"))]


def encoder(name):
    return hf_encoder(name[3:]) if name.startswith("hf:") else timm_encoder(name)


@pytest.mark.parametrize("name", ENCODERS)
def test_both_sides_of_a_cut_are_the_whole(name):
    net, size = encoder(name)
    blocks, x = len(find_blocks(net)), torch.randn(3, 3, size, size)
    with torch.no_grad():
        whole = net(x)
        for cut in {0, min(1, blocks - 1), blocks // 2, blocks - 1, None} if blocks else {0, None}:
            before, after = take_parts(net, size, cut)
            hidden = before.eval()(x)
            assert len(hidden) == 3
            torch.testing.assert_close(after.eval()(hidden), whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))
            if cut and cut > 1:
                middle = Part(net, size, 1, cut).eval()
                torch.testing.assert_close(middle(Part(net, size, 0, 1).eval()(x)), hidden, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "adapter", [LoRA(r=2, blocks=2), LoRA(r=2, blocks=1, targets="attention"), DoRA(r=2, blocks=1), IA3(blocks=1)]
)
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "hf:vit", "hf:dinov2", "hf:clip"])
def test_gradients_are_those_of_the_whole(name, adapter):
    net, size = encoder(name)
    apply_adapter(net, adapter)
    for n, p in net.named_parameters():
        if "lora_B" in n or "ia3" in n:
            nn.init.normal_(p, std=0.1)
    x = torch.randn(2, 3, size, size)
    before, after = take_parts(net, size, frozen_blocks(net))
    with torch.no_grad():
        hidden = before.eval()(x)
    weights = torch.randn_like(net(x))
    (after(hidden) * weights).sum().backward()
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    (net(x) * weights).sum().backward()
    wanted = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys() and wanted
    for n, g in wanted.items():
        torch.testing.assert_close(found[n], g, rtol=1e-3, atol=1e-4 * float(g.abs().max()))


def clipped_attention(self, x, attn_mask=None, **_):
    "timm's, with its activations cut off, as quantised checkpoints bring it"
    q, k, v = self.qkv(x.clamp(-2, 2)).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
    z = (q.clamp(-2, 2) @ k.transpose(-1, -2) * self.scale).softmax(-1) @ v
    return self.proj(z.transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    "name, most",  # Share of the last block's arithmetic that remains
    [("vit_tiny_patch16_224", 0.5), ("hf:dinov2", 0.5), ("hf:dinov3", 0.7), ("own attention", 0.7), ("hf:siglip", 1)],
)
def test_tokens_nobody_reads_are_left_out(name, most):
    net, size = encoder("vit_tiny_patch16_224" if name == "own attention" else name)
    if name == "own attention":
        for block in net.blocks:
            block.attn.forward = MethodType(clipped_attention, block.attn)
    cut, flops = len(find_blocks(net)) - 1, []
    before, after = take_parts(net, size, cut)
    with torch.no_grad():
        hidden = before(torch.randn(1, 3, size, size))
        for part in (after, Part(net, size, cut, lean=0)):
            with count_operations() as counter:
                part(hidden)
            flops.append(counter.get_total_flops())
        x = torch.randn(2, 3, size, size)
        torch.testing.assert_close(after(before(x)), net(x), rtol=1e-4, atol=1e-4)
    assert (flops[0] < most * flops[1]) if most < 1 else flops[0] == flops[1]


def test_weights_are_shared_and_trained_blocks_are_found():
    net, size = encoder("vit_tiny_patch16_224")
    _, after = take_parts(net, size, 2)
    shared = {id(p) for p in net.parameters()}
    assert all(id(p) in shared for p in after.parameters())
    for adapter, first in (
        (LoRA(blocks=1), 3), (LoRA(), 0), (FullFineTune(blocks=2), 2), (FullFineTune(), 0), (VisualPrompt(), 0), (LinearProbe(), None),
    ):  # fmt: skip
        assert frozen_blocks(apply_adapter(copy.deepcopy(net), adapter)) == first


class Skipping(nn.Module):
    "Its last block looks at the first block's output"

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 1), nn.GELU()) for _ in range(3))

    def forward(self, x):
        first = self.blocks[0](self.stem(x))
        return (self.blocks[2](self.blocks[1](first)) * first).mean((2, 3))


def test_an_encoder_that_cannot_be_cut_says_so():
    net = Skipping().eval()
    with pytest.raises(ValueError, match="cannot be cut before block 2"):
        take_parts(net, 16, 2)
    x = torch.randn(2, 3, 16, 16)
    for cut in (0, None):
        before, after = take_parts(net, 16, cut)
        torch.testing.assert_close(after(before(x)), net(x))


def test_dropout_keeps_the_last_block_whole():
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, depth=2, proj_drop_rate=0.5)
    apply_adapter(net, LoRA(r=2, blocks=1))
    before, after = take_parts(net, 64, 1)
    hidden = before(torch.randn(1, 3, 64, 64)).detach()
    assert not torch.equal(after.train()(hidden), after(hidden))
    assert torch.equal(after.eval()(hidden), after(hidden))


def test_an_encoder_is_checked_once_for_all_ranks_and_again_where_anything_else_differs():
    ways, x = len(parts._WAYS), torch.randn(2, 3, 64, 64)

    def cut(at=3, damage=None, **options):
        net, size = encoder("vit_tiny_patch16_224")
        for name, value in (damage or {}).items():
            net.get_parameter(name).data.view(-1)[0] = value
        apply_adapter(net, LoRA(blocks=1, **options))
        before, after = take_parts(net, size, at)
        with torch.no_grad():
            torch.testing.assert_close(after(before(x)), net(x), rtol=1e-4, atol=1e-4)
            for p in (p for n, p in net.named_parameters() if "lora_B" in n):
                nn.init.normal_(p, std=0.1)
            torch.testing.assert_close(after(before(x)), net(x), rtol=1e-4, atol=1e-4)
        return len(parts._WAYS) - ways

    assert [cut(r=2), cut(r=4), cut(r=8, alpha=1)] == [1, 1, 1]
    assert [cut(r=2, at=2), cut(r=2, targets="attention"), cut(r=2, damage={"norm.weight": 2.0})] == [2, 3, 4]
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="NaN or infinity"):
            cut(r=2, damage={"norm.weight": float("nan")})


@pytest.mark.parametrize("where", ["attn", "attn.qkv", "mlp.fc1", "hook"])
def test_what_was_put_on_a_module_is_heard_also_where_noise_does_not_call_for_it(where):
    net, size = encoder("vit_tiny_patch16_224")
    take_parts(net, size, 2)  # as it came
    block = net.blocks[-1]
    if where == "hook":
        block.attn.register_forward_hook(lambda m, args, out: out.clamp(-3, 3))
    else:
        module = block.get_submodule(where)
        usual = type(module).forward
        module.forward = MethodType(lambda self, x, *a, **k: usual(self, x, *a, **k).clamp(-3, 3), module)
    apply_adapter(net, LoRA(r=2, blocks=2))
    before, after = take_parts(net, size, 2)
    with torch.no_grad():
        for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1):
            layer.base_layer.weight.mul_(100)  # now the limits are passed
        x = torch.randn(2, 3, size, size)
        torch.testing.assert_close(after(before(x)), net(x), rtol=1e-4, atol=1e-4)
