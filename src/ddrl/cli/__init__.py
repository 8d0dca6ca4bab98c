"""The command line: one file per command.

Everything but ``ddrl.errors`` is imported inside the commands, so that ``ddrl --help`` is quick.
Results go to stdout; logs, progress and errors go to stderr.
"""

from ddrl.cli.app import main

__all__ = ["main"]
