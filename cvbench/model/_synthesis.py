"""Pictures drawn from random numbers, with a class for every pixel.

Eight families: single objects, scenes of several, bare patterns, damaged surfaces, cells, fractals (Kataoka et al. 2020),
dead leaves (Baradad et al. 2021) and glyphs. A picture is a 112 px RGB image and two maps of 28 x 28 cells: `things` says which
object is there (0 is background), `stuff` which pattern its surface has. The seed determines everything.
"""

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.fft import irfft2, rfft2

SIZE, CELLS = 112, 28
FAMILIES = ("object", "scene", "pattern", "surface", "cells", "fractal", "leaves", "glyph")
_SHARES = (0.36, 0.16, 0.10, 0.14, 0.09, 0.05, 0.05, 0.05)
PATTERNS = ("plain", "gradient", "cloud", "ridges", "stripes", "checks", "plaid", "weave", "dots", "voronoi", "wood",
            "brushed", "grain", "maze", "rings", "bricks", "gabor", "fur")  # fmt: skip
DEFECTS = ("scratch", "crack", "hole", "dent", "stain", "break", "fray", "uneven")
CELL_KINDS = ("biconcave", "lobed", "granule", "rod", "round")
N_FRACTALS, GLYPHS = 48, "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt0123456789?&@"

Parts = list[tuple[str, np.ndarray, float]]  # kind (fill, line, cut), points in [-1, 1] with y down, tone


# ---------------------------------------------------------------------------------------------------- curves


def _both(half) -> np.ndarray:
    "A closed outline from its right half, top to bottom"
    half = np.asarray(half, float)
    return np.concatenate([half, half[::-1] * (-1, 1)])


def _smooth(points: np.ndarray, rounds: int = 2) -> np.ndarray:
    "Corners cut by Chaikin's rule"
    for _ in range(rounds):
        after = np.roll(points, -1, 0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], 1).reshape(-1, 2)
    return points


def _oval(x=0.0, y=0.0, rx=1.0, ry=None, start=0.0, stop=2 * np.pi, n=28) -> np.ndarray:
    t = np.linspace(start, stop, n, endpoint=abs(stop - start) < 6.28)
    return np.stack([x + rx * np.cos(t), y + (rx if ry is None else ry) * np.sin(t)], 1)


def _box(x0, y0, x1, y1) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)


def _limb(ax, ay, bx, by, wide, narrow=None) -> np.ndarray:
    "A tapered bar from a to b"
    a, b = np.array([ax, ay], float), np.array([bx, by], float)
    normal = (b - a)[::-1] * (-1, 1) / (np.linalg.norm(b - a) + 1e-6)
    narrow = wide if narrow is None else narrow
    return np.stack([a + normal * wide, b + normal * narrow, b - normal * narrow, a - normal * wide])


