"""Pictures of parts on a conveyor: signed distances → height field → normals → light → camera.

A part is a set of signed distances (negative inside) in its own rotated frame; the bevelled height field made of them is
lit by one lamp and a soft box (Lambert, Blinn–Phong, a two-band environment), casts a soft shadow on the belt, and is
seen by a camera with vignette, white balance, blur, shot noise and a tone curve. Everything is drawn at twice the size
and averaged down. Lengths are in units of the image's width, the origin is the image's centre, y points down.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PARTS = ("gear", "flange", "bracket", "hexplate", "cap", "board")
MATERIALS = ("steel", "copper", "plastic", "ceramic", "painted")
NEW_MATERIAL = "anodised"
LIGHTS = ("bright", "normal", "dim")
CAMERAS = ("A", "B", "C")
DEFECTS = ("scratch", "dent", "stain", "crack", "missing_hole")

_SS = 2  # drawn at this many times the size


class _Material(NamedTuple):
    albedo: tuple[float, float, float]  # linear RGB
    diffuse: float
    specular: float
    gloss: int  # the highlight's exponent is 2 ** gloss
    mirror: float  # share of the soft box's reflection
    metal: float  # 1: highlights take the metal's colour


_MATERIAL = {
    "steel": _Material((0.56, 0.58, 0.61), 0.42, 0.30, 4, 0.62, 1.0),
    "copper": _Material((0.80, 0.42, 0.22), 0.42, 0.45, 5, 0.66, 1.0),
    "plastic": _Material((0.045, 0.047, 0.052), 0.95, 0.16, 4, 0.10, 0.0),
    "ceramic": _Material((0.80, 0.77, 0.70), 0.80, 0.34, 7, 0.10, 0.0),
    "painted": _Material((0.10, 0.25, 0.55), 0.85, 0.30, 6, 0.14, 0.0),
    "anodised": _Material((0.36, 0.13, 0.50), 0.50, 0.40, 5, 0.55, 0.8),
}
_PAINTS = ((0.06, 0.19, 0.50), (0.55, 0.05, 0.04), (0.05, 0.28, 0.12), (0.66, 0.36, 0.02), (0.30, 0.33, 0.36))


class _Light(NamedTuple):
    power: float
    elevation: float  # tangent of the lamp's height
    colour: tuple[float, float, float]
    ambient: float
    shadow: float  # the shadow's length for a part of unit height


_LIGHT = {
    "bright": _Light(1.30, 1.5, (1.00, 1.00, 1.00), 0.42, 0.045),
    "normal": _Light(1.00, 1.2, (1.00, 0.98, 0.95), 0.30, 0.060),
    "dim": _Light(0.52, 0.8, (1.00, 0.93, 0.82), 0.22, 0.090),
}


class _Camera(NamedTuple):
    balance: tuple[float, float, float]
    gain: float
    vignette: float
    noise: float
    contrast: float


_CAMERA = {
    "A": _Camera((1.00, 1.00, 1.00), 1.00, 0.25, 0.010, 1.00),
    "B": _Camera((0.93, 1.02, 1.08), 1.12, 0.45, 0.014, 1.12),
    "C": _Camera((1.08, 1.00, 0.88), 0.90, 0.85, 0.024, 0.92),
}


@dataclass(frozen=True)
class Scene:
    "What one picture shows; everything else follows from the two seeds"

    part: str
    material: str
    light: str
    camera: str
    defect: str | None  # one of DEFECTS, None for a good part
    serial: str
    exposure: float  # stops
    blur: float  # standard deviation, pixels of a picture 96 wide
    occluder: float  # how far a gripper reaches in, 0 for none
    shift: float  # where on the belt the part is, in widths
    drift: bool  # later month: warmer and darker
    track_seed: tuple[int, ...]  # what all frames of the part share
    frame_seed: tuple[int, ...]  # what this frame has alone


class Thing(NamedTuple):
    "One annotated object of a picture"

    label: str
    mask: np.ndarray  # (size, size) bool
    text: str


# --- noise and grids -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    c = ((np.arange(n, dtype=np.float32) + 0.5) / n - 0.5).astype(np.float32)
    x, y = np.meshgrid(c, c)
    return x, y


def _smooth_noise(rng: np.random.Generator, n: int, cells: int, octaves: int = 1) -> np.ndarray:
    out = np.zeros((n, n), np.float32)
    for o in range(octaves):
        k = cells * 2**o
        coarse = Image.fromarray(rng.standard_normal((k, k), dtype=np.float32))
        out += np.asarray(coarse.resize((n, n), Image.Resampling.BICUBIC)) * np.float32(0.6**o)
    return out


def _blur8(a: np.ndarray, radius: float) -> np.ndarray:
    im = Image.fromarray((np.clip(a, 0, 1) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(im, np.float32) * np.float32(1 / 255)


def _slope(h: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    gx, gy = np.empty_like(h), np.empty_like(h)
    s = np.float32(n / 2)
    np.subtract(h[:, 2:], h[:, :-2], out=gx[:, 1:-1])
    np.subtract(h[2:], h[:-2], out=gy[1:-1])
    gx[:, 0], gx[:, -1], gy[0], gy[-1] = 0, 0, 0, 0
    gx *= s
    gy *= s
    return gx, gy


def _cover(d: np.ndarray, n: int) -> np.ndarray:
    return np.clip(np.float32(0.5) - d * np.float32(n), 0, 1)


@lru_cache(maxsize=4)
def _belt(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Reflectance and slopes of two widths of rubber belt"
    rng = np.random.default_rng(20260101)
    c = (np.arange(2 * n) + 0.5) / n
    x, y = np.meshgrid(c, (np.arange(n) + 0.5) / n)
    f = 2 * np.pi * 22
    weave = np.sin(f * (x + y)) * np.sin(f * (x - y))
    h = 0.0016 * np.clip(weave, -0.2, 0.8)
    wear = np.hstack([_smooth_noise(rng, n, 3, 4), _smooth_noise(rng, n, 3, 4)])
    for k in range(n // 8):  # the two halves, and the belt's ends, meet softly
        t = k / (n // 8)
        wear[:, n - 1 - k] *= t
        wear[:, n + k] *= t
        wear[:, k] *= t
        wear[:, 2 * n - 1 - k] *= t
    grain = rng.standard_normal((n, 2 * n))
    albedo = 0.055 + 0.012 * wear + 0.005 * grain + 0.010 * np.clip(weave, 0, 1)
    for _ in range(26):  # scuffs along the way of travel
        x0, y0, length, w = rng.uniform(0, 2), rng.uniform(0, 1), rng.uniform(0.05, 0.4), rng.uniform(0.001, 0.003)
        dx = np.abs((x - x0 + 1) % 2 - 1)
        albedo += 0.03 * np.clip(1 - dx / length, 0, 1) * np.exp(-(((y - y0 - 0.05 * (x - x0)) / w) ** 2))
    gy, gx = np.gradient(h, 1 / n)
    return np.clip(albedo, 0.012, 0.3).astype(np.float32), gx.astype(np.float32), gy.astype(np.float32)


# --- parts -----------------------------------------------------------------------------------------------------------


class _Geometry(NamedTuple):
    outline: np.ndarray  # (n, n) signed distance, holes not cut
    holes: list[tuple[float, float, float]]  # x, y, radius in the part's frame; those that may be missing
    bore: float  # radius of the hole in the middle, 0 for none
    relief: np.ndarray | float  # (n, n) height added to the plate's
    bevel: float
    height: float


def _ring(count: int, radius: float, hole: float, turn: float = 0.0) -> list[tuple[float, float, float]]:
    a = 2 * np.pi * (np.arange(count) + turn) / count
    return [(float(radius * np.cos(t)), float(radius * np.sin(t)), hole) for t in a]


def _step(a: np.ndarray, edge: float, width: float) -> np.ndarray:
    t = np.clip((a - np.float32(edge - width / 2)) * np.float32(1 / width), 0, 1)
    return t * t * (3 - 2 * t)


def _box_distance(u: np.ndarray, v: np.ndarray, a: float, b: float, r: float) -> np.ndarray:
    qx, qy = np.abs(u) - np.float32(a - r), np.abs(v) - np.float32(b - r)
    outside = np.sqrt(np.square(np.maximum(qx, 0)) + np.square(np.maximum(qy, 0)))
    return outside + np.minimum(np.maximum(qx, qy), 0) - np.float32(r)


def _shape(part: str, rng: np.random.Generator, u: np.ndarray, v: np.ndarray, r: np.ndarray) -> _Geometry:
    scale = rng.uniform(0.93, 1.04)
    if part == "gear":
        teeth, radius = int(rng.integers(14, 23)), 0.365 * scale
        wave = np.clip(1.6 * np.sin(teeth * np.arctan2(v, u)), -1, 1)
        relief = 0.020 * (_step(r, 0.26 * scale, 0.02) + 1 - _step(r, 0.125 * scale, 0.02))
        holes = _ring(int(rng.integers(5, 7)), 0.193 * scale, 0.044 * scale)
        return _Geometry(
            (r - np.float32(radius - 0.024) - 0.024 * wave) * 0.8, holes, 0.07 * scale, relief, 0.020, 0.05
        )
    if part == "flange":
        radius = 0.355 * scale
        relief = 0.030 * (1 - _step(r, 0.185 * scale, 0.03)) + 0.006 * _step(r, 0.315 * scale, 0.012)
        holes = _ring(int(rng.integers(6, 9)), 0.258 * scale, 0.036 * scale)
        return _Geometry(r - np.float32(radius), holes, 0.125 * scale, relief, 0.018, 0.05)
    if part == "bracket":
        a, b = 0.365 * scale, rng.uniform(0.25, 0.29) * scale
        rib = _box_distance(u, v, 0.20 * scale, 0.055 * scale, 0.05)
        relief = 0.030 * (1 - _step(rib, 0.0, 0.03))
        xs, ys = a - 0.075, b - 0.07
        holes = [(sx * xs, sy * ys, 0.038 * scale) for sx in (-1.0, 0.0, 1.0) for sy in (-1.0, 1.0)]
        return _Geometry(_box_distance(u, v, a, b, 0.06), holes, 0.0, relief, 0.016, 0.05)
    if part == "hexplate":
        side = 0.325 * scale
        au, av = np.abs(u), np.abs(v)
        hexagon = np.maximum(np.float32(0.8660254) * au + np.float32(0.5) * av, av) - np.float32(side)
        relief = 0.026 * (1 - _step(r, 0.20 * scale, 0.02)) - 0.010 * (1 - _step(r, 0.155 * scale, 0.015))
        holes = _ring(6, 0.282 * scale, 0.034 * scale)
        return _Geometry(hexagon, holes, 0.105 * scale, relief, 0.022, 0.055)
    if part == "cap":
        radius = 0.345 * scale
        knurl = np.sin(int(rng.integers(40, 52)) * np.arctan2(v, u))
        relief = 0.10 * np.clip(1 - np.square(r / np.float32(radius)), 0, 1) - 0.018 * (
            1 - _step(r, 0.075 * scale, 0.02)
        )
        holes = _ring(int(rng.integers(5, 8)), 0.20 * scale, 0.040 * scale)
        return _Geometry(r - np.float32(radius) - 0.006 * knurl, holes, 0.0, relief, 0.030, 0.06)
    a, b = 0.345 * scale, rng.uniform(0.28, 0.32) * scale
    relief = np.zeros_like(u)
    for cx, cy, w, h in (
        (0.0, 0.0, 0.10, 0.10),
        (-0.20, 0.02, 0.045, 0.075),
        (0.2, -0.07, 0.05, 0.03),
        (0.2, 0.06, 0.05, 0.04),
    ):
        cx, cy = cx + rng.uniform(-0.015, 0.015), cy + rng.uniform(-0.02, 0.02)
        chip = _box_distance(u - np.float32(cx * scale), v - np.float32(cy * scale), w * scale, h * scale, 0.006)
        relief = np.maximum(relief, 0.022 * (1 - _step(chip, 0.0, 0.012)))
    holes = [(sx * (a - 0.058), sy * (b - 0.058), 0.034 * scale) for sx in (-1.0, 1.0) for sy in (-1.0, 1.0)]
    holes += [(0.0, sy * (b - 0.058), 0.034 * scale) for sy in (-1.0, 1.0)]
    return _Geometry(_box_distance(u, v, a, b, 0.03), holes, 0.0, relief, 0.010, 0.03)


# --- defects ---------------------------------------------------------------------------------------------------------


def _strokes(n: int, paths: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    "Coverage of polylines: points (k, 2) in widths, and a width for each of the k - 1 pieces"
    k = 2
    im = Image.new("L", (n * k, n * k))
    draw = ImageDraw.Draw(im)
    for points, widths in paths:
        p = [(float((x + 0.5) * n * k), float((y + 0.5) * n * k)) for x, y in points]
        for a, b, w in zip(p, p[1:], widths, strict=False):
            draw.line([a, b], fill=255, width=max(1, round(float(w) * n * k)))
    return np.asarray(im.reduce(k), np.float32) * np.float32(1 / 255)


def _spot(rng: np.random.Generator, solid: np.ndarray, need: float) -> tuple[float, float]:
    "A random point of the part that is `need` from every edge, or as far as there is"
    n = len(solid)
    s = solid[2::4, 2::4]
    ys, xs = np.nonzero(s < -need)
    if not len(ys):
        ys, xs = np.nonzero(s <= s.min() * 0.9)
    k = int(rng.integers(len(ys)))
    return (xs[k] * 4 + 2.5) / n - 0.5, (ys[k] * 4 + 2.5) / n - 0.5


def _inside(solid: np.ndarray, points: np.ndarray) -> float:
    n = len(solid)
    i = np.clip(((points + 0.5) * n).astype(int), 0, n - 1)
    return float((solid[i[:, 1], i[:, 0]] < -0.008).mean())


def _scratch_paths(rng: np.random.Generator, solid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    best, score = None, -1.0
    length, bend = rng.uniform(0.20, 0.38), rng.uniform(-0.25, 0.25)
    t = np.linspace(-0.5, 0.5, 13)
    for _ in range(12):
        cx, cy = _spot(rng, solid, 0.02)
        a = rng.uniform(0, np.pi)
        along, across = t * length, bend * length * (t**2 - 0.08)
        p = np.stack([cx + along * np.cos(a) - across * np.sin(a), cy + along * np.sin(a) + across * np.cos(a)], 1)
        if (s := _inside(solid, p)) > score:
            best, score = p, s
    width = rng.uniform(0.010, 0.016) * np.clip(1.25 - 2 * np.abs(t[:-1] + 0.04), 0.35, 1)
    return [(best, width)]


def _crack_paths(rng: np.random.Generator, solid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    best, score = None, -1.0
    for _ in range(12):
        x, y = _spot(rng, solid, 0.012)
        a = rng.uniform(0, 2 * np.pi)
        steps = rng.uniform(0.018, 0.034, 10)
        turns = a + np.cumsum(rng.normal(0, 0.25, 10)) + rng.choice([-0.65, 0.65], 10)
        p = np.cumsum(np.vstack([[x, y], np.stack([steps * np.cos(turns), steps * np.sin(turns)], 1)]), 0)
        if (s := _inside(solid, p)) > score:
            best, turn, score = p, a, s
    width = np.linspace(0.015, 0.007, 10)
    paths = [(best, width)]
    for k, side in ((3, 0.9), (6, -0.9)):
        turns = turn + side + rng.choice([-0.5, 0.5], 4)
        steps = rng.uniform(0.016, 0.028, 4)
        branch = np.cumsum(np.vstack([best[k], np.stack([steps * np.cos(turns), steps * np.sin(turns)], 1)]), 0)
        paths.append((branch, np.linspace(0.010, 0.006, 4)))
    return paths


# --- the picture -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _font(pixels: int):
    return ImageFont.load_default(size=pixels)


def _plate(n: int, x: float, y: float, angle: float, text: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    "Coverage of a serial plate and of its letters, and the corner of the window they are in"
    w, h = round(0.46 * n), round(0.135 * n)
    pad = round(0.05 * n)
    plate, ink = Image.new("L", (w + 2 * pad, h + 2 * pad)), Image.new("L", (w + 2 * pad, h + 2 * pad))
    ImageDraw.Draw(plate).rounded_rectangle([pad, pad, pad + w - 1, pad + h - 1], radius=round(0.02 * n), fill=255)
    font = _font(round(0.118 * n))
    draw = ImageDraw.Draw(ink)
    spread = 0.40 * n / len(text)
    for i, ch in enumerate(text):
        cx = pad + w / 2 + (i - (len(text) - 1) / 2) * spread
        draw.text((cx, pad + h / 2), ch, fill=255, font=font, anchor="mm", stroke_width=0)
    plate, ink = (im.rotate(angle, Image.Resampling.BICUBIC) for im in (plate, ink))
    corner = (round((x + 0.5) * n - plate.width / 2), round((y + 0.5) * n - plate.height / 2))
    return np.asarray(plate, np.float32) / np.float32(255), np.asarray(ink, np.float32) / np.float32(255), corner


def _light_up(gx, gy, x, y, lamp, gloss: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Lambert, Blinn–Phong and soft-box terms of a surface with these slopes; `lamp` (x, y, z) in widths"
    lx, ly, lz = np.float32(lamp[0]) - x, np.float32(lamp[1]) - y, np.float32(lamp[2])
    il = 1 / np.sqrt(lx * lx + ly * ly + lz * lz)
    inn = 1 / np.sqrt(gx * gx + gy * gy + 1)
    lambert = np.maximum((lz - gx * lx - gy * ly) * il * inn, 0)
    hx, hy, hz = lx * il - x * np.float32(0.35), ly * il - y * np.float32(0.35), lz * il + 1
    spec = np.maximum((hz - gx * hx - gy * hy) * inn / np.sqrt(hx * hx + hy * hy + hz * hz), 0)
    for _ in range(gloss):
        spec *= spec
    ry = y * np.float32(0.55) + 2 * gy * inn * inn  # where the mirrored ray meets the ceiling
    rx = x * np.float32(0.55) + 2 * gx * inn * inn
    s = np.float32(lamp[0]) * rx + np.float32(lamp[1]) * ry
    band1 = np.clip(1 - np.square((s - np.float32(-0.30)) * np.float32(1.7)), 0, 1)
    band2 = np.clip(1 - np.square((s - np.float32(0.55)) * np.float32(2.6)), 0, 1)
    ceiling = np.float32(0.34) + np.float32(0.75) * band1 * band1 + np.float32(0.35) * band2
    return lambert, spec, ceiling


def render(scene: Scene, size: int) -> tuple[np.ndarray, list[Thing], float]:
    "The picture (size, size, 3) uint8, its annotated things, and the share of the part that a gripper hides"
    n = size * _SS
    rng, frame = np.random.default_rng(scene.track_seed), np.random.default_rng(scene.frame_seed)
    x, y = _grid(n)
    f32 = np.float32
    light, camera = _LIGHT[scene.light], _CAMERA[scene.camera]
    material = _MATERIAL[scene.material]

    # where things are
    turn, azimuth = rng.uniform(0, 2 * np.pi), rng.uniform(-2.5, -1.7)
    cy, step = -0.085 + rng.uniform(-0.015, 0.015), round(scene.shift * n)
    cx = step / n
    ca, sa = f32(np.cos(turn)), f32(np.sin(turn))
    px, py = x - f32(cx), y - f32(cy)
    u, v = ca * px + sa * py, ca * py - sa * px
    r = np.sqrt(u * u + v * v)
    geo = _shape(scene.part, rng, u, v, r)
    lamp = (light.elevation and np.cos(azimuth) * 1.1, np.sin(azimuth) * 1.1, light.elevation)

    # what is cut out
    gone = int(rng.integers(len(geo.holes)))
    d = geo.outline
    if geo.bore:
        d = np.maximum(d, f32(geo.bore) - r)
    for k, (hx, hy, hr) in enumerate(geo.holes):
        if not (scene.defect == "missing_hole" and k == gone):
            d = np.maximum(d, f32(hr) - np.sqrt(np.square(u - f32(hx)) + np.square(v - f32(hy))))
    solid = d
    cover = _cover(d, n)

    # height, with the finish of the material
    t = np.clip(d * f32(-1 / geo.bevel), 0, 1)
    h = f32(geo.height) * (1 - np.square(1 - t)) + geo.relief
    tint = None
    fine = np.roll(rng.standard_normal((n, n), dtype=np.float32), step, 1)
    glow = None
    if scene.material == "steel":
        rows = rng.standard_normal((512, 6), dtype=np.float32)
        rows = np.asarray(Image.fromarray(rows).resize((128, 512), Image.Resampling.BICUBIC))
        i, j = ((v + f32(0.6)) * f32(426)).astype(np.int32), ((u + f32(0.6)) * f32(106)).astype(np.int32)
        glow = 1 + f32(0.085) * rows[i & 511, j & 127]
    elif scene.material in ("copper", NEW_MATERIAL):
        rows = rng.standard_normal(512, dtype=np.float32)
        glow = 1 + f32(0.06) * rows[(r * f32(500)).astype(np.int32) & 511]
    elif scene.material == "plastic":
        h = h + f32(0.00035) * fine
    elif scene.material == "painted":
        h = h + f32(0.0006) * np.roll(_smooth_noise(rng, n, 40), step, 1)

    # defects
    marks: list[np.ndarray] = []
    dark = shine = None
    kind = scene.defect
    if kind == "dent":
        for _ in range(int(rng.integers(1, 3))):
            dx, dy = _spot(rng, solid, 0.045)
            a, ratio, size_ = rng.uniform(0, np.pi), rng.uniform(0.7, 1.0), rng.uniform(0.050, 0.075)
            qx, qy = x - f32(dx), y - f32(dy)
            du, dv = qx * f32(np.cos(a)) + qy * f32(np.sin(a)), qy * f32(np.cos(a)) - qx * f32(np.sin(a))
            q = (du * du + dv * dv * f32(1 / ratio**2)) * f32(1 / size_**2)
            bowl = np.square(np.clip(1 - q, 0, 1))
            h = h - f32(size_ * 0.62) * bowl
            marks.append((q < 0.85) * cover)
    elif kind == "stain":
        for _ in range(int(rng.integers(1, 3))):
            dx, dy = _spot(rng, solid, 0.03)
            q = np.sqrt(np.square(x - f32(dx)) + np.square(y - f32(dy)))
            ragged = np.roll(_smooth_noise(rng, n, 9, 3), step, 1)
            blot = 1 - _step(q - f32(0.022) * ragged, rng.uniform(0.055, 0.085), 0.025)
            dark = blot if dark is None else np.maximum(dark, blot)
            marks.append((blot > 0.4) * cover)
        tint = np.array([(0.34, 0.17, 0.06), (0.10, 0.09, 0.08), (0.42, 0.36, 0.16)][int(rng.integers(3))], np.float32)
    elif kind == "scratch":
        shine = np.zeros_like(x)
        for _ in range(int(rng.integers(1, 3))):
            line = _strokes(n, _scratch_paths(rng, solid))
            shine = np.maximum(shine, line)
            marks.append(line * cover)
        h = h - f32(0.006) * shine
    elif kind == "crack":
        dark = _strokes(n, _crack_paths(rng, solid))
        marks.append(dark * cover)
        h = h - f32(0.008) * dark
        tint = np.array([0.015, 0.013, 0.012], np.float32)
    elif kind == "missing_hole":
        hx, hy, hr = geo.holes[gone]
        q = np.sqrt(np.square(u - f32(hx)) + np.square(v - f32(hy)))
        marks.append((q < hr) * cover)

    # light
    gx, gy = _slope(h, n)
    lambert, spec, ceiling = _light_up(gx, gy, x, y, lamp, material.gloss)
    mirror = material.mirror * ceiling
    spec = material.specular * spec
    if glow is not None:
        mirror *= glow
        spec *= np.square(glow)
    if scene.material == "steel" and scene.light == "dim":  # raking light shows hairlines of the brushing
        for _ in range(int(rng.integers(4, 8))):
            at, tilt = rng.uniform(-0.3, 0.3), rng.uniform(-0.05, 0.05)
            line = np.clip(1 - np.abs(v - f32(at) - f32(tilt) * u) * f32(1 / 0.006), 0, 1)
            spec += f32(rng.uniform(0.25, 0.8)) * line
    diffuse = f32(material.diffuse) * (f32(light.ambient) + lambert)
    albedo = material.albedo
    if scene.material == "painted":
        albedo = _PAINTS[int(rng.integers(len(_PAINTS)))]
    if dark is not None:
        keep = 1 - f32(0.85) * dark
        spec *= keep
        mirror *= 1 - f32(0.7 if kind == "stain" else 0.95) * dark
    if shine is not None:
        spec = spec + f32(0.16 + 0.10 * material.diffuse) * shine * (f32(0.4) + lambert)

    # belt, rails and shadow
    belt, bx, by = _belt(n)
    start = (int(rng.integers(n)) - step) % n
    window = slice(start, start + n)
    shadow = np.zeros_like(x)
    sx, sy = (round(-lamp[i] * light.shadow * n) for i in (0, 1))
    xs0, xs1 = max(sx, 0), n + min(sx, 0)
    ys0, ys1 = max(sy, 0), n + min(sy, 0)
    shadow[ys0:ys1, xs0:xs1] = cover[ys0 - sy : ys1 - sy, xs0 - sx : xs1 - sx]
    plate, ink, (left, top) = _plate(n, cx * 1.0 + 0.0, 0.405, rng.uniform(-4, 4), scene.serial)
    ph, pw = plate.shape
    l0, l1, t0, t1 = max(left, 0), min(left + pw, n), max(top, 0), min(top + ph, n)
    at, cut = (slice(t0, t1), slice(l0, l1)), (slice(t0 - top, t1 - top), slice(l0 - left, l1 - left))
    plate, ink = plate[cut], ink[cut]
    low = shadow.copy()
    off = max(1, round(0.008 * n))
    dst = low[t0 + off if t0 + off < n else n :, l0:l1][: t1 - t0]
    np.maximum(dst, plate[: dst.shape[0]], out=dst)
    shade = 1 - f32(0.78) * _blur8(low, 0.016 * n)
    blambert, bspec, _ = _light_up(bx[:, window], by[:, window], x, y, lamp, 3)
    ground = belt[:, window] * (f32(light.ambient) + blambert) + f32(0.012) * bspec
    rail = np.clip((np.abs(y + f32(0.0)) - f32(0.478)) * f32(n), 0, 1)
    ground = ground * shade * (1 - rail) + rail * f32(0.20) * (
        f32(0.5) + f32(0.5) * np.cos((np.abs(y) - f32(0.489)) * f32(190))
    )

    # gripper
    hidden = np.zeros_like(x)
    grip = None
    if scene.occluder:
        target = marks[0] if marks else None
        gx0 = cx + rng.uniform(-0.2, 0.2)
        if target is not None:  # comes in on the side away from the defect
            ysx, xsx = np.nonzero(target > 0.3)
            if len(xsx):
                mid = xsx.mean() / n - 0.5
                gx0 = cx + (-1 if mid > cx else 1) * rng.uniform(0.16, 0.26)
        tip = -0.5 + scene.occluder
        wid = rng.uniform(0.045, 0.06)
        gd = _box_distance(x - f32(gx0), y - f32(tip - 0.5), wid, 0.5, 0.03)
        grip = np.clip(f32(0.5) - gd * f32(n * 0.35), 0, 1)
        hidden = grip
        gh = np.clip(gd * f32(-1 / 0.04), 0, 1)
        ggx, ggy = _slope(0.04 * (1 - np.square(1 - gh)), n)
        gl, gs, _ = _light_up(ggx, ggy, x, y, lamp, 4)
        gbase = f32(0.05) * (f32(light.ambient) + gl) + f32(0.10) * gs
        pad = _step(y, tip - 0.075, 0.01)
        cast = np.zeros_like(x)
        o = round(0.03 * n)
        cast[o:, o:] = grip[:-o, :-o]
        cast = 1 - f32(0.55) * _blur8(cast, 0.02 * n)

    # colours together, then the camera
    out = np.empty((3, size, size), np.float32)
    drift = (1.10, 0.94, 0.72) if scene.drift else (1.0, 1.0, 1.0)
    gain = light.power * camera.gain * 2.0 ** (scene.exposure - (0.55 if scene.drift else 0.0))
    x1, y1 = _grid(size)
    fall = gain * (1 - f32(camera.vignette) * np.clip(x1 * x1 + y1 * y1, 0, 1))
    plate_light = 0.62 * (light.ambient + 0.75)
    for c in range(3):
        alb = f32(albedo[c])
        m = f32(material.metal * albedo[c] * 1.25 + 1 - material.metal)
        base = alb if tint is None else alb * (1 - dark) + f32(tint[c]) * dark * f32(0.9)
        part = base * diffuse + m * (spec + (mirror if material.metal else mirror * f32(0.55)))
        if shine is not None and not material.metal:
            part = part + (f32(0.30) * shine * (f32(0.35) + lambert)) * f32(0.5)
        img = ground * f32((0.98, 1.0, 1.04)[c])
        img = img + (part - img) * cover
        p = img[at]
        p += (f32(plate_light * (0.80, 0.78, 0.70)[c]) * (1 - f32(0.93) * ink) - p) * plate
        if grip is not None:
            img *= cast
            g = gbase + pad * f32((0.42, 0.16, 0.02)[c]) * (f32(light.ambient) + gl)
            img = img + (g - img) * grip
        small = img.reshape(size, 2, size, 2).mean((1, 3))
        out[c] = small * fall * f32(light.colour[c] * camera.balance[c] * drift[c])
    if scene.blur > 0.15:
        sigma = scene.blur * size / 96
        k = np.arange(-int(3 * sigma + 1), int(3 * sigma + 1) + 1)
        w = np.exp(-0.5 * (k / sigma) ** 2)
        w = (w / w.sum()).astype(np.float32)
        for axis in (1, 2):
            pad_ = [(0, 0)] * 3
            pad_[axis] = (len(k) // 2, len(k) // 2)
            e = np.pad(out, pad_, "edge")
            take = [slice(None)] * 3
            acc = np.zeros_like(out)
            for i, wi in enumerate(w):
                take[axis] = slice(i, i + size)
                acc += wi * e[tuple(take)]
            out = acc
    sigma = camera.noise * np.sqrt(np.maximum(out, 0) * f32(0.55) + f32(0.05))
    out += sigma * frame.standard_normal(out.shape, dtype=np.float32)
    out = 1 - np.exp(f32(-1.75) * np.maximum(out, 0))
    out = np.sqrt(out)
    out = f32(0.45) + (out - f32(0.45)) * f32(camera.contrast)
    rgb = (np.clip(out, 0, 1) * f32(255) + f32(0.5)).astype(np.uint8).transpose(1, 2, 0)

    # annotations
    def small_mask(a: np.ndarray, least: float) -> np.ndarray:
        return a.reshape(size, 2, size, 2).mean((1, 3)) > least

    visible = 1 - hidden
    things = [Thing(kind, m, "") for a in marks if kind and (m := small_mask(a * visible, 0.3)).any()]
    full = np.zeros_like(x)
    full[at] = plate
    things.append(Thing("serial", small_mask(full, 0.5), scene.serial))
    return np.ascontiguousarray(rgb), things, float((cover * hidden).sum() / cover.sum())
