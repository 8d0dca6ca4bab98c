"""Finds captions that a pipeline's encoders cut, and captions that they take for the same."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddrl.models.files.configs import PipelineConfigs, building, part_class
from ddrl.models.files.hub import local_folder, unreachable

_AT_ONCE = 1000
_SHOWN = 60


@dataclass(frozen=True)
class TextLimits:
    """The tokenizers of a pipeline, and how many tokens of each are encoded.

    Attributes:
        tokenizers: name -> tokenizer and its limit, in tokens with those that begin and end a
            text. What a chat template adds is not counted.
    """

    tokenizers: Mapping[str, tuple[Any, int]]

    @classmethod
    def of(cls, pipeline: Any) -> TextLimits:  # noqa: ANN401 - diffusers is untyped
        """Those of a loaded pipeline."""
        found = {
            name: part
            for name, part in pipeline.components.items()
            if name.startswith("tokenizer") and part is not None
        }
        return cls._limited(type(pipeline), found)

    @classmethod
    def _limited(cls, kind: type, tokenizers: Mapping[str, Any]) -> TextLimits:
        known = inspect.signature(kind.__call__).parameters
        default = getattr(known.get("max_sequence_length"), "default", None)
        limits = {}
        for name, tokenizer in tokenizers.items():
            own = getattr(tokenizer, "model_max_length", None)
            is_clip = type(tokenizer).__name__.startswith("CLIP")
            limit = own if is_clip or not isinstance(default, int) else default
            if callable(tokenizer) and isinstance(limit, int) and limit < 10**6:
                limits[name] = (tokenizer, limit)
        return cls(limits)

    def notes(self, texts: Sequence[str]) -> list[str]:
        """Return a clause for texts that are cut, and one for texts that become the same.

        A text is cut where no tokenizer takes it whole; texts are the same where all tokenizers
        give them the same tokens.
        """
        if not self.tokenizers:
            return []
        name, (_, limit) = max(self.tokenizers.items(), key=lambda item: item[1][1])
        texts, longest, cut = list(dict.fromkeys(texts)), 0, 0
        groups: dict[tuple[object, ...], list[str]] = {}
        for text, length, is_cut, seen in self._read(texts, name):
            groups.setdefault(seen, []).append(text)
            cut += is_cut
            longest = max(longest, length)
        found = []
        if cut:
            found.append(
                f"{cut} of {len(texts)} texts are cut: the model reads {limit} tokens "
                f"({name}), and the longest text has {longest}"
            )
        same = [group for group in groups.values() if len(group) > 1]
        if same:
            first, second = (f"{text[:_SHOWN]!r}" for text in same[0][:2])
            found.append(
                f"{sum(map(len, same))} texts become {len(same)} to the model, such as {first} "
                f"and {second}"
            )
        return found

    def _read(
        self, texts: list[str], longest: str
    ) -> Iterator[tuple[str, int, bool, tuple[object, ...]]]:
        """Yield each text, its tokens by one tokenizer, whether all cut it, and all tokens kept."""
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            lengths, is_cut = [0] * len(some), [True] * len(some)
            rows: list[tuple[object, ...]] = [() for _ in some]
            for name, (tokenizer, limit) in self.tokenizers.items():
                whole = tokenizer(some, verbose=False)["input_ids"]
                kept = tokenizer(some, truncation=True, max_length=limit)["input_ids"]
                for row, ids in enumerate(whole):
                    is_cut[row] = is_cut[row] and len(ids) > limit
                    rows[row] += (tuple(kept[row]),)
                    lengths[row] = len(ids) if name == longest else lengths[row]
            yield from zip(some, lengths, is_cut, rows, strict=True)


def read_limits(path: str | Path) -> TextLimits:
    """Read the tokenizers of a pipeline, and nothing else.

    Args:
        path: a folder, or a hub id whose files are in the hub's cache.

    Raises:
        WeightsError: it is no pipeline, is not here, or a tokenizer can't be read.
    """
    from ddrl.models.families.registry import import_diffusers
    from ddrl.models.pretrained import refuse_pipes

    import_diffusers()  # what is not installed is no fault of the folder
    refuse_pipes(path)
    configs, folder = PipelineConfigs.find(path), local_folder(path)
    if folder is None:
        raise unreachable(str(path))
    hint = "see what `ddrl doctor --model PATH` finds in it"
    found: dict[str, Any] = {}
    with building(f"The tokenizers of {path} can't be read", hint=hint):
        for name, value in configs.index.items():
            if name.startswith("tokenizer") and name not in configs.left_out() and value[0]:
                kind: Any = part_class(str(value[0]), str(value[1]), str(path))
                found[name] = kind.from_pretrained(folder / name)
        return TextLimits._limited(part_class("diffusers", configs.class_name, str(path)), found)