def _star(n, inner, phase=0.0, teeth=1) -> np.ndarray:
    t = phase + np.arange(2 * n * teeth) * np.pi / (n * teeth)
    radius = np.where(np.arange(2 * n * teeth) // teeth % 2, inner, 1.0)
    return np.stack([np.sin(t), -np.cos(t)], 1) * radius[:, None]


def _wheel(x, y, r) -> Parts:
    return [("fill", _oval(x, y, r), 0.25), ("fill", _oval(x, y, r * 0.5), 1.3)]


# --------------------------------------------------------------------------------------------------- objects


def _top(u, sleeve: str, length=None, flare=None) -> np.ndarray:
    "Outline of a garment for the upper body: sleeve none, short or long"
    neck, drop, chest = u(0.14, 0.26), u(0.03, 0.25), u(0.4, 0.54)
    hem, flare, arm = u(0.7, 0.95) if length is None else length, u(-0.05, 0.12) if flare is None else flare, u(0.15, 0.24)
    half = [(0, -0.85 + drop), (neck, -0.88), (chest, -0.78)]
    if sleeve == "none":
        half[-1] = (chest * 0.75, -0.85)
        half += [(chest * 0.72, -0.45), (chest, -0.25)]
    else:
        reach, fall = ((u(0.75, 1.0), u(-0.45, -0.05)) if sleeve == "short" else (u(0.65, 1.05), u(0.25, 0.75)))
        half += [(reach, fall), (reach - arm, fall + u(0.0, 0.14)), (chest, -0.32)]
    return _both(half + [(chest + flare, hem), (0, hem + u(0, 0.05))])


def _seams(u, x=0.45) -> Parts:
    return [("line", np.array([(s * x, -0.75), (s * (x - 0.02), -0.35)]), 0.75) for s in (-1, 1)]


def _print(u) -> Parts:
    if u(0, 1) < 0.65:
        return []
    shape = [_oval(0, -0.1, u(0.1, 0.28), u(0.08, 0.25)), _box(-u(0.1, 0.3), -0.25, u(0.1, 0.3), u(0, 0.2)), _star(5, 0.45) * 0.25]
    return [("fill", shape[int(u(0, 3))], u(0.4, 1.8))]


def _buttons(u, x, y0, y1) -> Parts:
    n = int(u(3, 8))
    return [("fill", _oval(x, y, 0.025, n=8), u(0.4, 1.7)) for y in np.linspace(y0, y1, n)]


def _tshirt(u): return [("fill", _top(u, "short"), 1.0), *_seams(u), *_print(u), ("line", _oval(0, -0.84, 0.2, 0.12, 0, np.pi), 0.7)]  # fmt: skip
def _longsleeve(u): return [("fill", _top(u, "long"), 1.0), *_seams(u), *_print(u), ("line", _oval(0, -0.84, 0.2, 0.12, 0, np.pi), 0.7)]  # fmt: skip
def _vest(u): return [("fill", _top(u, "none"), 1.0), *_print(u)]  # fmt: skip


def _shirt(u):
    collar = [("fill", np.array([(0, -0.62), (s * 0.3, -0.72), (s * 0.2, -0.95), (s * 0.05, -0.85)]), 1.15) for s in (-1, 1)]
    pocket = [("line", _box(0.12, -0.35, 0.34, -0.1), 0.75)] if u(0, 1) < 0.5 else []
    front = [("line", np.array([(0.0, -0.7), (0.0, 0.85)]), 0.65)]
    return [("fill", _top(u, "long" if u(0, 1) < 0.65 else "short"), 1.0), *_seams(u), *front, *collar, *pocket, *_buttons(u, 0.0, -0.55, 0.75)]


def _coat(u):
    half_open = u(0.02, 0.2)
    opening = np.array([(-0.06, -0.8), (0.06, -0.8), (half_open, 0.9), (-half_open, 0.9)])
    lapels = [("fill", np.array([(s * 0.04, -0.1), (s * 0.12, -0.9), (s * 0.36, -0.8), (s * 0.28, -0.45)]), u(0.7, 1.3)) for s in (-1, 1)]
    pockets = [("line", np.array([(s * 0.2, u(0.2, 0.4)), (s * 0.42, u(0.15, 0.45))]), 0.5) for s in (-1, 1)]
    hood = [("fill", _oval(0, -0.85, u(0.25, 0.38), u(0.15, 0.3)), 0.8)] if u(0, 1) < 0.4 else lapels
    return [("fill", _top(u, "long", u(0.8, 1.0), u(0, 0.2)), 1.0), *_seams(u), ("fill", opening, u(0.3, 0.7)), *hood, *pockets, *_buttons(u, half_open, -0.4, 0.7)]


def _dress(u):
    waist, wide = u(0.2, 0.34), u(0.35, 0.75)
    y = u(-0.35, 0.0)
    top = [(0, -0.85 + u(0, 0.25)), (u(0.1, 0.18), -0.97), (u(0.22, 0.3), -0.95)]
    if u(0, 1) < 0.5:
        top += [(u(0.45, 0.65), u(-0.7, -0.3)), (u(0.35, 0.44), u(-0.5, -0.25))]
    belt = [("fill", _box(-waist, y - 0.03, waist, y + 0.04), u(0.4, 1.4))] if u(0, 1) < 0.4 else []
    return [("fill", _both([*top, (0.3, -0.5), (waist, y), (wide, 0.95), (0, 0.98)]), 1.0), *belt, *_folds(u, y, 0.95, waist, wide)]


def _folds(u, y0, y1, narrow, wide) -> Parts:
    return [("line", np.array([(t * narrow, y0 + 0.08), (t * wide, y1)]), u(0.7, 1.2)) for t in np.linspace(-0.8, 0.8, int(u(0, 7)))]


def _skirt(u):
    waist, wide, y0, y1 = u(0.3, 0.45), u(0.4, 0.95), u(-0.75, -0.5), u(0.35, 0.95)
    return [("fill", _both([(0, y0), (waist, y0), (wide, y1), (0, y1 + u(0, 0.08))]), 1.0), ("fill", _box(-waist, y0 - 0.02, waist, y0 + 0.1), u(0.6, 1.2)), *_folds(u, y0, y1, waist, wide)]


def _legs(u, y0, y1, hip, ankle):
    gap, crotch, out = u(0.02, 0.2), y0 + u(0.45, 0.62), u(-0.05, 0.2)
    body = _both([(0, y0), (hip - u(0, 0.1), y0), (hip, y0 + 0.4), (hip + out, y1), (hip + out - ankle, y1), (gap * 0.2, crotch), (0, crotch)])
    band = [("fill", _box(-hip + 0.04, y0 - 0.02, hip - 0.04, y0 + 0.08), u(0.6, 1.1))]
    pockets = [("line", np.array([(s * hip * 0.55, y0 + 0.1), (s * hip * 0.95, y0 + 0.3)]), 0.6) for s in (-1, 1)]
    return [("fill", body, 1.0), *band, *pockets, ("line", np.array([(0, y0 + 0.05), (0.0, crotch)]), 0.6)]


def _shorts(u): return _legs(u, u(-0.7, -0.5), u(0.25, 0.65), u(0.5, 0.7), u(0.42, 0.6))  # fmt: skip
def _trousers(u): return _legs(u, -0.95, 0.95, u(0.32, 0.45), u(0.18, 0.34))  # fmt: skip


def _hat(u):
    crown = _smooth(_both([(0, -0.55), (u(0.3, 0.42), u(-0.55, -0.4)), (u(0.42, 0.5), 0.2)]), 2)
    return [("fill", _oval(0, 0.22, u(0.8, 1.0), u(0.16, 0.4)), 0.9), ("fill", crown, 1.05), ("fill", _box(-0.46, 0.02, 0.46, 0.2), u(0.3, 0.8))]


def _cap(u):
    visor = _smooth(np.array([(0.2, 0.2), (1.0, 0.32), (0.95, 0.45), (0.2, 0.4)]))
    return [("fill", _oval(-0.1, 0.3, u(0.55, 0.68), u(0.6, 0.85), np.pi, 2 * np.pi), 1.0), ("fill", visor, u(0.5, 1.2)), ("line", np.array([(-0.1, -0.4), (-0.05, 0.3)]), 0.7)]


def _beanie(u): return [("fill", _smooth(_both([(0, -0.7), (0.45, -0.55), (0.62, 0.2), (0, 0.25)])), 1.0), ("fill", _box(-0.66, 0.1, 0.66, u(0.3, 0.5)), u(0.7, 1.2)), ("fill", _oval(0, -0.75, u(0.02, 0.2)), 1.2)]  # fmt: skip


def _shoe(u):
    h = u(-0.35, 0.0)
    body = _smooth(np.array([(-0.9, h), (-0.35, h), (-0.1, h + 0.12), (0.4, 0.12), (0.88, 0.24), (0.98, 0.45), (-0.92, 0.45)]), 2)
    laces = [("line", np.array([(x, h + 0.1 + 0.5 * (x + 0.2)), (x + 0.16, h + 0.02 + 0.5 * (x + 0.2))]), 1.7) for x in np.arange(-0.15, 0.35, 0.12)]
    return [("fill", body, 1.0), ("fill", _smooth(_box(-0.97, 0.42, 1.0, u(0.52, 0.68)), 1), u(0.3, 2.0)), *laces, ("line", np.array([(-0.5, h + 0.05), (-0.3, 0.42)]), 0.6)]


def _boot(u):
    top = u(-0.95, -0.5)
    return [("fill", _smooth(np.array([(-0.6, top), (0.05, top), (0.08, 0.2), (0.6, 0.35), (0.8, 0.7), (-0.62, 0.7)]), 2), 1.0), ("fill", _box(-0.64, 0.68, 0.8, 0.8), 0.4), ("fill", _box(-0.64, 0.7, -0.3, u(0.82, 1.0)), 0.4)]


def _heel(u): return [("fill", _smooth(np.array([(-0.9, -0.3), (-0.6, -0.35), (-0.1, 0.3), (0.6, 0.35), (0.98, 0.5), (0.9, 0.58), (-0.15, 0.55), (-0.75, 0.1)])), 1.0), ("fill", _limb(-0.82, 0.0, -0.78, 0.6, 0.08, 0.03), 0.8)]  # fmt: skip
def _pair(u): return [(k, p * 0.55 + (dx, dy), t) for (dx, dy) in ((-0.35, -0.25), (0.3, 0.3)) for k, p, t in _shoe(u)]  # fmt: skip
def _sock(u): return [("fill", _smooth(np.array([(-0.4, -0.95), (0.1, -0.95), (0.12, 0.15), (0.7, 0.5), (0.6, 0.85), (-0.1, 0.75), (-0.42, 0.3)])), 1.0), ("fill", _box(-0.4, -0.95, 0.1, -0.7), u(0.5, 1.5))]  # fmt: skip
def _glove(u): return [("fill", _smooth(_box(-0.35, -0.1, 0.4, 0.9), 1), 1.0), *[("fill", _limb(x, 0.0, x * 1.25, -0.75 + abs(x - 0.05), 0.09), 1.0) for x in (-0.26, -0.08, 0.1, 0.3)], ("fill", _limb(-0.3, 0.4, -0.75, -0.05, 0.11), 0.95)]  # fmt: skip


def _bag(u):
    wide, tall = u(0.5, 0.9), u(0.4, 0.8)
    return [("fill", _oval(0, -0.1, wide * 0.6, u(0.5, 0.9)), 0.7), ("cut", _oval(0, -0.1, wide * 0.48, u(0.42, 0.6)), 1), ("fill", _both([(0, -0.1), (wide * u(0.7, 1), -0.1), (wide, tall), (0, tall)]), 1.0), ("line", np.array([(-wide, 0.15), (wide, 0.15)]), 0.6)]


def _profile(u, half, mouth=True) -> Parts:
    "A turned vessel from its right profile, with an elliptical mouth"
    half = np.asarray(half, float)
    rim = [("fill", _oval(0, half[0, 1], half[0, 0], half[0, 0] * u(0.1, 0.35)), u(0.3, 0.7))] if mouth else []
    return [("fill", _both([(0, half[0, 1]), *half, (0, half[-1, 1])]), 1.0), *rim]


def _bottle(u):
    neck, body, shoulder = u(0.1, 0.16), u(0.26, 0.42), u(-0.45, -0.1)
    label = [("fill", _box(-body, shoulder + 0.3, body, 0.7), u(0.6, 1.8))] if u(0, 1) < 0.6 else []
    return [*_profile(u, [(neck, -0.95), (neck, shoulder - 0.2), (body, shoulder + 0.1), (body, 0.95)], False), *label, ("fill", _box(-neck * 1.15, -1, neck * 1.15, -0.85), u(0.3, 1.5))]


def _cup(u):
    r, low = u(0.45, 0.65), u(0.3, 0.6)
    return [("fill", _oval(r, 0.0, 0.32, 0.38), 0.9), ("cut", _oval(r, 0.0, 0.2, 0.25), 1), *_profile(u, [(r, -0.6), (r, 0.0), (low, 0.6)])]


def _glass(u): return [*_profile(u, [(u(0.35, 0.5), -0.9), (0.45, -0.4), (0.08, 0.1), (0.05, 0.75), (0.4, 0.9)])]  # fmt: skip
def _bowl(u): return _profile(u, _oval(0, -0.25, 0.95, u(0.5, 0.9), 0, np.pi / 2, 9))  # fmt: skip
def _vase(u): return _profile(u, [(0.25, -0.9), (0.18, -0.6), (0.36, -0.35), (w := u(0.5, 0.7), 0.0), (w, 0.3), (0.45, 0.65), (0.3, 0.9)])  # fmt: skip
def _jar(u): return [*_profile(u, [(0.55, -0.6), (0.6, -0.45), (0.6, 0.9)]), ("fill", _box(-0.6, -0.85, 0.6, -0.6), u(0.4, 1.5))]  # fmt: skip


def _chair(u):
    back, seat, wide, lean = u(-0.95, -0.6), u(-0.05, 0.2), u(0.35, 0.55), u(-0.15, 0.15)
    legs = [("fill", _limb(x, seat, x * 1.1, u(0.85, 1.0), 0.05), 0.7) for x in (-wide, -wide * 0.5, wide * 0.6, wide)]
    slats = [("cut", _box(-wide * 0.7, y, wide * 0.7, y + 0.1), 1) for y in np.arange(back + 0.15, seat - 0.15, u(0.2, 0.5))] if u(0, 1) < 0.6 else []
    return [*legs, ("fill", _box(-wide, back, wide, seat) + (lean, 0), 0.9), *slats, ("fill", np.array([(-wide, seat - 0.05), (wide, seat - 0.05), (wide + 0.15, seat + 0.15), (-wide - 0.05, seat + 0.15)]), 1.1)]


def _table(u): return [*[("fill", _limb(x, -0.2, x * u(0.95, 1.1), 0.85, 0.05), 0.6) for x in (-0.8, -0.5, 0.55, 0.8)], ("fill", np.array([(-0.75, -0.45), (0.75, -0.45), (1, -0.15), (-1, -0.15)]), 1.1), ("fill", _box(-1, -0.15, 1, -0.05), 0.8)]  # fmt: skip
def _lamp(u): return [("fill", _limb(0, -0.2, 0, 0.85, 0.05), 0.6), ("fill", _oval(0, 0.88, 0.4, 0.1), 0.7), ("fill", _both([(0, -0.95), (u(0.15, 0.4), -0.95), (u(0.45, 0.7), -0.2), (0, -0.2)]), 1.5)]  # fmt: skip
def _sofa(u): return [("fill", _smooth(_box(-0.85, -0.5, 0.85, 0.3), 1), 0.85), ("fill", _box(-0.75, 0.0, 0.75, 0.4), 1.1), *[("fill", _smooth(_box(x - 0.15, -0.2, x + 0.15, 0.55), 2), 0.95) for x in (-0.85, 0.85)], ("line", np.array([(0, 0.0), (0, 0.4)]), 0.6)]  # fmt: skip


def _car(u):
    roof, left, right = u(-0.55, -0.3), u(-0.55, -0.35), u(0.25, 0.5)
    cabin = np.array([(left - 0.25, 0.0), (left, roof), (right, roof), (right + 0.3, 0.0)])
    panes = [("fill", cabin * (0.8, 0.75) + (0, -0.03), u(0.2, 0.5)), ("line", np.array([(0, roof), (0, 0.35)]), 0.7)]
    return [("fill", cabin, 1.0), ("fill", _smooth(_box(-1, -0.05, 1, 0.42), 1), 1.0), *panes, *_wheel(-0.55, 0.42, 0.22), *_wheel(0.58, 0.42, 0.22), ("fill", _oval(0.92, 0.12, 0.06), 2.0)]


def _front(u): return [("fill", _both([(0, -0.6), (0.5, -0.6), (0.7, -0.1), (0, -0.1)]), 0.95), ("fill", _both([(0, -0.5), (0.42, -0.5), (0.58, -0.12), (0, -0.12)]), 0.3), ("fill", _smooth(_box(-0.85, -0.12, 0.85, 0.55), 1), 1.0), *[("fill", _oval(s * 0.6, 0.1, 0.13), 2.0) for s in (-1, 1)], ("fill", _box(-0.4, 0.1, 0.4, 0.3), 0.3), *[("fill", _box(s * 0.7 - 0.12, 0.5, s * 0.7 + 0.12, 0.75), 0.15) for s in (-1, 1)]]  # fmt: skip
def _truck(u): return [("fill", _box(-1, -0.65, u(0.2, 0.45), 0.4), 1.2), ("fill", np.array([(0.4, -0.3), (0.8, -0.3), (1, 0.05), (1, 0.4), (0.4, 0.4)]), 0.9), ("fill", _box(0.55, -0.2, 0.8, 0.02), 0.3), *_wheel(-0.65, 0.45, 0.2), *_wheel(-0.2, 0.45, 0.2), *_wheel(0.7, 0.45, 0.2)]  # fmt: skip
def _bus(u): return [("fill", _smooth(_box(-1, -0.5, 1, 0.45), 1), 1.0), *[("fill", _box(x, -0.32, x + 0.25, 0.0), 0.3) for x in np.arange(-0.85, 0.7, 0.32)], *_wheel(-0.6, 0.45, 0.18), *_wheel(0.6, 0.45, 0.18)]  # fmt: skip


def _bicycle(u):
    wheels = [(k, p, t) for x in (-0.58, 0.58) for k, p, t in (("fill", _oval(x, 0.35, 0.42), 0.3), ("cut", _oval(x, 0.35, 0.34), 1))]
    bars = [(-0.58, 0.35, -0.2, -0.3), (-0.2, -0.3, 0.4, -0.3), (0.4, -0.4, 0.58, 0.35), (-0.05, 0.35, 0.4, -0.3), (-0.05, 0.35, -0.25, -0.45), (-0.58, 0.35, -0.05, 0.35), (0.25, -0.5, 0.45, -0.45)]
    return [*wheels, *[("fill", _limb(*b, 0.035), 1.0) for b in bars], ("fill", _oval(-0.25, -0.48, 0.16, 0.05), 0.5)]


def _plane(u): return [("fill", _smooth(_both([(0, -1), (0.12, -0.8), (0.12, 0.8), (0, 0.95)]), 1), 1.0), ("fill", _both([(0, -0.3), (0.12, -0.3), (1, u(0.0, 0.3)), (1, u(0.3, 0.4)), (0.1, 0.15), (0, 0.15)]), 0.9), ("fill", _both([(0, 0.6), (0.1, 0.6), (0.4, 0.85), (0, 0.85)]), 0.9)]  # fmt: skip
def _boat(u): return [("fill", np.array([(-0.95, 0.3), (0.95, 0.3), (0.6, 0.75), (-0.65, 0.75)]), 0.8), ("fill", _limb(0, -0.95, 0, 0.3, 0.03), 0.5), ("fill", np.array([(0.06, -0.9), (u(0.5, 0.8), 0.2), (0.06, 0.2)]), 1.5), ("fill", np.array([(-0.06, -0.7), (-0.06, 0.2), (-u(0.3, 0.6), 0.2)]), 1.3)]  # fmt: skip


def _person(u):
    skin, lean, hip = u(0.9, 1.6), u(-0.1, 0.1), u(0.12, 0.18)
    arms = [("fill", _limb(s * 0.2, -0.5, s * u(0.2, 0.6), u(-0.7, 0.15), 0.075, 0.05), 0.95) for s in (-1, 1)]
    legs = [("fill", _limb(s * 0.09, 0.0, s * u(0.08, 0.35), u(0.85, 1.0), 0.11, 0.06), u(0.35, 0.8)) for s in (-1, 1)]
    torso = _smooth(_both([(0, -0.62), (0.22, -0.58), (0.2, -0.2), (hip, 0.06), (0, 0.08)]), 1)
    return [*legs, *arms, ("fill", torso, 1.0), ("fill", _oval(lean, -0.8, 0.13, 0.16), skin), ("fill", _oval(lean, -0.86, 0.14, 0.12, np.pi, 2 * np.pi), 0.3)]


def _bust(u):
    head = u(0.26, 0.36)
    hair = [("fill", _oval(0, -0.38, head * 1.1, head * u(1.0, 1.3), np.pi, 2 * np.pi), 0.25)]
    face = [("fill", _oval(s * head * 0.4, -0.35, 0.04), 0.2) for s in (-1, 1)] + [("line", _oval(0, -0.22, 0.12, 0.08, 0.3, 2.8), 0.4)]
    return [("fill", _smooth(_both([(0, -0.02), (0.15, 0.0), (u(0.55, 0.85), 0.25), (0.9, 1.0), (0, 1.0)]), 1), 0.8), ("fill", _box(-0.12, -0.2, 0.12, 0.12), 1.2), ("fill", _oval(0, -0.3, head, head * 1.25), 1.4), *hair, *face]


def _beast(u):
    leg, long, tall = u(0.06, 0.1), u(0.5, 0.7), u(0.2, 0.34)
    legs = [("fill", _limb(x, 0.1, x + u(-0.12, 0.12), 0.85, leg, leg * 0.7), u(0.6, 0.95)) for x in (-long * 0.8, -long * 0.5, long * 0.5, long * 0.8)]
    hx, hy = long + u(0.1, 0.25), u(-0.6, -0.2)
    head = [("fill", _limb(long * 0.8, -0.1, hx, hy, 0.16, 0.12), 1.0), ("fill", _oval(hx + 0.06, hy, u(0.15, 0.24), 0.14), 1.1), ("fill", np.array([(hx - 0.1, hy - 0.05), (hx - 0.06, hy - u(0.2, 0.35)), (hx + 0.04, hy - 0.08)]), 0.8)]
    tail = [("fill", _limb(-long * 0.95, -0.05, -long - u(0.1, 0.4), u(-0.5, 0.5), 0.05, 0.02), 0.9)]
    return [*tail, *legs, ("fill", _oval(0, 0.0, long, tall), 1.0), *head]


def _bird(u): return [("fill", np.array([(-0.4, 0.1), (-1, u(-0.1, 0.5)), (-0.9, 0.45)]), 0.7), ("fill", _oval(0, 0.05, 0.55, u(0.28, 0.4)), 1.0), ("fill", _oval(0.5, -0.3, 0.22), 1.1), ("fill", np.array([(0.68, -0.35), (0.98, -0.25), (0.68, -0.2)]), 1.7), ("fill", _oval(-0.1, 0.0, 0.35, 0.2), 0.7), *[("fill", _limb(x, 0.35, x, 0.8, 0.025), 0.5) for x in (-0.05, 0.12)]]  # fmt: skip
def _fish(u): return [("fill", np.array([(-0.45, 0), (-0.95, -0.4), (-0.85, 0), (-0.95, 0.4)]), 0.8), ("fill", _oval(0.1, 0, 0.75, u(0.25, 0.45)), 1.0), ("fill", np.array([(-0.1, -0.3), (0.2, -0.65), (0.35, -0.3)]), 0.8), ("fill", _oval(0.6, -0.08, 0.06), 0.1)]  # fmt: skip
def _butterfly(u): return [*[("fill", _smooth(np.array([(0, -0.1), (s * 0.8, -0.8), (s * 0.95, -0.1), (s * 0.1, 0.1)])), 1.0) for s in (-1, 1)], *[("fill", _smooth(np.array([(0, 0), (s * 0.7, 0.1), (s * 0.6, 0.8), (s * 0.05, 0.3)])), 1.2) for s in (-1, 1)], ("fill", _oval(0, 0, 0.06, 0.5), 0.3)]  # fmt: skip


def _tree(u):
    crown = [("fill", _oval(u(-0.4, 0.4), u(-0.6, 0.0), u(0.3, 0.5)), u(0.7, 1.2)) for _ in range(7)]
    if u(0, 1) < 0.4:
        crown = [("fill", _both([(0, y), (0.25 + 0.3 * i, y + 0.5), (0, y + 0.5)]), 1.0) for i, y in enumerate((-0.95, -0.6, -0.2))]
    return [("fill", _limb(0, -0.2, 0, 0.95, 0.09, 0.13), 0.5), *crown]


def _flower(u):
    n, r = int(u(5, 12)), u(0.45, 0.6)
    petals = [("fill", _oval(r * np.cos(t), r * np.sin(t), u(0.2, 0.3)), u(0.9, 1.1)) for t in np.arange(n) * 2 * np.pi / n]
    return [*petals, ("fill", _oval(0, 0, u(0.2, 0.35)), u(0.3, 1.8))]


def _leaf(u): return [("fill", _smooth(_both([(0, -0.95), (u(0.3, 0.6), -0.1), (0.1, 0.7), (0, 0.7)])), 1.0), ("fill", _limb(0, -0.8, 0, 1, 0.02, 0.03), 0.6), *[("line", np.array([(0, y), (s * 0.35, y - 0.25)]), 0.7) for y in (-0.3, 0.0, 0.3) for s in (-1, 1)]]  # fmt: skip
def _mushroom(u): return [("fill", _limb(0, 0, 0, 0.9, u(0.12, 0.2), 0.22), 1.4), ("fill", _oval(0, 0.05, u(0.6, 0.9), u(0.5, 0.8), np.pi, 2 * np.pi), 0.9), *[("fill", _oval(u(-0.45, 0.45), u(-0.4, -0.1), 0.08), 1.7) for _ in range(4)]]  # fmt: skip
def _apple(u): return [("fill", _smooth(_both([(0, -0.5), (0.4, -0.65), (0.75, -0.1), (0.35, 0.75), (0, 0.65)])), 1.0), ("fill", _limb(0, -0.45, 0.08, -0.85, 0.03), 0.3)]  # fmt: skip
def _banana(u): return [("fill", np.concatenate([_oval(0, -0.6, 0.95, 1.2, 0.25, 2.7, 14), _oval(0, -0.75, 0.8, u(0.85, 1.0), 2.7, 0.25, 14)]), 1.1)]  # fmt: skip
def _carrot(u): return [("fill", _both([(0, -0.4), (0.25, -0.35), (0.03, 0.95), (0, 0.98)]), 1.0), *[("fill", _limb(0, -0.35, x, -0.95, 0.06, 0.03), 0.7) for x in (-0.25, 0, 0.25)]]  # fmt: skip
def _donut(u): return [("fill", _oval(0, 0, 0.9), 1.0), ("cut", _oval(0, 0, u(0.2, 0.45)), 1)]  # fmt: skip
def _pizza(u): return [("fill", _oval(0, 0, 0.95), 0.9), ("fill", _oval(0, 0, 0.82), 1.3), *[("fill", _oval(u(-0.5, 0.5), u(-0.5, 0.5), 0.13), u(0.4, 0.8)) for _ in range(8)]]  # fmt: skip
def _ball(u): return [("fill", _oval(0, 0, 0.9), 1.0), *[("line", _oval(x, 0, 0.6, 0.85, 1.8, 4.4), 0.5) for x in (0.35, 0.9)][: int(u(0, 3))]]  # fmt: skip
def _key(u): return [("fill", _oval(0, -0.6, u(0.28, 0.38)), 1.0), ("cut", _oval(0, -0.65, 0.16), 1), ("fill", _box(-0.08, -0.3, 0.08, 0.95), 1.0), *[("fill", _box(0.05, y, u(0.15, 0.35), y + 0.1), 1.0) for y in (0.45, 0.62, 0.8)]]  # fmt: skip
def _hammer(u): return [("fill", _limb(0, -0.5, 0, 0.98, u(0.06, 0.1)), 0.8), ("fill", _box(-0.5, -0.75, u(0.2, 0.5), -0.42), 1.1), ("fill", np.array([(0.2, -0.75), (0.75, -0.6), (0.2, -0.45)]), 1.0)]  # fmt: skip
def _wrench(u): return [("fill", _limb(0, -0.6, 0, 0.6, 0.12), 1.0), *[("fill", _oval(0, s * 0.7, 0.28), 1.0) for s in (-1, 1)], ("cut", _box(-0.12, -1.0, 0.12, -0.68), 1), ("cut", _oval(0, 0.7, u(0.1, 0.17), n=6), 1)]  # fmt: skip
def _scissors(u): return [*[("fill", _limb(s * 0.3, 0.5, -s * u(0.1, 0.3), -0.95, 0.07, 0.02), 1.0) for s in (-1, 1)], *[p for s in (-1, 1) for p in (("fill", _oval(s * 0.35, 0.65, 0.25, 0.32), 0.6), ("cut", _oval(s * 0.35, 0.65, 0.14, 0.2), 1))]]  # fmt: skip
def _spoon(u): return [("fill", _oval(0, -0.65, u(0.2, 0.28), 0.33), 1.0), ("fill", _limb(0, -0.4, 0, 0.98, 0.05, 0.09), 1.0)]  # fmt: skip
def _fork(u): return [*[("fill", _limb(x, -0.95, x, -0.5, 0.035), 1.0) for x in (-0.15, -0.05, 0.05, 0.15)], ("fill", _smooth(_box(-0.19, -0.6, 0.19, -0.25), 1), 1.0), ("fill", _limb(0, -0.3, 0, 0.98, 0.05, 0.08), 1.0)]  # fmt: skip
def _knife(u): return [("fill", np.array([(-0.08, -0.98), (0.12, -0.6), (0.12, 0.2), (-0.08, 0.2)]), 1.3), ("fill", _smooth(_box(-0.1, 0.2, 0.12, 0.95), 1), 0.4)]  # fmt: skip
def _screw(u): return [("fill", _oval(0, -0.75, 0.35, 0.2), 1.0), ("fill", _limb(0, -0.7, 0, 0.95, 0.14, 0.03), 0.9), *[("line", np.array([(-0.15, y), (0.15, y + 0.1)]), 0.4) for y in np.arange(-0.4, 0.7, 0.16)]]  # fmt: skip
def _nut(u): return [("fill", _oval(0, 0, 0.9, n=6), 1.0), ("cut", _oval(0, 0, u(0.35, 0.5)), 1), ("line", _oval(0, 0, 0.65), 0.7)]  # fmt: skip
def _gear(u): return [("fill", _star(int(u(7, 16)), u(0.75, 0.88), 0, 2), 1.0), ("cut", _oval(0, 0, u(0.2, 0.4)), 1)]  # fmt: skip
def _washer(u): return [("fill", _oval(0, 0, 0.85), 1.0), ("cut", _oval(0, 0, u(0.4, 0.7)), 1)]  # fmt: skip
def _plate(u): return [("fill", _smooth(_box(-0.9, -u(0.4, 0.8), 0.9, u(0.4, 0.8)), 1), 1.0), *[("cut", _oval(x, y, 0.1), 1) for x in (-0.6, 0.6) for y in (-0.25, 0.25)]]  # fmt: skip
def _clock(u): return [("fill", _oval(0, 0, 0.92), 0.5), ("fill", _oval(0, 0, 0.78), 1.6), ("line", np.array([(0, 0), (u(-0.5, 0.5), -0.45)]), 0.1), ("line", np.array([(0, 0), (0.35, u(-0.3, 0.3))]), 0.1)]  # fmt: skip
def _umbrella(u): return [("fill", _oval(0, 0.1, 0.95, u(0.7, 0.95), np.pi, 2 * np.pi), 1.0), ("fill", _limb(0, -0.9, 0, 0.85, 0.03), 0.4), *[("line", np.array([(0, -0.7), (x, 0.1)]), 0.6) for x in (-0.5, 0, 0.5)]]  # fmt: skip
def _phone(u): return [("fill", _smooth(_box(-0.45, -0.95, 0.45, 0.95), 1), 0.4), ("fill", _box(-0.37, -0.72, 0.37, 0.7), u(0.7, 1.8))]  # fmt: skip
def _screen(u): return [("fill", _box(-0.95, -0.75, 0.95, 0.4), 0.3), ("fill", _box(-0.86, -0.66, 0.86, 0.3), u(0.6, 1.7)), ("fill", _limb(0, 0.4, 0, 0.7, 0.12), 0.4), ("fill", _oval(0, 0.72, 0.4, 0.08), 0.4)]  # fmt: skip
def _laptop(u): return [("fill", _box(-0.75, -0.75, 0.75, 0.2), 0.5), ("fill", _box(-0.67, -0.67, 0.67, 0.12), u(0.8, 1.8)), ("fill", np.array([(-0.75, 0.2), (0.75, 0.2), (1, 0.65), (-1, 0.65)]), 1.0)]  # fmt: skip
def _book(u): return [("fill", _box(-0.65, -0.9, 0.65, 0.9), 1.0), ("fill", _box(-0.65, -0.9, -0.5, 0.9), 0.6), *[("line", np.array([(-0.35, y), (u(0.1, 0.5), y)]), u(0.3, 1.8)) for y in (-0.5, -0.35, -0.2)]]  # fmt: skip
def _books(u): return [("fill", _box(x, -u(0.5, 0.95), x + 0.2, 0.9), u(0.4, 1.6)) for x in np.arange(-0.95, 0.8, 0.21)]  # fmt: skip
def _house(u): return [("fill", _box(-0.75, -0.15, 0.75, 0.9), 1.0), ("fill", _both([(0, -0.9), (0.95, -0.1), (0, -0.1)]), 0.6), ("fill", _box(-0.15, 0.4, 0.15, 0.9), 0.4), *[("fill", _box(x - 0.15, 0.0, x + 0.15, 0.28), 1.6) for x in (-0.45, 0.45)]]  # fmt: skip
def _tower(u): return [("fill", _box(-0.45, -0.95, 0.45, 0.95), 1.0), *[("fill", _box(x, y, x + 0.14, y + 0.12), u(0.3, 1.8)) for x in (-0.35, -0.07, 0.21) for y in np.arange(-0.85, 0.8, 0.24)]]  # fmt: skip
def _triangle(u): return [("fill", _oval(0, 0, 0.95, n=3), 1.0)]  # fmt: skip
def _square(u): return [("fill", _box(-0.75, -0.75, 0.75, 0.75), 1.0)]  # fmt: skip
def _bar(u): return [("fill", _box(-0.95, -u(0.1, 0.3), 0.95, u(0.1, 0.3)), 1.0)]  # fmt: skip
def _pentagon(u): return [("fill", _oval(0, 0, 0.95, n=int(u(5, 7))), 1.0)]  # fmt: skip
def _disc(u): return [("fill", _oval(0, 0, 0.9, u(0.6, 0.9)), 1.0)]  # fmt: skip
def _starlet(u): return [("fill", _star(int(u(4, 8)), u(0.3, 0.6)), 1.0)]  # fmt: skip
def _cross(u): return [("fill", _box(-0.3, -0.9, 0.3, 0.9), 1.0), ("fill", _box(-0.9, -0.3, 0.9, 0.3), 1.0)]  # fmt: skip
def _heart(u): return [("fill", _smooth(_both([(0, -0.4), (0.45, -0.85), (0.9, -0.35), (0, 0.9)])), 1.0)]  # fmt: skip
def _arrow(u): return [("fill", _box(-0.9, -0.18, 0.3, 0.18), 1.0), ("fill", np.array([(0.2, -0.6), (0.95, 0), (0.2, 0.6)]), 1.0)]  # fmt: skip
def _crescent(u): return [("fill", _oval(0, 0, 0.9), 1.0), ("cut", _oval(u(0.3, 0.5), 0, 0.75), 1)]  # fmt: skip


def _blob(u):
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 0.7 + sum(u(-0.2, 0.2) / k**0.5 * np.cos(k * t + u(0, 6.3)) for k in range(2, 6))
    return [("fill", np.stack([radius * np.cos(t), radius * np.sin(t)], 1), 1.0)]


_DRAW = [_tshirt, _longsleeve, _vest, _shirt, _coat, _dress, _skirt, _shorts, _trousers, _hat, _cap, _beanie, _shoe, _boot,
         _heel, _pair, _sock, _glove, _bag, _bottle, _cup, _glass, _bowl, _vase, _jar, _chair, _table, _lamp, _sofa, _car, _front,
         _truck, _bus, _bicycle, _plane, _boat, _person, _bust, _beast, _bird, _fish, _butterfly, _tree, _flower, _leaf, _mushroom,
         _apple, _banana, _carrot, _donut, _pizza, _ball, _key, _hammer, _wrench, _scissors, _spoon, _fork, _knife, _screw, _nut,
         _gear, _washer, _plate, _clock, _umbrella, _phone, _screen, _laptop, _book, _books, _house, _tower, _triangle, _square,
         _bar, _pentagon, _disc, _starlet, _cross, _heart, _arrow, _crescent, _blob]  # fmt: skip
OBJECTS = tuple(f.__name__[1:] for f in _DRAW)
THINGS = ("background", *OBJECTS, *DEFECTS, *CELL_KINDS, *(f"fractal{i}" for i in range(N_FRACTALS)), *GLYPHS, "leaf shape")
_THING = {name: i for i, name in enumerate(THINGS)}
_WORN = 18  # the first objects are worn; they are drawn more often, since people photograph what they wear


# -------------------------------------------------------------------------------------------------- patterns


@functools.cache
def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    fy, fx = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]
    return np.hypot(fy, fx).astype(np.float32), np.arctan2(fy, fx + 1e-9).astype(np.float32)


