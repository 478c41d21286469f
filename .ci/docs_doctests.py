"""Doctests of docstrings as blocks of code in the reference; Markdown would take `>>>` for quotations."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_DOCTEST = re.compile(r"^>>> .*(?:\n(?=\S).*)*", re.MULTILINE)


class Doctests(Extension):
    """Fences every doctest."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Changes the docstring of whatever has one."""
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
