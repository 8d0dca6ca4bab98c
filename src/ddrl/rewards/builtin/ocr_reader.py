"""What reads text in pictures for the reward ``ocr``, in the run's process or in others."""

from __future__ import annotations

import importlib
from typing import Any


class TextReader:
    """RapidOCR over model files that are on this disk: it would download them otherwise.

    Args:
        detector: an ONNX file.
        recognizer: an ONNX file that holds its characters.
        batch_size: lines per call of the recognizer.
        threads: of either.
        confidence: least confidence of a line, in [0, 1].
    """

    def __init__(
        self, *, detector: str, recognizer: str, batch_size: int, threads: int, confidence: float
    ) -> None:
        self._confidence = confidence
        self._engine = importlib.import_module("rapidocr").RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.text_score": confidence,
                # Small pictures are enlarged to this for the detector. RapidOCR's own, 736, takes
                # five times as long and found no more of what was tried.
                "Det.limit_side_len": 320,
                "Det.model_path": detector,
                "Rec.model_path": recognizer,
                "Rec.rec_batch_num": batch_size,
                # Least width of a line over its height. RapidOCR's own, 320, is three times as slow
                # for pictures of 32 x 96 and reads them no better.
                "Rec.rec_img_shape": [3, 48, 48],
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def read(self, pictures: list[Any], *, as_lines: bool) -> list[str]:
        """The text of every picture, an array (H, W, 3) of bytes, blue first.

        Args:
            pictures: any number of them.
            as_lines: each is one line; else its lines are searched for and joined by spaces.
        """
        if not as_lines:
            return [self._page(picture) for picture in pictures]
        read = self._engine.recognize_txt(pictures)
        pairs = zip(read.txts, read.scores, strict=True)
        return [text if score >= self._confidence else "" for text, score in pairs]

    def _page(self, picture: Any) -> str:  # noqa: ANN401 - an array of numpy
        read = self._engine(picture, use_det=True, use_cls=False, use_rec=True)
        return " ".join(read.txts or ())
