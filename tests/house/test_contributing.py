"""What CONTRIBUTING.md says of the tree and of the layers is so."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.test_layers import MAY_IMPORT

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGES = {path.parent.name for path in (ROOT / "src" / "ddrl").glob("*/__init__.py")}


def test_the_tree_has_every_package_and_no_other() -> None:
    tree = TEXT.partition("## The tree")[2].partition("## ")[0]
    assert set(re.findall(r"[├└]── (\w+)/", tree)) == PACKAGES


def test_a_package_has_a_folder_of_tests_of_its_name() -> None:
    without = {name for name in PACKAGES if not any((ROOT / "tests" / name).rglob("test_*.py"))}
    assert without == set()


def test_the_table_of_layers_is_that_of_the_test() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", TEXT.partition("| may import |")[2], re.MULTILINE)
    said = {unit: set(re.findall(r"`([\w.]+)`", names)) for unit, names in rows}
    table = {unit: said[unit] for unit in said if unit in MAY_IMPORT}
    assert set(table) > PACKAGES
    here = set(table)
    assert table == {
        unit: {name for name in MAY_IMPORT[unit] if name.split(".")[0] in here} for unit in here
    }


def test_the_named_folders_of_tests_are_there() -> None:
    named = set(re.findall(r"`tests/(\w+)`", TEXT)) - {"fakes"}
    assert {"analytic", "flow", "house", "fuzz", "gpu"} <= named
    assert {name for name in named if not (ROOT / "tests" / name).is_dir()} == set()
