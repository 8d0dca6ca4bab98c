"""Measures the memory of a computation: bytes of the tensors that are alive, and their peak."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that are made within it and not yet freed.

    It counts fake tensors as real ones, so a computation can be measured without being done. It
    does not see workspaces inside kernels, as convolutions and matrix products use them.

    Attributes:
        current: bytes alive now.
        peak: the most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current: int = 0
        self.peak: int = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call the operator, and look at what it takes and returns."""
        kwargs = kwargs or {}
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self._see(value, is_new=False)  # it was made before, outside
        result = func(*args, **kwargs)
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._see(value, is_new=True)
        return result

    def _see(self, tensor: Tensor, *, is_new: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if is_new else 0

        def forget(_: object) -> None:
            self._known.pop(key, None)
            self.current -= size

        self._known[key] = weakref.ref(storage, forget)
        self.current += size
        self.peak = max(self.peak, self.current)


def peak_bytes(compute: Callable[[], object]) -> int:
    """The most bytes that are alive at once of what a computation makes."""
    live = LiveBytes()
    with live:
        compute()
    return live.peak
