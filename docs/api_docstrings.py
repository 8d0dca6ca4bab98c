"""Docstrings on the API page: marks of reStructuredText become Markdown's.

mkdocstrings reads the source through griffe, without importing it; `mkdocs.yml` names this file under
its `extensions`.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")


def markdown(text: str) -> str:
    """A docstring's text with `:func:`name`` as code."""
    return ROLE.sub(r"`\1`", text)


class Markdown(griffe.Extension):
    """Rewrites every docstring that is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401
        """Called once for each class, function, module and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
