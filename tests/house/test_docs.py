"""The documentation keeps its promises: links, targets, commands and equations exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from markdown.extensions.toc import slugify, unique
from tests.cli.command import ddrl

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted(SITE.rglob("*.md")),
]
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)|<(?:img|a)\b[^>]*(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
STARTS = r"(?:^|[;&|$][ \t]*)[ \t]*"
MAKE = re.compile(STARTS + r"make[ \t]+([a-z][a-z-]*)", re.MULTILINE)
COMMAND = re.compile(
    STARTS + r"(?:\S*/bin/)?ddrl[ \t]+((?:(?:data|recipe|reward)[ \t]+)?[a-z][a-z-]*)", re.MULTILINE
)
EQUATION = re.compile(r"\(([PTOLA]\d)\)")
CITATIONS = re.compile(r"\beqs?\.\s+((?:\(?[PTOLA]\d\)?(?:\s*(?:,|-|and|to)\s*)?)+)")


def code_of(page: Path) -> list[str]:
    """The code of a page: its fenced blocks without the fences, and its inline spans."""
    text = page.read_text(encoding="utf-8")
    blocks = ["\n".join(block.splitlines()[1:-1]) for block in FENCE.findall(text)]
    return blocks + SPAN.findall(FENCE.sub("", text))


def mentions(pattern: re.Pattern[str]) -> dict[str, str]:
    """What the pattern finds in the code of all pages, with the first page that says it."""
    found: dict[str, str] = {}
    for page in PAGES:
        for code in code_of(page):
            for name in pattern.findall(code):
                found.setdefault(name, page.name)
    return found


def links_of(page: Path) -> list[str]:
    """The targets of a page's links and pictures, but for those with a scheme."""
    text = SPAN.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    targets = ["".join(groups) for groups in LINK.findall(text)]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site names them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    used: set[str] = set()
    for heading in HEADING.findall(text):
        unique(slugify(heading.replace("`", ""), "-"), used)
    return used


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Files, and the headings in them; pages of the site link to nothing outside of it."""
    broken = []
    for target in links_of(page):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        is_outside = page.is_relative_to(SITE) and not file.resolve().is_relative_to(SITE)
        is_lost = anchor and file.suffix == ".md" and anchor not in anchors_of(file)
        if is_outside or not file.exists() or is_lost:
            broken.append(target)
    assert broken == []


def test_navigation_lists_the_pages() -> None:
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    pages = {page.relative_to(SITE).as_posix() for page in PAGES if page.is_relative_to(SITE)}
    assert set(listed) == pages | {"changelog.md"}  # docs/site_hooks.py adds it


def test_the_changelog_links_as_seen_from_the_site() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    shown = _load(SITE / "site_hooks.py").changelog(text)
    targets = ["".join(groups) for groups in LINK.findall(SPAN.sub("", FENCE.sub("", shown)))]
    here = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert "models.md" in here
    assert [name for name in here if not (SITE / name.partition("#")[0]).exists()] == []


def test_the_api_page_has_every_public_name() -> None:
    import ddrl as package

    named = re.findall(r"^::: ([\w.]+)$", (SITE / "api.md").read_text("utf-8"), re.MULTILINE)
    assert len(named) == len(set(named))
    assert {f"ddrl.{name}" for name in package.__all__} <= set(named)
    for name in named:
        module, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(module), last), name


def test_roles_in_docstrings_become_code() -> None:
    pytest.importorskip("griffe")
    markdown = _load(SITE / "api_docstrings.py").markdown
    assert markdown("See :func:`~ddrl.records.check` and ``x``.") == "See `check` and ``x``."


def _load(path: Path) -> ModuleType:
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_make_targets_exist() -> None:
    rules = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = mentions(MAKE)
    assert {"demo", "test", "check"} <= named.keys()
    assert {name: page for name, page in named.items() if name not in rules} == {}


def test_commands_exist() -> None:
    named = mentions(COMMAND)
    assert {"train", "evaluate", "recipe list"} <= named.keys()
    unknown = [name for name in named if ddrl(*name.split(), "--help").code]
    assert {name: named[name] for name in unknown} == {}


def test_cited_equations_are_defined() -> None:
    method = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    defined = set(re.findall(r"^\(([PTOLA]\d)\)  ", method, re.MULTILINE))
    cited: dict[str, str] = {}
    for path in sorted((ROOT / "src" / "ddrl").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name in EQUATION.findall(text):
            cited.setdefault(name, path.name)
        for run in CITATIONS.findall(text):
            for name in re.findall(r"[PTOLA]\d", run):
                cited.setdefault(name, path.name)
    assert cited
    assert {name: file for name, file in cited.items() if name not in defined} == {}


def test_commands_after_the_demo_need_nothing_more() -> None:
    from ddrl.recipe import load_recipe
    from ddrl.rewards.catalog import catalog

    needing = {entry.name for entry in catalog() if entry.card is not None and entry.card.extra}
    assert "ocr" in needing
    after = (ROOT / "docs/commands.md").read_text("utf-8").partition("After `make demo`:")[2]
    block = FENCE.search(after)
    assert block is not None
    recipes = re.findall(r"ddrl train (recipes/\S+\.toml)", block[0])
    assert recipes
    for name in recipes:
        recipe = load_recipe(ROOT / name)
        assert recipe.model.family == "tiny", name
        assert needing.isdisjoint(reward.name for reward in recipe.reward), name
    assert needing.isdisjoint(block[0].split())
