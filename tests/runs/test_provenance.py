"""What a result says of its origin: a file that was used and isn't committed makes it dirty."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddrl.runs import provenance
from ddrl.runs.describe import commits_in_words

ASK = """
import sys
from pathlib import Path
from ddrl.runs.provenance import commit_of_source
print(commit_of_source([Path(name) for name in sys.argv[1:]]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with this package and a script in it, committed."""
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    package = Path(provenance.__file__).parents[1]
    root = tmp_path / "repository"
    shutil.copytree(package, root / "src/ddrl", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "benchmarks/results").mkdir(parents=True)
    (root / "benchmarks/script.py").write_text("print()\n")
    (root / "benchmarks/results/old.json").write_text("{}\n")
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")
    return root


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    command = ["git", *who, "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def ask(root: Path, *files: str) -> str:
    command = [sys.executable, "-c", ASK, *(str(root / name) for name in files)]
    environment = {"PYTHONPATH": str(root / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


def test_a_clean_tree_gives_its_commit(checkout: Path) -> None:
    assert ask(checkout, "benchmarks/script.py") == git(checkout, "rev-parse", "HEAD")


def test_what_was_used_and_is_not_committed_counts(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "benchmarks/new.py").write_text("print()\n")
    assert ask(checkout, "benchmarks/script.py") == commit
    assert ask(checkout, "benchmarks/new.py") == f"{commit}-dirty"
    (checkout / "benchmarks/script.py").write_text("print(1)\n")
    assert ask(checkout, "benchmarks/script.py") == f"{commit}-dirty"
    assert ask(checkout) == commit


def test_an_untracked_file_in_the_package_counts(checkout: Path) -> None:
    (checkout / "src/ddrl/rewards/mine.py").write_text("VALUE = 1\n")
    assert ask(checkout).endswith("-dirty")


def test_other_results_do_not_count(checkout: Path) -> None:
    (checkout / "benchmarks/results/old.json").write_text('{"changed": 1}\n')
    (checkout / "benchmarks/results/new.json").write_text("{}\n")
    assert ask(checkout, "benchmarks/script.py") == git(checkout, "rev-parse", "HEAD")


def test_the_hash_sees_content_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("A = 1\n")
    first = provenance.digest_of_source(tmp_path)
    assert provenance.digest_of_source(tmp_path) == first
    (tmp_path / "a.py").write_text("A = 2\n")
    changed = provenance.digest_of_source(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    renamed = provenance.digest_of_source(tmp_path)
    assert len({first, changed, renamed}) == 3


def test_runs_were_trained_where_their_own_files_say(tmp_path: Path) -> None:
    for name, content in {
        "one": {"commit": "aaa"},
        "two": {"commit": "bbb", "resumed": [{"step": 5, "commit_before": "ccc-dirty"}]},
        "none": {},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(content))
    names = ("one", "two", "none", "absent")
    made = provenance.describe_result("x", runs=[tmp_path / name for name in names], seeds=[1, 0])
    assert made["trained_at"] == ["", "aaa", "bbb", "ccc-dirty"]
    assert made["audited_at"] == [provenance.commit_of_source()]
    assert made["seeds"] == [0, 1]
    assert "torch" in made["versions"]


def test_a_table_names_every_commit_of_its_parts() -> None:
    parts = [
        {"trained_at": ["a"], "audited_at": ["b"], "sources": ["1"], "seeds": [1], "hardware": "x"},
        {"trained_at": ["c"], "audited_at": ["b"], "sources": ["2"], "seeds": [0], "hardware": "x"},
        {},
    ]
    whole = provenance.merged("ddrl compare", [Path(__file__)], parts)
    assert whole["trained_at"] == ["", "a", "c"]
    assert whole["audited_at"] == ["", "b"]
    assert whole["sources"] == ["", "1", "2"]
    assert whole["seeds"] == [0, 1]
    assert whole["files"].keys() == {"tests/runs/test_provenance.py"}


@pytest.mark.parametrize(
    ("trained", "audited", "text"),
    [
        (["a"], ["a"], "commit a"),
        (["a", "b"], ["b"], "trained at commit a and b, audited at another commit, b"),
        ([""], ["b"], "trained at commit unknown, audited at another commit, b"),
    ],
)
def test_two_commits_are_said(trained: list[str], audited: list[str], text: str) -> None:
    assert commits_in_words({"trained_at": trained, "audited_at": audited}) == text
