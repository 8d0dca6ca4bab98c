"""The configs of a pipeline: from a folder, from the releases that ddrl knows, or from the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ddrl.disk import may_be_hub_id, read_json
from ddrl.errors import DDRLError, WeightsError
from ddrl.models.hub import fetch, missing_folder

__all__ = ["PipelineConfigs", "building", "known_releases", "split_revision"]

Config = Mapping[str, Any]

_RELEASES = "ddrl.models.releases"


@contextmanager
def building(what: str, *, hint: str) -> Iterator[None]:
    """Within this context a library builds from configs, which may hold anything.

    Raises:
        WeightsError: for whatever it raises but ddrl's own errors.
    """
    try:
        yield
    except DDRLError:
        raise
    except Exception as error:  # a config of another kind fails anywhere in the library
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise WeightsError(f"{what}: {reason}", hint=hint) from error


@dataclass(frozen=True)
class PipelineConfigs:
    """Where the configs of a pipeline are.

    Attributes:
        path: a folder, or a hub id.
        index: ``model_index.json``.
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

    @property
    def class_name(self) -> str:
        """Of the pipeline."""
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


def split_revision(path: str) -> tuple[str, str | None]:
    """``owner/name@revision`` to its two parts; None is the default revision."""
    name, _, revision = path.partition("@")
    return name, revision or None


def _all_releases() -> dict[str, dict[str, Any]]:
    texts = [f.read_text("utf-8") for f in files(_RELEASES).iterdir() if f.name.endswith(".json")]
    return {release["id"]: release for release in map(json.loads, texts)}


def _release(name: str) -> dict[str, Any] | None:
    return _all_releases().get(name)


def _read(path: str, file: str) -> Config:
    """A JSON file of a folder or, with what it names alone, of the hub.

    Raises:
        WeightsError: it can't be had or read.
    """
    try:
        if Path(path).exists():
            found = Path(path) / file
        elif may_be_hub_id(path):
            name, revision = split_revision(path)
            found = fetch(name, file, revision=revision)
        else:
            raise missing_folder(path)
        value = read_json(found)
    except (OSError, ValueError) as error:
        raise _missing(path, file) from error
    if not isinstance(value, dict):
        raise _missing(path, file)
    return value


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
