"""Docstrings on the API page: marks of reStructuredText become Markdown's.

mkdocstrings reads the source through griffe, without importing it; `mkdocs.yml` names this file under
its `extensions`.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")
EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)  # which griffe takes for a box of text


def markdown(text: str) -> str:
    """Return a docstring's text with `:func:`name`` as code, and examples as sessions of Python."""
    return EXAMPLE.sub(r"\1Examples:", ROLE.sub(r"`\1`", text))


class Markdown(griffe.Extension):
    """Rewrites every docstring that is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401
        """Called once for each class, function, module and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
