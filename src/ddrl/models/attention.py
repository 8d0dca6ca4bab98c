"""Which of PyTorch's kernels of attention is tried first, and whether a network can use it.

PyTorch's switches are of the whole process, and rewards may run beside the network in threads. So
a kernel is preferred rather than forced: what can't use it, such as a text encoder with a mask,
takes the next. Whether the trained network can is found out before a run, from its traced calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from ddrl.errors import UsageError

_FLASH, _CUDNN = SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION
_EFFICIENT, _MATH = SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH
ORDERS: Mapping[str, list[SDPBackend]] = {
    "flash": [_FLASH, _EFFICIENT, _CUDNN, _MATH],
    "cudnn": [_CUDNN, _FLASH, _EFFICIENT, _MATH],
    "efficient": [_EFFICIENT, _FLASH, _CUDNN, _MATH],
    "math": [_MATH],
}
"""What is tried by name, in this order; ``auto`` leaves PyTorch's own."""

MAX_HEAD = 256  # numbers per head that flash attention and cuDNN take

_held = ExitStack()
_name = "auto"


def prefer_attention(name: str) -> str:
    """Have a kernel tried first from now on, in this process.

    Args:
        name: key of :data:`ORDERS`, or ``auto``.

    Returns:
        The name that was set before.
    """
    global _name
    before, _name = _name, name
    _held.close()
    if name != "auto":
        _held.enter_context(sdpa_kernel(ORDERS[name], set_priority=True))
    return before


def check_device(name: str, device: torch.device) -> None:
    """Refuse a kernel that the device has none of.

    Raises:
        UsageError: it needs a GPU.
    """
    if name in ("cudnn", "efficient") and device.type != "cuda":
        raise UsageError(
            f'model.attention is "{name}", which needs a CUDA device, and this run is on the '
            f"{device.type.upper()}.",
            hint="set model.attention = auto, flash or math",
        )


@dataclass(frozen=True)
class AttentionCall:
    """A call of attention.

    Attributes:
        head: numbers per head.
        has_mask: whether it has a mask.
        is_half: whether it computes in bfloat16 or float16.
    """

    head: int
    has_mask: bool
    is_half: bool

    def problem(self, name: str) -> str:
        """Return why a kernel can't take the call on a GPU; empty where it can."""
        if name not in ("flash", "cudnn"):
            return ""
        if not self.is_half:
            return "computes attention in float32"
        if self.head > MAX_HEAD:
            return f"has heads of {self.head} numbers, more than {MAX_HEAD}"
        return "has a mask in its attention" if name == "flash" and self.has_mask else ""


class _Recorder(TorchFunctionMode):
    def __init__(self, calls: set[AttentionCall], inside: list[bool]) -> None:
        super().__init__()
        self.calls, self.inside = calls, inside

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - a function of torch
        types: Any,  # noqa: ANN401
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = dict(kwargs or {})
        if func is nn.functional.scaled_dot_product_attention and self.inside:
            query: Tensor = args[0] if args else kwargs["query"]
            mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
            kind = query.device.type
            dtype = query.dtype
            if torch.is_autocast_enabled(kind):
                dtype = torch.get_autocast_dtype(kind)
            is_half = dtype in (torch.bfloat16, torch.float16)
            self.calls.add(AttentionCall(query.shape[-1], mask is not None, is_half))
        return func(*args, **kwargs)


@contextmanager
def attention_calls(network: nn.Module) -> Iterator[set[AttentionCall]]:
    """Record how a network calls attention, while this context lasts."""
    calls: set[AttentionCall] = set()
    inside: list[bool] = []
    hooks = [
        network.register_forward_pre_hook(lambda *_: inside.append(True)),
        network.register_forward_hook(lambda *_: inside.clear(), always_call=True),
    ]
    try:
        with _Recorder(calls, inside):
            yield calls
    finally:
        for hook in hooks:
            hook.remove()


def check_calls(name: str, calls: set[AttentionCall], what: str) -> None:
    """Refuse a kernel that a network can't use on a GPU.

    Args:
        name: of the kernel.
        calls: of the network.
        what: name of the network, for the message.

    Raises:
        UsageError: some of the calls can't take it.
    """
    problems = sorted({call.problem(name) for call in calls} - {""})
    if problems:
        raise UsageError(
            f'model.attention is "{name}", which this {what} can\'t use: it {problems[0]}.',
            hint='set run.precision = "bfloat16", or model.attention = "efficient"'
            if "float32" in problems[0]
            else 'set model.attention = "auto", which takes the fastest kernel for each call',
        )