@functools.cache
def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    return x - 0.5, y - 0.5


def _unit(field: np.ndarray) -> np.ndarray:
    low, high = field.min(), field.max()
    return (field - low) / (high - low + 1e-6)


def _noise(rng, power=2.0, low=0.0, high=1.0, angle=None, spread=0.3) -> np.ndarray:
    "Random field of spectrum 1/f^power between two frequencies, along one direction if an angle is given; unit variance"
    radius, theta = _frequencies()
    gain = np.where((radius >= low) & (radius <= high), 1 / np.maximum(radius, 1 / SIZE) ** (power / 2), 0)
    if angle is not None:
        gain = gain * np.exp((np.cos(2 * (theta - angle)) - 1) / (2 * spread**2))
    field = irfft2(rfft2(rng.standard_normal((SIZE, SIZE), dtype=np.float32)) * gain.astype(np.float32), s=(SIZE, SIZE))
    return (field - field.mean()) / (field.std() + 1e-6)


def _points(rng, n) -> tuple[np.ndarray, np.ndarray]:
    "Distance to the nearest and to the second nearest of n random points"
    x, y = _grid()
    p = rng.uniform(-0.5, 0.5, (n, 2)).astype(np.float32)
    d = np.sort((x[..., None] - p[:, 0]) ** 2 + (y[..., None] - p[:, 1]) ** 2, axis=-1)[..., :2]
    return np.sqrt(d[..., 0]), np.sqrt(d[..., 1])


