"""Processes that read text give what one reader gives, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.rewards.rendering import WORDS, on_page, prompts, render

from ddrl.errors import RewardError
from ddrl.rewards.builtin import ocr_processes
from ddrl.rewards.builtin.ocr import OcrReward
from ddrl.rewards.builtin.ocr_processes import ReaderProcesses

WORD = 'a sign that says "lamp"'
MEDIA = render("lamp")[None]


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def gone(pids: tuple[int, ...], within: float = 20) -> bool:
    end = time.monotonic() + within
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(is_running, pids))


def processes(reward: OcrReward) -> ReaderProcesses:
    assert isinstance(reward._reader, ReaderProcesses)
    return reward._reader


@pytest.fixture(scope="module")
def two() -> OcrReward:
    return OcrReward(workers=2, batch_size=4)


def test_lines_and_pages_are_read_as_by_one_reader_in_their_order(two: OcrReward) -> None:
    words = WORDS[::12][:11]
    lines = torch.stack([render(word) for word in words])[:, None]
    one = OcrReward(batch_size=4, threads=1)
    assert two.read(lines) == one.read(lines)
    pages = torch.stack([on_page(word) for word in words[:3]])[:, None]
    assert two.read(pages) == one.read(pages) != [[""]] * 3
    pids = processes(two).process_ids
    assert len(pids) == 2
    assert all(map(is_running, pids))
    two.read(lines[:1])
    assert processes(two).process_ids == pids


def test_a_process_that_ends_is_named_and_the_next_read_has_new_ones(two: OcrReward) -> None:
    assert float(two.score(MEDIA, prompts(WORD))[0]) == 1
    pids = processes(two).process_ids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert gone(pids)
    with pytest.raises(RewardError, match="has ended by signal 9"):
        two.score(MEDIA, prompts(WORD))
    assert float(two.score(MEDIA, prompts(WORD))[0]) == 1


def test_one_that_does_not_answer_is_named_and_ended(
    two: OcrReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.score(MEDIA, prompts(WORD))
    pids = processes(two).process_ids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(ocr_processes, "_SECONDS", 0.2)
    with pytest.raises(RewardError, match=r"did not answer within 0\.2 seconds") as caught:
        two.score(MEDIA, prompts(WORD))
    assert "workers" in caught.value.hint
    assert gone(pids)


def test_a_reader_that_can_not_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    reward = OcrReward(workers=2, recognizer=str(tmp_path / "broken.onnx"))
    with pytest.raises(RewardError, match="failed: "):
        reward.score(MEDIA, prompts(WORD))


def test_processes_end_with_the_reward() -> None:
    reward = OcrReward(workers=2)
    reward.score(MEDIA, prompts(WORD))
    pids = processes(reward).process_ids
    del reward
    assert gone(pids)


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
from tests.rewards.test_ocr_processes import MEDIA, WORD, processes
from tests.rewards.rendering import prompts
from ddrl.rewards.builtin.ocr import OcrReward
reward = OcrReward(workers=2)
reward.score(MEDIA, prompts(WORD))
print(*processes(reward).process_ids, flush=True)
if sys.argv[1] == "fail":
    raise ValueError("as planned")
while True:
    reward.score(MEDIA.repeat(40, 1, 1, 1), prompts(*[WORD] * 40))
"""


@pytest.mark.parametrize("how", ["fail", "SIGINT", "SIGKILL"])
def test_none_outlives_its_run(how: str) -> None:
    """The interpreter ends by an error, by Ctrl-C while a read is under way, or is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        try:
            assert run.stdout is not None
            pids = tuple(map(int, run.stdout.readline().split()))
            assert len(pids) == 2
            if how != "fail":
                time.sleep(0.5)
                run.send_signal(getattr(signal, how))
            assert run.wait(timeout=60) != 0
            assert gone(pids)
        finally:
            run.kill()


@pytest.mark.parametrize("workers", [0, 65])
def test_bounds(workers: int) -> None:
    with pytest.raises(ValueError, match="workers must be from 1 to 64"):
        OcrReward(workers=workers)
