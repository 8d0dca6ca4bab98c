"""What a reward is, and how one is found by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import is_dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from torch import Tensor

from ddrl.errors import DDRLError, RewardError
from ddrl.named_code import import_named
from ddrl.records import Prompts

ENTRY_POINTS = "ddrl.rewards"
"""Entry point group in which an installed package names its rewards."""

BUILTIN: Mapping[str, str] = {
    "aesthetic": "ddrl.rewards.builtin.preference.aesthetic:AestheticReward",
    "classifier": "ddrl.rewards.builtin.embedded.classifier:ClassifierReward",
    "clip": "ddrl.rewards.builtin.clip:ClipReward",
    "digit_identity": "ddrl.rewards.builtin.embedded.digit_identity:DigitIdentity",
    "diversity": "ddrl.rewards.builtin.diversity:Diversity",
    "geneval": "ddrl.rewards.builtin.geneval:GenEvalReward",
    "hps": "ddrl.rewards.builtin.preference.hps:HpsReward",
    "hpsv3": "ddrl.rewards.builtin.preference.hpsv3:Hpsv3Reward",
    "image_reward": "ddrl.rewards.builtin.preference.image_reward:ImageReward",
    "ink": "ddrl.rewards.builtin.ink:Ink",
    "jpeg": "ddrl.rewards.builtin.jpeg:JpegReward",
    "motion": "ddrl.rewards.builtin.embedded.motion:Motion",
    "ocr": "ddrl.rewards.builtin.ocr:OcrReward",
    "pickscore": "ddrl.rewards.builtin.preference.pickscore:PickScoreReward",
    "remote": "ddrl.rewards.remote:RemoteReward",
    "vbench": "ddrl.rewards.builtin.vbench:VBenchReward",
    "video_align": "ddrl.rewards.builtin.preference.video_align:VideoAlignReward",
    "vlm_judge": "ddrl.rewards.builtin.vlm_judge:VlmJudge",
}


class Reward(Protocol):
    """Scores media. Options are the keyword arguments of the class, scalars each.

    A class may have an attribute ``card``, a :class:`~ddrl.rewards.card.RewardCard`, and an
    attribute ``level``: ``"sample"``, the default, or ``"group"``, which makes it a
    :class:`GroupReward`.
    """

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Return one float per sample, shape (B,); higher is better.

        Args:
            media: pixels in [0, 1], shape (B, 3, H, W), or (B, T, 3, H, W) for video.
            prompts: the prompt of every sample, length B.

        Raises:
            SampleError: some samples have no reward; those of the others come with it.
            RewardError: the reward can't be computed.
        """
        ...


class GroupReward(Protocol):
    """Scores media by looking at whole groups: all samples of the same number in ``group``.

    It gets no part of a group, whatever micro-batches and ``samples_per_call`` are, and no sample's
    score may depend on other groups in the call. Options and ``card`` are as of :class:`Reward`.
    """

    @property
    def level(self) -> str:
        """``"group"``; an attribute of the class will do."""
        ...

    def score(self, media: Tensor, prompts: Prompts, group: Tensor) -> Tensor:
        """Return one float per sample, as :meth:`Reward.score` does.

        Args:
            media: pixels in [0, 1], shape (B, 3, H, W), or (B, T, 3, H, W) for video.
            prompts: the prompt of every sample, length B; the same in all of a group.
            group: the group of every sample, shape (B,), integers in no order; several groups may
                have the same prompt.
        """
        ...


class SampleError(RewardError):
    """Some samples have no reward.

    Args:
        value: the rewards, shape (B,); those of the samples in ``causes`` count for nothing.
        causes: for each sample without a reward, why, as a clause without a full stop.
        hint: what the user can do about it.
    """

    def __init__(self, value: Tensor, causes: Mapping[int, str], *, hint: str = "") -> None:
        first = min(causes)
        super().__init__(
            f"{len(causes)} of {len(value)} samples have no reward, the first is sample {first}: "
            f"{causes[first]}.",
            hint=hint,
        )
        self.value, self.causes = value, dict(causes)


