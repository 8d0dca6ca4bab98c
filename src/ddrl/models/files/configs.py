"""The configs of a pipeline: from a folder, from the releases that ddrl knows, or from the hub."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ddrl.disk import may_be_hub_id, read_json
from ddrl.errors import DDRLError, WeightsError
from ddrl.models.files.hub import ask_hub, hub_problem, local_folder, missing_folder, split_revision
from ddrl.models.files.weight_formats import not_a_pipeline

Config = Mapping[str, Any]

_RELEASES = "ddrl.models.releases"
_LONGEST_REASON = 600

NOT_LOADED: Mapping[str, tuple[str, ...]] = {
    "Cosmos2_5_PredictBasePipeline": ("safety_checker",),
}
"""Parts that a pipeline demands and ddrl, which takes the steps itself, doesn't use."""

MAY_BE_MISSING: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "StableDiffusion3Pipeline": (
        ("text_encoder_3", "tokenizer_3"),
        ("image_encoder", "feature_extractor"),
    ),
    "StableDiffusionPipeline": (
        ("safety_checker",),
        ("image_encoder",),
        ("feature_extractor",),
    ),
    "StableDiffusionXLPipeline": (("image_encoder", "feature_extractor"),),
    "FluxPipeline": (("image_encoder", "feature_extractor"),),
    "FluxKontextPipeline": (("image_encoder", "feature_extractor"),),
}
"""Parts that a pipeline works without; those that stand together go together."""


def reason_of(error: BaseException) -> str:
    """Return a library's message as one line; a long text ends with one of its sentences."""
    said = " ".join(str(error).split()) or type(error).__name__
    if len(said) <= _LONGEST_REASON:
        return said
    ends = [found.end() for found in re.finditer(r"[.!?](?=\s)", said[:_LONGEST_REASON])]
    return said[: ends[-1]] if ends else said[:_LONGEST_REASON].rpartition(" ")[0] + " ..."


@contextmanager
def building(what: str, *, hint: str) -> Iterator[None]:
    """Turn the errors of a library that builds from configs, which may hold anything, into ours.

    Raises:
        WeightsError: the library raised an error.
    """
    try:
        yield
    except DDRLError:
        raise
    except Exception as error:  # a config of another kind fails anywhere in the library
        raise WeightsError(f"{what}: {reason_of(error)}", hint=hint) from error


@dataclass(frozen=True)
class PipelineConfigs:
    """The configs of a pipeline.

    Attributes:
        path: a folder, or a hub id.
        index: content of ``model_index.json``.
        release: configs by part, of a release that ddrl knows; None: they are in files.
    """

    path: str
    index: Config
    release: Mapping[str, Config] | None = None

    @classmethod
    def find(cls, path: str | Path) -> PipelineConfigs:
        """Read the index; a folder goes before a release, and a release before the hub.

        Raises:
            WeightsError: it can't be read.
        """
        name = str(path)
        if not Path(path).exists() and (release := _release(split_revision(name)[0])) is not None:
            return cls(name, release["model_index"], release)
        index = _read(name, "model_index.json")
        if "_class_name" not in index:
            raise _missing(name, "model_index.json")
        return cls(name, index)

    def left_out(self) -> tuple[str, ...]:
        """Return parts that the model does without: null in the index, or without a folder."""
        found = []
        for together in MAY_BE_MISSING.get(self.class_name, ()):
            first = together[0]
            is_null = first in self.index and self.index[first] in (None, [None, None])
            folder = local_folder(self.path)
            is_gone = self.release is None and folder is not None and not (folder / first).exists()
            if first in self.index and (is_null or is_gone):
                found += [name for name in together if name in self.index]
        return tuple(found)

    @property
    def class_name(self) -> str:
        """Name of the pipeline's class."""
        return str(self.index["_class_name"])

    def part(self, name: str, file: str = "config.json") -> Config:
        """The config of one part.

        Raises:
            WeightsError: it can't be read.
        """
        if self.release is not None:
            return self.release[name]
        return _read(self.path, f"{name}/{file}")


def known_releases() -> tuple[str, ...]:
    """Hub ids of the releases whose configs are part of ddrl."""
    return tuple(sorted(_all_releases()))


def part_class(library: str, name: str, path: str) -> Any:  # noqa: ANN401
    """A class as ``model_index.json`` names it.

    Raises:
        WeightsError: there is none.
    """
    for place in (library, f"diffusers.pipelines.{library}"):
        if place.partition(".")[0] not in {"diffusers", "transformers"}:
            continue  # a name in a stranger's file is no reason to run a module
        try:
            return getattr(importlib.import_module(place), name)
        except (ImportError, AttributeError):
            continue
    raise WeightsError(
        f"{path} names {name} of {library}, which is not installed.",
        hint="upgrade diffusers and transformers: pip install -U 'ddrl[models]'",
    )


def _all_releases() -> dict[str, dict[str, Any]]:
    texts = [f.read_text("utf-8") for f in files(_RELEASES).iterdir() if f.name.endswith(".json")]
    return {release["id"]: release for release in map(json.loads, texts)}


def _release(name: str) -> dict[str, Any] | None:
    return _all_releases().get(name)


def _read(path: str, file: str) -> Config:
    """A JSON file of a folder or, with what it names alone, of the hub.

    Raises:
        WeightsError: it is not there, or can't be read.
    """
    try:
        if Path(path).exists():
            found = Path(path) / file
        elif may_be_hub_id(path):
            ask_hub(path, file)
            from huggingface_hub import hf_hub_download

            name, revision = split_revision(path)
            found = Path(hf_hub_download(name, file, revision=revision))
        else:
            raise missing_folder(path)
        value = read_json(found)
    except (OSError, ValueError) as error:
        raise _not_read(path, file, error) from error
    if not isinstance(value, dict):
        raise _missing(path, file)
    return value


def _not_read(path: str, file: str, error: Exception) -> WeightsError:
    known = None
    if not Path(path).exists():
        known = hub_problem(error, path)
    elif file == "model_index.json":
        known = not_a_pipeline(Path(path))
    return known or _missing(path, file)


def _missing(path: str, file: str) -> WeightsError:
    if file == "model_index.json":
        return WeightsError(
            f"{path} is not a diffusers pipeline: its model_index.json can't be read.",
            hint="model.path is a folder written by save_pretrained, or the id of a model on the "
            "hub; offline, download it first and give the folder",
        )
    return WeightsError(
        f"{path} can't be planned: its {file} can't be read.",
        hint="download the whole model to a folder and give that folder as model.path",
    )
