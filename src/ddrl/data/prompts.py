"""Prompts without media: a text file, or a list of captions."""

from __future__ import annotations

import codecs
import logging
from pathlib import Path

from ddrl.data.captions import CaptionError, clean_caption, decode_text, parse_object
from ddrl.data.problems import OnBroken, Problem, settle
from ddrl.errors import DataError

__all__ = ["read_prompts"]

logger = logging.getLogger(__name__)


def read_prompts(path: Path, *, on_broken: OnBroken) -> tuple[str, ...]:
    """Read the prompts of a file: one a line, or in a ``.jsonl`` one ``{"caption": ...}`` a line.

    Lines of white space are passed over. A prompt that comes again counts once.

    Args:
        path: of the file.
        on_broken: what becomes of a line that is no prompt.

    Raises:
        DataError: the file can't be read, a line is broken and the policy is to stop, or there is
            no prompt.
    """
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise DataError(
            f"The prompts {path} can't be read: {error.strerror}.",
            hint="set data.path to a text file with a prompt a line, or a .jsonl list",
        ) from error
    is_list = path.suffix.lower() == ".jsonl"
    prompts: dict[str, int] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = parse_object(line).get("caption") if is_list else decode_text(line)
            text = clean_caption(value)
        except CaptionError as fault:
            problems.append(Problem(f"{path.name}:{number}", fault.kind, fault.message))
            continue
        prompts[text] = prompts.get(text, 0) + 1
    try:
        settle(problems, on_broken=on_broken, where=str(path))
    except DataError as error:
        raise DataError(
            error.message, hint='mend them, or skip them with data.on_broken = "skip"'
        ) from None
    if not prompts:
        raise DataError(f"There is no prompt in {path}.", hint="write one a line")
    again = [text for text, count in prompts.items() if count > 1]
    if again:
        logger.warning(
            "%d of %d prompts are in %s more than once and count once, the first is %r",
            *(len(again), len(prompts), path, again[0]),
        )
    return tuple(prompts)
