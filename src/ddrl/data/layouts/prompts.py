"""Prompts without media: a text file, or a list of captions."""

from __future__ import annotations

import codecs
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from ddrl.data.layouts.captions import (
    CaptionError,
    caption_of_line,
    clean_caption,
    decode_text,
    parse_object,
)
from ddrl.data.layouts.columns import Columns
from ddrl.data.locators import read_lines
from ddrl.data.problems import OnBroken, Problem, settle
from ddrl.errors import DataError

logger = logging.getLogger(__name__)


def read_prompts(path: Path, *, on_broken: OnBroken) -> dict[str, dict[str, Any]]:
    """Read the prompts of a file: one a line, or in a ``.jsonl`` one ``{"caption": ...}`` a line.

    ``prompt`` stands for ``caption``; other keys, but for a file's, are the prompt's metadata.
    Lines of white space are passed over. A prompt that comes again counts once; with other
    metadata it is broken, since a sample follows the text alone.

    Args:
        path: of the file.
        on_broken: what becomes of a line that is no prompt.

    Returns:
        The metadata of every prompt, empty where the file has none.

    Raises:
        DataError: the file can't be read, a line is broken and the policy is to stop, or there is
            no prompt.
    """
    try:
        lines = [line.removeprefix(codecs.BOM_UTF8) for line in read_lines(path)]
    except OSError as error:
        raise DataError(
            f"The prompts {path} can't be read: {error.strerror}.",
            hint="set data.path to a text file with a prompt a line, or a .jsonl list",
        ) from error
    is_list = path.suffix.lower() == ".jsonl"
    prompts: dict[str, dict[str, Any]] = {}
    times: Counter[str] = Counter()
    problems = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text, metadata = (
                caption_of_line(parse_object(line), Columns())
                if is_list
                else (clean_caption(decode_text(line)), {})
            )
            if prompts.setdefault(text, metadata) != metadata:
                message = f"has the prompt {text!r:.80} again, with other metadata"
                raise CaptionError("duplicate_name", message)
        except CaptionError as fault:
            problems.append(Problem(f"{path.name}:{number}", fault.kind, fault.message))
            continue
        times[text] += 1
    try:
        settle(problems, on_broken=on_broken, where=str(path))
    except DataError as error:
        raise DataError(
            error.message, hint='mend them, or skip them with data.on_broken = "skip"'
        ) from None
    if not prompts:
        raise DataError(f"There is no prompt in {path}.", hint="write one a line")
    again = [text for text, count in times.items() if count > 1]
    if again:
        logger.warning(
            "%d of %d prompts are in %s more than once and count once, the first is %r",
            *(len(again), len(prompts), path, again[0]),
        )
    return prompts
