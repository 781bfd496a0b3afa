"""Pages from the templates in `templates/`, which escape all that they write.

Text comes from specs, jobs and logs: before it is escaped, what looks like a secret is left out, and so are terminal escapes. A
template writes as HTML only what is marked as such (`Markup`): charts, and what the filters below make.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from torc.redaction import cleaned, redact
from torc.reports import numbers

_LONGEST = 2000


def render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(values)


def asset(name: str) -> Markup:
    """Return a file that stands in a page as it is: for <style> or <script>."""
    return Markup(files("torc.reports").joinpath(name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("torc.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        when=_of_numbers(numbers.when),
        iso=_of_numbers(numbers.iso),
        size=_of_numbers(numbers.size),
        span=_of_numbers(numbers.span),
        thousands=_of_numbers("{:,}".format),
        code=_code,
        limited=_limited,
        beginning=_beginning,
        pill=_pill,
        spaced=_spaced,
    )
    return made


class _Shown(str):
    """Text without secrets and terminal escapes; it is still to be escaped."""

    __slots__ = ()


def _finalized(value: Any) -> Any:
    """Prepare whatever a template writes, unless that has been done."""
    if value is None:
        return ""
    return value if isinstance(value, Markup | _Shown | int) else _limited(value, _LONGEST)


def _limited(text: object, limit: int) -> _Shown:
    """Keep so many characters, the last ones."""
    return _Shown(cleaned(redact(str(text)), limit))


def _beginning(text: str, limit: int) -> _Shown:
    """Keep so many characters, the first ones, and say how many more there are."""
    shown = cleaned(redact(text))
    more = f"\n[{len(shown) - limit:,} more characters are left out]" if len(shown) > limit else ""
    return _Shown(shown[:limit] + more)


def _of_numbers(write: Any) -> Any:
    """Return a filter that writes a number: digits and units hold no secret, and a table may have a hundred thousand."""
    return lambda number: Markup(write(number))


def _code(text: object) -> Markup:
    """Write a short text in letters of one width."""
    return Markup("<code>{}</code>").format(_finalized(text))


def _spaced(name: str) -> str:
    """Write a name of ours as words."""
    return name.replace("_", " ")


def _pill(state: str) -> Markup:
    """Write a state: by name and color."""
    return Markup('<span class="pill {}">{}</span>').format(state, _spaced(state))
