"""A base on the Hugging Face hub: what its cache holds, and what the hub says when asked."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ddrl.errors import UsageError, WeightsError


def split_revision(path: str) -> tuple[str, str | None]:
    """``owner/name@revision`` to its two parts; None is the default revision."""
    name, _, revision = path.partition("@")
    return name, revision or None


def hub_client() -> Any:  # noqa: ANN401 - its names are loaded when they are asked for
    """The hub's own client, which is an extra.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise UsageError(
            "Models of the hub need huggingface_hub.", hint="pip install 'ddrl[models]'"
        ) from error
    return huggingface_hub


def is_offline() -> bool:
    """Return whether ``HF_HUB_OFFLINE`` switches the hub off."""
    return bool(hub_client().constants.HF_HUB_OFFLINE)


def local_folder(path: str | Path) -> Path | None:
    """Return the folder of a pipeline on this machine: its own, or that of the hub's cache."""
    if Path(path).exists():
        return Path(path)
    name, revision = split_revision(str(path))
    client = hub_client()
    try:
        index = client.try_to_load_from_cache(name, "model_index.json", revision=revision)
    except ValueError:  # no name that the hub may have
        return None
    return Path(index).parent if isinstance(index, str) else None


def ask_hub(path: str, file: str = "model_index.json") -> None:
    """See that the hub has a file of a model, or its cache does; one request, never repeated.

    Raises:
        WeightsError: the hub does not have it, does not give it, or can't be reached.
    """
    name, revision = split_revision(path)
    client = hub_client()
    try:
        if isinstance(client.try_to_load_from_cache(name, file, revision=revision), str):
            return
        if not is_offline():
            client.get_hf_file_metadata(client.hf_hub_url(name, file, revision=revision))
            return
    except Exception as error:  # also of what the hub's client is built on
        raise hub_problem(error, path) or unreachable(path) from error
    raise unreachable(path)


def hub_problem(error: BaseException, path: str) -> WeightsError | None:
    """Return an error for a refusal of the hub, or for no connection; None: something else."""
    name, revision = split_revision(path)
    kinds: set[str] = set()
    cause: BaseException | None = error
    while cause is not None:
        kinds |= {kind.__name__ for kind in type(cause).__mro__}
        cause = cause.__cause__ or cause.__context__
    if "GatedRepoError" in kinds:
        return WeightsError(
            f"{path} is not open to everyone: the hub asks who you are.",
            hint=f"accept its terms on huggingface.co/{name}, then: hf auth login",
        )
    if "RevisionNotFoundError" in kinds:
        return WeightsError(
            f"{name} has no revision {revision} on the hub.",
            hint=f"its revisions are listed on huggingface.co/{name}/tree/main",
        )
    if "RepositoryNotFoundError" in kinds or "HFValidationError" in kinds:
        return WeightsError(
            f"{path} is not a diffusers pipeline: there is no such folder, and no model of this "
            "name on the hub.",
            hint="see that the path is right, from the folder that you are in; a private model "
            "needs: hf auth login",
        )
    if "RemoteEntryNotFoundError" in kinds:
        return WeightsError(
            f"{path} is not a diffusers pipeline: the hub has no model_index.json, or no config, "
            "of it.",
            hint=f"see huggingface.co/{name}: a release for diffusers is often a model of its own",
        )
    offline = {"OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectError", "ConnectTimeout"}
    if kinds & (offline | {"ConnectionError", "ReadTimeout"}):
        return unreachable(path)
    return None


def unreachable(path: str) -> WeightsError:
    """No such folder, and no hub to ask."""
    name, revision = split_revision(path)
    wanted = f" --revision {shlex.quote(revision)}" if revision else ""
    folder = name.rpartition("/")[2] or "model"
    return WeightsError(
        f"{path} is not here: there is no such folder, the hub's cache is incomplete, and the "
        "hub can't be reached.",
        hint=f"where there is a network, download it first: hf download {shlex.quote(name)}"
        f"{wanted} --local-dir {shlex.quote(folder)}, and set model.path to that folder",
    )


def missing_folder(path: str) -> WeightsError:
    """The error for a path that is not there, and can't be an id of the hub."""
    place = Path(path)
    near = []
    if place.parent.is_dir():
        near = get_close_matches(place.name, [one.name for one in place.parent.iterdir()], n=1)
    hint = "give the folder where it lies now, model.path=PATH, or owner/name of a model on the hub"
    return WeightsError(
        f"There is no folder {path}.",
        hint=f"did you mean {place.parent / near[0]}? Else {hint}" if near else hint,
    )
