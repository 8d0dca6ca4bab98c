"""The keys of everything that is cached: one function, for all that a cached thing depends on.

A key is made of what the caller names (contents, settings, options), of the part of ddrl's own code
that makes the thing, of the versions of ddrl and of the libraries that compute, and for a reward,
a family or a task of the user's of its own code. A thing that another version would make
differently is never taken for what this one makes. After an update, what the changed code makes is
made again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from ddrl.builders.identity import encoder_hash, text_hash
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.base import DiffusionModel

LIBRARIES = (
    *("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow", "av"),
    *("diffusers", "transformers", "tokenizers", "sentencepiece", "peft", "timm", "kornia"),
    *("onnxruntime", "open-clip-torch", "qwen-vl-utils", "ftfy"),
)
"""Distributions whose versions may change a number."""

PACKAGE = Path(__file__).parents[1]
"""Where ddrl's own code is."""

NOT_CODE = ("cli", "evaluation", "recipe", "testing", "votes")
"""Packages of ddrl that no cached number comes from: they measure, read and show."""

MAKERS = {
    "base": ("builders/tasks", "data", "diffusion", "models", "objective", "training"),
    "word-reader": ("builders/tasks", "data", "rewards/builtin", "rewards/networks/pixels.py"),
    "classifier": ("builders/tasks", "data", "rewards/builtin", "rewards/networks/pixels.py"),
    "encoder": ("data", "models"),
    "reward": ("data", "models", "rewards"),
}
"""Files and folders of ddrl that make a kind of thing, beside its top-level modules; of a kind that
is not here, everything but :data:`NOT_CODE`."""

SUFFIXES = frozenset({".py", ".json", ".toml", ".txt", ".yaml", ".yml", ".csv"})
MAX_FILES = 2000  # of a package or a folder that are looked at
MAX_BYTES = 1 << 26  # of a file that is read; of a larger one, size and times are looked at


def cache_key(kind: str, *made_from: object, code: object = ()) -> str:
    """The key of a cached thing, in hexadecimal.

    Args:
        kind: what it is, a key of :data:`MAKERS` or another word; what follows a hyphen may vary.
        made_from: everything that its content depends on, as JSON.
        code: of what else makes it, such as :func:`class_code` of a reward.
    """
    return text_hash([kind, *_makers(kind), code, list(made_from)])


def encoder_fingerprint(model: DiffusersModel) -> str:
    """What latents and embeddings depend on beside media and texts."""
    return cache_key("encoder", encoder_hash(model), code=family_code(model))


def family_code(model: DiffusionModel) -> list[object]:
    """What is known of the code of a family of the user's own; of ddrl's, nothing beside ddrl."""
    return own_code(getattr(type(model), "own", type(model)))


def own_code(kind: type) -> list[object]:
    """What is known of the code of a family or a task of the user's; of ddrl's, nothing more."""
    return [] if kind.__module__.partition(".")[0] == "ddrl" else [kind.__name__, *class_code(kind)]


def class_code(cls: type) -> list[object]:
    """What is known of a class's code: its package, those of its bases, and what they require."""
    found: list[object] = []
    tops = {base.__module__.partition(".")[0] for base in cls.__mro__}
    for top in sorted(tops - {"ddrl", *sys.stdlib_module_names}):
        names = _distributions().get(top, [])
        if any(_plain(name) in LIBRARIES for name in names):
            continue  # its version is in every key
        found.append([top, _files_hash(_sources(top)), [_requirements(name) for name in names]])
    modules = getattr(getattr(cls, "card", None), "modules", ())
    found.append([_version(n) for module in modules for n in _distributions().get(module, [])])
    return found


