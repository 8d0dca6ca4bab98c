"""What requests and replies of the wire format share: its name, its version, and its errors."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ddrl.errors import RewardError, printable
from ddrl.rewards.http.server_words import MAX_TEXT

FORMAT = "ddrl-reward/1"
"""Name and version of the format, in every header and reply."""

ModelT = TypeVar("ModelT", bound=BaseModel)


class WireError(RewardError):
    """What came is not in this format.

    Args:
        message: why, as a clause without a full stop.
        status: the HTTP status of a reply that says so.
        answered: whether it is the reward's own answer that it failed.
        hint: what the user can do about it.
    """

    def __init__(
        self, message: str, *, status: int = 400, answered: bool = False, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.answered = status, answered


class Model(BaseModel):
    """A JSON object whose further keys do not count."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Format(Model):
    format: str


def check_format(text: bytes) -> None:
    """Refuse what is of another format or version, before anything else is looked at.

    Raises:
        WireError: it is.
    """
    found = validated(_Format, text).format
    if found != FORMAT:
        raise WireError(
            f"it speaks {found[:40]!r}, not {FORMAT!r}", hint="is it of another release of ddrl?"
        )


def validated(model: type[ModelT], text: bytes) -> ModelT:
    """Read JSON.

    Raises:
        WireError: it is something else.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = printable(".".join(map(str, first["loc"])), limit=MAX_TEXT)
        reason = printable(first["msg"][:1].lower() + first["msg"][1:], limit=MAX_TEXT)
        raise WireError(f"not of {FORMAT}: {f'{where}: ' if where else ''}{reason}") from None
