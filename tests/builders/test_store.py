"""Things are made once, whole or not at all, whoever else is making them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from ddrl.builders.store import fingerprint, make_once
from ddrl.data.embedded.sources import CaptionedMedia
from ddrl.errors import DDRLError, WeightsError


def fill(folder: Path) -> None:
    (folder / "content").write_text("made")


def test_made_once(tmp_path: Path) -> None:
    calls = []

    def make(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        calls.append(folder)
        fill(folder)

    first, made = make_once(tmp_path / "cache", "base", ["key", 1], make)
    second, made_again = make_once(tmp_path / "cache", "base", ["key", 1], make)
    assert (made, made_again) == (True, False)
    assert first == second
    assert len(calls) == 1
    assert (first / "content").read_text() == "made"
    assert first.name.startswith("base-")
    assert list((tmp_path / "cache").iterdir()) == [first]


def test_another_key_or_kind_is_another_thing(tmp_path: Path) -> None:
    keys: list[tuple[str, object]] = [("base", [1]), ("base", [2]), ("judge", [1])]
    keys.append(("base", {"a": 1, "b": 2}))
    folders = {make_once(tmp_path, kind, key, fill)[0] for kind, key in keys}
    assert len(folders) == 4
    again, made = make_once(tmp_path, "base", {"b": 2, "a": 1}, fill)
    assert again in folders
    assert not made


@pytest.mark.parametrize(
    "error", [RuntimeError("planted"), WeightsError("planted"), KeyboardInterrupt]
)
def test_a_crash_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    def crash(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises((RuntimeError, WeightsError, KeyboardInterrupt)):
        make_once(tmp_path, "base", 1, crash)
    assert list(tmp_path.iterdir()) == []
    assert make_once(tmp_path, "base", 1, fill)[1]


def test_a_folder_left_half_by_somebody_else_is_replaced(tmp_path: Path) -> None:
    folder, _ = make_once(tmp_path, "base", 1, fill)
    (folder / "key.json").unlink()
    (folder / "content").write_text("half")
    again, made = make_once(tmp_path, "base", 1, fill)
    assert (again, made) == (folder, True)
    assert (folder / "content").read_text() == "made"


def test_the_faster_one_stays(tmp_path: Path) -> None:
    """What another process made meanwhile may be in use: it is not replaced."""

    def slow(folder: Path) -> None:
        other, made = make_once(tmp_path / "other", "base", 1, fill)
        assert made
        tmp_path.joinpath("cache").mkdir(exist_ok=True)
        other.rename(tmp_path / "cache" / other.name)
        (folder / "content").write_text("slower")

    folder, made = make_once(tmp_path / "cache", "base", 1, slow)
    assert not made
    assert (folder / "content").read_text() == "made"
    assert list((tmp_path / "cache").iterdir()) == [folder]


PROCESS = """
import sys, time
from pathlib import Path
from ddrl.builders.store import make_once

def make(folder):
    for part in range(5):
        (folder / f"part{part}").write_text(sys.argv[2])
        time.sleep(0.05)

folder, made = make_once(Path(sys.argv[1]), "base", 1, make)
owners = {path.read_text() for path in folder.glob("part*")}
assert len(list(folder.glob("part*"))) == 5 and len(owners) == 1, owners
print(int(made))
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Each finds a whole folder of one maker."""
    command = [sys.executable, "-c", textwrap.dedent(PROCESS), str(tmp_path)]
    running = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(int(output) for output in outputs) >= 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        DDRLError, match=r"cache .*file can't be written: Not a directory"
    ) as caught:
        make_once(tmp_path / "file", "base", 1, fill)
    assert "run.cache" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")]
)
def test_a_full_disk(error: Exception, tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise error

    with pytest.raises(DDRLError, match="can't be written: No space left") as caught:
        make_once(tmp_path, "base", 1, full)
    assert "free space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_sees_pixels_captions_and_their_order() -> None:
    media = torch.rand((3, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([0, 1, 0])
    base = CaptionedMedia(media.expand(-1, 3, -1, -1), ids, ("a", "b"))
    changed = media.clone()
    changed[2, 0, 1, 1] += 1e-3
    others = [
        CaptionedMedia(changed.expand(-1, 3, -1, -1), ids, ("a", "b")),
        CaptionedMedia(base.media, torch.tensor([0, 1, 1]), ("a", "b")),
        CaptionedMedia(base.media, ids, ("a", "c")),
        base.select(torch.tensor([1, 0, 2])),
    ]
    prints = {fingerprint(one) for one in [base, *others]}
    assert len(prints) == 5
    assert fingerprint(CaptionedMedia(base.media.clone(), ids.clone(), ("a", "b"))) in prints
