"""What pages with charts need: style and script; and pictures for papers. Nothing is loaded from anywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torc.reports.charts.efficiency import Figure
from torc.reports.charts.svg import LETTER, WIDTH, coordinate, shortened, text

#: name -> (light, dark); distinguishable for color-blind people too (Okabe and Ito, 2008)
_COLORS = {
    "paper": ("#ffffff", "#14171a"),
    "ink": ("#1b1f23", "#e6e9ec"),
    "soft": ("#5c666f", "#9aa5af"),
    "grid": ("#e4e8eb", "#2a3036"),
    "line": ("#8c979f", "#5d6871"),
    "card": ("#f6f8f9", "#1c2126"),
    "completed": ("#009e73", "#1fb98d"),
    "failed": ("#d55e00", "#f0803a"),
    "terminated": ("#e69f00", "#f2b632"),
    "canceled": ("#9aa1a7", "#7a838b"),
    "running": ("#0072b2", "#4aa3df"),
    "used": ("#56a0cf", "#3f86b5"),
    "asked": ("#c2410c", "#fb8a4c"),
    "there": ("#5c666f", "#9aa5af"),
    "band": ("#b5d3e7", "#28506b"),
    "middle": ("#003f66", "#cfe8f8"),
    "most": ("#8a5a9e", "#c79bd9"),
    "class0": ("#0072b2", "#4aa3df"),
    "class1": ("#cc79a7", "#dd94bd"),
    "class2": ("#56b4e9", "#86ccf2"),
    "class3": ("#8c8c3a", "#b9b95f"),
    "class4": ("#6a51a3", "#a490d4"),
    "class5": ("#44aa99", "#63c9b8"),
    "class6": ("#882255", "#d0709f"),
    "class7": ("#5f6f82", "#93a4b8"),
}
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"
#: resvg supports neither system-ui nor variables
_PICTURE_FONT = "'DejaVu Sans','Liberation Sans',Arial,Helvetica,sans-serif"
_FILLED = ("completed", "failed", "terminated", "canceled", "running", "used", "band", *(f"class{n}" for n in range(8)))
_DRAWN = ("asked", "there", "middle", "most", *(f"class{n}" for n in range(8)))
_DASHED = {"asked": "6 4", "there": "2 3"}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: a heading, a sentence, and a chart (SVG)."""

    title: str
    words: str
    body: str


def _rules(scope: str) -> str:
    """Return the style of charts in terms of CSS variables."""
    rules = [
        "text{fill:$ink;font:12px $font}",
        ".tick,.note{fill:$soft;font-size:11px}",
        ".label,.legend{fill:$soft}",
        ".heading{font-weight:600;font-size:13px}",
        ".big{font-size:20px;font-weight:600}",
        ".title{font-size:18px;font-weight:600}",
        ".axis{stroke:$line}",
        ".grid{stroke:$grid}",
        ".stroke{fill:none;stroke-width:1.8}",
        ".thin{stroke-width:1.2}",
        ".halo{paint-order:stroke;stroke:$paper;stroke-width:3px;stroke-linejoin:round}",
        ".dot{opacity:.8}",
    ]
    rules += [f".fill.{name},.dot.{name}{{fill:${name}}}" for name in _FILLED]
    for name in _DRAWN:
        dashes = f";stroke-dasharray:{_DASHED[name]}" if name in _DASHED else ""
        rules.append(f".stroke.{name}{{stroke:${name}{dashes}}}")
    return "\n".join(
        f"{scope} {rule}".strip() if "," not in rule.split("{")[0] else _scoped(scope, rule) for rule in rules
    )


def _scoped(scope: str, rule: str) -> str:
    selectors, _, body = rule.partition("{")
    return ",".join(f"{scope} {each}".strip() for each in selectors.split(",")) + "{" + body


def _with_colors(rules: str, *, dark: bool) -> str:
    values = {name: pair[dark] for name, pair in _COLORS.items()} | {"font": _PICTURE_FONT}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], rules)


def _variables(*, dark: bool) -> str:
    return "".join(f"--{name}:{pair[dark]};" for name, pair in _COLORS.items())


