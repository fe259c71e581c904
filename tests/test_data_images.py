"""Images that cannot be trusted: what is used, what is set aside, and that nothing escapes."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from cvbench.data.images import check_header, check_image, decode_image, make_thumbnail

PHOTO = Image.fromarray((np.indices((48, 64)).sum(0)[..., None] * [2, 1, 0.5]).astype(np.uint8))


def encode(image, format="PNG", **how):
    to = io.BytesIO()
    image.save(to, format, **how)
    return to.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_claiming(width, height):
    "A PNG whose header claims a size that its few bytes do not have"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def jpeg_claiming(width, height):
    data = bytearray(encode(PHOTO, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


FRAMES = [PHOTO.rotate(a) for a in (0, 90, 180)]
ANIMATED = {f: encode(FRAMES[0], f, save_all=True, append_images=FRAMES[1:]) for f in ("GIF", "WEBP", "PNG")}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file (0 bytes)"),
        (b"hello, I am a text file", "not an image but text"),
        (bytes(range(200, 250)), "not an image of a known format, its first bytes are c8 c9"),
        (encode(PHOTO, "JPEG")[:600], "damaged or truncated"),
        (encode(PHOTO)[:-100], "damaged or truncated"),
        (encode(PHOTO)[:20], "header cannot be read (20 bytes)"),
        (encode(Image.new("RGB", (1, 1))), "too small: 1 × 1, the shorter side must have at least 8"),
        (encode(Image.new("RGB", (500, 3))), "too small: 500 × 3"),
        (
            png_claiming(40_000, 40_000),
            "too large: 40000 × 40000 = 1,600.0 megapixels, the setting max_megapixels allows 100",
        ),
        (jpeg_claiming(40_000, 40_000), "too large: 40000 × 40000"),
        (ANIMATED["GIF"], "animated, 3 frames"),
        (ANIMATED["WEBP"], "animated, 3 frames"),
        (ANIMATED["PNG"], "animated, 3 frames"),
        (encode(PHOTO, "TIFF", save_all=True, append_images=FRAMES), "4 pages"),
        (encode(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"), "pixels that are not numbers"),
        (encode(Image.fromarray(np.full((9, 9), 1e6, np.float32)), "TIFF"), "whose range is not known"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image but text"),
    ],
)
def test_set_aside(data, reason):
    info = check_image(data)
    assert info.problem is not None
    assert reason in info.problem
    with pytest.raises(ValueError, match="the image cannot be used"):
        decode_image(data) if "too small" not in reason else decode_image(b"")


def test_a_bomb_costs_no_memory():
    import tracemalloc

    tracemalloc.start()
    data = png_claiming(40_000, 40_000)
    check_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(
    "image",
    [PHOTO.convert(m) for m in ("RGB", "L", "1", "P", "CMYK", "RGBA")],
    ids=lambda i: i.mode,
)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_used(image, format):
    try:
        data = encode(image, format)
    except (OSError, ValueError):
        pytest.skip(f"{format} has no {image.mode}")
    info = check_image(data)
    assert info.problem is None
    assert (info.width, info.height) == image.size
    rgb = decode_image(data)
    assert rgb.mode == "RGB"
    error = np.abs(np.asarray(rgb, float) - np.asarray(image.convert("RGB"), float)).mean()
    assert error < 16  # WebP and JPEG lose some, above all of a dithered palette


@pytest.mark.parametrize(
    ("pixels", "format", "expected"),
    [
        (np.array([[0, 257, 32896, 65535]] * 8, np.uint16), "PNG", [0, 1, 128, 255]),
        (np.array([[0, 257, 32896, 65535]] * 8, np.uint16), "TIFF", [0, 1, 128, 255]),
        (np.array([[0, 257, 32896, 65535]] * 8, np.int32), "TIFF", [0, 1, 128, 255]),
        (np.array([[0, 7, 128, 255]] * 8, np.int32), "TIFF", [0, 7, 128, 255]),
        (np.array([[0, 0.5, 1, 0.25]] * 8, np.float32), "TIFF", [0, 128, 255, 64]),
    ],
)
def test_deep_pixels_are_scaled_not_clipped(pixels, format, expected):
    assert np.asarray(decode_image(encode(Image.fromarray(pixels), format)))[0, :, 0].tolist() == expected


def test_sixteen_bit_colour():
    raw = b"".join(b"\0" + struct.pack(">3H", 0, 32768, 65535) * 8 for _ in range(8))
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )
    assert decode_image(data).getpixel((0, 0)) == (0, 128, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_rotation(orientation, format):
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste("black", (0, 0, 10, 6))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    turned = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(turned, format, exif=exif)
    assert decode_image(data).size == (40, 24)
    assert (check_image(data).width, check_image(data).height) == (40, 24)
    assert np.abs(np.asarray(decode_image(data), float) - np.asarray(upright, float)).mean() < 4


def test_rotation_of_sixteen_bits():
    pixels = np.zeros((10, 20), np.uint16)
    pixels[0, 0] = 65535
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    rgb = decode_image(encode(Image.fromarray(pixels), "PNG", exif=exif))
    assert rgb.size == (10, 20)
    assert rgb.getpixel((9, 0)) == (255, 255, 255)


def test_transparency_becomes_white():
    half = Image.new("RGBA", (10, 10), (0, 0, 0, 128))
    assert decode_image(encode(half)).getpixel((5, 5)) == (127, 127, 127)
    palette = Image.new("P", (10, 10), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert decode_image(encode(palette, transparency=1)).getpixel((5, 5)) == (255, 255, 255)
    grey = Image.new("L", (10, 10), 7)
    assert decode_image(encode(grey, transparency=7)).getpixel((5, 5)) == (255, 255, 255)


def test_content_counts_not_the_name():
    assert check_header(encode(PHOTO, "PNG")).format == "PNG"
    assert check_header(encode(PHOTO, "BMP")).format == "BMP"


def test_a_cameras_preview_is_no_animation():
    data = encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO.resize((16, 12))])
    assert check_image(data).problem is None
    assert decode_image(data).size == PHOTO.size


def test_thumbnail_carries_no_metadata():
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    data = encode(
        PHOTO,
        "JPEG",
        exif=exif,
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        comment=b"secret",
    )
    small = make_thumbnail(data, 32)
    back = Image.open(io.BytesIO(small))
    assert back.format == "WEBP"
    assert max(back.size) == 32
    assert not dict(back.getexif())
    assert not ({"icc_profile", "exif", "xmp", "comment"} & set(back.info))
    assert make_thumbnail(data, 500) and Image.open(io.BytesIO(make_thumbnail(data, 500))).size == PHOTO.size


@pytest.mark.parametrize("turned", [1, 6])
def test_thumbnails_of_large_photos_look_like_their_photos(turned):
    large, exif = PHOTO.resize((1500, 2000), Image.Resampling.BICUBIC), Image.Exif()
    exif[0x0112] = turned
    data = encode(large, "JPEG", exif=exif, quality=95)
    small = np.asarray(Image.open(io.BytesIO(make_thumbnail(data, 96))), float)
    whole = decode_image(data)
    whole.thumbnail((96, 96), Image.Resampling.LANCZOS)
    assert small.shape == np.asarray(whole).shape
    assert np.abs(small - np.asarray(whole, float)).mean() < 6
    assert min(decode_image(data, at_least=192).size) >= 192


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data):
    assert check_image(data).problem


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
    st.floats(0.2, 1),
)
def test_any_damage(format, edits, cut):
    "Damaged images decode or get a reason; nothing is raised, nothing is warned of"
    data = bytearray(encode(PHOTO.resize((16, 12)), format))
    for at, value in edits:
        data[int(at * len(data))] = value
    info = check_image(bytes(data[: int(cut * len(data))]), max_megapixels=1)
    assert info.problem or decode_image(bytes(data[: int(cut * len(data))]), 1).size == (info.width, info.height)


def test_warning_filters_and_limit_are_restored():
    before, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    data = [encode(PHOTO, "JPEG"), png_claiming(14_000, 14_000), ANIMATED["PNG"], b""]
    workers = [threading.Thread(target=lambda: [check_image(d) for d in data * 10]) for _ in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert warnings.filters == before
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_limit_is_a_setting(monkeypatch):
    data = encode(Image.new("1", (1100, 1000)))
    assert decode_image(data).size == (1100, 1000)
    monkeypatch.setenv("CVBENCH_MAX_MEGAPIXELS", "1")
    with pytest.raises(ValueError, match="allows 1"):
        decode_image(data)
    assert decode_image(data, 2).size == (1100, 1000)
