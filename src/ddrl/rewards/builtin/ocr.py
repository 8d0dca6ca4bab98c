"""How well the text that the prompt asks for can be read in the picture."""

from __future__ import annotations

import importlib
import re
import unicodedata
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.builtin.ocr_processes import ReaderProcesses
from ddrl.rewards.builtin.ocr_reader import TextReader
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import OverFrames, as_bytes, reduce_frames, sample_frames

Match = Literal["whole", "contains"]

# Above this height a picture is searched for its lines; below, a wide one is taken to be a line.
LINE_HEIGHT = 64
MAX_WORKERS = 64

_DOUBLE = re.compile(r'"([^"]*)"|“([^”]*)”')
# A quotation mark inside a word is an apostrophe.
_SINGLE = re.compile(r"(?<!\w)'(.*?)'(?!\w)|‘(.*?)’(?!\w)")  # noqa: RUF001


def quoted(prompt: str) -> str:
    """Join the parts of a prompt in quotation marks by spaces; empty if there are none.

    Marks are ``"..."`` and ``“...”``; where there are none of them, ``'...'`` and ``‘...’``.
    """
    for pattern in (_DOUBLE, _SINGLE):
        parts = ["".join(found) for found in pattern.findall(prompt)]
        if any(part.strip() for part in parts):
            return " ".join(part.strip() for part in parts if part.strip())
    return ""


def similarity(wanted: str, found: str, match: Match = "whole") -> float:
    """Edit similarity of two texts, in [0, 1].

    ``whole``: 1 - d / max(|wanted|, |found|), where d is the Levenshtein distance.
    ``contains``: 1 - d / |wanted|, where d is the least distance to any part of ``found``.
    """
    if not wanted:
        return 1.0 if not found or match == "contains" else 0.0
    row = [0] * (len(found) + 1) if match == "contains" else list(range(len(found) + 1))
    for i, letter in enumerate(wanted, 1):
        above, row = row, [i]
        for j, other in enumerate(found, 1):
            row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (letter != other)))
    if match == "contains":
        return 1 - min(row) / len(wanted)
    return 1 - row[-1] / max(len(wanted), len(found))


