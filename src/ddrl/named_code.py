"""The module of a class that is named ``module:Class``: installed, or in a folder of the user's.

Recipes name rewards and model families so.

A folder that a command is run in may be a stranger's, so it is never on ``sys.path``: of all that
lies there, only the module that the user names is loaded, and only where no installed one has that
name.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from ddrl.errors import UsageError


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
