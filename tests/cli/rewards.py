"""Rewards that misbehave, found as ``tests.cli.rewards:Class``."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor

from ddrl.records import Prompts


class Raises:
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        raise ValueError("the reward's server is down")


class Kills:
    """Ends its process as the kernel ends one that takes too much memory."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return media.flatten(1).mean(1)


class NotANumber:
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return torch.full((len(media),), torch.nan)


class WrongShape:
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return media.flatten(1).mean(1, keepdim=True)


class RaisesOnce:
    """Raises in call ``at``, unless ``marker`` exists; makes it."""

    def __init__(self, *, at: int, marker: str) -> None:
        self._at, self._marker, self._calls = at, Path(marker), 0

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        self._calls += 1
        if self._calls == self._at and not self._marker.exists():
            self._marker.touch()
            raise ValueError("the reward's server is down")
        return media.flatten(1).mean(1)


class Slow:
    """Mean brightness, after ``seconds`` in every call."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        time.sleep(self._seconds)
        return media.flatten(1).mean(1)


class Gate:
    """Mean brightness; in call ``at``, makes ``reached`` in the folder and waits for ``go``."""

    def __init__(self, *, at: int, folder: str) -> None:
        self._at, self._folder, self._calls = at, Path(folder), 0

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        self._calls += 1
        if self._calls == self._at and not (self._folder / "reached").exists():
            (self._folder / "reached").touch()
            while not (self._folder / "go").exists():
                time.sleep(0.01)
        return media.flatten(1).mean(1)


class Metadata:
    """Brightness where the prompt's metadata says ``bright``, else darkness.

    Raises where the metadata is not that of the prompt's text; keeps what it has seen in ``log``.
    """

    def __init__(self, *, log: str) -> None:
        self._log = Path(log)

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        for text, known in zip(prompts.text, prompts.metadata, strict=True):
            if not text.endswith(f" {known['kind']}"):
                raise ValueError(f"{text!r} comes with {known}")
        with self._log.open("a") as file:
            file.writelines(json.dumps(dict(known)) + "\n" for known in prompts.metadata)
        sign = torch.tensor([1.0 if known["bright"] else -1.0 for known in prompts.metadata])
        return sign * media.flatten(1).mean(1).cpu()