def reward_class(name: str) -> type[Reward]:
    """Find a reward's class: built in, from an entry point, or ``package.module:Class``.

    The last may lie in a folder of :func:`ddrl.named_code.look_in`, too.

    Raises:
        RewardError: there is none.
    """
    plugins = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    path = BUILTIN.get(name, plugins[name].value if name in plugins else name)
    module_name, colon, attribute = path.partition(":")
    if not colon:
        known = sorted({*BUILTIN, *plugins})
        near = difflib.get_close_matches(name, known, 1)
        raise RewardError(
            f"There is no reward named {name!r}.",
            hint=f"did you mean {near[0]!r}?"
            if near
            else f"known: {', '.join(known)}; or give package.module:Class",
        )
    load = import_named if path == name else importlib.import_module
    try:
        found: type[Reward] = getattr(load(module_name), attribute)
    except DDRLError as error:
        raise RewardError(
            f"Reward {name!r} can't be loaded. {error.message}", hint=error.hint
        ) from error
    except Exception as error:  # importing a module runs somebody's code
        raise RewardError(
            f"Reward {name!r} can't be loaded: {error}.",
            hint="is its package installed in this environment?",
        ) from error
    if not (inspect.isclass(found) and callable(getattr(found, "score", None))):
        raise RewardError(
            f"Reward {name!r} is not a class with a method score(media, prompts).",
            hint="write a class with that method, and name it as package.module:Class",
        )
    return found


def options_of(cls: type[Reward]) -> dict[str, inspect.Parameter]:
    """Return the options of a class of rewards: first its own, then those of its bases."""
    takes = {key: p for key, p in inspect.signature(cls).parameters.items() if key != "self"}
    shared = {name for base in cls.__mro__[1:] for name in inspect.get_annotations(base)}
    return dict(sorted(takes.items(), key=lambda option: option[0] in shared))


def make_reward(name: str, options: Mapping[str, object]) -> Reward:
    """Make a reward from its name and options.

    Raises:
        RewardError: there is no such reward, or it does not take such options.
    """
    cls = reward_class(name)
    takes = options_of(cls)
    known = list(takes)
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            raise RewardError(
                f"Reward {name!r} has no option {option!r}.",
                hint=f"did you mean {near[0]!r}?"
                if near
                else "it has " + (", ".join(known) or "no options"),
            )
    missing = [
        option
        for option, parameter in takes.items()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        and option not in options
    ]
    if missing:
        raise RewardError(
            f"Reward {name!r} needs the option{'s' * (len(missing) > 1)} {', '.join(missing)}.",
            hint=f"set options.{missing[0]} in a recipe, or give --option {missing[0]}=...",
        )
    hints = _hints(cls)
    for option, value in options.items():
        _check_type(name, option, hints.get(option, Any), value)
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise RewardError(
            f"Reward {name!r} can't be made: {error}.",
            hint="see what it takes, and set that in the table options of the reward",
        ) from error


def _hints(cls: type[Reward]) -> dict[str, Any]:
    """Return the types that a reward's options are declared with, as far as they are known."""
    try:
        # What dataclasses make names types of other modules.
        return get_type_hints(cls if is_dataclass(cls) else cls.__init__)
    except (AttributeError, NameError, TypeError):  # of a plug-in that says what only it knows
        return {}


def _check_type(name: str, option: str, hint: Any, value: object) -> None:  # noqa: ANN401
    """Refuse an option of another type, which would surface as a riddle later."""
    try:
        TypeAdapter(hint, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        problem = "; ".join(dict.fromkeys(each["msg"] for each in error.errors()))
        raise RewardError(
            f"Option {option!r} of reward {name!r} can't be {value!r}: {problem}.",
            hint="set it otherwise in the table options of the reward",
        ) from error
    except PydanticSchemaGenerationError:
        return  # a type that pydantic does not know is the reward's own business
