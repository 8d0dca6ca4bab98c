"""The samples that a reward is audited on: files in batches of one size, or the embedded data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddrl.data.embedded.sources import CaptionedMedia
from ddrl.data.layouts.files import find_samples, usable
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.media.reading import Facts, frame_media, probe, to_unit
from ddrl.data.samples import Sample
from ddrl.data.splits import ALL
from ddrl.errors import DataError
from ddrl.seeding import permutation

BATCH_SIZE = 16
_MAX_FRAMES = 16  # of a clip


@dataclass(frozen=True)
class Audited:
    """N samples of one size, read a batch at a time.

    Attributes:
        texts: N prompts.
        said: where they are from and of what size, in words.
        read: positions of B samples to their pixels in [0, 1], (B, 3, H, W) or (B, T, 3, H, W);
            raises DataError where a file can't be read.
        metadata: of each sample's prompt; none: nothing is known of any.
    """

    texts: tuple[str, ...]
    said: str
    read: Callable[[Sequence[int]], Tensor]
    metadata: tuple[Mapping[str, Any], ...] = ()

    def batches(self, *, whole_groups: bool = False) -> Iterator[tuple[list[int], Tensor]]:
        """Positions of at most 16 samples and their pixels.

        Args:
            whole_groups: all samples of a prompt in one batch, which is then as large as it must.

        Raises:
            DataError: a file can't be read.
        """
        members: dict[object, list[int]] = {}
        for row, text in enumerate(self.texts):
            members.setdefault(text if whole_groups else row, []).append(row)
        taken: list[int] = []
        for rows in members.values():
            if taken and len(taken) + len(rows) > BATCH_SIZE:
                yield taken, self.read(taken)
                taken = []
            taken = [*taken, *rows]
        if taken:
            yield taken, self.read(taken)


@dataclass(frozen=True)
class _Found:
    """A file, and what it is."""

    sample: Sample
    facts: Facts


def embedded_samples(data: CaptionedMedia, name: str, *, limit: int) -> Audited:
    """Samples of embedded data, chosen at random, always the same.

    Args:
        data: what they are chosen from.
        name: of the data.
        limit: how many at most; 0: all.
    """
    chosen = _choose(len(data), limit)
    shape = f"{data.media.shape[-1]}x{data.media.shape[-2]}"
    what = name if ":" in name else f"the embedded {name.replace('_', ' ')}"
    said = f"{len(chosen)} of {what}, {shape}"
    samples = data.select(torch.tensor(chosen))
    return Audited(samples.texts(), said, lambda rows: samples.media[list(rows)])


def file_samples(path: Path, *, limit: int) -> Audited:
    """Captioned files, chosen at random, always the same.

    Args:
        path: a folder, list, shard or table.
        limit: how many at most; 0: all.

    Raises:
        DataError: there are none, one of the chosen can't be read, or there are images and clips.
    """
    samples = usable(find_samples(path, split=ALL), on_broken="skip")
    chosen = [samples[i] for i in _choose(len(samples), limit)]
    found = [_Found(sample, probe(sample.media)) for sample in chosen]
    lengths = [len(one.facts.timeline.times) for one in found if one.facts.timeline is not None]
    if lengths and len(lengths) < len(found):
        raise DataError(
            f"{path} has both images and clips.",
            hint="a reward is audited on one of them at a time; put them into folders of their own",
        )
    sizes = Counter((one.facts.height, one.facts.width) for one in found)
    (height, width), _ = sizes.most_common(1)[0]
    if lengths and min(lengths) < 2:
        raise DataError(f"{path} has a clip of one frame.", hint="clips need two or more")
    bucket = Bucket(height, width, min(*lengths, _MAX_FRAMES) if lengths else 1)
    kind = "clips" if lengths else "images"
    said = f"{len(found)} {kind} of {path}, {bucket}"
    said += "" if len(sizes) == 1 else ", their most frequent size"
    framing = Framing((bucket,))

    def read(rows: Sequence[int]) -> Tensor:
        files = [found[row] for row in rows]
        framed = [frame_media(one.sample.media, framing, facts=one.facts) for one in files]
        return to_unit(torch.stack([one.pixels for one in framed]))

    texts = tuple(one.sample.caption for one in found)
    return Audited(texts, said, read, tuple(one.sample.metadata for one in found))


def _choose(length: int, limit: int) -> list[int]:
    order = permutation(length, 0, "reward-audit-samples").tolist()
    return sorted(order[: limit or length])
