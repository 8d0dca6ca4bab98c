"""Counts what an iteration asks of a device, so that speed can be asserted without a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Where the host waits for the device to know a number or a size.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique"}
# Python methods that wait, and leave no operator behind for a tensor on the CPU.
WAITING_METHODS = ("tolist", "cpu", "numpy")
# Memory without a kernel.
NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "_local_scalar_dense"}


class Counts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operators and host syncs between enter and exit; those inside :meth:`paused` are left out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()
        self._pauses = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        name = func.overloadpacket.__name__
        if not self._pauses:
            if name in WAITING:
                self.syncs[name] += 1
            if not func.is_view and name not in NO_KERNEL:
                self.kernels[name] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1

    def leave_out(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, uncounted."""

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self.paused():
                return function(*args, **kwargs)

        return inside

    def count_calls(self, patch: pytest.MonkeyPatch) -> None:
        """Count calls of the methods of Tensor that wait."""
        for name in WAITING_METHODS:
            original = getattr(torch.Tensor, name)

            def counted(*args: Any, _name: str = name, _original: Any = original) -> Any:
                if not self._pauses:
                    self.syncs[_name] += 1
                return _original(*args)

            patch.setattr(torch.Tensor, name, counted)
