"""How report pages look, and what can be clicked: `report.css` and `report.js`, with those of the charts before them."""

from __future__ import annotations

from importlib.resources import files

from torc.reports.charts.page import SCRIPT, STYLE


def style() -> str:
    """Return what stands in <style>."""
    return STYLE + _text("report.css")


def script() -> str:
    """Return what stands in <script>."""
    return SCRIPT + _text("report.js")


def _text(name: str) -> str:
    return files("torc.reports").joinpath(name).read_text(encoding="utf-8")
