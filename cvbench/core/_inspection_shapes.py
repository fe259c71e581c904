"""Shapes of the inspection line: pixel grids, noise, parts as signed distances (negative inside), paths of defects"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 2  # Everything is drawn at this multiple of the size, and averaged down


# --- noise and grids -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def pixel_grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    c = ((np.arange(n, dtype=np.float32) + 0.5) / n - 0.5).astype(np.float32)
    x, y = np.meshgrid(c, c)
    return x, y


def smooth_noise(rng: np.random.Generator, n: int, cells: int, octaves: int = 1) -> np.ndarray:
    out = np.zeros((n, n), np.float32)
    for o in range(octaves):
        k = cells * 2**o
        coarse = Image.fromarray(rng.standard_normal((k, k), dtype=np.float32))
        out += np.asarray(coarse.resize((n, n), Image.Resampling.BICUBIC)) * np.float32(0.6**o)
    return out


def blur_bytes(a: np.ndarray, radius: float) -> np.ndarray:
    im = Image.fromarray((np.clip(a, 0, 1) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(im, np.float32) * np.float32(1 / 255)


def slope(h: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    gx, gy = np.empty_like(h), np.empty_like(h)
    s = np.float32(n / 2)
    np.subtract(h[:, 2:], h[:, :-2], out=gx[:, 1:-1])
    np.subtract(h[2:], h[:-2], out=gy[1:-1])
    gx[:, 0], gx[:, -1], gy[0], gy[-1] = 0, 0, 0, 0
    gx *= s
    gy *= s
    return gx, gy


def cover_of(d: np.ndarray, n: int) -> np.ndarray:
    return np.clip(np.float32(0.5) - d * np.float32(n), 0, 1)


@lru_cache(maxsize=4)
def belt_surface(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Reflectance and slopes of two widths of rubber belt"
    rng = np.random.default_rng(20260101)
    c = (np.arange(2 * n) + 0.5) / n
    x, y = np.meshgrid(c, (np.arange(n) + 0.5) / n)
    f = 2 * np.pi * 22
    weave = np.sin(f * (x + y)) * np.sin(f * (x - y))
    h = 0.0016 * np.clip(weave, -0.2, 0.8)
    wear = np.hstack([smooth_noise(rng, n, 3, 4), smooth_noise(rng, n, 3, 4)])
    for k in range(n // 8):  # blend the two halves and the ends of the belt
        t = k / (n // 8)
        wear[:, [n - 1 - k, n + k, k, 2 * n - 1 - k]] *= t
    grain = rng.standard_normal((n, 2 * n))
    albedo = 0.055 + 0.012 * wear + 0.005 * grain + 0.010 * np.clip(weave, 0, 1)
    for _ in range(26):  # scuffs along the direction of travel
        x0, y0, length, w = rng.uniform(0, 2), rng.uniform(0, 1), rng.uniform(0.05, 0.4), rng.uniform(0.001, 0.003)
        dx = np.abs((x - x0 + 1) % 2 - 1)
        albedo += 0.03 * np.clip(1 - dx / length, 0, 1) * np.exp(-(((y - y0 - 0.05 * (x - x0)) / w) ** 2))
    gy, gx = np.gradient(h, 1 / n)
    return np.clip(albedo, 0.012, 0.3).astype(np.float32), gx.astype(np.float32), gy.astype(np.float32)


# --- parts -----------------------------------------------------------------------------------------------------------


class Geometry(NamedTuple):
    outline: np.ndarray  # (n, n) signed distance, holes not cut
    holes: list[tuple[float, float, float]]  # x, y, radius in the part's frame; those that may be missing
    bore: float  # radius of the hole in the middle, 0 for none
    relief: np.ndarray | float  # (n, n) height added to the plate's
    bevel: float
    height: float
    chips: np.ndarray | None = None  # (n, n) coverage by dark components
    legs: np.ndarray | None = None  # (n, n) coverage by their bright legs and pads


def _ring(count: int, radius: float, hole: float, turn: float = 0.0) -> list[tuple[float, float, float]]:
    a = 2 * np.pi * (np.arange(count) + turn) / count
    return [(float(radius * np.cos(t)), float(radius * np.sin(t)), hole) for t in a]


def smooth_step(a: np.ndarray, edge: float, width: float) -> np.ndarray:
    t = np.clip((a - np.float32(edge - width / 2)) * np.float32(1 / width), 0, 1)
    return t * t * (3 - 2 * t)


def box_distance(u: np.ndarray, v: np.ndarray, a: float, b: float, r: float) -> np.ndarray:
    qx, qy = np.abs(u) - np.float32(a - r), np.abs(v) - np.float32(b - r)
    outside = np.sqrt(np.square(np.maximum(qx, 0)) + np.square(np.maximum(qy, 0)))
    return outside + np.minimum(np.maximum(qx, qy), 0) - np.float32(r)


def shape_part(part: str, rng: np.random.Generator, u: np.ndarray, v: np.ndarray, r: np.ndarray) -> Geometry:
    scale = rng.uniform(0.93, 1.04)
    if part == "gear":
        teeth, radius = int(rng.integers(14, 23)), 0.365 * scale
        wave = np.clip(1.6 * np.sin(teeth * np.arctan2(v, u)), -1, 1)
        relief = 0.020 * (smooth_step(r, 0.26 * scale, 0.02) + 1 - smooth_step(r, 0.125 * scale, 0.02))
        holes = _ring(int(rng.integers(5, 7)), 0.190 * scale, 0.054 * scale)
        outline = (r - np.float32(radius - 0.024) - 0.024 * wave) * 0.8
        return Geometry(outline, holes, 0.07 * scale, relief, 0.020, 0.05)
    if part == "flange":
        radius = 0.355 * scale
        relief = 0.030 * (1 - smooth_step(r, 0.185 * scale, 0.03)) + 0.006 * smooth_step(r, 0.315 * scale, 0.012)
        holes = _ring(int(rng.integers(6, 9)), 0.255 * scale, 0.045 * scale)
        return Geometry(r - np.float32(radius), holes, 0.125 * scale, relief, 0.018, 0.05)
    if part == "bracket":
        a, b = 0.365 * scale, rng.uniform(0.25, 0.29) * scale
        rib = box_distance(u, v, 0.20 * scale, 0.055 * scale, 0.05)
        relief = 0.030 * (1 - smooth_step(rib, 0.0, 0.03))
        xs, ys = a - 0.075, b - 0.07
        holes = [(sx * xs, sy * ys, 0.048 * scale) for sx in (-1.0, 0.0, 1.0) for sy in (-1.0, 1.0)]
        return Geometry(box_distance(u, v, a, b, 0.06), holes, 0.0, relief, 0.016, 0.05)
    if part == "hexplate":
        side = 0.325 * scale
        au, av = np.abs(u), np.abs(v)
        hexagon = np.maximum(np.float32(0.8660254) * au + np.float32(0.5) * av, av) - np.float32(side)
        relief = 0.026 * (1 - smooth_step(r, 0.20 * scale, 0.02)) - 0.010 * (1 - smooth_step(r, 0.155 * scale, 0.015))
        holes = _ring(6, 0.275 * scale, 0.044 * scale)
        return Geometry(hexagon, holes, 0.105 * scale, relief, 0.022, 0.055)
    if part == "cap":
        radius = 0.345 * scale
        knurl = np.sin(int(rng.integers(40, 52)) * np.arctan2(v, u))
        relief = 0.10 * np.clip(1 - np.square(r / np.float32(radius)), 0, 1)
        relief = relief - 0.018 * (1 - smooth_step(r, 0.075 * scale, 0.02))
        holes = _ring(int(rng.integers(5, 8)), 0.20 * scale, 0.050 * scale)
        return Geometry(r - np.float32(radius) - 0.006 * knurl, holes, 0.0, relief, 0.030, 0.06)
    return _board(rng, scale, u, v)


def _board(rng: np.random.Generator, scale: float, u: np.ndarray, v: np.ndarray) -> Geometry:
    a, b, n = 0.345 * scale, rng.uniform(0.28, 0.32) * scale, len(u)
    relief, chips, legs = np.zeros_like(u), np.zeros_like(u), np.zeros_like(u)
    for cx, cy, w, h in (
        (0, 0, 0.095, 0.095),
        (-0.215, 0.01, 0.04, 0.075),
        (0.205, -0.075, 0.05, 0.028),
        (0.205, 0.06, 0.05, 0.038),
    ):
        du = u - np.float32((cx + rng.uniform(-0.012, 0.012)) * scale)
        dv = v - np.float32((cy + rng.uniform(-0.02, 0.02)) * scale)
        chip = box_distance(du, dv, w * scale, h * scale, 0.006)
        relief = np.maximum(relief, 0.022 * (1 - smooth_step(chip, 0.0, 0.012)))
        chips = np.maximum(chips, cover_of(chip, n))
        comb = np.where(np.abs(dv) < np.float32(h * scale), np.sin(dv * np.float32(230)), -1) > 0
        legs = np.maximum(legs, (comb & (np.abs(du) < np.float32(w * scale + 0.022))).astype(np.float32))
    legs *= 1 - chips
    holes = [(sx * (a - 0.062), sy * (b - 0.062), 0.042 * scale) for sx in (-1.0, 1.0, 0.0) for sy in (-1.0, 1.0)]
    for hx, hy, hr in holes:
        q = np.sqrt(np.square(u - np.float32(hx)) + np.square(v - np.float32(hy)))
        legs = np.maximum(legs, cover_of(q - np.float32(hr + 0.016), n))
    return Geometry(box_distance(u, v, a, b, 0.03), holes, 0.0, relief, 0.010, 0.03, chips, legs)


# --- defects ---------------------------------------------------------------------------------------------------------


def strokes(n: int, paths: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    "Coverage of polylines: points (k, 2) in widths, and a width for each of the k - 1 pieces"
    k = 2
    im = Image.new("L", (n * k, n * k))
    draw = ImageDraw.Draw(im)
    for points, widths in paths:
        p = [(float((x + 0.5) * n * k), float((y + 0.5) * n * k)) for x, y in points]
        for a, b, w in zip(p, p[1:], widths, strict=False):
            draw.line([a, b], fill=255, width=max(1, round(float(w) * n * k)))
    return np.asarray(im.reduce(k), np.float32) * np.float32(1 / 255)


def find_spot(rng: np.random.Generator, solid: np.ndarray, need: float) -> tuple[float, float]:
    "A random point of the part at least `need` from every edge, or as far as possible"
    ok = solid < -need
    if not ok.any():
        ok = solid <= solid.min() * 0.9
    i, j = np.unravel_index(np.argmax(np.where(ok, rng.random(solid.shape), -1)), solid.shape)
    return (j + 0.5) / len(solid) - 0.5, (i + 0.5) / len(solid) - 0.5


def _inside(solid: np.ndarray, points: np.ndarray) -> float:
    i = np.clip(((points + 0.5) * len(solid)).astype(int), 0, len(solid) - 1)
    return float((solid[i[:, 1], i[:, 0]] < -0.008).mean())


def scratch_path(rng: np.random.Generator, solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    best, score = np.zeros((0, 2)), -1.0
    length, bend = rng.uniform(0.32, 0.56), rng.uniform(-0.25, 0.25)
    t = np.linspace(-0.5, 0.5, 13)
    for _ in range(12):
        cx, cy = find_spot(rng, solid, 0.02)
        a = rng.uniform(0, np.pi)
        along, across = t * length, bend * length * (t**2 - 0.08)
        p = np.stack([cx + along * np.cos(a) - across * np.sin(a), cy + along * np.sin(a) + across * np.cos(a)], 1)
        if (s := _inside(solid, p)) > score:
            best, score = p, s
    width = rng.uniform(0.018, 0.027) * np.clip(1.25 - 2 * np.abs(t[:-1] + 0.04), 0.35, 1)
    return best, width


def crack_paths(rng: np.random.Generator, solid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    best, score = np.zeros((0, 2)), -1.0
    for _ in range(12):
        x, y = find_spot(rng, solid, 0.012)
        a = rng.uniform(0, 2 * np.pi)
        steps = rng.uniform(0.026, 0.044, 10)
        turns = a + np.cumsum(rng.normal(0, 0.25, 10)) + rng.choice([-0.65, 0.65], 10)
        p = np.cumsum(np.vstack([[x, y], np.stack([steps * np.cos(turns), steps * np.sin(turns)], 1)]), 0)
        if (s := _inside(solid, p)) > score:
            best, turn, score = p, a, s
    width = np.linspace(0.024, 0.010, 10)
    paths = [(best, width)]
    for k, side in ((3, 0.9), (6, -0.9)):
        turns = turn + side + rng.choice([-0.5, 0.5], 4)
        steps = rng.uniform(0.024, 0.040, 4)
        branch = np.cumsum(np.vstack([best[k], np.stack([steps * np.cos(turns), steps * np.sin(turns)], 1)]), 0)
        paths.append((branch, np.linspace(0.016, 0.009, 4)))
    return paths
