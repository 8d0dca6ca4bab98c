"""Named splits of a data set: which file belongs to which, and which of them are taken.

A split is told as the Hugging Face library ``datasets`` tells it: by a word in the name of a table,
shard or list (``train-00000-of-00002.parquet``, ``coco-val-01.tar``), or by a folder (``test/``,
``train2017/``). Names of media tell nothing: ``test.png`` is a picture.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ddrl.data.problems import Problem
from ddrl.errors import DataError, printable

AUTO = "auto"
"""Take the train split of a set that has named splits, and all of any other set."""

ALL = "all"
"""Take every split."""

_TRAIN = "train"
_WORDS = {
    **dict.fromkeys(("train", "training"), _TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_ANY = "|".join(sorted(_WORDS, key=len, reverse=True))
_IN_FILE = re.compile(rf"(?<![a-z])({_ANY})(?![a-z])")
_FOLDER = re.compile(rf"({_ANY})(?:[-_. ]?(?:\d+|images?|videos?|clips?|data|set|split))?")
_NUMBERED = re.compile(r"(.+?)[-_.](\d{3,})-of-(\d{3,})(?!\d)")
_NO_SPLITS = frozenset({"data", "part", "shard", "chunk"})  # such as data-00000-of-00001.arrow


def split_of(name: str, *, is_container: bool = False) -> str:
    """Return the split that a path says, or an empty string.

    Args:
        name: path relative to the data set.
        is_container: whether it is of a table, shard or list, whose own name counts.
    """
    folders, _, file = name.rpartition("/")
    stem = posixpath.splitext(file)[0] if is_container else ""
    if found := _IN_FILE.findall(stem.lower()):
        return _WORDS[found[-1]]
    for folder in reversed(folders.lower().split("/")):
        if match := _FOLDER.fullmatch(folder):
            return _WORDS[match[1]]
    if (match := _NUMBERED.match(stem)) and match[1].lower() not in _NO_SPLITS:
        return match[1]
    return ""


def split_of_value(value: object) -> str:
    """Return the split that a cell of a column ``split`` names, or an empty string."""
    text = value.strip() if isinstance(value, str) else ""
    return _WORDS.get(text.lower(), text)


@dataclass
class Splits:
    """Chooses among the splits of one data set.

    Attributes:
        wanted: ``auto``, ``all``, or the names of splits with ``+`` between them.
        where: the data set, for messages.
        note: what was taken and what was left out, where a choice was made.
        is_chosen: whether a choice was made; what is within the parts taken is then taken whole.
    """

    wanted: str
    where: str
    note: Problem | None = None
    is_chosen: bool = False

    def choose(
        self, splits: Iterable[str], *, unit: str = "", may_be_subject: bool = False
    ) -> frozenset[str]:
        """Return which splits are taken.

        Args:
            splits: the split of every file or row, an empty string where it has none.
            unit: what is counted, such as "file"; nothing is where it is empty.
            may_be_subject: whether ``train``, where it is the only name, may say what is shown: a
                folder beside those of other things may hold pictures of trains.

        Raises:
            DataError: a wanted split does not exist, or it can't be told which to train on.
        """
        counts = Counter(splits)
        named = sorted(name for name in counts if name)
        if not named:
            return frozenset(counts)  # what is within may have splits
        if self.wanted == ALL:
            kept = frozenset(counts)
        elif self.wanted == AUTO:
            kept = self._default(counts, named, may_be_subject=may_be_subject)
        else:
            asked = self.wanted.split("+")
            kept = frozenset(self._asked(one.strip(), counts, named) for one in asked)
        self.is_chosen = True
        if left := counts.keys() - kept:
            taken, rest = (_list(names, counts, unit) for names in (kept, left))
            message = f"takes the split {taken} and leaves out {rest}; data.split names others"
            self.note = Problem(".", "other_splits", message)
        return kept

    def check_met(self) -> None:
        """Refuse a split that was named where a data set has none at all.

        Raises:
            DataError: it was.
        """
        if not self.is_chosen and self.wanted not in {AUTO, ALL, _TRAIN}:
            raise DataError(
                f"{self.where} has no split {self.wanted!r}, for it has no named splits.",
                hint="leave the split out",
            )

    def _default(
        self, counts: Mapping[str, int], named: list[str], *, may_be_subject: bool
    ) -> frozenset[str]:
        others = [name for name in named if name != _TRAIN]
        if _TRAIN in counts:
            return frozenset(counts if may_be_subject and not others else {_TRAIN})
        if "" in counts:
            return frozenset({""})
        training = [name for name in named if name not in _WORDS.values()]
        if len(training) == 1:
            return frozenset(training)
        raise DataError(
            f"{self.where} has no split train; it has {_names(named)}.",
            hint=f'set data.split = "{printable(named[0])}", or `ddrl data check --split`',
        )

    def _asked(self, name: str, counts: Mapping[str, int], named: list[str]) -> str:
        known = name if name in counts else _WORDS.get(name.lower(), name)
        if known == _TRAIN and known not in counts:
            known = ""  # what is in no other split is trained on
        if known not in counts or not name:
            raise DataError(
                f"{self.where} has no split {name!r}; it has {_names(named)}.",
                hint=f'name one of these, several as in "{"+".join(named[:2])}", or "all"',
            )
        return known


def check_numbers(parts: Iterable[Path]) -> None:
    """Refuse parts of two versions of one table, such as 1 of 2 and 1 of 3: rows would be doubled.

    Raises:
        DataError: there are such parts.
    """
    seen: dict[Path, tuple[str, Path]] = {}
    for part in parts:
        if match := _NUMBERED.match(part.name):
            count, other = seen.setdefault(part.with_name(match[1]), (match[3], part))
            if count != match[3]:
                raise DataError(
                    f"{printable(str(other))} and {printable(part.name)} are parts of two versions "
                    "of one table.",
                    hint="remove the parts of the older one",
                )


def _names(names: Iterable[str]) -> str:
    return ", ".join(printable(name) for name in names) or "none"


def _list(names: Iterable[str], counts: Mapping[str, int], unit: str) -> str:
    said = []
    for name in sorted(names):
        count = counts[name]
        said.append((name or "(no name)") + (unit and f" ({count} {unit}{'s' * (count != 1)})"))
    return ", ".join(said)
