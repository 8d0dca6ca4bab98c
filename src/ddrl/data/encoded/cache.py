"""Latents, text embeddings and features of given frames on disk, found by what they are made of.

A file's name is the hash of all that its content depends on, so a stale one can't be used: the
key of what is asked for has changed, and what lies under the old key is not looked at.

- media: the file's content, the encoder's fingerprint, bucket, frame rate, dtype;
- text: the text, the text encoders' fingerprint, dtype; stored once per distinct text;
- given: the content of the file that the frames come from, their number, the encoders'
  fingerprint, bucket, dtype; frame rate, if that file is the clip itself; and the caption, where
  both are encoded together;
- facts: the content of a video that was decoded as a whole and found sound, so that the next run
  need not decode it again.

Files are written beside and renamed, so a killed run leaves no half file and goes on where it
was, and two processes may share the folder. :mod:`ddrl.data.encoded.encoding` fills it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddrl.data.media.framing import Bucket, Framing
from ddrl.disk import BESIDE, check_regular, read_json, read_object, replace_file
from ddrl.errors import DataError

# Part of every key: raise it when the reading or framing of media changes.
FORMAT = "ddrl-cache/2"

Kind = Literal["media", "text", "given"]

_OLD_SECONDS = 3600.0  # a file that has been in writing for longer is a killed run's


def media_key(
    content: str,
    *,
    bucket: Bucket,
    framing: Framing,
    fingerprint: str,
    dtype: torch.dtype,
) -> str:
    """Return the key of a file's latents.

    Args:
        content: hash of the file.
        bucket: the one that was chosen; others do not matter.
        framing: what else was done to the pixels.
        fingerprint: of the encoder.
        dtype: of the stored latents.
    """
    made_from = [content, framing.key(bucket), fingerprint, str(dtype)]
    return _hash("media", made_from)


def given_key(
    content: str,
    *,
    num_frames: int,
    bucket: Bucket,
    framing: Framing | None,
    fingerprint: str,
    dtype: torch.dtype,
    caption: str | None = None,
) -> str:
    """Return the key of the features of given frames.

    Args:
        content: hash of the file that they come from.
        num_frames: how many are given.
        bucket: of the clip that they begin.
        framing: of the clip, if they are its own; None if they are an image's.
        fingerprint: of the encoders.
        dtype: of the stored features.
        caption: that they are encoded with; None where it does not count.
    """
    source = asdict(bucket) if framing is None else framing.key(bucket)
    made_from = [content, num_frames, source, fingerprint, str(dtype)]
    return _hash("given", made_from if caption is None else [*made_from, caption])


def text_key(text: str, *, fingerprint: str, dtype: torch.dtype) -> str:
    """Return the key of a text's embeddings."""
    return _hash("text", [text, fingerprint, str(dtype)])


def _hash(kind: Kind | Literal["facts"], made_from: Sequence[object]) -> str:
    text = json.dumps([FORMAT, kind, *made_from], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class EncodedCache:
    """A folder of latents and text embeddings, one safetensors file each.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def media(self, key: str) -> dict[str, Tensor]:
        """Return ``latents``, without a batch dimension.

        Raises:
            DataError: they are not there, or broken.
        """
        return self._read("media", key)

    def given(self, key: str) -> dict[str, Tensor]:
        """Return the named features of given frames, without a batch dimension.

        Raises:
            DataError: they are not there, or broken.
        """
        return self._read("given", key)

    def text(self, key: str) -> dict[str, Tensor]:
        """Return the named tensors of a text, without a batch dimension.

        Raises:
            DataError: they are not there, or broken.
        """
        return self._read("text", key)

    def has(self, kind: Kind, key: str) -> bool:
        """Return whether there is a whole file under the key; a broken one does not count."""
        path = self._path(kind, key)
        if not path.exists():
            return False
        try:
            check_regular(path)
            with safe_open(path, framework="pt") as file:  # checks length against the head
                return bool(file.keys())
        except (SafetensorError, OSError):
            return False

    def write(
        self, kind: Kind, key: str, tensors: Mapping[str, Tensor], *, note: str | None = None
    ) -> None:
        """Store tensors under a key, and a note in the file's head.

        Raises:
            DataError: the cache can't be written.
        """
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        head = None if note is None else {"note": note}
        write_cached(self.folder, self._path(kind, key), lambda path: save_file(whole, path, head))

    def note(self, kind: Kind, key: str) -> str:
        """Return the note that was stored with the tensors; they are not read.

        Raises:
            DataError: they are not there, broken, or have none.
        """
        path = self._path(kind, key)
        try:
            check_regular(path)
            with safe_open(path, framework="pt") as file:
                return str(file.metadata()["note"])
        except (SafetensorError, OSError, TypeError, KeyError) as error:
            raise DataError(f"{path} can't be read: {error}.", hint=_ENCODE) from error

    def facts(self, content: str) -> dict[str, Any] | None:
        """Return what is known of a video with this content; None if nothing is."""
        return read_object(self._facts_path(content)) or None

    def write_facts(self, content: str, facts: Mapping[str, object]) -> None:
        """Store what is known of a video with this content.

        Raises:
            DataError: the cache can't be written.
        """
        write_cached(self.folder, self._facts_path(content), json.dumps(facts) + "\n")

    def write_index(self, index: Mapping[str, object]) -> None:
        """Write ``index.json``: what the last encoding was about, for people and tools.

        Raises:
            DataError: the cache can't be written.
        """
        text = json.dumps({"format": FORMAT, **index}, indent=1) + "\n"
        write_cached(self.folder, self.folder / "index.json", text)

    def index(self) -> dict[str, Any]:
        """Read ``index.json``. It is never trusted to find latents: the files' keys are.

        Raises:
            DataError: there is none, or it is not ours.
        """
        path = self.folder / "index.json"
        try:
            index = read_json(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} can't be read: {error}.", hint=_ENCODE) from error
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise DataError(f"{path} is no index of this version of ddrl.", hint=_ENCODE)
        return index

    def sweep(self) -> int:
        """Delete what killed runs were writing; return how many files."""
        count = 0
        for path in self.folder.glob(f"**/{BESIDE}*"):
            with suppress(OSError):  # its writer may have put it in its place, or own the folder
                if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                    path.unlink()
                    count += 1
        return count

    def _path(self, kind: Kind, key: str) -> Path:
        return self.folder / kind / key[:2] / f"{key}.safetensors"

    def _facts_path(self, content: str) -> Path:
        key = _hash("facts", [content])
        return self.folder / "facts" / key[:2] / f"{key}.json"

    def _read(self, kind: Kind, key: str) -> dict[str, Tensor]:
        path = self._path(kind, key)
        try:
            check_regular(path)
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} can't be read: {error}.", hint=_ENCODE) from error


def write_cached(cache: Path, path: Path, content: bytes | str | Callable[[Path], object]) -> None:
    """Put a file into a cache at once, and make its folder if it is missing.

    Args:
        cache: the folder that the error names.
        path: of the file.
        content: as for :func:`~ddrl.disk.replace_file`.

    Raises:
        DataError: the cache can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"The cache {cache} can't be written: {reason}.",
            hint="give a writable folder with free space",
        ) from error


_ENCODE = "`ddrl data encode` makes it anew"