#: included once in <style>; the colors follow the reader's preference, or data-theme="light|dark" of <html>
STYLE = (
    f":root{{color-scheme:light dark;{_variables(dark=False)}}}\n"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(dark=True)}}}}}\n"
    f":root[data-theme=light]{{color-scheme:light;{_variables(dark=False)}}}\n"
    f":root[data-theme=dark]{{color-scheme:dark;{_variables(dark=True)}}}\n"
    f"@media print{{:root:not(#x){{color-scheme:light;{_variables(dark=False)}}}}}\n"
    ".chart{display:block;width:100%;height:auto;max-width:1200px}\n.chart .item.away{opacity:.08}\n"
    ".chart .fill:hover,.chart .dot:hover{filter:brightness(1.15)}.chart path.stroke:hover{stroke-width:3}\n"
    "#tip{position:fixed;z-index:9;pointer-events:none;display:none;max-width:34rem;white-space:pre-line;padding:.4rem .6rem;"
    f"border-radius:5px;background:var(--ink);color:var(--paper);font:12px/1.4 {_FONT}}}\n"
    + re.sub(r"\$(\w+)", lambda m: _FONT if m[1] == "font" else f"var(--{m[1]})", _rules(".chart"))
)
#: included once in <script>: tooltips, and a filter if there is an <input id="filter">
SCRIPT = """
(() => {
  const tip = document.body.appendChild(Object.assign(document.createElement('div'), {id: 'tip'}));
  for (const title of document.querySelectorAll('.chart title')) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  addEventListener('pointermove', event => {
    const found = event.target.closest ? event.target.closest('[data-tip]') : null;
    tip.style.display = found ? 'block' : 'none';
    if (!found) return;
    tip.textContent = found.dataset.tip;
    const right = event.clientX + 14 + tip.offsetWidth > innerWidth;
    tip.style.left = (right ? Math.max(0, event.clientX - 14 - tip.offsetWidth) : event.clientX + 14) + 'px';
    tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4) + 'px';
  });
  const filter = document.getElementById('filter');
  if (filter) filter.addEventListener('input', () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const item of document.querySelectorAll('.chart .item'))
      item.classList.toggle('away', wanted !== '' && !item.dataset.name.toLowerCase().includes(wanted));
  });
})();
"""
PAGE_STYLE = (
    f"body{{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 {_FONT}}}"
    "main{max-width:1040px;margin:0 auto;padding:1.5rem 1.25rem 4rem}h1{font-size:1.5rem;margin:0}"
    "h2{font-size:1.1rem;margin:2.2rem 0 .2rem}"
    "p{margin:.2rem 0 .8rem;color:var(--soft)}.figures{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}"
    ".figures div{background:var(--card);border:1px solid var(--grid);border-radius:6px;padding:.5rem .9rem;min-width:6.5rem}"
    ".figures b{display:block;font-size:1.25rem}.figures span{font-size:.85rem}"
    ".figures div{flex:1 1 6.5rem;max-width:13rem}.figures small{display:block;color:var(--soft);font-size:.75rem;line-height:1.3}"
    "#filter{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);"
    "border-radius:5px;padding:.25rem .6rem;width:16rem}"
    "@media print{#filter{display:none}}"
)


def picture(title: str, figures: Sequence[Figure], sections: Sequence[Section], *, dark: bool = False) -> str:
    """Return a single SVG picture with all charts, one below the other, that any program can show."""
    drawn = [text(12, 30, shortened(title, WIDTH), look="title")]
    for number, each in enumerate(figures):
        x = 12 + number * (WIDTH - 24) / max(6, len(figures))
        drawn += [text(x, 64, each.value, look="big"), text(x, 82, each.name, look="label")]
    top = 112.0 if figures else 54.0
    for section in sections:
        size = re.search(r' width="([0-9.]+)" height="([0-9.]+)"', section.body)
        if size is None:
            continue
        drawn.append(text(12, top + 8, section.title, look="heading"))
        drawn.append(text(12 + 1.15 * LETTER * len(section.title) + 16, top + 8, section.words, look="note"))
        drawn.append(section.body.replace("<svg ", f'<svg x="0" y="{coordinate(top + 20)}" ', 1))
        top += float(size[2]) + 44
    style = _with_colors(_rules(""), dark=dark)
    paper = _COLORS["paper"][dark]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {coordinate(top)}" width="{WIDTH}" '
        f'height="{coordinate(top)}"><style>{style}</style><rect width="100%" height="100%" fill="{paper}"/>{"".join(drawn)}</svg>\n'
    )
