"""Models, tokenizers and image processors of transformers, read from a folder or the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ddrl.errors import WeightsError

# What reading a missing, broken or foreign folder raises.
UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    SafetensorError,
)


def one_line(error: object, limit: int = 300) -> str:
    """Return what an error says on one line, as much as a message may repeat."""
    return " ".join(str(error).split())[:limit]


@contextmanager
def loading(what: object, hint: str) -> Iterator[None]:
    """Say what can't be loaded when something in the block can't be read.

    Raises:
        WeightsError: it can't.
    """
    try:
        yield
    except UNREADABLE as error:
        raise WeightsError(f"{what} can't be loaded: {one_line(error)}", hint=hint) from error


def load_model(auto: Any, weights: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401
    """Read a model by one of transformers' auto classes; also return which keys did not fit."""
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, and written over
        model, info = auto.from_pretrained(
            weights, trust_remote_code=False, dtype=dtype, output_loading_info=True
        )
    return model, info


def load_images(source: str) -> Any:  # noqa: ANN401 - transformers is untyped
    """Read an image processor."""
    import transformers

    return transformers.AutoImageProcessor.from_pretrained(
        source, trust_remote_code=False, backend="pil"
    )


def load_tokenizer(source: str, hint: str) -> Any:  # noqa: ANN401 - transformers is untyped
    """Read a tokenizer.

    Raises:
        WeightsError: its files are missing; transformers then makes an empty one.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    a, b = tokenizer(["a", "b"])["input_ids"]
    if a == b:
        raise WeightsError(
            f"The tokenizer of {source} gives all texts the same tokens: its files are missing.",
            hint=hint,
        )
    return tokenizer


def check_keys(weights: str | Path, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Refuse weights that do not fill a model exactly: the rest would be random numbers.

    Raises:
        WeightsError: a weight is missing or unexpected.
    """
    for kind, keys in (
        ("has no", missing),
        ("has what the model has no place for:", unexpected),
    ):
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (", ..." if len(keys) > 3 else "")
            raise WeightsError(
                f"{weights} {kind} {shown} ({len(keys)} in all).",
                hint="these are the weights of another model, or a part of them",
            )
