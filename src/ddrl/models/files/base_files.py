"""Looks into a pipeline's folder, part by part: files, variants, shapes; reads no weight."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ddrl.errors import WeightsError
from ddrl.models.files.configs import NOT_LOADED, PipelineConfigs, part_class
from ddrl.models.files.hub import is_offline, local_folder
from ddrl.models.files.part_files import WEIGHTS, PartFiles, listed, read_part


@dataclass(frozen=True)
class BaseFiles:
    """A pipeline, as far as its files tell.

    Attributes:
        path: path as it was given.
        class_name: name of the pipeline's class.
        parts: components of the pipeline, in the order of the index.
        variant: variant to load where a part has it; empty: the plain weights.
        is_here: whether there is a folder to look into; if not, the hub is asked when it is loaded.
    """

    path: str
    class_name: str
    parts: tuple[PartFiles, ...] = ()
    variant: str = ""
    is_here: bool = True

    def check(self) -> None:
        """See that every part can be loaded.

        Raises:
            WeightsError: one can't; it says which, and why.
        """
        for part in self.parts:
            if part.problem:
                raise WeightsError(part.problem, hint=part.hint)


def read_base(path: str | Path, *, variant: str = "") -> BaseFiles:
    """Look at all files of a pipeline that would be loaded.

    Args:
        path: a folder, a hub id, or ``id@revision``; of a hub id, what the hub's cache holds.
        variant: variant of the weights, such as "fp16"; empty: plain, or the only one there.

    Raises:
        WeightsError: it is no pipeline, or has no such variant.
    """
    configs = PipelineConfigs.find(path)
    folder = local_folder(path)
    if folder is None or not (folder == Path(path) or is_offline()):
        # Files that are not in the hub's cache are downloaded.
        return BaseFiles(str(path), configs.class_name, variant=variant, is_here=False)
    named = {
        name: (str(value[0]), str(value[1]))
        for name, value in configs.index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
    }
    without = (*configs.left_out(), *NOT_LOADED.get(configs.class_name, ()))
    without = tuple(name for name in without if name in configs.index)
    parts = [PartFiles(name) for name in without]
    chosen = _variant(folder, [name for name in named if name not in without], variant)
    for name, (library, class_name) in named.items():
        if name not in without:
            parts.append(read_part(folder, name, library, class_name, chosen))
    order = list(configs.index)
    parts.sort(key=lambda part: order.index(part.name))
    parts += [_not_named(folder, name) for name in _needed(configs) - {*named, *without}]
    return BaseFiles(str(path), configs.class_name, tuple(parts), chosen)


def _needed(configs: PipelineConfigs) -> set[str]:
    """Parts that the pipeline's class does not do without."""
    try:
        kind = part_class("diffusers", configs.class_name, configs.path)
        known = inspect.signature(kind.__init__).parameters.values()
    except (WeightsError, TypeError, ValueError):
        return set()
    empty = inspect.Parameter.empty
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return {p.name for p in known if p.default is empty and p.kind is plain} - {"self"}


def _not_named(folder: Path, name: str) -> PartFiles:
    return PartFiles(
        name,
        problem=f"{folder} is without its {name}: model_index.json names none.",
        hint=f"take the whole release, with its {name} in model_index.json",
    )


def _variant(folder: Path, names: Iterable[str], asked: str) -> str:
    """The variant that is loaded.

    Raises:
        WeightsError: the one that is asked for is not there, or one has to be chosen.
    """
    offered = {name: _variants(folder / name) for name in names}
    known = sorted({v for found in offered.values() for v in found if v})
    if asked:
        if asked in known:
            _refuse_bare_names([folder / name for name in offered])
            return asked
        kinds = ", ".join(known)
        raise WeightsError(
            f"{folder} has no weights of the variant {asked}.",
            hint=f"its variants are {kinds}: model.variant={known[0]}"
            if known
            else "its weights are of no variant: leave model.variant empty",
        )
    needed = [found for found in offered.values() if found and "" not in found]
    common = sorted(set.intersection(*needed)) if needed else []
    if len(common) > 1:
        raise WeightsError(
            f"{folder} has weights of several variants, and none without: {', '.join(common)}.",
            hint=f"choose one: model.variant={common[0]}",
        )
    if common:
        _refuse_bare_names([folder / name for name in offered])
    return common[0] if common else ""


def _refuse_bare_names(folders: Iterable[Path]) -> None:
    """Refuse files such as LICENSE: diffusers stumbles over them as it looks for a variant.

    Raises:
        WeightsError: there is one.
    """
    for folder in folders:
        for name in listed(folder):
            if "." not in name:
                raise WeightsError(
                    f"{folder / name} keeps diffusers from reading a variant: its name has no dot.",
                    hint=f"move {name} out of the folder {folder.name}",
                )


def _variants(folder: Path) -> set[str]:
    """Variants of a part's weights; "" stands for those of none."""
    found = (WEIGHTS.fullmatch(name) for name in listed(folder))
    return {match["variant"] or "" for match in found if match}
