"""Checkpoints that a killed run, a full disk and a stranger's file can't spoil."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ddrl.errors import CheckpointError
from ddrl.training.checkpoint import Best, CheckpointFolder, load_weights
from ddrl.training.manifest import Checkpoint, read_manifest

FILES = ["model.safetensors", "ema.safetensors", "state.pt", "manifest.json"]


def write(folder: CheckpointFolder, step: int) -> Checkpoint:
    value = torch.full((3, 2), float(step))
    return folder.save(
        step=step,
        tensors={"model": {"w": value}, "ema": {"w": value + 0.5}},
        state={"step": step, "moments": {0: value * 2}},
        recipe=f"recipe of {step}",
    )


def steps(path: Path) -> list[int]:
    return sorted(int(folder.name.removeprefix("step-")) for folder in path.glob("step-*"))


def latest_step(folder: CheckpointFolder) -> int:
    checkpoint = folder.latest()
    assert checkpoint is not None
    return checkpoint.step


def contents(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of every file in a folder."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.read_bytes() for file in files}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write(CheckpointFolder(tmp_path), 7)
    found = CheckpointFolder(tmp_path).latest()
    assert found is not None
    assert (found.step, found.recipe) == (7, "recipe of 7")
    assert torch.equal(found.tensors("model")["w"], torch.full((3, 2), 7.0))
    assert torch.equal(found.tensors("ema")["w"], torch.full((3, 2), 7.5))
    state = found.state()
    assert state["step"] == 7
    assert torch.equal(state["moments"][0], torch.full((3, 2), 14.0))
    assert sorted(os.listdir(found.folder)) == sorted(FILES)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "missing").latest() is None
    assert CheckpointFolder(tmp_path).latest() is None


@pytest.mark.parametrize(("keep", "expected"), [(0, 2), (1, 2), (2, 2), (3, 3), (10, 5)])
def test_old_ones_are_removed_but_never_the_last_two(
    keep: int, expected: int, tmp_path: Path
) -> None:
    folder = CheckpointFolder(tmp_path, keep=keep)
    for step in range(1, 6):
        write(folder, step)
        assert len(steps(tmp_path)) == min(step, expected)
    assert steps(tmp_path) == list(range(6 - expected, 6))


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_falls_back_and_says_so(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path)
    write(folder, 1)
    truncate(write(folder, 2).folder / name)
    with caplog.at_level(logging.WARNING):
        assert latest_step(folder) == 1
    (record,) = caplog.records
    assert "step-00000002" in record.getMessage()
    assert "Falling back to the previous checkpoint" in record.getMessage()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_falls_back(name: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    write(folder, 1)
    (write(folder, 2).folder / name).unlink()
    assert latest_step(folder) == 1


def test_one_flipped_bit_is_seen(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    write(folder, 1)
    path = write(folder, 2).folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert latest_step(folder) == 1


def test_nothing_whole_is_an_error(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        truncate(write(folder, step).folder / "state.pt")
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole") as caught:
        folder.latest()
    assert "step-00000002" in caught.value.message
    assert caught.value.hint
    assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"text"',
        "null",
        "{}",
        '{"format": "other/1"}',
        '{"format": "ddrl-checkpoint/1"}',
    ],
)
def test_a_foreign_manifest_is_refused(text: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    path = write(folder, 3).folder
    (path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError):
        read_manifest(path)
    with pytest.raises(CheckpointError):
        folder.latest()


def test_another_format_is_named(tmp_path: Path) -> None:
    path = write(CheckpointFolder(tmp_path), 3).folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "ddrl-checkpoint/9"}))
    with pytest.raises(CheckpointError, match="ddrl-checkpoint/9") as caught:
        read_manifest(path.parent)
    assert "version" in caught.value.hint


def test_the_newest_whole_ones_are_kept_beside_broken_ones(tmp_path: Path) -> None:
    """A broken checkpoint is no substitute for a whole one, wherever its number stands."""
    folder = CheckpointFolder(tmp_path)
    for step in (10, 20):
        write(folder, step)
    for step in (30, 40):
        (tmp_path / f"step-{step:08d}").mkdir()
    assert latest_step(folder) == 20
    write(folder, 25)
    assert steps(tmp_path) == [20, 25, 30, 40]
    assert latest_step(folder) == 25
    write(folder, 30)  # made again, whole now
    assert latest_step(folder) == 30
    assert steps(tmp_path) == [25, 30, 40]


def test_a_new_checkpoint_survives_whatever_is_numbered_above_it(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in (10, 20):
        write(folder, step)
    write(CheckpointFolder(tmp_path), 5)
    assert 5 in steps(tmp_path)


def test_a_step_written_again_replaces_itself(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    truncate(write(folder, 4).folder / "state.pt")
    write(folder, 4)
    assert latest_step(folder) == 4


class Killed(BaseException):
    """Stands for kill -9: nothing that runs afterwards counts."""


def test_a_kill_before_the_rename_leaves_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-written folder is ignored, and cleared away by the next checkpoint of any step."""
    folder = CheckpointFolder(tmp_path)
    write(folder, 1)

    def kill(*args: object) -> None:
        raise Killed

    def nothing(*args: object, **kwargs: object) -> None:
        """The killed process cleans nothing up."""

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", kill)
        patch.setattr(shutil, "rmtree", nothing)
        with pytest.raises(Killed):
            write(folder, 2)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [
        ".writing-00000002"
    ]
    assert latest_step(CheckpointFolder(tmp_path)) == 1
    write(CheckpointFolder(tmp_path), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


def test_a_full_disk_keeps_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path)
    write(folder, 1)

    def full(*args: object, **kwargs: object) -> None:
        raise RuntimeError("write failed: No space left on device")  # as torch.save reports it

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(CheckpointError, match=r"can't be written.*No space left") as caught:
            write(folder, 2)
    assert "space" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert latest_step(folder) == 1


