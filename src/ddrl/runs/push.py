"""An export on the hub: the files of its folder, in one commit of a repository."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddrl.disk import read_json
from ddrl.errors import UsageError
from ddrl.models.files.hub import hub_client, is_offline
from ddrl.runs.export import MANIFEST, exported_files

logger = logging.getLogger(__name__)

_OUT_OF_REACH = {"OfflineModeIsEnabled", "ConnectError", "ConnectTimeout", "ConnectionError"}
_OUT_OF_REACH |= {"ReadTimeout", "ReadError", "WriteError", "RemoteProtocolError", "ProxyError"}
_SHOWN = 5  # names of files in a line of the log


@dataclass(frozen=True)
class Repository:
    """Where an export goes on the hub.

    Attributes:
        name: ``owner/name``.
        public: whether everyone may read it, once it is made.
        files: that are there; None: there is no such repository yet.
        user: whose token it is.
    """

    name: str
    public: bool
    files: frozenset[str] | None
    user: str


def find_repository(name: str, *, public: bool = False) -> Repository:
    """Ask the hub whose token this is and what the repository holds; nothing is changed there.

    Args:
        name: ``owner/name``.
        public: whether everyone may read it.

    Raises:
        UsageError: huggingface_hub is not installed, the name can't be one, there is no token or
            none that may write, the hub can't be reached, or a public repository is there and
            ``public`` is not set.
    """
    client = hub_client()
    _check_name(name, client)
    if is_offline():
        raise UsageError(
            f"{name} can't be written: HF_HUB_OFFLINE is set.",
            hint="unset HF_HUB_OFFLINE, or leave --push out and push the run later",
        )
    if client.get_token() is None:
        raise UsageError(
            f"{name} can't be written: there is no token of the hub here.",
            hint="hf auth login, with a token that may write (huggingface.co/settings/tokens)",
        )
    api = client.HfApi()
    with _told(name):
        who = api.whoami()
        user = str(who.get("name") or "")
        if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise _no_right(name, user, "the token may only read")
        try:
            info = api.model_info(name)
        except client.errors.GatedRepoError:
            raise
        except client.errors.RepositoryNotFoundError:
            return Repository(name, public, None, user)
    if not info.private and not public:
        raise UsageError(
            f"{name} is there, and everyone may read it.",
            hint="add --public if they may read these weights, or name another repository",
        )
    if info.private and public:
        logger.warning("%s is there and private, and stays so: --public is for new ones", name)
    files = frozenset(file.rfilename for file in info.siblings or ())
    return Repository(name, not info.private, files, user)


def push_export(folder: Path, repository: Repository) -> str:
    """Write an export's files to the repository, in one commit, and see that they are there.

    A repository that is missing is made. In one that is there, files of the same names are
    replaced and others stay.

    Args:
        folder: of :func:`~ddrl.runs.export.export_run`; files beside the export's stay here.
        repository: of :func:`find_repository`.

    Returns:
        The repository's address.

    Raises:
        UsageError: the hub refuses it, can't be reached, or leaves files out. ``folder`` stays as
            it is, and the same call goes on: what is stored already is not sent again.
    """
    client, name = hub_client(), repository.name
    api = client.HfApi()
    files = exported_files(folder)
    with _told(name, user=repository.user, folder=folder):
        if repository.files is None:
            # Another process may have made it meanwhile; what it may be read by is its own.
            api.create_repo(name, private=not repository.public, exist_ok=True)
            kind = "public" if repository.public else "private"
            logger.info("%s is a new repository, %s", name, kind)
        else:
            _say_what_stays(repository, files)
        adds = [client.CommitOperationAdd(file, folder / file) for file in files]
        api.create_commit(name, adds, commit_message=_message(folder))
        left_out = sorted(set(files) - set(api.list_repo_files(name)))
    if left_out:
        raise UsageError(
            f"{name} has not kept {', '.join(left_out)}: its .gitignore leaves them out.",
            hint=f"remove the .gitignore of {name} on the hub, then give the same command again",
        )
    return f"{api.endpoint}/{name}"


def _say_what_stays(repository: Repository, files: list[str]) -> None:
    others = sorted((repository.files or frozenset()) - {*files, ".gitattributes"})
    shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
    logger.info(
        "%s is there: this is a new commit on top%s",
        repository.name,
        f"; its other files stay: {shown}" if others else "",
    )


def _message(folder: Path) -> str:
    manifest: Any = read_json(folder / MANIFEST)
    kind = {"ema": "averaged weights"}.get(manifest["weights"], f"{manifest['weights']} weights")
    return f"{manifest['run']}, step {manifest['step']}, {kind}, by ddrl"


def _check_name(name: str, client: Any) -> None:  # noqa: ANN401 - an extra's module
    """Refuse what can't be a repository's name.

    Raises:
        UsageError: it has no owner, or the hub allows no such name.
    """
    owner, _, rest = name.partition("/")
    try:
        client.utils.validate_repo_id(name)
    except ValueError:
        is_valid = False
    else:
        is_valid = bool(owner and rest)
    if not is_valid:
        last = re.sub(r"[^A-Za-z0-9._-]+|[.-]{2,}", "-", name.rpartition("/")[2]).strip("-.")[:96]
        raise UsageError(
            f'"{name}" is not a name of a repository on the hub.',
            hint="give a name of letters, digits, '-', '_' and '.', and whose it is: "
            f"--push OWNER/{last or 'NAME'}",
        )


def _no_right(name: str, user: str, reason: str) -> UsageError:
    own = f", or --push {user}/{name.partition('/')[2]}" if user else ""
    return UsageError(
        f"{name} can't be written with this token{f' of {user}' if user else ''}: {reason}.",
        hint="hf auth login, with a token that may write there (huggingface.co/settings/tokens)"
        + own,
    )


@contextmanager
def _told(name: str, *, user: str = "", folder: Path | None = None) -> Iterator[None]:
    """Tell what the hub or the way to it refuses as an error of ours.

    Raises:
        UsageError: in place of any error of the hub's client.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # also of what the hub's client is built on
        raise _problem(error, name, user, folder) from error


