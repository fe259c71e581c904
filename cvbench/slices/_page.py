"""The report of slices as HTML: one card per slice, mistakes above their nearest correct examples; text from data is escaped"""

import base64
import math
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = """<style>
.cvs{font-family:system-ui,sans-serif;max-width:960px;line-height:1.45}
.cvs h3{margin:0 0 .2em;font-size:1.1em}
.cvs .card{border:1px solid rgba(128,128,128,.35);border-radius:8px;padding:.9em 1.1em;margin:1em 0}
.cvs code{font-size:.9em;overflow-wrap:anywhere;background:rgba(128,128,128,.13);padding:.1em .35em;border-radius:4px}
.cvs p{margin:.45em 0}
.cvs .soft{opacity:.72;font-size:.9em}
.cvs .bar{display:grid;grid-template-columns:max-content minmax(80px,300px) max-content;gap:.25em .8em;align-items:center;margin:.6em 0}
.cvs .bar i{display:block;height:.8em;border-radius:3px;min-width:2px}
.cvs .pairs{display:flex;flex-wrap:wrap;gap:.6em;margin:.7em 0 .2em}
.cvs figure{margin:0;width:112px;font-size:.78em;line-height:1.25}
.cvs figure img,.cvs figure .none{width:112px;height:112px;object-fit:contain;border-radius:4px;background:rgba(128,128,128,.13);display:block}
.cvs figcaption{margin:.2em 0 .55em;overflow-wrap:anywhere}
.cvs .bad{color:var(--cv-error,#c24e00)}.cvs .good{color:var(--cv-good,#00795a)}
.cvs table{border-collapse:collapse;font-size:.86em}.cvs td,.cvs th{text-align:left;padding:.15em .7em .15em 0;vertical-align:top}
.cvs .wide{overflow-x:auto}
</style>"""


def clean(value: Any, width: int = 60) -> str:
    "Text from data, escaped for HTML"
    if isinstance(value, (list, tuple, set)) or hasattr(value, "tolist"):
        value = ", ".join(map(str, value.tolist() if hasattr(value, "tolist") else value)) or "none"
    text = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in str(value)[: 4 * width])
    text = " ".join(text.split()) or "(empty)"
    return escape(text if len(text) <= width else text[: width - 1] + "…")


def points(value: float) -> str:
    "Percentage points with a sign, such as +26.3"
    return f"{100 * value:+.1f}".replace("-", "−")


def small(name: str, value: float) -> str:
    "A small value with its name, such as q = 0.04"
    return f"{name} < 0.001" if value < 0.001 else f"{name} = {value:.2g}"


def bars(share: float, rest: float, n: int, others: int, unit: str) -> str:
    most = max(share, rest, 1e-9)
    rows = (("this slice", share, n, "var(--cv-error,#c24e00)"), ("the rest", rest, others, "var(--cv-muted,#667080)"))
    cells = (
        f"<span>{name}</span><i style='width:{100 * v / most:.1f}%;background:{colour}'></i>"
        f"<span><b>{100 * v:.1f} %</b> {unit} <span class='soft'>({k:,} images)</span></span>"
        for name, v, k, colour in rows
    )
    return f"<div class='bar'>{''.join(cells)}</div>"


def picture(image: bytes | None, caption: str) -> str:
    if image:
        shown = f"<img alt='' src='data:image/webp;base64,{base64.b64encode(image).decode()}'>"
    else:
        shown = "<span class='none'></span>"
    return f"{shown}<figcaption>{caption}</figcaption>"


def pairs(examples: Sequence[Mapping[str, Any]], images: Mapping[str, bytes]) -> str:
    "Each mistake above its nearest correct example"
    if not examples or not images:
        return ""
    out = []
    for e in examples:
        top = f"{clean(e['target'], 24)} <span class='bad'>taken for {clean(e['pred'], 24)}</span>"
        below = (
            f"<span class='good'>right</span>: {clean(e['target'], 24)}"
            if e.get("look_alike")
            else "no similar image is right"
        )
        out.append(
            f"<figure>{picture(images.get(e['sample_id']), top)}{picture(images.get(e.get('look_alike') or ''), below)}</figure>"
        )
    head = "<p class='soft'>Top: typical mistakes. Below each: the nearest correct example of the same class, from outside the slice if possible.</p>"
    return f"{head}<div class='pairs'>{''.join(out)}</div>"


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    def show(v):
        if isinstance(v, float):
            return "" if math.isnan(v) else f"{v:.3g}" if abs(v) < 1e5 else f"{v:.0f}"
        return clean("" if v is None else v, 90) if v not in ("", None) else ""

    head = "".join(f"<th>{clean(c)}</th>" for c in columns)
    body = "".join("<tr>" + "".join(f"<td>{show(r.get(c))}</td>" for c in columns) + "</tr>" for r in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def card(
    number: int,
    name: str,
    rule: str,
    lines: Sequence[str],
    evidence: Mapping[str, Any],
    shown: str,
    absorbed: Sequence[Mapping[str, Any]],
) -> str:
    "HTML of one slice"
    also = ""
    if absorbed:
        items = "".join(
            f"<li>{clean(a['name'], 120)} <span class='soft'>by {clean(a['found_by'])}, {small('q', a['q'])}</span></li>"
            for a in absorbed
        )
        counted = (
            "1 more confirmed candidate is" if len(absorbed) == 1 else f"{len(absorbed)} more confirmed candidates are"
        )
        also = f"<details><summary class='soft'>{counted} explained by it</summary><ul>{items}</ul></details>"
    said = "".join(f"<p>{x}</p>" for x in lines)
    figures = bars(
        evidence["error"],
        evidence["rest_error"],
        evidence["n"],
        evidence["rest"],
        "wrong" if evidence["measure"] == "wrong" else "loss",
    )
    return f"<div class='card'><h3>{number}. {clean(name, 200)}</h3><p><code>{clean(rule, 600)}</code></p>{figures}{said}{shown}{also}</div>"
