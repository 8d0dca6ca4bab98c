"""What a process may start without: a home, a working folder, arguments that are text."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ddrl.errors import UsageError

logger = logging.getLogger(__name__)


def check_surroundings(arguments: Sequence[str]) -> None:
    """Refuse to start where every path or message would fail later.

    Raises:
        UsageError: the working folder is gone, or an argument is not text.
    """
    try:
        where = os.getcwd()
    except OSError as error:
        raise UsageError(
            f"The working folder can't be found: {error.strerror}.", hint="cd to one that is there"
        ) from error
    for name, text in [("The working folder", where), *(("Argument", a) for a in arguments)]:
        try:
            text.encode()
        except UnicodeEncodeError:
            # Recipes, manifests and pages are UTF-8, and would have no letters for it.
            raise UsageError(
                f'{name} "{text}" is not UTF-8 text.',
                hint="type it where the locale is UTF-8, or rename the file that it names",
            ) from None


@contextmanager
def known_home() -> Iterator[None]:
    """A context in which there is a home folder, which libraries ask for when they are loaded.

    A container's user may be a number without an entry in the system's list, and HOME unset.
    """
    try:
        Path.home()
    except RuntimeError:
        pass
    else:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="ddrl-home-", ignore_cleanup_errors=True) as folder:
        logger.warning("there is no home folder, so no download is kept: set HOME to a folder")
        # getpass asks for a name where there is none, too, and torch asks getpass.
        added = {"HOME": folder, "LOGNAME": os.environ.get("LOGNAME") or str(os.getuid())}
        before = {name: os.environ.get(name) for name in added}
        os.environ.update(added)
        try:
            yield
        finally:
            for name, value in before.items():
                del os.environ[name]
                if value is not None:
                    os.environ[name] = value
