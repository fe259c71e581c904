"""Render images of parts on a conveyor: signed distances → height field → normals → light → camera.

A part is a set of signed distances (negative inside) in its own rotated frame; the bevelled height field made of them is
lit by one lamp and a soft box (Lambert, Blinn–Phong, a two-band environment), casts a soft shadow on the belt, and is
seen by a camera with vignette, white balance, blur, shot noise and a tone curve. Everything is drawn at twice the size
and averaged down. Lengths are in units of the image's width, the origin is the image's centre, y points down.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cvbench.core._inspection_shapes import (
    Geometry,
    SUPERSAMPLING,
    belt_surface,
    blur_bytes,
    box_distance,
    cover_of,
    crack_paths,
    find_spot,
    pixel_grid,
    scratch_path,
    shape_part,
    slope,
    smooth_noise,
    smooth_step,
    strokes,
)

PARTS = ("gear", "flange", "bracket", "hexplate", "cap", "board")
MATERIALS = ("steel", "copper", "plastic", "ceramic", "painted")
NEW_MATERIAL = "anodised"
LIGHTS = ("bright", "normal", "dim")
CAMERAS = ("A", "B", "C")
DEFECTS = ("scratch", "dent", "stain", "crack", "missing_hole")


class _Material(NamedTuple):
    albedo: tuple[float, float, float]  # linear RGB
    diffuse: float
    specular: float
    gloss: int  # the highlight's exponent is 2 ** gloss
    mirror: float  # share of the soft box's reflection
    metal: float  # 1: highlights take the metal's colour


_MATERIAL = {
    "steel": _Material((0.50, 0.52, 0.55), 0.34, 0.34, 4, 0.62, 1.0),
    "copper": _Material((0.80, 0.40, 0.20), 0.34, 0.45, 5, 0.62, 1.0),
    "plastic": _Material((0.030, 0.031, 0.035), 1.0, 0.17, 4, 0.05, 0.0),
    "ceramic": _Material((0.62, 0.60, 0.54), 0.72, 0.38, 7, 0.06, 0.0),
    "painted": _Material((0.10, 0.25, 0.55), 0.95, 0.34, 6, 0.05, 0.0),
    "anodised": _Material((0.34, 0.10, 0.46), 0.45, 0.40, 5, 0.52, 0.8),
}
_PAINTS = ((0.06, 0.19, 0.50), (0.55, 0.05, 0.04), (0.05, 0.28, 0.12), (0.66, 0.36, 0.02), (0.30, 0.33, 0.36))


class _Light(NamedTuple):
    power: float
    elevation: float  # tangent of the lamp's height
    colour: tuple[float, float, float]
    ambient: float
    shadow: float  # the shadow's length for a part of unit height


_LIGHT = {
    "bright": _Light(1.22, 1.2, (1.00, 1.00, 1.00), 0.30, 0.050),
    "normal": _Light(1.00, 1.0, (1.00, 0.98, 0.95), 0.24, 0.065),
    "dim": _Light(0.66, 0.8, (1.00, 0.93, 0.82), 0.20, 0.090),
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
    "C": _Camera((1.08, 1.00, 0.88), 0.90, 0.85, 0.018, 0.94),
}


@dataclass(frozen=True)
class Scene:
    "Content of one image; everything else is derived from the two seeds"

    part: str
    material: str
    light: str
    camera: str
    defect: str | None  # one of DEFECTS, None for a good part
    serial: str
    exposure: float  # stops
    blur: float  # standard deviation, pixels of an image 96 pixels wide
    occluder: float  # how far a gripper reaches in, 0 for none
    shift: float  # position of the part on the belt, in image widths
    drift: bool  # later month: warmer and darker
    track_seed: tuple[int, ...]  # shared by all frames of the part
    frame_seed: tuple[int, ...]  # specific to this frame


class Thing(NamedTuple):
    "One annotated object of an image"

    label: str
    mask: np.ndarray  # (size, size) bool
    text: str


# --- the picture -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _font(pixels: int):
    return ImageFont.load_default(size=pixels)


def _plate(n: int, x: float, y: float, angle: float, text: str) -> tuple[np.ndarray, np.ndarray]:
    "Coverage (n, n) by a serial plate, and by its letters"
    w, h = 0.46 * n, 0.135 * n
    sheet, ink = Image.new("L", (round(1.2 * w), round(1.8 * h))), Image.new("L", (round(1.2 * w), round(1.8 * h)))
    mx, my = sheet.width / 2, sheet.height / 2
    box = [mx - w / 2, my - h / 2, mx + w / 2, my + h / 2]
    ImageDraw.Draw(sheet).rounded_rectangle(box, radius=0.02 * n, fill=255)
    for i, letter in enumerate(text):
        at = (mx + (i - (len(text) - 1) / 2) * 0.40 * n / len(text), my)
        ImageDraw.Draw(ink).text(at, letter, fill=255, font=_font(round(0.118 * n)), anchor="mm")
    corner, out = (round((x + 0.5) * n - mx), round((y + 0.5) * n - my)), []
    for image in (sheet, ink):
        whole = Image.new("L", (n, n))
        whole.paste(image.rotate(angle, Image.Resampling.BICUBIC), corner)
        out.append(np.asarray(whole, np.float32) / 255)
    return out[0], out[1]


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


class _Pose(NamedTuple):
    "Position of the part: grid of the image, grid around the part's centre, and grid in its rotated frame"

    x: np.ndarray  # (n, n)
    y: np.ndarray
    px: np.ndarray
    py: np.ndarray
    u: np.ndarray
    v: np.ndarray
    r: np.ndarray
    centre: tuple[float, float]
    step: int  # distance travelled on the belt, in supersampled pixels
    lamp: tuple[float, float, float]


def _draws(scene: Scene, what: int) -> np.random.Generator:
    "Random generator of one stage; the number of draws never depends on the image size, so the scene does not"
    return np.random.default_rng((*scene.track_seed, what))


def _pose(scene: Scene, n: int, shift: float, centred: bool = False) -> _Pose:
    rng = _draws(scene, 0)
    turn, azimuth, cy = rng.uniform(-0.45, 0.45), rng.uniform(-2.5, -1.7), rng.uniform(-0.10, -0.07)
    step = round(shift * n)
    cx, cy = (0.0, 0.0) if centred else (step / n, cy)
    x, y = pixel_grid(n)
    px, py = x - cx, y - cy
    c, s = float(np.cos(turn)), float(np.sin(turn))
    u, v = c * px + s * py, c * py - s * px
    lamp = (1.1 * float(np.cos(azimuth)), 1.1 * float(np.sin(azimuth)), _LIGHT[scene.light].elevation)
    return _Pose(x, y, px, py, u, v, np.sqrt(u * u + v * v), (cx, cy), step, lamp)


def _cut(scene: Scene, pose: _Pose) -> tuple[Geometry, np.ndarray, tuple[float, float, float]]:
    "The part, its signed distance with the holes cut, and the hole that may be missing"
    rng = _draws(scene, 1)
    geo = shape_part(scene.part, rng, pose.u, pose.v, pose.r)
    gone = int(rng.integers(len(geo.holes)))
    d = np.maximum(geo.outline, geo.bore - pose.r) if geo.bore else geo.outline
    for k, (x, y, radius) in enumerate(geo.holes):
        if scene.defect != "missing_hole" or k != gone:
            d = np.maximum(d, radius - np.sqrt(np.square(pose.u - x) + np.square(pose.v - y)))
    return geo, d, geo.holes[gone]


@lru_cache(maxsize=64)
def _solid(scene: Scene) -> np.ndarray:
    "Signed distance (48, 48) around the part's centre, the same for every frame and size; defects are placed inside"
    geo, d, _ = _cut(scene, _pose(scene, 48, 0.0, centred=True))
    return d if geo.chips is None else np.where(geo.chips > 0.5, 0.01, d)  # no defects on the chips


def _finish(scene: Scene, pose: _Pose) -> tuple[np.ndarray | float, np.ndarray | float]:
    "Height added by the material, and the factor of its highlights"
    rng, n = _draws(scene, 2), len(pose.x)
    if scene.material == "steel":  # brushed along u
        coarse = Image.fromarray(rng.standard_normal((512, 6), dtype=np.float32))
        rows = np.asarray(coarse.resize((128, 512), Image.Resampling.BICUBIC))
        i, j = ((pose.v + 0.6) * 426).astype(np.int32), ((pose.u + 0.6) * 106).astype(np.int32)
        band = np.clip(1 - np.square((pose.v - rng.uniform(-0.2, 0.2)) * 3.6), 0, 1)
        return 0.0, (1 + 0.085 * rows[i & 511, j & 127]) * (0.80 + 0.40 * band)
    if scene.material in ("copper", NEW_MATERIAL):  # turned: shines in a bow tie
        rings = rng.standard_normal(512, dtype=np.float32)[(pose.r * 500).astype(np.int32) & 511]
        lx, ly, _ = pose.lamp
        along = (pose.px * lx + pose.py * ly) / (pose.r * float(np.hypot(lx, ly)) + 1e-4)
        return 0.0, (1 + 0.06 * rings) * (0.72 + 0.62 * np.square(np.square(along)))
    if scene.material == "plastic":
        return 0.00035 * np.roll(rng.standard_normal((n, n), dtype=np.float32), pose.step, 1), 1.0
    if scene.material == "painted":
        return 0.0004 * np.roll(smooth_noise(rng, n, 40), pose.step, 1), 1.0
    return 0.0, 1.0


class _Damage(NamedTuple):
    "Effect of a defect on the surface; 0 for no effect"

    marks: list[np.ndarray]  # coverage (n, n) by each defect
    depth: np.ndarray | float = 0.0
    dark: np.ndarray | float = 0.0  # coverage by `tint`, which hides the material
    tint: tuple[np.ndarray | float, ...] = (0.0, 0.0, 0.0)
    matt: float = 0.0  # share of the reflection that is lost under `dark`
    hollow: np.ndarray | float = 0.0  # shaded from the sides
    shine: np.ndarray | float = 0.0  # bare bright ground
    flank: np.ndarray | float = 0.0  # its dark side


def _dents(rng: np.random.Generator, pose: _Pose, solid: np.ndarray, cover: np.ndarray) -> _Damage:
    marks, depth, hollow = [], np.zeros_like(cover), np.zeros_like(cover)
    for _ in range(int(rng.integers(2, 4))):
        (x, y), a = find_spot(rng, solid, 0.055), rng.uniform(0, np.pi)
        ratio, radius = rng.uniform(0.7, 1.0), rng.uniform(0.085, 0.125)
        c, s = float(np.cos(a)), float(np.sin(a))
        du, dv = (pose.px - x) * c + (pose.py - y) * s, (pose.py - y) * c - (pose.px - x) * s
        q = (du * du + dv * dv / ratio**2) / radius**2
        bowl = np.square(np.clip(1 - q, 0, 1))
        depth += 0.90 * radius * bowl
        hollow = np.maximum(hollow, bowl)
        marks.append((q < 0.85) * cover)
    return _Damage(marks, depth, hollow=hollow)


def _stains(rng: np.random.Generator, pose: _Pose, solid: np.ndarray, cover: np.ndarray, material: str) -> _Damage:
    marks, dark = [], np.zeros_like(cover)
    for _ in range(int(rng.integers(2, 4))):
        x, y = find_spot(rng, solid, 0.03)
        q = np.sqrt(np.square(pose.px - x) + np.square(pose.py - y))
        ragged = np.roll(smooth_noise(rng, len(q), 9, 3), pose.step, 1)
        blot = 1 - smooth_step(q - 0.022 * ragged, rng.uniform(0.085, 0.130), 0.025)
        dark = np.maximum(dark, blot)
        marks.append((blot > 0.4) * cover)
    r, g, b = ((0.30, 0.10, 0.02), (0.03, 0.17, 0.09))[int(rng.integers(2))]  # rust, coolant
    if material == "plastic":  # visible on black as well
        r, g, b = 1.2 * r + 0.03, 1.2 * g + 0.03, 1.2 * b + 0.03
    return _Damage(marks, dark=dark, tint=(r, g, b), matt=0.7)


def _damage(scene: Scene, pose: _Pose, hole: tuple[float, float, float], cover: np.ndarray) -> _Damage:
    if scene.defect is None:
        return _Damage([])
    rng, n, centre = _draws(scene, 3), len(cover), np.array(pose.centre)
    one = replace(scene, exposure=0.0, blur=0.0, shift=0.0, frame_seed=())  # one cache entry for all frames of a part
    solid = _solid(one)
    if scene.defect == "dent":
        return _dents(rng, pose, solid, cover)
    if scene.defect == "stain":
        return _stains(rng, pose, solid, cover, scene.material)
    if scene.defect == "scratch":
        paths = [scratch_path(rng, solid) for _ in range(int(rng.integers(2, 4)))]
        lines = [strokes(n, [(p + centre, w)]) for p, w in paths]
        shine, k = np.maximum.reduce(lines), max(1, n // 96)
        flank = np.clip(np.roll(shine, (-k, -k), (0, 1)) - shine, 0, 1)
        return _Damage([line * cover for line in lines], 0.010 * shine, shine=shine, flank=flank)
    if scene.defect == "crack":
        core = strokes(n, [(p + centre, w) for p, w in crack_paths(rng, solid)])
        dye = np.maximum(
            core, 0.85 * np.clip(2.2 * blur_bytes(core, 0.013 * n), 0, 1)
        )  # dye penetrant bleeds out of it
        return _Damage([core * cover], 0.008 * core, dye, _mix((0.75, 0.03, 0.22), (0.02, 0.01, 0.01), core), 0.85)
    x, y, radius = hole  # layout blue with a scribed cross, but never drilled
    q = np.sqrt(np.square(pose.u - x) + np.square(pose.v - y))
    cross = cover_of(np.minimum(np.abs(pose.u - x), np.abs(pose.v - y)) - 0.006, n)
    blue = cover_of(q - 1.15 * radius, n)
    tint = _mix((0.02, 0.14, 0.62), (0.80, 0.82, 0.85), cross)
    return _Damage([(q < 1.15 * radius) * cover], dark=blue, tint=tint, matt=0.85)


def _mix(a: tuple[float, ...], b: tuple[float, ...], share: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(p + (q - p) * share for p, q in zip(a, b, strict=True))


def _shine(
    scene: Scene, pose: _Pose, geo: Geometry, d: np.ndarray, damage: _Damage
) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
    "Diffuse and reflected light, each (n, n), and the white light that scratches add"
    material, light, n = _MATERIAL[scene.material], _LIGHT[scene.light], len(d)
    added, glow = _finish(scene, pose)
    t = np.clip(d * (-1 / geo.bevel), 0, 1)
    height = geo.height * (1 - np.square(1 - t)) + geo.relief + added - damage.depth
    lambert, spec, ceiling = _light_up(*slope(height, n), pose.x, pose.y, pose.lamp, material.gloss)
    spec = material.specular * spec * glow
    mirror = material.mirror * (1.0 if material.metal else 0.55) * ceiling * glow
    if scene.material == "steel" and scene.light == "dim":  # raking light: hairlines of the brushing on dull ground
        rng, mirror = _draws(scene, 4), 0.3 * mirror
        for _ in range(int(rng.integers(14, 22))):
            at, tilt, bright = rng.uniform(-0.3, 0.3), rng.uniform(-0.05, 0.05), rng.uniform(0.6, 1.3)
            spec += bright * np.clip(1 - np.abs(pose.v - at - tilt * pose.u) * 100, 0, 1)
    chips = 0.0 if geo.chips is None else geo.chips
    aside = 1 - 0.75 * damage.flank
    diffuse = material.diffuse * (light.ambient + lambert) * (1 - 0.55 * damage.hollow) * aside
    spec = spec * (1 - 0.85 * damage.dark) * (1 - 0.5 * chips)
    mirror = mirror * (1 - damage.matt * damage.dark) * (1 - 0.50 * damage.hollow) * (1 - 0.9 * chips) * aside
    bare = damage.shine * (0.4 + lambert)
    white = 0.17 * bare if not material.metal else 0.0
    return diffuse, spec + mirror + (0.28 + 0.05 * material.diffuse) * bare, white


def _moved(a: np.ndarray, dx: int, dy: int) -> np.ndarray:
    "The image shifted by whole pixels, filled with zeros"
    out, (h, w) = np.zeros_like(a), a.shape
    to, of = (slice(max(k, 0), size + min(k, 0)) for k, size in ((dy, h), (dx, w))), (-dy, -dx)
    out[tuple(to)] = a[tuple(slice(max(k, 0), size + min(k, 0)) for k, size in zip(of, (h, w), strict=True))]
    return out


def _ground(scene: Scene, pose: _Pose, cover: np.ndarray, plate: np.ndarray) -> np.ndarray:
    "The belt with its shadows, and the rails beside it"
    light, n = _LIGHT[scene.light], len(cover)
    albedo, gx, gy = belt_surface(n)
    start = (int(_draws(scene, 5).random() * n) - pose.step) % n
    window = slice(start, start + n)
    dx, dy = (round(-k * light.shadow * n) for k in pose.lamp[:2])
    shadow = np.maximum(_moved(cover, dx, dy), _moved(plate, 0, max(1, n // 128)))
    lambert, spec, _ = _light_up(gx[:, window], gy[:, window], pose.x, pose.y, pose.lamp, 3)
    belt = (albedo[:, window] * (light.ambient + lambert) + 0.012 * spec) * (1 - 0.78 * blur_bytes(shadow, 0.016 * n))
    side = np.abs(pose.y)
    rail = np.clip((side - 0.478) * n, 0, 1)
    return belt + rail * (0.10 + 0.10 * np.cos((side - 0.489) * 190) - belt)


def _gripper(scene: Scene, pose: _Pose, marks: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    "Coverage by a gripper's finger, its grey light, the light on its pad, and the share of light in its shadow"
    rng, light, n = _draws(scene, 6), _LIGHT[scene.light], len(pose.x)
    (cx, _), side, tip = pose.centre, (-1.0 if rng.random() < 0.5 else 1.0), scene.occluder - 0.5
    if marks:  # comes in on the side away from the defect
        side = -1.0 if (marks[0] * pose.px).sum() > 0 else 1.0
    x = pose.x - (cx + side * rng.uniform(0.16, 0.26))
    d = box_distance(x, pose.y - (tip - 0.5), rng.uniform(0.05, 0.065), 0.5, 0.03)
    grip = np.clip(0.5 - d * (0.35 * n), 0, 1)
    rounded = 0.04 * (1 - np.square(1 - np.clip(d * (-1 / 0.04), 0, 1)))
    lambert, spec, _ = _light_up(*slope(rounded, n), pose.x, pose.y, pose.lamp, 4)
    k = round(0.03 * n)
    left = 1 - 0.55 * blur_bytes(_moved(grip, k, k), 0.02 * n)
    lit = light.ambient + lambert
    return grip, 0.05 * lit + 0.10 * spec, smooth_step(pose.y, tip - 0.075, 0.01) * lit, left


def _develop(scene: Scene, linear: np.ndarray) -> np.ndarray:
    "Camera model: linear light (3, size, size) → 8-bit image (size, size, 3)"
    light, camera, size = _LIGHT[scene.light], _CAMERA[scene.camera], linear.shape[1]
    drift, stops = ((1.10, 0.94, 0.72), -0.55) if scene.drift else ((1.0, 1.0, 1.0), 0.0)
    x, y = pixel_grid(size)
    fall = light.power * camera.gain * 2.0 ** (scene.exposure + stops) * (1 - camera.vignette * (x * x + y * y))
    balance = np.array(light.colour) * camera.balance * drift
    out = linear * fall * balance[:, None, None].astype(np.float32)
    sigma = scene.blur * size / 96
    if sigma > 0.15:
        reach = int(3 * sigma + 1)
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        weights = (weights / weights.sum()).tolist()
        for axis in (1, 2):
            padded = np.pad(out, [(reach, reach) if a == axis else (0, 0) for a in range(3)], "edge")
            out = sum(w * padded.take(np.arange(k, k + size), axis) for k, w in enumerate(weights))
    noise = np.random.default_rng(scene.frame_seed).standard_normal(out.shape, dtype=np.float32)
    out = 0.85 * np.maximum(out + camera.noise * np.sqrt(0.55 * out + 0.05) * noise, 0)
    out = out * (2.51 * out + 0.03) / (out * (2.43 * out + 0.59) + 0.14)  # filmic curve
    out = 0.45 + (np.power(out, 0.48) - 0.45) * camera.contrast
    return np.ascontiguousarray((np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def render(scene: Scene, size: int) -> tuple[np.ndarray, list[Thing], float]:
    "The image (size, size, 3) uint8, its annotated objects, and the share of the part hidden by a gripper"
    n = size * SUPERSAMPLING
    material, pose = _MATERIAL[scene.material], _pose(scene, n, scene.shift)
    geo, d, hole = _cut(scene, pose)
    cover = cover_of(d, n)
    damage = _damage(scene, pose, hole, cover)
    diffuse, reflected, white = _shine(scene, pose, geo, d, damage)
    plate, ink = _plate(n, pose.centre[0], 0.405, _draws(scene, 7).uniform(-4, 4), scene.serial)
    ground = _ground(scene, pose, cover, plate)
    grip = _gripper(scene, pose, damage.marks) if scene.occluder else None
    albedo = material.albedo if scene.material != "painted" else _PAINTS[int(_draws(scene, 8).integers(len(_PAINTS)))]

    linear = np.empty((3, size, size), np.float32)
    for c in range(3):
        base: np.ndarray | float = albedo[c]
        if geo.chips is not None and geo.legs is not None:
            base = base + (0.022 - base) * geo.chips + ((0.95, 0.72, 0.34)[c] - base) * geo.legs
        base = base + (0.9 * damage.tint[c] - base) * damage.dark
        metal = material.metal * albedo[c] * 1.25 + 1 - material.metal
        picture = ground * (0.98, 1.0, 1.04)[c]
        picture += (base * diffuse + metal * reflected + white - picture) * cover
        sheet = 0.62 * (_LIGHT[scene.light].ambient + 0.75) * (0.80, 0.78, 0.70)[c]
        picture += (sheet * (1 - 0.93 * ink) - picture) * plate
        if grip is not None:
            picture *= grip[3]
            picture += (grip[1] + grip[2] * (0.42, 0.16, 0.02)[c] - picture) * grip[0]
        linear[c] = _reduce(picture)

    seen = 1.0 if grip is None else 1 - grip[0]
    masks = [_reduce(mark * seen) > 0.3 for mark in damage.marks]
    things = [Thing(scene.defect, m, "") for m in masks if scene.defect and m.any()]
    things.append(Thing("serial", _reduce(plate) > 0.5, scene.serial))
    return _develop(scene, linear), things, 0.0 if grip is None else float((cover * grip[0]).sum() / cover.sum())


def _reduce(a: np.ndarray) -> np.ndarray:
    n = len(a) // SUPERSAMPLING
    return a.reshape(n, SUPERSAMPLING, n, SUPERSAMPLING).mean((1, 3))