def _problem(error: Exception, name: str, user: str, folder: Path | None) -> UsageError:
    kinds, status, said = _causes(error)
    kept = f"; the export is whole in {folder}" if folder else ""
    again = "give the same command again" + (
        ": what the hub has stored is not sent twice" if folder else ""
    )
    if status == 401 and "RepositoryNotFoundError" not in kinds:
        return UsageError(
            f"{name} can't be written: the hub does not know the token{kept}.",
            hint="hf auth login, with a token that may write (huggingface.co/settings/tokens)",
        )
    if status in {401, 403} or "RepositoryNotFoundError" in kinds:
        return _no_right(name, user, f"{said or 'the hub refuses it'}{kept}")
    if status is None and kinds & _OUT_OF_REACH:
        return UsageError(
            f"{name} can't be written: the hub can't be reached{kept}.",
            hint=f"where there is a network, {again}",
        )
    reason = f"the hub says {status}" if status else "the upload has failed"
    return UsageError(
        f"{name} can't be written: {reason}{f' ({said})' if said else ''}{kept}.", hint=again
    )


def _causes(error: BaseException) -> tuple[set[str], int | None, str]:
    """Names of the classes behind an error, the hub's status, and what it said in one line."""
    kinds: set[str] = set()
    status, said = None, ""
    cause: BaseException | None = error
    last = error
    while cause is not None:
        last = cause
        kinds |= {kind.__name__ for kind in type(cause).__mro__}
        answer = getattr(cause, "response", None)
        status = status or getattr(answer, "status_code", None)
        said = said or str(getattr(cause, "server_message", None) or "")
        cause = cause.__cause__ or cause.__context__
    said = said or ("" if status else str(last))
    return kinds, status, " ".join(said.split())[:300].rstrip(".")