def pattern(kind: str, rng: np.random.Generator) -> np.ndarray:
    "A field in [0, 1] of `SIZE` x `SIZE`, one of `PATTERNS`, at a random scale and direction"
    x, y = _grid()
    angle, f = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(26)))
    wobble = rng.uniform(0, 0.025) * _noise(rng, 3.5) if rng.random() < 0.5 else 0
    u, v = x * np.cos(angle) + y * np.sin(angle) + wobble, y * np.cos(angle) - x * np.sin(angle) + wobble
    match kind:
        case "plain":
            return np.full((SIZE, SIZE), 0.5, np.float32) + 0.02 * _noise(rng, 1)
        case "gradient":
            return _unit(u + 0.4 * rng.random() * v**2)
        case "cloud":
            return _unit(_noise(rng, rng.uniform(2, 4)))
        case "ridges":
            return _unit(-np.abs(_noise(rng, rng.uniform(2, 3.2))))
        case "stripes":
            wave = np.sin(2 * np.pi * f * u)
            return (wave > rng.uniform(-0.7, 0.7)).astype(np.float32) if rng.random() < 0.6 else 0.5 + 0.5 * wave
        case "checks":
            return ((np.floor(u * f) + np.floor(v * f)) % 2).astype(np.float32)
        case "plaid":
            widths = rng.uniform(0.2, 0.8, 4)
            lines = [((z * f * k) % 1 < w).astype(np.float32) for z, k, w in zip((u, v, u, v), (0.4, 0.4, 0.8, 0.8), widths, strict=True)]
            return _unit(lines[0] + lines[1] + 0.5 * (lines[2] + lines[3]))
        case "weave":
            a, b = np.floor(u * 2 * f), np.floor(v * 2 * f)
            over = (a + b * (1 + rng.integers(2))) % (2 + rng.integers(2)) == 0
            return np.where(over, np.abs(np.sin(2 * np.pi * u * f)), 0.6 * np.abs(np.sin(2 * np.pi * v * f))).astype(np.float32)
        case "dots":
            row = np.floor(v * f)
            du, dv = (u * f + 0.5 * (row % 2) * rng.integers(2)) % 1 - 0.5, (v * f) % 1 - 0.5
            return np.clip((rng.uniform(0.15, 0.42) - np.hypot(du, dv)) * 8 + 0.5, 0, 1)
        case "voronoi":
            near, second = _points(rng, int(rng.integers(8, 60)))
            return _unit(near) if rng.random() < 0.4 else np.clip((second - near) * rng.uniform(15, 60), 0, 1)
        case "wood":
            return 0.5 + 0.5 * np.sin(2 * np.pi * f * 0.5 * (u + 0.15 * _noise(rng, 3.5, angle=angle + np.pi / 2, spread=0.5) + 0.1 * v**2))
        case "brushed":
            return _unit(_noise(rng, 0.5, angle=angle, spread=rng.uniform(0.05, 0.2)))
        case "grain":
            return _unit(_noise(rng, rng.uniform(0, 1)))
        case "maze":
            return 1 / (1 + np.exp(-np.clip(rng.uniform(2, 8) * _noise(rng, 0, f * 0.6 / SIZE, f * 1.0 / SIZE), -30, 30)))
        case "rings":
            return 0.5 + 0.5 * np.sin(2 * np.pi * f * np.hypot(x - rng.uniform(-0.4, 0.4) + wobble, y - rng.uniform(-0.4, 0.4)))
        case "bricks":
            row = np.floor(v * f)
            du, dv = (u * f * 0.5 + 0.5 * (row % 2)) % 1, (v * f) % 1
            shade = rng.uniform(0.5, 1, (64, 64))[(row % 64).astype(int), np.floor(u * f * 0.5 + 0.5 * (row % 2)).astype(int) % 64]
            return np.where((du < 0.06) | (dv < 0.1), 0, shade).astype(np.float32)
        case "gabor":
            return _unit(_noise(rng, 0, f * 0.8 / SIZE, f * 1.2 / SIZE, angle, 0.2))
        case "fur":
            field = _noise(rng, 1, 0.02)
            flow = 4 * _noise(rng, 3.5)
            return _unit(sum(ndimage.map_coordinates(field, [(y + 0.5) * SIZE + t * np.sin(flow), (x + 0.5) * SIZE + t * np.cos(flow)], order=1, mode="wrap") for t in range(5)))
    raise ValueError(f"pattern {kind!r} is not known. Use one of {PATTERNS}.")


