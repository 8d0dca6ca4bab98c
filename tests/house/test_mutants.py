"""The tables of mutants still fit the code: every fault can be planted where it says."""

from __future__ import annotations

from tests.mutants.tables import SOURCE, read_tables

# Packages without a table of their own: public names, the errors' texts, and what is for users'
# own tests; the command line is thin over `builders`.
WITHOUT = {"__pycache__", "__init__", "__main__", "cli", "errors", "testing", "votes"}


def test_every_mutant_can_be_planted() -> None:
    found = [line for table in read_tables() for one in table.mutants for line in one.problems()]
    assert found == []


def test_no_mutant_is_there_twice() -> None:
    titles = [(one.file, one.old, one.new) for table in read_tables() for one in table.mutants]
    assert len(set(titles)) == len(titles)


def test_every_package_has_mutants() -> None:
    files = [one.file for table in read_tables() for one in table.mutants]
    packages = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {file.partition("/")[0].removesuffix(".py") for file in files} == packages - WITHOUT


def test_equivalent_mutants_are_few() -> None:
    """A mutant that changes nothing says nothing about the tests."""
    mutants = [one for table in read_tables() for one in table.mutants]
    assert len([one for one in mutants if one.equivalent]) <= 0.05 * len(mutants)
