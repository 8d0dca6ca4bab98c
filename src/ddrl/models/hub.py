"""Files of the Hugging Face hub: asked for once, and not waited for where there is no network."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ddrl.errors import WeightsError

__all__ = ["fetch", "missing_folder"]

TIMEOUT = 10.0  # seconds that the hub may take to say whether there is such a model


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


def fetch(name: str, file: str, *, revision: str | None = None) -> Path:
    """A file of a model on the hub, from the local cache where the hub can't be reached.

    Args:
        name: ``owner/name``.
        file: its path in the model.
        revision: a branch, tag or commit; None is the newest.

    Raises:
        WeightsError: the hub has no such model, or can't be reached and the file is not in the
            cache.
        OSError: the model has no such file.
    """
    from huggingface_hub import HfApi, hf_hub_download

    try:
        HfApi().model_info(name, revision=revision, timeout=TIMEOUT)
    except Exception as error:  # of several libraries, depending on where it fails
        if getattr(error, "response", None) is not None:
            raise WeightsError(
                f"The hub gives no model {name}: {_reason(error)}.",
                hint="check the name and, for a private or gated model, `hf auth login`",
            ) from error
        try:
            return Path(hf_hub_download(name, file, revision=revision, local_files_only=True))
        except (OSError, ValueError):
            is_off = type(error).__name__ == "OfflineModeIsEnabled"
            why = (
                "HF_HUB_OFFLINE is set" if is_off else f"the hub can't be reached: {_reason(error)}"
            )
            raise WeightsError(
                f"There is no folder {name}, and no model of that name can be fetched: {why}.",
                hint="download it where there is a network, and give its folder: model.path=PATH",
            ) from error
    return Path(hf_hub_download(name, file, revision=revision))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