# --------------------------------------------------------------------------------------------------- colours


def _colour(rng, dull=0.55) -> np.ndarray:
    "An RGB colour in [0, 1]; most things are dull"
    value, hue = rng.beta(1.3, 1.2), rng.random()
    tint = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    saturation = rng.beta(1, 4) if rng.random() < dull else rng.beta(2, 1.5)
    return (value * (1 - saturation + saturation * tint)).astype(np.float32)


def _paint(field: np.ndarray, rng, contrast=None) -> np.ndarray:
    "A field coloured between two or three colours: H x W x 3"
    contrast = rng.beta(1.5, 1.5) if contrast is None else contrast
    a = _colour(rng)
    b = a + contrast * (_colour(rng) - a) if rng.random() < 0.5 else np.clip(a + contrast * rng.uniform(-0.6, 0.6), 0, 1)
    colour = a + field[..., None] * (b - a)
    if rng.random() < 0.2:
        colour = colour + np.clip(field - 0.6, 0, 1)[..., None] * 2 * contrast * (_colour(rng) - b)
    return colour.astype(np.float32)


def _material(rng, calm=0.5) -> tuple[np.ndarray, int]:
    "A painted pattern and its number; `calm` is the share of plain surfaces"
    kind = int(rng.integers(3)) if rng.random() < calm else int(rng.integers(len(PATTERNS)))
    return _paint(pattern(PATTERNS[kind], rng), rng), kind