def stamps(value: object) -> list[list[object]]:
    """The files that an option names, or those in the folder: by content, if they are small."""
    path = Path(value) if isinstance(value, str) and value else None
    try:
        if path is None or not path.exists():
            return [[_revision(value)]] if isinstance(value, str) else []
        files = list(_walk(path)) if path.is_dir() else [path]
    except (OSError, ValueError):  # no path after all
        return []
    return [[str(file.relative_to(path)), _stamp(file)] for file in files]


@functools.cache
def _makers(kind: str) -> tuple[object, ...]:
    """ddrl's version and the code that makes a kind of thing, and the versions of libraries."""
    rooms = MAKERS.get(kind) or MAKERS.get(kind.partition("-")[0])
    code = [f for f in _walk(PACKAGE) if _makes(rooms, f.relative_to(PACKAGE))]
    return (_version("ddrl"), _files_hash(code, PACKAGE), [_version(name) for name in LIBRARIES])


def _makes(rooms: tuple[str, ...] | None, file: Path) -> bool:
    if rooms is None:
        return file.parts[0] not in NOT_CODE
    return len(file.parts) == 1 or any(file.is_relative_to(room) for room in rooms)


def _version(name: str) -> str:
    """A distribution with its version, without what tells builds for a CPU and a GPU apart."""
    try:
        return f"{name} {metadata.version(name).partition('+')[0]}"
    except metadata.PackageNotFoundError:
        return f"no {name}"


@functools.cache
def _requirements(name: str) -> list[str]:
    """A distribution and what it requires itself, with versions."""
    required = metadata.requires(name) or []
    names = {match[0] for text in required if (match := re.match(r"[A-Za-z0-9._-]+", text))}
    return [_version(one) for one in (name, *sorted(names))]


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {top: sorted(set(n)) for top, n in metadata.packages_distributions().items()}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _sources(top: str) -> list[Path]:
    """The files of a package; of a single module, it and what it imports from beside it."""
    module = sys.modules.get(top)
    folders = getattr(module, "__path__", None)
    if folders is not None:
        return [file for folder in folders for file in _walk(Path(folder)) if _is_source(file)]
    file = getattr(module, "__file__", None)
    return sorted(_beside(Path(file))) if file else []


def _beside(file: Path) -> set[Path]:
    """A module's file and all that it imports, in turn, from its folder."""
    found, waiting = set[Path](), [file]
    while waiting and len(found) < MAX_FILES:
        here = waiting.pop()
        if here in found or not here.is_file():
            continue
        found.add(here)
        for name in _imported(here):
            waiting.append(file.parent / f"{name}.py")
            package = file.parent / name
            if package.is_dir():
                waiting += [one for one in _walk(package) if _is_source(one)]
    return found


def _imported(file: Path) -> set[str]:
    """The top-level names that a file imports, wherever it does."""
    if file.suffix != ".py":
        return set()
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def _is_source(file: Path) -> bool:
    return file.suffix in SUFFIXES


def _walk(folder: Path) -> Iterator[Path]:
    """The files of a folder, in order, without hidden and compiled ones."""
    count = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__pycache__")
        for name in sorted(names):
            if count == MAX_FILES:
                return
            if not name.startswith(".") and not name.endswith(".pyc"):
                count += 1
                yield Path(root) / name


def _files_hash(files: Sequence[Path], root: Path | None = None) -> str:
    top = Path(os.path.commonpath(files)) if files and root is None else root
    named = [str(file.relative_to(top)) if top else str(file) for file in files]
    return text_hash([[name, _stamp(file)] for name, file in zip(named, files, strict=True)])


def _stamp(file: Path) -> object:
    """A file's content, or what is known of it without reading much; nothing if it is gone."""
    try:
        status = file.stat()
        if status.st_size > MAX_BYTES:
            return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:  # gone meanwhile, or what the reward itself will complain about
        return None


def _revision(name: str) -> str:
    """The commit of a model in the hub's own cache; empty for any other text."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return ""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    try:
        return (hub / f"models--{name.replace('/', '--')}" / "refs" / "main").read_text()
    except OSError:
        return ""