def test_an_unwritable_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="can't be written") as caught:
        write(CheckpointFolder(tmp_path / "file"), 1)
    assert caught.value.exit_code == 5
    assert (tmp_path / "file").read_text() == "in the way"


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_reading_runs_no_code(tmp_path: Path) -> None:
    checkpoint = write(CheckpointFolder(tmp_path / "run"), 1)
    bomb = Bomb(tmp_path / "exploded")
    torch.save({"step": bomb}, checkpoint.folder / "state.pt")
    with pytest.raises(CheckpointError, match="can't be read"):
        checkpoint.state()
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(bomb))
    assert (tmp_path / "exploded").exists()  # it would have


def test_reading_a_broken_tensor_file(tmp_path: Path) -> None:
    checkpoint = write(CheckpointFolder(tmp_path), 1)
    truncate(checkpoint.folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.tensors("model")
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        checkpoint.tensors("other")


def test_weights_are_loaded_whole_or_not_at_all() -> None:
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    good = {"1.weight": torch.ones(1, 3), "1.bias": torch.zeros(1)}
    wrong = [
        {},
        {"1.weight": torch.ones(1, 3)},
        {**good, "0.weight": torch.ones(3, 2)},
        {**good, "1.bias": torch.ones(2)},
    ]
    for weights in wrong:
        with pytest.raises(CheckpointError, match="another network"):
            load_weights(network, weights)
    assert all(torch.equal(before[n], v) for n, v in network.state_dict().items())
    load_weights(network, good)
    after = network.state_dict()
    assert torch.equal(after["1.weight"], torch.ones(1, 3))
    assert torch.equal(after["0.weight"], before["0.weight"])


# --- notes, and the best by them ----------------------------------------------------------------


def score(folder: CheckpointFolder, step: int, value: float | None) -> None:
    """Note an audit of a checkpoint."""
    folder.annotate(step, {"audits": {"step": step, "score": value}})


def test_notes_are_read_back_and_changed_alone(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    notes = {"base": {"hash": "ab", "size": 3}, "audits": None}
    path = folder.save(step=3, tensors={}, state={}, recipe="text", notes=notes).folder
    assert read_manifest(path).notes == notes
    before = contents(path)
    folder.annotate(3, {"audits": 0.1 + 0.2})
    assert read_manifest(path).notes == {**notes, "audits": 0.1 + 0.2}
    assert {**contents(path), "manifest.json": b""} == {**before, "manifest.json": b""}
    folder.annotate(4, {"audits": 1})  # which is not there
    assert steps(tmp_path) == [3]


def test_a_kill_while_notes_are_changed_leaves_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path)
    path = folder.save(step=3, tensors={}, state={}, notes={"a": 1}).folder

    def kill(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill)
        with pytest.raises(Killed):
            folder.annotate(3, {"a": 2})
    assert read_manifest(path).notes == {"a": 1}
    folder.annotate(3, {"a": 2})
    assert sorted(os.listdir(path)) == ["manifest.json", "state.pt"]


def test_the_best_is_never_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    assert folder.best() is None
    for step in (1, 2, 3, 4):
        write(folder, step)
        if step == 1:
            score(folder, 1, 0.5)
    assert steps(tmp_path) == [1, 3, 4]
    assert folder.best() == Best(1, 0.5)
    assert latest_step(folder) == 4
    score(folder, 4, 0.75)
    write(folder, 5)
    assert steps(tmp_path) == [4, 5]
    assert CheckpointFolder(tmp_path).best() == Best(4, 0.75)


def test_the_earlier_of_equals_is_the_best(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=9)
    for step, value in ((100, -1.0), (20, 0.5), (3, 0.5), (4, None)):
        write(folder, step)
        score(folder, step, value)
    assert folder.best() == Best(3, 0.5)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_best_falls_back_to_the_next(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path, keep=9)
    for step, value in ((1, 0.1), (2, 0.9), (3, 0.4)):
        write(folder, step)
        score(folder, step, value)
    truncate(tmp_path / "step-00000002" / name)
    assert folder.best() == Best(3, 0.4)
    if name != "manifest.json":  # else nobody knows that it was the best
        assert "step-00000002" in caplog.text
        assert "It was the best by the audit." in caplog.text
    for step in (1, 3):
        (tmp_path / f"step-{step:08d}" / "state.pt").unlink()
    assert folder.best() is None


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {"audits": None},
        {"audits": {"step": 1}},
        {"audits": {"step": 1, "score": "much"}},
        {"audits": {"step": 9, "score": 1.0}},
    ],
)
def test_notes_without_a_score_of_the_checkpoint_s_own(
    tmp_path: Path, notes: dict[str, Any]
) -> None:
    folder = CheckpointFolder(tmp_path)
    write(folder, 1)
    folder.annotate(1, notes)
    assert folder.best() is None
    write(folder, 2)