def _light(height: np.ndarray, rng, strength=1.0) -> np.ndarray:
    "Lambert shading of a height field under one lamp: H x W, around 1"
    gy, gx = np.gradient(height * strength)
    tilt, spin = rng.uniform(0.3, 1.1), rng.uniform(0, 2 * np.pi)
    lamp = np.array([np.sin(tilt) * np.cos(spin), np.sin(tilt) * np.sin(spin), np.cos(tilt)])
    shade = (-gx * lamp[0] - gy * lamp[1] + lamp[2]) / np.sqrt(1 + gx**2 + gy**2)
    return np.clip(0.35 + 0.75 * shade / lamp[2], 0.05, 2.2)


# ---------------------------------------------------------------------------------------------------- canvas


class _Canvas:
    "A picture being drawn: colours, map of objects, and map of surfaces"

    def __init__(self, rng, calm=0.5):
        self.rng = rng
        self.rgb, kind = _material(rng, calm)
        self.things = np.zeros((SIZE, SIZE), np.uint8)
        self.stuff = np.full((SIZE, SIZE), kind, np.uint8)

    def lay(self, mask: np.ndarray, rgb: np.ndarray, thing: int | None = None, stuff: int | None = None) -> None:
        "Put a colour where the mask (0 to 1) is"
        self.rgb = self.rgb + mask[..., None] * (rgb - self.rgb)
        inside = mask > 0.4
        if thing is not None:
            self.things[inside] = thing
        if stuff is not None:
            self.stuff[inside] = stuff

    def shadow(self, mask: np.ndarray) -> None:
        dx, dy = self.rng.integers(-9, 10, 2)
        soft = ndimage.gaussian_filter(np.roll(mask, (dy, dx), (0, 1)), self.rng.uniform(1, 7))
        self.rgb = self.rgb * (1 - self.rng.uniform(0, 0.6) * soft[..., None])

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        "Lamp, exposure, focus and sensor: image and the two maps"
        rng, rgb = self.rng, self.rgb
        if rng.random() < 0.4:
            rgb = rgb * np.exp(0.35 * rng.random() * _noise(rng, 4))[..., None]
        if rng.random() < 0.25:
            rgb = ndimage.gaussian_filter(rgb, (s := rng.uniform(0.3, 1.4), s, 0))
        rgb = np.clip(rgb, 0, 1) ** np.exp(rng.uniform(-0.4, 0.4))
        if rng.random() < 0.5:
            rgb = rgb + rng.uniform(0, 0.05) * rng.standard_normal(rgb.shape, dtype=np.float32)
        half = SIZE // CELLS // 2
        cells = slice(half, None, SIZE // CELLS)
        return (np.clip(rgb, 0, 1) * 255).astype(np.uint8), self.things[cells, cells], self.stuff[cells, cells]


def _place(parts: Parts, rng, scale: float, centre, turn: float) -> list[tuple[str, np.ndarray, float]]:
    "Parts in pixels of a doubled canvas: bent, stretched, turned, moved"
    stretch, shear = np.exp(rng.uniform(-0.22, 0.22)), rng.uniform(-0.15, 0.15)
    flip = -1 if rng.random() < 0.5 else 1
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.array([[c, -s], [s, c]]) @ np.array([[flip * stretch, shear], [0, 1 / stretch]]) * scale
    bend, phase = rng.uniform(0, 0.06, 2), rng.uniform(0, 2 * np.pi, 2)
    out = []
    for kind, points, tone in parts:
        points = points + bend * np.sin(2.5 * points[:, ::-1] + phase)
        out.append((kind, (points @ matrix.T + centre) * 2 * SIZE, tone))
    return out


def _rasterise(parts, rng) -> tuple[np.ndarray, np.ndarray]:
    "Mask and tone of an object"
    size = (2 * SIZE, 2 * SIZE)
    mask, tone = Image.new("L", size), Image.new("L", size, 100)
    on_mask, on_tone = ImageDraw.Draw(mask), ImageDraw.Draw(tone)
    for kind, points, level in parts:
        xy = [tuple(p) for p in points.tolist()]
        if kind == "line":
            on_tone.line(xy, fill=int(np.clip(100 * level, 0, 255)), width=int(rng.integers(1, 4)))
        else:
            on_mask.polygon(xy, fill=255 if kind == "fill" else 0)
            on_tone.polygon(xy, fill=int(np.clip(100 * level, 0, 255)))
    return np.asarray(mask.reduce(2), np.float32) / 255, np.asarray(tone.reduce(2), np.float32) / 100


def _put_object(canvas: _Canvas, index: int, scale: float, centre, turn: float) -> None:
    rng = canvas.rng
    parts = _place(_DRAW[index](rng.uniform), rng, scale, np.asarray(centre), turn)
    mask, tone = _rasterise(parts, rng)
    rgb, kind = _material(rng, 0.6)
    if rng.random() < 0.5:
        tint = _colour(rng)
        marked = np.abs(tone - 1) > 0.12
        rgb = np.where(marked[..., None], np.clip(tint * tone[..., None] ** 0.5, 0, 1), rgb)
    else:
        rgb = rgb * tone[..., None]
    round_off = ndimage.gaussian_filter(mask, max(1.0, scale * SIZE * rng.uniform(0.04, 0.2)))
    height = scale * SIZE * rng.uniform(0, 1.2) * round_off
    if index < _WORN or rng.random() < 0.3:
        height = height + rng.uniform(0, 1.8) * _noise(rng, rng.uniform(3.2, 4.6), 0.012)
    rgb = rgb * _light(height, rng)[..., None]
    if rng.random() < 0.25:
        rgb = rgb + rng.uniform(0.1, 0.7) * np.clip(_light(height, rng, 2)[..., None] - 1.2, 0, 1) ** 2
    if rng.random() < 0.7:
        canvas.shadow(mask)
    canvas.lay(mask, rgb, index + 1, kind)


# -------------------------------------------------------------------------------------------------- families


def _draw_object(rng):
    canvas = _Canvas(rng, 0.55)
    index = int(rng.integers(_WORN)) if rng.random() < 0.45 else int(rng.integers(len(_DRAW)))
    turn = rng.normal(0, 0.15) if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi)
    if rng.random() < 0.3:
        x, _ = _grid()
        edge = rng.uniform(-0.2, 0.4)
        canvas.lay((_grid()[1] + rng.uniform(-0.2, 0.2) * x > edge).astype(np.float32), *_material(rng, 0.5)[:1])
    _put_object(canvas, index, rng.uniform(0.28, 0.54), 0.5 + rng.uniform(-0.1, 0.1, 2), turn)
    return canvas.finish()


