"""Sets of the hub that can't change: pinned to a commit, or to the content of a local folder."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddrl.data.layouts.listing import files_of
from ddrl.data.locators import content_hash
from ddrl.disk import replace_file
from ddrl.errors import DataError

EXTRA = "hub"
TIMEOUT = 30.0  # seconds that the hub may take to say what a revision is

_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubSet:
    """A data set that can't change.

    Attributes:
        name: ``owner/name`` on the hub, or a folder.
        revision: the commit, or a hash of all files in the folder.
        is_local: whether it is a folder.
    """

    name: str
    revision: str
    is_local: bool

    def __str__(self) -> str:
        return self.name if self.is_local else f"{self.name}@{self.revision[:8]}"


def check_name(path: str) -> tuple[str, str]:
    """Split the name of a set into its parts; costs nothing.

    Args:
        path: a folder, ``owner/name`` or ``owner/name@revision``.

    Returns:
        The folder or the name, and the revision, empty where it says none.

    Raises:
        DataError: it is neither, or ``datasets`` is not installed.
    """
    datasets_library()
    if Path(path).exists():
        return path, ""
    match = _NAME.fullmatch(path)
    if match is None:
        raise DataError(
            f"{path!r} is neither a folder nor the name of a data set on the hub.",
            hint='set data.path to a folder, to "owner/name" or to "owner/name@revision"',
        )
    return match[1], match[2] or ""


def pin(path: str, *, refs: Path) -> HubSet:
    """Find out which commit a name means now, or what is in a folder.

    Args:
        path: as :func:`check_name` takes it.
        refs: a folder that keeps the answers, for when the hub can't be reached.

    Raises:
        DataError: there is no such set, or the hub can't be reached and was never asked before.
    """
    name, revision = check_name(path)
    if Path(name).exists():
        root = Path(name)
        if not root.is_dir():
            raise DataError(f"{path} is no folder.", hint='set data.source = "files"')
        files = [[one, content_hash(root / one)] for one in sorted(files_of(root))]
        digest = hashlib.sha256(json.dumps(files).encode("utf-8", "surrogateescape"))
        return HubSet(name, digest.hexdigest(), is_local=True)
    if _COMMIT.fullmatch(revision):
        return HubSet(name, revision, is_local=False)
    known = refs / f"{name.replace('/', '--')}@{revision.replace('/', '--') or 'newest'}"
    try:
        from huggingface_hub import HfApi

        asked = HfApi().dataset_info(name, revision=revision or None, timeout=TIMEOUT)
        commit = str(asked.sha)
    except Exception as error:  # of several libraries, depending on where it fails
        commit = _known(known, error)
        if not commit:
            raise _unreachable(path, error) from error
        logger.warning("the hub can't be asked for %s: taking its commit %s", path, commit)
    else:
        refs.mkdir(parents=True, exist_ok=True)
        replace_file(known, commit)
    return HubSet(name, commit, is_local=False)


def _known(path: Path, error: Exception) -> str:
    """Return the commit that the hub named before; empty if the hub answered, or never did."""
    if getattr(error, "response", None) is not None or not path.is_file():
        return ""
    commit = path.read_text(encoding="utf-8").strip()
    return commit if _COMMIT.fullmatch(commit) else ""


def _unreachable(path: str, error: Exception) -> DataError:
    if type(error).__name__ == "OfflineModeIsEnabled":
        return DataError(
            f"The data set {path} is on the hub, and HF_HUB_OFFLINE is set.",
            hint="unset HF_HUB_OFFLINE, or set data.path to a folder that holds the set",
        )
    reason = reason_of(error)
    return DataError(
        f"The hub can't be asked for the data set {path}: {reason}.",
        hint="check the name, the network and, for a private or gated set, `hf auth login`",
    )


def reason_of(error: Exception) -> str:
    """Return the first line of what a library says, to be part of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def datasets_library() -> Any:  # noqa: ANN401 - of datasets, which may not be there
    """Return the library ``datasets``.

    Raises:
        DataError: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            'data.source = "hub" needs the library datasets.', hint=f"pip install 'ddrl[{EXTRA}]'"
        ) from error
    return datasets
