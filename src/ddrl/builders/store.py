"""Things that are made once and found again: a folder per content hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from ddrl.builders.keys import cache_key
from ddrl.data.embedded.sources import CaptionedMedia
from ddrl.disk import folder_beside, settle
from ddrl.errors import DataError

Progress = Callable[[str, int, int, str], None]
"""(what is made, done, of how many, a note): called now and then."""


def fingerprint(media: CaptionedMedia) -> str:
    """A hash of pixels and captions."""
    digest = hashlib.sha256(media.media.contiguous().numpy().tobytes())
    digest.update(json.dumps([media.caption_id.tolist(), media.captions]).encode())
    return digest.hexdigest()


def make_once(
    cache: Path, kind: str, key: object, make: Callable[[Path], None], *, code: object = ()
) -> tuple[Path, bool]:
    """Return the folder for ``key``, made now if it is not there.

    It is written beside and renamed, so that a killed or a second process never leaves half.

    Args:
        cache: the cache folder.
        kind: first part of the folder's name.
        key: everything that the content depends on beside code and libraries, as JSON.
        make: fills an empty folder.
        code: of the user's own that makes it, as :func:`~ddrl.builders.keys.own_code` tells it.

    Returns:
        The folder, and whether it was made now.

    Raises:
        DataError: the cache can't be written.
    """
    text = json.dumps(key, sort_keys=True)
    folder = cache / f"{kind}-{cache_key(kind, key, code=code)[:16]}"
    if (folder / "key.json").exists():
        return folder, False
    try:
        with folder_beside(folder, name=f"{folder.name}-{os.getpid()}") as beside:
            make(beside)
            (beside / "key.json").write_text(text)
            settle(beside)
            if not (folder / "key.json").exists():
                shutil.rmtree(folder, ignore_errors=True)  # not ours: ours are renamed whole
            beside.rename(folder)
    except (OSError, SafetensorError) as error:
        if (folder / "key.json").exists():  # another process was faster
            return folder, False
        raise DataError(
            f"The cache {cache} can't be written: {getattr(error, 'strerror', None) or error}.",
            hint="set run.cache to a writable folder with free space",
        ) from error
    return folder, True