def _draw_scene(rng):
    canvas = _Canvas(rng, 0.4)
    same = int(rng.integers(len(_DRAW))) if rng.random() < 0.3 else None
    for _ in range(rng.integers(2, 8)):
        index = int(rng.integers(len(_DRAW))) if same is None else same
        _put_object(canvas, index, np.exp(rng.uniform(np.log(0.1), np.log(0.4))), rng.uniform(0.05, 0.95, 2), rng.normal(0, 0.5))
    return canvas.finish()


def _draw_pattern(rng):
    canvas = _Canvas(rng, 0.1)
    if rng.random() < 0.5:
        rgb, kind = _material(rng, 0.1)
        cut = _noise(rng, 4) if rng.random() < 0.5 else _grid()[0] * np.cos(a := rng.uniform(0, 6.3)) + _grid()[1] * np.sin(a)
        canvas.lay(np.clip(cut * 40 + 0.5, 0, 1), rgb, None, kind)
    if rng.random() < 0.5:
        canvas.rgb = canvas.rgb * _light(rng.uniform(0, 2) * _noise(rng, 3.2), rng)[..., None]
    return canvas.finish()


def _defect(kind: str, rng) -> tuple[np.ndarray, float]:
    "Mask of one defect, and how far it darkens (below 1) or brightens (above 1)"
    x, y = _grid()
    cx, cy, turn = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(0, np.pi)
    u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
    dark = rng.uniform(0.1, 0.7)
    match kind:
        case "scratch":
            across = v + rng.uniform(-0.6, 0.6) * u**2
            return np.exp(-((across / rng.uniform(0.004, 0.015)) ** 2)) * (np.abs(u) < rng.uniform(0.1, 0.6)), (dark if rng.random() < 0.5 else 2 - dark)
        case "crack":
            across = v + rng.uniform(0.02, 0.06) * _noise(rng, 2.5)
            return np.exp(-((across / rng.uniform(0.005, 0.014)) ** 2)) * (np.abs(u) < rng.uniform(0.15, 0.7)), dark * 0.7
        case "hole":
            spots = np.array([cx, cy]) + rng.normal(0, 0.1, (int(rng.integers(1, 4)), 2))
            near = np.min([np.hypot(x - a, y - b) for a, b in spots], 0)
            return 1 / (1 + np.exp((near - rng.uniform(0.012, 0.05)) * 250)), dark * 0.6
        case "dent":
            return np.exp(-((u / rng.uniform(0.06, 0.2)) ** 2) - (v / rng.uniform(0.05, 0.15)) ** 2), 0.0
        case "stain":
            edge = np.hypot(u, v) + 0.05 * _noise(rng, 3)
            return 1 / (1 + np.exp((edge - rng.uniform(0.08, 0.28)) * rng.uniform(30, 150))), rng.uniform(0.4, 1.5)
        case "break":
            edge = np.maximum(np.abs(u + 0.03 * _noise(rng, 2.2)) - rng.uniform(0.05, 0.3), np.abs(v + 0.03 * _noise(rng, 2.2)) - rng.uniform(0.04, 0.15))
            return 1 / (1 + np.exp(np.clip(edge * 150, -30, 30))), dark * 0.6
        case "fray":
            return np.clip(_noise(rng, 1.5, 0.02) - 0.6, 0, 1) * np.exp(-((v / rng.uniform(0.08, 0.25)) ** 2)), (dark if rng.random() < 0.5 else 2 - dark)
        case "uneven":
            return np.clip(0.5 + u / rng.uniform(0.2, 0.6) + 0.2 * _noise(rng, 4), 0, 1), dark
    raise ValueError(f"defect {kind!r} is not known. Use one of {DEFECTS}.")


def _draw_surface(rng):
    canvas = _Canvas(rng, 0.0)
    kind = ("plain", "cloud", "brushed", "grain", "wood", "weave", "ridges", "stripes")[int(rng.integers(8))]
    canvas.rgb = _paint(pattern(kind, rng), rng, rng.beta(1.2, 3))
    canvas.stuff[:] = PATTERNS.index(kind)
    if rng.random() < 0.6:
        canvas.rgb = canvas.rgb.mean(-1, keepdims=True) * np.ones(3, np.float32)
    canvas.rgb = rng.uniform(0, 0.35) + 0.75 * canvas.rgb
    if rng.random() < 0.5:
        canvas.rgb = canvas.rgb * (1 - 0.5 * rng.random() * np.clip(np.abs(_grid()[int(rng.integers(2))])[..., None] * 3 - 1, 0, 1))
    if rng.random() < 0.8:
        for _ in range(rng.integers(1, 3)):
            name = DEFECTS[int(rng.integers(len(DEFECTS)))]
            mask, tone = _defect(name, rng)
            target = canvas.rgb * tone if tone else canvas.rgb * _light(12 * mask, rng)[..., None]
            shown = mask.astype(np.float32) if tone else np.minimum(1, 3 * mask).astype(np.float32)
            canvas.lay(shown, target, _THING[name])
            canvas.things[shown > 0.15] = _THING[name]
    return canvas.finish()


