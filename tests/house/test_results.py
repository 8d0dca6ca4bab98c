"""Committed measurements come from committed code, and pictures from committed measurements."""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
PICTURES = sorted((ROOT / "docs" / "images").glob("*.png"))
KEYS = ("trained_at", "audited_at", "reported_at")
EARLIER = frozenset(
    {
        *("iteration", "overlap"),
    }
)
"""Results that were measured before results recorded their sources: their tables say so. No name is
ever added here; one is taken out when its result is measured again."""
EARLIER_PICTURES = frozenset({"moving_digits_image"})
NEW = [path for path in RESULTS if path.stem not in EARLIER]


def git(*arguments: str) -> bytes | None:
    """What git says of this repository; None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, check=False, timeout=60
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


@lru_cache
def has_history() -> bool:
    """Whether this is a whole clone; a wheel, an archive or a shallow clone is not."""
    top = (git("rev-parse", "--show-toplevel") or b"").decode().strip()
    shallow = (git("rev-parse", "--is-shallow-repository") or b"true").strip()
    return bool(top) and Path(top) == ROOT and shallow == b"false"


def origin(path: Path) -> dict[str, Any]:
    """What a result says of where it is from."""
    result = json.loads(path.read_text(encoding="utf-8"))
    assert "provenance" in result, (
        f"{path.name} does not say where it is from; make it again: "
        "`python benchmarks/evidence.py --list` names its command"
    )
    found: dict[str, Any] = result["provenance"]
    return found


def commits(made: dict[str, Any]) -> set[str]:
    return {name for key in KEYS for name in made[key]}


@pytest.mark.parametrize("path", NEW, ids=lambda path: path.stem)
def test_a_result_says_where_it_is_from(path: Path) -> None:
    made = origin(path)
    assert all(commits(made)), "it was made outside of a commit"
    dirty = sorted(name for name in commits(made) if name.endswith("-dirty"))
    assert not dirty, f"it was made with files that are not in commit {dirty[0]}; make it again"
    assert made["command"]
    assert made["hardware"]
    assert made["versions"]["torch"]
    assert all(len(digest) == 64 for digest in made["sources"])


@pytest.mark.parametrize("path", NEW, ids=lambda path: path.stem)
def test_a_result_can_be_made_again_at_its_commit(path: Path) -> None:
    if not has_history():
        pytest.skip("there is no whole git history here")
    made = origin(path)
    for commit in sorted(commits(made)):
        assert git("cat-file", "-e", f"{commit}^{{commit}}") is not None, (
            f"commit {commit} is not in this history"
        )
    assert made["files"], "it names no script or recipe"
    for name, digest in made["files"].items():
        if name.partition("/")[0] == "runs":
            continue  # made by a script that is named beside it
        content = git("show", f"{made['reported_at'][0]}:{name}")
        assert content is not None, f"{name} is not in commit {made['reported_at'][0]}"
        assert hashlib.sha256(content).hexdigest() == digest, f"{name} was another one there"


def test_results_of_earlier_versions_name_a_commit_and_become_fewer() -> None:
    found = {}
    for path in RESULTS:
        result = json.loads(path.read_text(encoding="utf-8"))
        if "provenance" not in result:
            told = result.get("environment", {}).get("Code", "").partition("commit ")[2]
            found[path.stem] = str(result.get("commit") or told).removesuffix("-dirty")
    assert found.keys() == EARLIER, "take out of EARLIER what has been measured again"
    assert all(found.values())
    if has_history():
        unknown = [name for name, commit in found.items() if git("cat-file", "-e", commit) is None]
        assert unknown == []


@pytest.mark.parametrize(
    "path",
    [path for path in PICTURES if path.stem not in EARLIER_PICTURES],
    ids=lambda path: path.stem,
)
def test_a_picture_is_of_the_committed_results(path: Path) -> None:
    with Image.open(path) as picture:
        said = json.loads(str(picture.info.get("Source", "{}")))
    assert said, f"{path.name} does not say what it was made from; run `make pictures`"
    for name, digest in said.get("results", {}).items():
        content = (ROOT / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, (
            f"{path.name} is of another {name}; run `make pictures`"
        )
    for name, trained_at in said.get("runs", {}).items():
        assert trained_at == origin(ROOT / name)["trained_at"], (
            f"{path.name} is of other runs than {name}; run `make pictures`"
        )


def test_make_evidence_makes_every_result() -> None:
    from benchmarks.evidence import STEPS, TIMES

    made = {step.name for step in STEPS} | {TIMES}
    assert sorted(path.stem for path in RESULTS if path.stem not in made) == []
    scripts = {word for step in STEPS for command in step.commands for word in command.split()}
    scripts |= set((ROOT / "Makefile").read_text("utf-8").split())  # `make gpu`, where there is one
    measuring = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "benchmarks").glob("*.py"))
        if "write_result(" in path.read_text("utf-8") and path.stem not in ("record", "evidence")
    ]
    assert [name for name in measuring if name not in scripts] == []


def test_evidence_does_not_begin_from_a_dirty_tree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import evidence

    ran: list[str] = []
    monkeypatch.setattr(evidence, "run", ran.append)
    monkeypatch.setattr(evidence, "commit_of_source", lambda _: "a" * 40 + "-dirty")
    monkeypatch.setattr("sys.argv", ["evidence.py"])
    with pytest.raises(SystemExit, match="changed or not committed"):
        evidence.main()
    monkeypatch.setattr("sys.argv", ["evidence.py", "--list"])
    evidence.main()
    assert "ddrl compare recipes/compare/words.toml" in capsys.readouterr().out
    assert ran == []