class OcrReward:
    """Edit similarity between the text asked for and the text that RapidOCR reads, in [0, 1].

    Both texts are brought to Unicode's NFKC form first, and by default lose case and white space.
    Text that is read with a confidence below ``confidence`` counts as not there.

    Args:
        text: what is asked for: the ``quoted`` parts of the prompt, or the whole ``prompt``.
        match: ``whole``: text beyond what is asked for costs, too; ``contains``: it does not.
        case: whether case counts.
        spaces: whether white space counts; lines are joined by one space.
        detect: search the picture for lines of text; ``auto``: unless it is at most 64 pixels
            high and at least twice as wide. Without, the picture is taken to be one line, which
            is much faster.
        confidence: least confidence of a line, in [0, 1].
        frames: how many frames of a clip are read.
        over_frames: how the values of frames become the value of the clip.
        batch_size: lines per call of the recognizer.
        threads: threads of the recognizer; 0: as many as PyTorch uses.
        workers: processes that read; 1: the run's own. More are started at the first picture, have
            one thread each whatever ``threads`` says, and end with the run.
        detector: an ONNX file; empty: the one in RapidOCR's wheel.
        recognizer: an ONNX file that holds its characters; empty: the one in RapidOCR's wheel.

    Raises:
        RewardError: RapidOCR is not installed or its model files are missing; an option is wrong.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="the text in quotation marks can be read in the picture",
        range="[0, 1]; 1 = read letter by letter, 0 = nothing alike",
        prompt="only the quoted text counts; a prompt without quotation marks has no reward",
        hacks="plain large letters on an empty background; the rest of the prompt is ignored, and "
        "so is how the picture looks. The reader fills in letters that a person would not accept",
        cost="CPU only. One core of an AMD EPYC reads 75 pictures of 32 x 96 a second; where lines "
        "have to be found first, 21 of 256 x 256 or 8 of 512 x 512",
        license="Apache-2.0 (RapidOCR and PP-OCRv6 small), in RapidOCR's wheel",
        modules=("rapidocr", "onnxruntime"),
        extra="ocr",
    )

    def __init__(
        self,
        *,
        text: Literal["quoted", "prompt"] = "quoted",
        match: Match = "whole",
        case: bool = False,
        spaces: bool = False,
        detect: bool | Literal["auto"] = "auto",
        confidence: float = 0.5,
        frames: int = 4,
        over_frames: OverFrames = "mean",
        batch_size: int = 16,
        threads: int = 0,
        workers: int = 1,
        detector: str = "",
        recognizer: str = "",
    ) -> None:
        if frames < 1 or batch_size < 1 or threads < 0:
            raise ValueError("frames and batch_size must be at least 1, threads at least 0")
        if not 1 <= workers <= MAX_WORKERS:
            raise ValueError(f"workers must be from 1 to {MAX_WORKERS}")
        self.card.require("ocr")
        self._text, self._match, self._case, self._spaces = text, match, case, spaces
        self._detect, self._confidence = detect, confidence
        self._frames, self._over_frames = frames, over_frames
        options: dict[str, Any] = {
            "detector": str(_model_file(detector, "det", "detector")),
            "recognizer": str(_model_file(recognizer, "rec", "recognizer")),
            "batch_size": batch_size,
            "confidence": confidence,
        }
        self._reader: TextReader | ReaderProcesses
        if workers > 1:
            options["threads"] = 1
            self._reader = ReaderProcesses(workers, batch_size=batch_size, options=options)
        else:
            self._reader = TextReader(threads=threads or torch.get_num_threads(), **options)

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,).

        Raises:
            SampleError: a prompt does not say which text it asks for.
        """
        frames = sample_frames(media, self._frames)
        wanted = [self._normalize(self._ask(prompt)) for prompt in prompts.text]
        finite = frames.flatten(1).isfinite().all(1).cpu()
        value = torch.full((len(frames),), torch.nan)
        rows = [i for i in range(len(frames)) if wanted[i] and finite[i]]
        found = self.read(frames[rows]) if rows else []
        for i, lines in zip(rows, found, strict=True):
            each = [similarity(wanted[i], self._normalize(text), self._match) for text in lines]
            value[i] = reduce_frames(torch.tensor([each]), self._over_frames)
        if causes := {i: self._nothing() for i, text in enumerate(wanted) if not text}:
            raise SampleError(
                value,
                causes,
                hint='quote the text in the prompt, as in: a sign that says "OPEN"; or set the '
                'option text = "prompt"',
            )
        return value

    def read(self, frames: Tensor) -> list[list[str]]:
        """Return the text that is read in every frame, as it is read.

        Args:
            frames: pixels in [0, 1], shape (B, F, 3, H, W).

        Returns:
            B lists of F texts; a text below ``confidence`` is empty.
        """
        pictures = list(as_bytes(frames.flatten(0, 1)).flip(-1).numpy())  # blue comes first
        height, width = frames.shape[-2:]
        small = height <= LINE_HEIGHT and width >= 2 * height
        as_lines = self._detect is False or (self._detect == "auto" and small)
        texts = self._reader.read(pictures, as_lines=as_lines)
        count = frames.shape[1]
        return [texts[i : i + count] for i in range(0, len(texts), count)]

    def _ask(self, prompt: str) -> str:
        return quoted(prompt) if self._text == "quoted" else prompt

    def _nothing(self) -> str:
        return "the prompt has " + (
            "no text in quotation marks" if self._text == "quoted" else "no text"
        )

    def _normalize(self, text: str) -> str:
        text = unicodedata.normalize("NFKC", text)
        text = text if self._case else text.casefold()
        return (" " if self._spaces else "").join(text.split())


def _model_file(given: str, kind: str, option: str) -> Path:
    """Find the file that is named, or the one of its kind in the wheel."""
    shipped = Path(str(importlib.import_module("rapidocr").__file__)).parent / "models"
    found = [Path(given)] if given else sorted(shipped.glob(f"*_{kind}*.onnx"))
    found = [path for path in found if path.is_file()]
    if len(found) != 1:
        raise RewardError(
            f"There is no single file {given or shipped / f'*_{kind}*.onnx'} for reward 'ocr'.",
            hint=f"name one with the option {option}, or install rapidocr again: its wheel "
            "carries one",
        )
    return found[0]
