"""What a prompt asks for, by the words in it."""

from __future__ import annotations

from collections.abc import Collection

from ddrl.errors import RewardError


def asked_word(text: str, known: Collection[str], what: str) -> str:
    """Find the one word of ``text`` that is in ``known``.

    Args:
        text: the prompt.
        known: words that could be asked for.
        what: they are, for the error.

    Raises:
        RewardError: there is none, or more than one.
    """
    found = {*text.lower().replace(",", " ").replace(".", " ").split()} & {*known}
    if len(found) != 1:
        number = f"{len(found)} words" if found else "no word"
        raise RewardError(
            f"The prompt {text!r:.80} has {number} for {what}.",
            hint=f"it takes one of {', '.join(known)}",
        )
    return found.pop()
