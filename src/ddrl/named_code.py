"""The module of a class that is named ``module:Class``: installed, or in a folder of the user's.

Recipes name rewards, model families and tasks so.

A folder that a command is run in may be a stranger's, so it is never on ``sys.path``: of all that
lies there, only the module that the user names is loaded, and only where no installed one has that
name.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from ddrl.errors import DDRLError, UsageError


class _NamedFinder(MetaPathFinder):
    """Finds the modules that were named, and no other, in the folders that may be looked in."""

    def __init__(self) -> None:
        self.folders: tuple[Path, ...] = ()
        self.is_allowed = True
        self.named: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - Python passes it
    ) -> ModuleSpec | None:
        """Called by Python where nothing else has found a module."""
        if path is not None or fullname not in self.named:
            return None
        return self.look(fullname)

    def look(self, name: str) -> ModuleSpec | None:
        """Where a module lies; runs nothing of it."""
        return PathFinder.find_spec(name, [str(folder) for folder in self.folders])


_finder = _NamedFinder()
_imported: set[str] = set()


def look_in(*folders: Path, allowed: bool = True) -> None:
    """Say where modules that are named and not installed may be; replaces what was said before.

    Args:
        folders: in the order in which they are looked in; none = only what is installed.
        allowed: false = what lies there is not run; an error says that it lies there.
    """
    _finder.folders = tuple(dict.fromkeys(folder.absolute() for folder in folders))
    _finder.is_allowed = allowed
    _finder.named.clear()
    _imported.clear()


def folders() -> tuple[Path, ...]:
    """The folders whose code may be run, for a process that is to find the same."""
    return _finder.folders if _finder.is_allowed else ()


def import_named(name: str) -> ModuleType:
    """Load a module, of an installed package or in the folders of :func:`look_in`.

    Raises:
        UsageError: it lies in a folder whose code may not be run, or needs a module beside it.
        Exception: whatever its code raises.
    """
    top = name.partition(".")[0]
    _imported.add(top)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != top:
            _explain(error, top)
            raise
        if _finder.look(top) is None:
            raise
    if not _finder.is_allowed:
        raise UsageError(
            f"Module {top!r} lies in the working folder, and this command runs no code from there.",
            hint="add --allow-code if you trust both run and folder, or install the package",
        )
    _finder.named.add(top)
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        _explain(error, top)
        raise


def load_named(name: str, *, what: str) -> object:
    """Load what a recipe names ``package.module:Class``.

    Args:
        name: that name.
        what: it is, in an error: ``Family``.

    Raises:
        UsageError: there is no such module or class, or it fails as it is loaded.
    """
    place, _, attribute = name.partition(":")
    if not (place and attribute):
        raise UsageError(f"{what} {name!r} names no class.", hint="give it as package.module:Class")
    module = _loaded(f"{what} {name!r} can't be loaded", place)
    found: object = getattr(module, attribute, None)
    if found is not None:
        return found
    mine = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == place]
    near = difflib.get_close_matches(attribute, mine, 1)
    hint = f"did you mean {place}:{near[0]}?" if near else f"it has {', '.join(mine) or 'none'}"
    raise UsageError(f"{what} {name!r} can't be loaded: {place} has no {attribute}.", hint=hint)


def _loaded(what: str, place: str) -> ModuleType:
    """The module, loaded.

    Raises:
        UsageError: there is none, or its code raises something.
    """
    try:
        return import_named(place)
    except DDRLError as error:
        raise UsageError(f"{what}. {error.message}", hint=error.hint) from error
    except ModuleNotFoundError as error:
        missing = error.name or place
        if place == missing or place.startswith(f"{missing}."):
            raise UsageError(
                f"{what}. There is no module {missing!r}.",
                hint="install its package into this environment, or run the command in the folder "
                "that it lies in",
            ) from error
        raise UsageError(
            f"{what}. It needs {missing!r}, which is not installed.",
            hint=f"pip install the package that {missing} is of",
        ) from error
    except Exception as error:  # importing a module runs somebody's code
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{what}: {type(error).__name__}: {reason}.",
            hint=f"see what `python -c 'import {place}'` says",
        ) from error


def failed_in(error: BaseException) -> str:
    """Where in code that a recipe names an error arose, as ``file, line 3``; empty if elsewhere.

    Of the calls that led to it, the last counts that is ddrl's or of such a module: what a library
    raises is a matter of who called it.
    """
    ours = Path(__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(ours):
            return ""
        if any(_holds(top, file) for top in _imported - {"ddrl"}):
            return f"{file}, line {frame.lineno}"
    return ""


def _holds(top: str, file: Path) -> bool:
    module = sys.modules.get(top)
    if module is None:
        return False
    places = [Path(place) for place in getattr(module, "__path__", ())]
    return str(file) == getattr(module, "__file__", None) or any(map(file.is_relative_to, places))


def _explain(error: ModuleNotFoundError, top: str) -> None:
    """Say why a module of the user's does not find another one that lies beside it.

    Raises:
        UsageError: that is what happened.
    """
    missing = (error.name or "").partition(".")[0]
    if missing in ("", top) or top not in _finder.named or _finder.look(missing) is None:
        return
    raise UsageError(
        f"Module {top!r} needs {missing!r}, which lies beside it, and only the module that is "
        "named is loaded from there.",
        hint="put both into one package (a folder), name it package.module:Class, and import "
        f"{missing} from that package; or install them",
    ) from error