# --- what else lies in the folder ---------------------------------------------------------------

FOREIGN = [
    *("step-00000005-keep", "step-00000009.tmp", "step-5", "step-000000005", "step-0000000x"),
    *("step-99999999 (copy)", "Step-00000009", "my-step-00000009", "step--0000009", "step-"),
    *("step-٠٠٠٠٠٠٠٩", ".writing-notes", "best", "step-00000009\n"),
]


@pytest.mark.parametrize("is_file", [True, False])
def test_the_user_s_own_files_and_folders_are_left_alone(is_file: bool, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    source = write(folder, 1).folder
    for name in FOREIGN:
        if is_file:
            (tmp_path / name).write_text("mine")
        else:
            shutil.copytree(source, tmp_path / name)
    before = {name: contents(tmp_path / name) for name in FOREIGN}
    assert latest_step(folder) == 1
    for step in range(2, 12):
        write(folder, step)
    score(folder, 11, 1.0)
    assert folder.steps() == [10, 11]
    assert folder.best() == Best(11, 1.0)
    assert latest_step(CheckpointFolder(tmp_path)) == 11
    assert {name: contents(tmp_path / name) for name in FOREIGN} == before


def test_steps_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    """A step of nine digits comes after one of eight, which the order of names would reverse."""
    folder = CheckpointFolder(tmp_path)
    for step in (99_999_998, 123_456_789, 99_999_999):
        write(folder, step)
    assert folder.steps() == [99_999_999, 123_456_789]
    assert latest_step(folder) == 123_456_789


def test_a_copy_under_the_name_of_another_step_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path)
    shutil.copytree(write(folder, 4).folder, tmp_path / "step-00000009")
    assert latest_step(folder) == 4
    assert "step-00000009 is a copy of the checkpoint of step 4." in caplog.text
    score(folder, 9, 1.0)
    assert folder.best() is None


