"""Writes YAML that every reader understands in the same way."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

# Strings that every reader of YAML 1.1 or 1.2 reads as strings. Others are quoted: Kubernetes reads `y` as a
# boolean and `1e3` as a number.
_PLAIN: Final = re.compile(
    r"-{0,2}[A-Za-z_/$][A-Za-z0-9_./:$()~=*,-]*(?<!:)"  # names, images, flags
    r"|[0-9]+(?:m|[KMG]i)"  # quantities
)
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
        style = None if plain else "|" if "\n" in text else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def to_yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
