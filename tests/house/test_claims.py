"""No figure of a page, a recipe's comment or a benchmark was typed by hand.

Measurements come from result files, through `docs/generate.py`. This walks every number that it did
not compute, and knows by rule what is no measurement (`claims.py`).
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.house.claims import comments, docstrings, numbers

ROOT = Path(__file__).parents[2]
DATED = {"docs/journal.md"}  # a record of days that are over
PATTERNS = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "recipes/**/*.toml", "benchmarks/*.py")
WHAT_TO_DO = """figures that nothing computes.
A measurement is taken from a result file: by a part or a figure of docs/blocks.py, or in one of
docs/*_text.py. Where no result has it, measure it with a script in benchmarks/, or leave it out.
Where it is none (a size, a default), write it as tests/house/claims.py expects: with what it
counts, or in code."""


@pytest.fixture(scope="module")
def docs() -> dict[str, ModuleType]:
    """The scripts that make the pages."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        names = [
            *("results", "digits_text", "other_text", "evidence", "readme_text", "where"),
            *("blocks", "generate"),
        ]
        return {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(ROOT / "docs"))


def files() -> list[str]:
    found = [path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]
    return [name for path in found if (name := path.relative_to(ROOT).as_posix()) not in DATED]


def test_every_figure_comes_from_a_result(docs: dict[str, ModuleType]) -> None:
    made = docs["generate"].marked_pages(lenient=True)
    found = []
    for name in files():
        text = (ROOT / name).read_text(encoding="utf-8")
        if name in made:
            text = docs["results"].typed(made[name])
        if name.endswith(".toml"):
            text = comments(text)
        if name.endswith(".py"):
            text = docstrings(ROOT / name)
        found += [str(one) for one in numbers(text, name)]
    assert not found, f"{len(found)} {WHAT_TO_DO}\n  " + "\n  ".join(found)


@pytest.mark.parametrize(
    "sentence",
    [
        "The judge rises to 0.83 with every seed.",
        "DDRL takes 95 % of the gain.",
        "The loss ends at +2.3 %, and the distance at 353.",
        "A run takes 12 minutes on a free core.",
        "It costs 6 % of CPU time (0.36 s beside 0.22 s an iteration).",
        "24 of 24 verdicts were right.",
        "nine `times`: 9 times the weights, or 4 times",
        "leave 10 to 15 % free",
        "| DDRL | 0.762 | 29 % |",
        "the reward is `0.83`",
        "ends at -0.12 and stays below 5 %",
        "at most 3 % of them, up to 0.4",
        "Retries took 2 s, the peak was 3 GB.",
        "styles differ .76 as often",
        "```\nblurred   0.3019   -0.0009\n```",
    ],
)
def test_a_typed_measurement_is_seen(sentence: str) -> None:
    (first, *_) = numbers(f"# Page\n\n{sentence}\n", "docs/page.md")
    assert (first.file, first.line) == ("docs/page.md", 4 if "\n" in sentence else 3)
    assert str(first).startswith(f"docs/page.md:{first.line}: {first.number} in ")
    assert first.number in first.text
    assert first.text in sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "Ten prompts of 16 samples, 8x8 pixels and 32 x 96, 597 images, LoRA of rank 32.",
        "Python 3.11 and PyTorch 2.13.0 with SD3.5, FLUX.1, Wan2.1-1.3B, SD 1.5 and Apache-2.0.",
        "eq. (T4), [2512.04332](https://arxiv.org/abs/2512.04332), arXiv 2505.05470, 2026-11-21",
        "at beta 0.1, kappa 3 and seeds 0, 1 and 2; `objective.beta = 0.3` or objective.beta=0.3",
        "95 % intervals; equal to 1e-6; pixels in [0, 1]; HTTP 429; exit code 6",
        "The paper has 0.715 [p]; one GPU of 80 GB; at most 64 of them.",
        "<!-- from the paper -->\n| DDRL | 0.604 | -6.7 % |\n<!-- end of the paper -->",
    ],
)
def test_what_is_no_measurement_is_known(sentence: str) -> None:
    assert [str(one) for one in numbers(sentence, "docs/page.md")] == []


def test_what_is_computed_is_told_from_what_is_typed(docs: dict[str, ModuleType]) -> None:
    results = docs["results"]
    text = (
        f"DDRL takes {results.part(0.951)} of it,\nand {results.made(results.num(1.5))} or 47 %.\n"
    )
    (only,) = numbers(results.typed(text), "docs/evidence.md")
    assert (only.line, only.number) == (2, "47")
    assert results.plain(text) == "DDRL takes 95 % of it,\nand 1.50 or 47 %.\n"


def test_a_changed_digit_is_out_of_date(docs: dict[str, ModuleType], tmp_path: Path) -> None:
    generate, results = docs["generate"], docs["results"]
    made = {k: v for k, v in generate.marked_pages(lenient=True).items() if k == "README.md"}
    page = tmp_path / "README.md"
    page.write_text(results.plain(made["README.md"]), encoding="utf-8")
    assert generate.out_of_date(made, tmp_path) == []
    row = next(line for line in page.read_text("utf-8").splitlines() if line.startswith("| DDRL"))
    page.write_text(page.read_text("utf-8").replace(row, row.replace("|", "| 1", 2)), "utf-8")
    assert generate.out_of_date(made, tmp_path) == ["README.md"]


@pytest.fixture
def copied(docs: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the results, which the generator reads."""
    results = docs["results"]
    shutil.copytree(results.RESULTS, tmp_path / "results")
    read = results.read_result.__wrapped__
    for module in docs.values():
        if hasattr(module, "read_result"):
            monkeypatch.setattr(
                module, "read_result", lambda name: read(name, tmp_path / "results")
            )
    return tmp_path / "results"


def change(folder: Path, label: str, figure: str, values: list[float]) -> None:
    """Other figures of one row of the digits' comparison."""
    path = folder / "compare_digits.json"
    result = json.loads(path.read_text())
    (row,) = [cell for cell in result["cells"] if cell["label"] == label]
    row["figures"][figure]["per_seed"] = values
    path.write_text(json.dumps(result))


def test_a_rerun_changes_the_sentences(docs: dict[str, ModuleType], copied: Path) -> None:
    text = docs["digits_text"]
    change(copied, text.BUDGET, text.LOSS, [0.021, 0.034, 0.031])
    assert "+2.1 to +3.4 %: two of the three seeds end past it, the farthest by 0.4" in (
        docs["results"].plain(text.budget())
    )
    change(copied, text.BUDGET, text.LOSS, [0.02, 0.025, 0.03])
    assert "every seed ends within it" in docs["results"].plain(text.budget())


def test_a_sentence_that_no_longer_holds_stops_the_generator(
    docs: dict[str, ModuleType], copied: Path
) -> None:
    path = copied / "compare_digits_fronts.json"
    result = json.loads(path.read_text())
    for cell in result["cells"]:
        if cell["label"] == "DDRL, beta 0.1":
            cell["verdicts"] = ["hacked", "clean", "hacked"]
    path.write_text(json.dumps(result))
    wanted = r'no longer bear out: "neither is hack-proof at a small beta".*write what they say now'
    with pytest.raises(docs["results"].StaleError, match=wanted):
        docs["digits_text"].fronts()


def test_a_missing_result_names_what_makes_it(docs: dict[str, ModuleType], copied: Path) -> None:
    (copied / "digits.json").unlink()
    with pytest.raises(docs["results"].StaleError, match=r"digits\.json is not there"):
        docs["readme_text"].digits_block("")


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        (None, "does not say which sources"),
        ({"trained_at": ["a-dirty"], "audited_at": ["a"], "reported_at": ["a"]}, "not committed"),
        ({"trained_at": [""], "audited_at": ["a"], "reported_at": ["a"]}, "outside of a commit"),
        ({"trained_at": ["a"], "audited_at": ["b"], "reported_at": ["b"]}, ""),
    ],
)
def test_what_is_published(docs: dict[str, ModuleType], origin: object, why: str) -> None:
    found = docs["results"].unfit({} if origin is None else {"provenance": origin})
    assert (why in found) if why else (found == "")


@pytest.mark.parametrize(
    "result",
    [
        {"commit": "c" * 40 + "-dirty", "hardware": "a machine"},
        {"environment": {"Code": f"ddrl 0.1.0, commit {'c' * 40}-dirty", "Hardware": "a machine"}},
    ],
)
def test_a_result_of_an_earlier_version_is_shown_as_one(
    docs: dict[str, ModuleType], result: dict[str, object]
) -> None:
    assert docs["results"].unfit(result) == ""
    line = docs["results"].plain(docs["results"].source(result))
    assert f"by an earlier version, at commit `{'c' * 12}-dirty`, a machine; not measured" in line


def test_two_commits_and_a_dirty_one_are_shown(docs: dict[str, ModuleType]) -> None:
    origin = {
        "trained_at": ["a" * 40],
        "audited_at": ["b" * 40 + "-dirty"],
        "hardware": "a machine",
        "versions": {"torch": "2.13.0"},
        "seeds": [0, 1],
        "command": "ddrl compare x.toml",
    }
    line = docs["results"].plain(docs["results"].source({"provenance": origin}))
    assert f"Trained at commit `{'a' * 12}`, audited at another commit, `{'b' * 12}-dirty`" in line
    assert line.endswith("seeds 0, 1. Repeat: `ddrl compare x.toml`.")