def test_a_file_in_the_place_of_a_checkpoint_makes_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "step-00000004").write_text("mine")
    folder = CheckpointFolder(tmp_path)
    assert folder.steps() == []
    assert folder.latest() is None
    write(folder, 4)
    assert latest_step(folder) == 4
    assert (tmp_path / "step-00000004.replaced").read_text() == "mine"
    assert "was no checkpoint" in caplog.text


def test_a_checkpoint_that_was_moved_and_linked_to(tmp_path: Path) -> None:
    """It is read through the link; where it is made again, what the link leads to stays."""
    folder, elsewhere = CheckpointFolder(tmp_path / "run"), tmp_path / "large-disk"
    path = write(folder, 4).folder
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert latest_step(folder) == 4
    before = contents(elsewhere)
    write(folder, 4)
    assert not path.is_symlink()
    assert contents(elsewhere) == before
    (tmp_path / "run" / "step-00000007").symlink_to(tmp_path / "nowhere")
    assert folder.steps() == [4]
    write(folder, 7)
    assert latest_step(folder) == 7
    for step in (8, 9, 10):
        write(folder, step)
    assert folder.steps() == [9, 10]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _: "[" * 5000, id="deep"),
        pytest.param(
            lambda m: json.dumps({**m, "step": 1e400}).replace("Infinity", "1e999"), id="inf"
        ),
        pytest.param(lambda m: json.dumps({**m, "files": {"../secret": "00"}}), id="elsewhere"),
        pytest.param(lambda m: json.dumps({**m, "files": {"/etc/hostname": "00"}}), id="absolute"),
        pytest.param(lambda m: json.dumps({**m, "files": []}), id="list"),
        pytest.param(lambda m: json.dumps([m]), id="not-a-table"),
    ],
)
def test_a_manifest_of_a_stranger_is_no_error_of_ours(
    tmp_path: Path, spoil: Callable[[dict[str, object]], str]
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(step=1, tensors={}, state={})
    path = folder.save(step=2, tensors={}, state={}).folder / "manifest.json"
    path.write_text(spoil(json.loads(path.read_text())))
    newest = folder.latest()
    assert newest is not None
    assert newest.step == 1
    assert folder.best() is None


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "state.pt"])
def test_a_pipe_in_a_checkpoint_does_not_hang(tmp_path: Path, name: str) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(step=1, tensors={}, state={})
    path = folder.save(step=2, tensors={"model": {"w": torch.ones(1)}}, state={}).folder / name
    path.unlink()
    os.mkfifo(path)
    newest = folder.latest()
    assert newest is not None
    assert newest.step == 1


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_checkpoint_s_files_have_the_mode_of_new_files(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        folder = CheckpointFolder(tmp_path)
        made = folder.save(step=1, tensors={"model": {"w": torch.ones(1)}}, state={}).folder
        folder.annotate(1, {"a": 1})
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in made.iterdir()} == dict.fromkeys(
        ["manifest.json", "model.safetensors", "state.pt"], mode
    )
