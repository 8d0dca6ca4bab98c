"""Signals: the first asks, the second does not, and one death is one signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from ddrl.cli.terminal import interrupts
from ddrl.cli.terminal.interrupts import Interrupted, Interrupts


@pytest.fixture
def asked() -> Iterator[tuple[Interrupts, list[str]]]:
    """A context that takes first signals as questions, and what it announced."""
    said: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    with Interrupts() as signals:
        signals.be_patient(lambda: said.append("asked"))
        yield signals, said
    signal.signal(signal.SIGINT, before)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(
    asked: tuple[Interrupts, list[str]], number: signal.Signals
) -> None:
    signals, said = asked
    send(number)
    assert (signals.number, said) == (number, ["asked"])
    with pytest.raises(Interrupted, match=f"stopped at once by {number.name}"):
        send(number)


def test_the_death_of_a_parent_with_threads_comes_several_times(
    asked: tuple[Interrupts, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Linux tells it: once for each thread that the child is handed on to."""
    monkeypatch.setattr(Interrupts, "ends_with_parent", True)
    for _ in range(4):
        send(signal.SIGTERM)
    assert asked[1] == ["asked"]
    with pytest.raises(Interrupted, match="SIGINT"):
        send(signal.SIGINT)


def test_a_later_signal_is_another(
    asked: tuple[Interrupts, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Interrupts, "ends_with_parent", True)
    monkeypatch.setattr(interrupts, "_ONE_DEATH", 0.0)
    send(signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM"):
        send(signal.SIGTERM)
