"Images and phrases by an image–text model go through the tower that transformers itself would take"

import numpy as np
import pytest
import torch
import transformers as t
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from cvbench.core.inspection import make_inspection
from cvbench.data.commit import commit
from cvbench.data.images import decode_image
from cvbench.inference.image_text import load_image_text

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = ["<pad>", "<unk>", "a", "dark", "bright", "photo", "of", "steel", "<eos>"]
TEXTS = ["a dark photo", "a photo of steel", "bright steel"]


def save_tokenizer(folder):
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 8)])
    t.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)


@pytest.fixture(params=["clip", "siglip"])
def folder(request, tmp_path):
    torch.manual_seed(0)
    text = SMALL | {"vocab_size": len(WORDS), "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 8}
    vision = SMALL | {"image_size": 64, "patch_size": 16}
    if request.param == "clip":
        model = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
        processor = t.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=64)
    else:
        model = t.SiglipModel(t.SiglipConfig(text_config=text | {"projection_size": 32}, vision_config=vision))
        processor = t.SiglipImageProcessor(size={"height": 64, "width": 64})
    with torch.no_grad():  # So that towers mixed up, or a projection left out, change the numbers by much
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    model.save_pretrained(tmp_path), save_tokenizer(tmp_path), processor.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def ds(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("CVBENCH_STORE", str(tmp_path_factory.mktemp("words") / "store"))
    return commit(make_inspection(8, size=64, frames=1), name="line")


def by_transformers(folder, images):
    model, processor = t.AutoModel.from_pretrained(folder).eval(), t.AutoImageProcessor.from_pretrained(folder)
    tokens = t.AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if model.config.model_type == "siglip" else True
    said = tokens(TEXTS, padding=padding, max_length=16, truncation=True, return_tensors="pt")
    with torch.no_grad():
        out = model(**said, pixel_values=processor(images, return_tensors="pt")["pixel_values"])
    return out.image_embeds.numpy(), out.text_embeds.numpy()


def test_both_towers_agree_with_transformers(folder, ds):
    model = load_image_text(folder)
    ids = ds.table(["sample_id"])["sample_id"].to_pylist()
    images, texts = by_transformers(folder, [decode_image(data).convert("RGB") for data in ds.images(ids)])
    np.testing.assert_allclose(model.embed_images(ds), images, atol=2e-5)
    np.testing.assert_allclose(model.embed_texts(TEXTS), texts, atol=2e-5)
    np.testing.assert_allclose(model.embed_images(ds, ids[::-1])[::-1], images, atol=2e-5)
    assert np.abs(images[0] - images[1]).max() > 1e-3 and np.abs(texts[0] - texts[1]).max() > 1e-3


def test_all_is_of_length_one_and_one_width_and_no_phrase_is_no_error(folder, ds):
    model = load_image_text(folder)
    images, texts, none = model.embed_images(ds), model.embed_texts([*TEXTS, "", "?" * 10_000]), model.embed_texts([])
    assert images.shape[1] == texts.shape[1] == none.shape[1] and len(none) == 0
    for x in (images, texts):
        assert x.dtype == np.float32 and np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)


def test_an_oblong_image_is_cut_or_squeezed_as_the_model_was_trained(folder):
    model, wide = load_image_text(folder), Image.new("RGB", (120, 64))
    squeezed = t.AutoImageProcessor.from_pretrained(folder)(wide, return_tensors="pt")["pixel_values"].shape[-1] == 64
    assert squeezed and model.transform.size == model.transform.side == 64
    assert model.transform.squash == (model.module.config.model_type == "siglip")


def test_what_has_no_text_tower_is_refused(tmp_path):
    t.ViTModel(t.ViTConfig(**SMALL, image_size=32, patch_size=16)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="ViTModel, which has no tower for text"):
        load_image_text(tmp_path)
    with pytest.raises(FileNotFoundError, match="cannot be opened as an image–text model"):
        load_image_text(tmp_path / "nothing")
