"""What the site shows beside the files of docs/: the changelog, which lies in the repository's root.

MkDocs calls `on_files` while it builds; `mkdocs.yml` names this file under `hooks`.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
SOURCE, PAGE = "CHANGELOG.md", "changelog.md"
ELSEWHERE = {"SECURITY.md": "security.md", "README.md": "index.md"}


def changelog(text: str) -> str:
    """The changelog with its links as they are seen from docs/."""

    def from_docs(found: re.Match[str]) -> str:
        target = found[1].removeprefix("docs/")
        return f"]({ELSEWHERE.get(target, target)}"

    return re.sub(r"\]\((?![a-z]+:)([^)\s#]+)", from_docs, text)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog to the pages."""
    text = changelog((ROOT / SOURCE).read_text(encoding="utf-8"))
    files.append(File.generated(config, PAGE, content=text))
    return files
