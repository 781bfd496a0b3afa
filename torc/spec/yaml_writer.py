"""Write the data of a spec as YAML that every reader interprets alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from torc.spec.formats import SCHEMA_FILE


def write_yaml(data: Mapping[str, Any]) -> str:
    header = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
    return header + yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Keeps multi-line text readable, and never writes references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # only what a block scalar preserves exactly: no trailing blanks, only line feeds as line endings
    plain = "\n" in text and not re.search(r"[ \t]\n|[^\n -~\u00a1-\ud7ff]|\A\s|[ \t]\Z", text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if plain else _quotes(text))


def _quotes(text: str) -> str | None:
    """Quote what other YAML readers may interpret differently, and what only double quotes preserve."""
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\xa0\u2028\u2029\ufeff]", text):
        return '"'
    return "'" if re.fullmatch(r"[-+.0-9][-+.:_0-9eExXoO]*|[yYnN]|on|off|yes|no|On|Off|Yes|No", text) else None


_Dumper.add_representer(str, _text)