def _draw_cells(rng):
    canvas = _Canvas(rng, 0.95)
    base, dye = 0.65 + 0.35 * _colour(rng), _colour(rng, 0.1)
    canvas.rgb = base + 0.02 * _noise(rng, 2)[..., None]
    canvas.stuff[:] = 0
    ink, x, y = 0.3 + 0.6 * _colour(rng), *_grid()
    zoom = np.exp(rng.uniform(np.log(0.5), np.log(3)))
    for _ in range(int(np.clip(rng.poisson(14 / zoom), 1, 30))):
        kind = CELL_KINDS[int(rng.choice(5, p=(0.5, 0.2, 0.12, 0.08, 0.1)))]
        size = zoom * {"biconcave": 0.085, "lobed": 0.13, "granule": 0.03, "rod": 0.06, "round": 0.1}[kind] * rng.uniform(0.8, 1.2)
        (cx, cy), turn = rng.uniform(-0.5, 0.5, 2), rng.uniform(0, np.pi)
        if rng.random() < 0.15:
            cx, cy = rng.uniform(-0.1, 0.1, 2)
        u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        squeeze = rng.uniform(0.3, 0.5) if kind == "rod" else rng.uniform(0.8, 1)
        ripple = 1 + rng.uniform(0, 0.12) * np.cos(np.arctan2(v, u) * rng.integers(2, 7))
        r = np.hypot(u, v / squeeze) / (size * ripple)
        mask = np.clip((1 - r) * size * SIZE * 0.7 + 0.5, 0, 1)
        colour = ink * (1 - 0.3 * rng.random())
        if kind == "biconcave":
            body = np.clip(colour + (base - colour) * (rng.uniform(0.2, 0.8) * np.exp(-((r / 0.5) ** 2)))[..., None], 0, 1)
        elif kind == "granule":
            body = dye * rng.uniform(0.5, 1) + 0.1 * _noise(rng, 1)[..., None]
        else:
            body = np.broadcast_to(0.5 * base + 0.5 * colour, (SIZE, SIZE, 3))
        canvas.lay(mask, body * (1 - 0.25 * np.exp(-(((r - 1) / 0.12) ** 2)))[..., None], _THING[kind])
        if kind in ("lobed", "round"):
            lobes = rng.normal(0, 0.33 if kind == "lobed" else 0.1, (int(rng.integers(2, 5)) if kind == "lobed" else 1, 2))
            core = np.max([np.clip((rng.uniform(0.4, 0.6) - np.hypot(u / size - a, v / size - b)) * size * SIZE + 0.5, 0, 1) for a, b in lobes], 0)
            canvas.lay(core * mask, dye * (0.6 + 0.15 * _noise(rng, 2)[..., None]))
    return canvas.finish()


@functools.cache
def _systems() -> list[tuple[np.ndarray, np.ndarray]]:
    "Iterated function systems whose attractors fill enough of the square, always the same"
    rng = np.random.default_rng(2020)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    while len(found) < N_FRACTALS:
        n = int(rng.integers(2, 6))
        maps = rng.uniform(-1, 1, (n, 2, 3))
        if np.linalg.norm(maps[:, :, :2], 2, axis=(1, 2)).max() > 0.95:
            continue
        weight = np.abs(np.linalg.det(maps[:, :, :2])) + 0.02
        image = _attractor(maps, weight / weight.sum(), np.random.default_rng(0))
        if (image > 0).mean() > 0.06:
            found.append((maps, weight / weight.sum()))
    return found


def _attractor(maps, weight, rng, walkers=400, steps=45) -> np.ndarray:
    "How often the chaos game visits each pixel"
    points, seen = rng.uniform(-1, 1, (walkers, 2)), []
    for step in range(steps):
        m = maps[rng.choice(len(maps), walkers, p=weight)]
        points = np.einsum("nij,nj->ni", m[:, :, :2], points) + m[:, :, 2]
        if step > 8:
            seen.append(points)
    cloud = np.concatenate(seen)
    low, high = np.percentile(cloud, 1, 0), np.percentile(cloud, 99, 0)
    cloud = (cloud - (low + high) / 2) / (max(high - low) + 1e-6) * 0.85 + 0.5
    return np.histogram2d(cloud[:, 1], cloud[:, 0], SIZE, ((0, 1), (0, 1)))[0]


def _draw_fractal(rng):
    canvas = _Canvas(rng, 0.7)
    index = int(rng.integers(N_FRACTALS))
    maps, weight = _systems()[index]
    visits = _attractor(maps * (1 + 0.04 * rng.standard_normal(maps.shape)), weight, rng)
    visits = ndimage.rotate(visits, rng.uniform(-30, 30), reshape=False, order=1)
    glow = np.clip(ndimage.gaussian_filter(visits, rng.uniform(0.5, 0.9)) * rng.uniform(1, 4), 0, 1)
    canvas.lay(glow.astype(np.float32), _material(rng, 0.6)[0])
    canvas.things[ndimage.maximum_filter(visits > 0.5, 5)] = _THING[f"fractal{index}"]
    return canvas.finish()


def _draw_leaves(rng):
    canvas = _Canvas(rng, 0.4)
    textured = rng.random() < 0.5
    image, count = Image.new("I", (SIZE, SIZE)), int(rng.integers(30, 140))
    draw = ImageDraw.Draw(image)
    shape = int(rng.integers(4))
    for i in range(1, count):
        r = SIZE * min(0.4, 0.03 / rng.random() ** 0.6)
        points = (_oval(n=20), _oval(n=4), _oval(n=3), _star(5, 0.5))[shape] @ np.array([[c := np.cos(t := rng.uniform(0, 6.3)), s := np.sin(t)], [-s, c]])
        draw.polygon([tuple(p) for p in (points * r * rng.uniform(0.5, 1, 2) + rng.uniform(0, SIZE, 2)).tolist()], fill=i)
    owner = np.asarray(image)
    palette = np.stack([_colour(rng) for _ in range(count)])
    rgb = palette[owner]
    if textured:
        rgb = rgb * (0.6 + 0.8 * pattern(PATTERNS[int(rng.integers(2, len(PATTERNS)))], rng))[..., None]
    canvas.lay((owner > 0).astype(np.float32), rgb, _THING["leaf shape"], 0)
    return canvas.finish()


@functools.cache
def _fonts(size: int) -> list[ImageFont.FreeTypeFont]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [ImageFont.truetype(str(f), size) for f in sorted(folder.glob("DejaVu*.ttf")) if "Display" not in f.name]


def _draw_glyph(rng):
    canvas = _Canvas(rng, 0.6)
    rgb, kind = _material(rng, 0.7)
    single = rng.random() < 0.6
    size = int(rng.integers(7, 12) * 8) if single else int(rng.integers(2, 5) * 8)
    fonts = _fonts(size)
    font = fonts[int(rng.integers(len(fonts)))]
    ink, owner = Image.new("L", (SIZE, SIZE)), Image.new("L", (SIZE, SIZE))
    on_ink, on_owner = ImageDraw.Draw(ink), ImageDraw.Draw(owner)
    for row in [SIZE / 2] if single else np.arange(size * 0.6, SIZE, size * 1.2):
        at = SIZE / 2 if single else size * 0.4
        while at < SIZE:
            letter = GLYPHS[int(rng.integers(len(GLYPHS)))]
            on_ink.text((at, row), letter, 255, font, "mm")
            on_owner.rectangle(on_ink.textbbox((at, row), letter, font, "mm"), fill=_THING[letter])
            at += SIZE if single else size * 0.75
    turn = rng.uniform(-20, 20)
    mask = np.asarray(ink.rotate(turn, Image.Resampling.BILINEAR), np.float32) / 255
    canvas.lay(mask, rgb, None, kind)
    where = np.asarray(owner.rotate(turn))
    canvas.things = np.where(where > 0, where, canvas.things)
    return canvas.finish()


_FAMILY = dict(zip(FAMILIES, (_draw_object, _draw_scene, _draw_pattern, _draw_surface, _draw_cells, _draw_fractal, _draw_leaves, _draw_glyph), strict=True))


def draw(
    seed: int | tuple[int, ...],  # Determines the whole picture
    family: str | None = None,  # One of `FAMILIES`; drawn by their shares by default
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:  # image (112, 112, 3), things and stuff (28, 28), family number
    "One picture with its maps"
    rng = np.random.default_rng(seed)
    number = int(rng.choice(len(FAMILIES), p=_SHARES))
    if family is not None:
        if family not in FAMILIES:
            raise ValueError(f"family {family!r} is not known. Use one of {FAMILIES}.")
        number = FAMILIES.index(family)
    return *_FAMILY[FAMILIES[number]](rng), number
