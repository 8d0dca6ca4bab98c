"""What a chat endpoint means when it gives no answer: a refusal of the request, or of the field."""

from __future__ import annotations

from typing import Any

from ddrl.rewards.http.client import Answered, ExchangeError
from ddrl.rewards.http.retry import is_passing, told_wait
from ddrl.rewards.http.server_words import quoted, read_json

MAX_SAID = 2000
"""Characters of a refusal that are searched for names of fields."""

_FORM = (400, 403, 404, 405, 415, 422, 500, 501)
"""Statuses that servers give to a request with a field that they don't take."""

_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_credits")
_FILTERS = ("content_filter", "content_policy_violation", "safety", "refusal", "prohibited_content")
_HINTS = {
    400: "fields of the request are left out by the option omit and added by extra_body",
    401: "the option token_env names the environment variable that holds the endpoint's token",
    402: "the account behind the token has no credit",
    403: "the option token_env names the environment variable that holds the endpoint's token",
    404: "does the option url end as the endpoint's own pages say, usually in /v1, and is the "
    "option model one of its models?",
    413: "show fewer frames, or smaller pictures",
    422: "fields of the request are left out by the option omit and added by extra_body",
    429: "ask less at once with the option concurrency, or wait longer with attempts and deadline",
}


class RefusedError(ExchangeError):
    """The endpoint has answered, and not with a choice.

    Args:
        cause: a clause without a full stop.
        said: all that it said, for names of fields.
        param: the field that it names by itself; empty: none.
        is_of_form: whether it may be about a field.
        more: arguments of :class:`~ddrl.rewards.http.client.ExchangeError`.
    """

    def __init__(
        self,
        cause: str,
        *,
        said: str = "",
        param: str = "",
        is_of_form: bool = False,
        **more: Any,  # noqa: ANN401 - as of the class above
    ) -> None:
        super().__init__(cause, **more)
        self.said, self.param, self.is_of_form = said, param, is_of_form


def parsed(answered: Answered) -> Any:  # noqa: ANN401 - whatever it is
    """Read the JSON of an answer.

    Raises:
        ExchangeError: it is none, or of another status than 200.
    """
    text = answered.body.decode("utf-8", errors="replace")
    if answered.status != 200:
        try:
            said = read_json(text)
        except ValueError:
            said = text
        place = quoted(answered.headers.get("location", ""))
        raise _refused(answered.status, said, wait=told_wait(answered.headers), place=place)
    try:
        return read_json(text)
    except ValueError as error:
        raise ExchangeError(
            f"the reply is no JSON: {_short(text)}",
            hint="does the option url name the API, usually up to /v1?",
        ) from error


def first_choice(reply: object) -> dict[str, Any]:
    """Return the first of a reply's choices.

    Raises:
        ExchangeError: there is none, or the judge refused.
    """
    choices = reply.get("choices") if isinstance(reply, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    for whole in (reply, first):  # some say it with status 200, and some in the choice
        error = whole.get("error") if isinstance(whole, dict) else None
        if error:
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 500
            raise _refused(status, {"error": error})
    if not isinstance(first, dict) or not isinstance(first.get("message"), dict):
        raise ExchangeError(f"the reply has no choices with a message: {_short(reply)}")
    refusal = first["message"].get("refusal")
    if refusal or str(first.get("finish_reason")).casefold() in _FILTERS:
        raise ExchangeError(f"the judge refused: {_short(refusal or 'content filter')}")
    return first


def _refused(
    status: int,
    found: Any,  # noqa: ANN401
    *,
    wait: float | None = None,
    place: str = "",
) -> RefusedError:
    """Say what a status other than 200 means, with what came with it."""
    error = found.get("error") or found.get("detail") or found if isinstance(found, dict) else found
    said, param, code = _told(error)
    if code in _FILTERS:
        return RefusedError(f"the judge refused: {_short(said or code)}")
    no_money = status == 402 or code in _NO_MONEY
    where = f" (it moved to {place!r}; no redirect is followed)" if 300 <= status < 400 else ""
    return RefusedError(
        f"the endpoint answered {status}{where}" + (f": {_short(said)}" if said.strip() else ""),
        hint=_HINTS[402] if no_money else _HINTS.get(404 if where else status, ""),
        said=said,
        param=param,
        is_of_form=status in _FORM,
        passing=is_passing(status) and not no_money,
        wait=wait,
        refused=no_money or bool(where) or status in (401, 403, 404, 405),
    )


def _told(error: object) -> tuple[str, str, str]:
    """Read what an error says, the field that it names and its code, in servers' own forms."""
    if isinstance(error, list) and error and isinstance(error[0], dict) and "loc" in error[0]:
        # Of a schema: without the input, which would be the whole request.
        place = error[0]["loc"]
        path = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
        return quoted(f"{'.'.join(path)}: {error[0].get('msg', '')}"), ".".join(path[:1]), ""
    if not isinstance(error, dict):
        return quoted(error, limit=MAX_SAID), "", ""
    said = error.get("message") or error.get("msg") or error.get("detail") or error
    if isinstance(said, dict | list) and said is not error:
        return _told(said)
    param, code = error.get("param"), error.get("code") or error.get("type")
    return (
        quoted(said, limit=MAX_SAID),
        param if isinstance(param, str) else "",
        str(code).casefold() if isinstance(code, str) else "",
    )


def _short(said: object) -> str:
    return repr(quoted(said))
