"""Templates write nothing as it is: whatever they are given is redacted and escaped, unless it is marked as HTML."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from torc.reports.templates import _environment

EVIL = "<b>&'\x1b[31m token=abcd1234efgh"


def written(source: str, **values: object) -> str:
    return _environment().from_string(source).render(values)


@pytest.mark.parametrize(
    "source",
    [
        "{{ x }}",
        "{{ x | code }}",
        "{{ x | limited(100) }}",
        "{{ x | beginning(100) }}",
        "{{ [x, x] | join(', ') }}",
        "{% macro m(y) %}<i>{{ y }}</i>{% endmacro %}{{ m(x) }}",
        "{% set y = x %}{{ y }}",
    ],
)
def test_what_is_written_is_escaped_and_holds_no_secret(source: str) -> None:
    shown = written(source, x=EVIL)
    assert "<b>" not in shown and "&lt;b&gt;" in shown and "&amp;" in shown and "\x1b" not in shown
    assert "abcd1234efgh" not in shown


def test_only_what_is_marked_is_html() -> None:
    assert written("{{ x }}", x=Markup("<svg/>")) == "<svg/>"
    assert written("{{ a }}{{ b }}", a=None, b=3) == "3"
    assert written("{{ x | beginning(4) }}", x="a<cdef") == "a&lt;cd\n[2 more characters are left out]"


def test_a_name_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        written("{{ nothing }}")


def test_all_templates_can_be_read() -> None:
    names = _environment().list_templates()
    assert {"report.html", "plots.html", "macros.html"} < set(names)
    for name in names:
        _environment().get_template(name)
