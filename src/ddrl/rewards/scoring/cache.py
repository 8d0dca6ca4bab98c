"""Results of a reward by the content of what it scored, kept in a file.

They serve whoever scores the same samples again: a repeated evaluation, the base of another
run, iterations that a resumed run makes again. A failure is never kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from torch import Tensor

from ddrl.errors import DataError
from ddrl.records import Prompts

logger = logging.getLogger(__name__)

_AT_ONCE = 500  # parameters of a query; SQLite has a limit
_WAIT = 10.0  # seconds for another process that is writing


class RewardCache:
    """The results of one reward with its options, in a SQLite file that processes may share.

    Args:
        path: the file, whose name stands for the reward and its options; made if it is not there.

    Raises:
        DataError: the file can't be made or read.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._is_broken = path, False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as file, file:
                file.execute(
                    "CREATE TABLE IF NOT EXISTS scores "
                    "(key BLOB PRIMARY KEY, value REAL) WITHOUT ROWID"
                )
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"The reward cache {path} can't be used: {error}.",
                hint="remove the file, or set run.cache to a writable folder",
            ) from error

    def keys(self, media: Tensor, prompts: Prompts) -> list[bytes]:
        """Hash every sample: pixels, type, shape, and all that is known of its prompt."""
        found = []
        samples = zip(
            media.detach().cpu().contiguous().unbind(),
            prompts.prompt_id.tolist(),
            prompts.text,
            prompts.metadata,
            strict=True,
        )
        for sample, number, text, metadata in samples:
            said = [str(sample.dtype), list(sample.shape), number, text, dict(metadata)]
            digest = hashlib.blake2b(digest_size=20)
            digest.update(json.dumps(said, sort_keys=True, default=repr).encode())
            digest.update(sample.numpy().tobytes())
            found.append(digest.digest())
        return found

    def find(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the results that are known."""
        if self._is_broken:
            return {}
        found: dict[bytes, float] = {}
        try:
            with closing(self._open()) as file:
                for start in range(0, len(keys), _AT_ONCE):
                    few = keys[start : start + _AT_ONCE]
                    marks = ",".join("?" * len(few))
                    query = f"SELECT key, value FROM scores WHERE key IN ({marks})"
                    found |= dict(file.execute(query, few).fetchall())
        except sqlite3.Error as error:
            self._give_up(error)
        return {key: value for key, value in found.items() if _is_score(value)}

    def store(self, results: Mapping[bytes, float]) -> None:
        """Keep results, all of them finite numbers; those of the same sample are replaced."""
        if self._is_broken or not results:
            return
        try:
            with closing(self._open()) as file, file:
                file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", results.items())
        except sqlite3.Error as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_WAIT)

    def _give_up(self, error: sqlite3.Error) -> None:
        """Go on without the cache: a run does not end because its cache does."""
        self._is_broken = True
        logger.warning("scoring goes on without the reward cache %s: %s", self._path, error)


def _is_score(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
