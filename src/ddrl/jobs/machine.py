"""How fast this machine computes: measured by ``ddrl doctor``, kept in the cache, used by plans."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ddrl.disk import read_object, replace_file
from ddrl.errors import DataError
from ddrl.runs.provenance import describe_hardware

FORMAT = "ddrl-machine/1"
PRECISIONS = ("bfloat16", "tf32", "float32")
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
COPIES = ("to device, pinned", "to device, pageable", "from device, pinned", "within device")


def timed(run: Callable[[], object], device: torch.device, *, seconds: float = 0.2) -> float:
    """Seconds of one call, the median of up to five rounds, after one that isn't counted.

    Args:
        run: what is timed; its work on a GPU is waited for at the end of a round.
        device: where it computes.
        seconds: that all rounds together take, about; one call at least is made.
    """

    def round_of(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / calls

    round_of(1)
    one = round_of(1)
    if one >= seconds:
        return one
    calls = max(1, int(seconds / 5 / max(one, 1e-7)))
    return statistics.median(round_of(min(calls, 100_000)) for _ in range(5))


@contextmanager
def _float32_products(precision: str) -> Any:  # noqa: ANN401 - a context
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def matrix_rate(device: torch.device, precision: str, *, size: int, seconds: float = 0.2) -> float:
    """Floating-point operations per second of a product of two square matrices.

    Args:
        device: where it is computed.
        precision: one of ``PRECISIONS``; ``tf32`` is float32 with products in TF32.
        size: rows and columns.
        seconds: that measuring takes, about.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.full((size, size), 0.5, device=device, dtype=dtype) for _ in range(2))
    with _float32_products(precision):
        return 2 * size**3 / timed(lambda: a @ b, device, seconds=seconds)


def copy_rate(device: torch.device, kind: str, *, num_bytes: int, seconds: float = 0.2) -> float:
    """Bytes per second of a copy.

    Args:
        device: the GPU; on a CPU every copy is within its memory, and nothing is pinned.
        kind: one of ``COPIES``.
        num_bytes: of the copy.
        seconds: that measuring takes, about.
    """
    pinned = kind.endswith("pinned") and device.type == "cuda"
    there = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    if kind == "within device":
        other = torch.zeros_like(there)
    else:
        other = torch.zeros(num_bytes, dtype=torch.uint8, pin_memory=pinned)
    to, source = (other, there) if kind.startswith("from") else (there, other)
    return num_bytes / timed(lambda: to.copy_(source, non_blocking=pinned), device, seconds=seconds)


def attend(
    device: torch.device,
    backend: str,
    shape: tuple[int, int, int, int],
    *,
    dtype: torch.dtype = torch.bfloat16,
    masked: bool = False,
    seconds: float = 0.2,
) -> float:
    """Seconds of attention by one backend.

    Args:
        device: where it is computed.
        backend: one of ``BACKENDS``.
        shape: samples, heads, tokens, numbers of a head.
        dtype: of queries, keys and values.
        masked: with a mask of ones, as of texts of unequal lengths.
        seconds: that measuring takes, about.

    Raises:
        RuntimeError: the backend can't do it here.
    """
    q, k, v = (torch.full(shape, 0.1, device=device, dtype=dtype) for _ in range(3))
    tokens = shape[2]
    mask = torch.ones(shape[0], 1, 1, tokens, device=device, dtype=torch.bool) if masked else None
    mask = mask.expand(-1, 1, tokens, -1) if mask is not None else None

    def run() -> Tensor:
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)

    with torch.no_grad(), sdpa_kernel(BACKENDS[backend]):
        return timed(run, device, seconds=seconds)


def compile_seconds(device: torch.device) -> float:
    """Seconds until a small block compiled by ``torch.compile`` has computed, with its gradient.

    Raises:
        Exception: whatever hinders it: on a CPU a missing C++ compiler, for example.
    """
    with torch.device("meta"):  # drawn weights would take numbers from the global generator
        block = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))
    block.to_empty(device=device)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter))
    x = torch.ones(4, 64, device=device)
    expected = block(x)
    start = time.perf_counter()
    block.compile(dynamic=False)
    found = block(x)
    torch.autograd.backward(found.square().sum())
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    return seconds


@dataclass(frozen=True)
class Machine:
    """What was measured.

    Attributes:
        hardware: processor, threads and card.
        version: of PyTorch, with the CUDA that it was built for.
        driver: version of the card's driver; empty without a card.
        matrix: operations per second of a matrix product, by precision.
        copies: bytes per second, by kind; empty without a card.
        attention: backends of attention that run in bfloat16.
        compile_s: seconds of compiling a small block; None where that failed.
        compile_fault: why it failed.
    """

    hardware: str
    version: str
    driver: str
    matrix: Mapping[str, float]
    copies: Mapping[str, float] = field(default_factory=dict)
    attention: tuple[str, ...] = ()
    compile_s: float | None = None
    compile_fault: str = ""

    @classmethod
    def measure(cls, device: torch.device, *, tiny: bool = False) -> Machine:
        """Measure this machine; some seconds, and the time that compiling takes."""
        on_gpu = device.type == "cuda"
        size = 64 if tiny else (8192 if on_gpu else 1024)
        num_bytes = 2**28 if on_gpu else 2**20
        seconds = 0.01 if tiny else (1.0 if on_gpu else 0.3)
        kinds = PRECISIONS if on_gpu else ("bfloat16", "float32")
        matrix = {one: matrix_rate(device, one, size=size, seconds=seconds) for one in kinds}
        copies = {
            one: copy_rate(device, one, num_bytes=num_bytes, seconds=seconds)
            for one in (COPIES if on_gpu else ())
        }
        running = []
        for backend in BACKENDS:
            try:
                attend(device, backend, (1, 2, 128, 64), seconds=0.01)
                running.append(backend)
            except RuntimeError:  # which of them run is what is asked
                continue
        fault, compiled = "", None
        try:
            compiled = compile_seconds(device)
        except Exception as error:  # of any kind: from the compiler, its driver or our own test
            fault = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return cls(*_identity(device), matrix, copies, tuple(running), compiled, fault)

    @classmethod
    def find(cls, cache: Path, device: torch.device) -> Machine | None:
        """What was measured on this very machine, card, driver and PyTorch; None if nothing was."""
        try:
            found = read_object(_file(cache, device))
            del found["format"]
            return cls(**{**found, "attention": tuple(found["attention"])})
        except (OSError, ValueError, KeyError, TypeError):  # a measurement can be made again
            return None

    def keep(self, cache: Path, device: torch.device) -> Path:
        """Write it where :meth:`find` looks.

        Raises:
            DataError: the cache can't be written.
        """
        path = _file(cache, device)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1))
        except OSError as error:
            raise DataError(
                f"The cache {cache} can't be written: {error.strerror}.",
                hint="set run.cache to a writable folder with free space",
            ) from error
        return path

    def sentence(self) -> str:
        """The measurement in one line."""
        parts = [f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in self.matrix.items()]
        parts += [f"copies {name} {rate / 1e9:.3g} GB/s" for name, rate in self.copies.items()]
        parts.append(f"attention: {', '.join(self.attention) or 'none'}")
        compiled = self.compile_fault or f"works, {self.compile_s or 0:.1f} s for a small block"
        return "; ".join([*parts, f"torch.compile: {compiled}"])


def _identity(device: torch.device) -> tuple[str, str, str]:
    """Hardware, PyTorch and driver."""
    built = f"{torch.__version__}, CUDA {torch.version.cuda}"
    on_gpu = device.type == "cuda"
    return describe_hardware(), built, driver_version() if on_gpu else ""


def driver_version() -> str:
    """The version of NVIDIA's driver; empty where it can't be read."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return ""
    words = text.splitlines()[0].split()
    return next((word for word in words if word[:1].isdigit() and "." in word), "")


def _file(cache: Path, device: torch.device) -> Path:
    key = sha256(json.dumps([device.type, *_identity(device)]).encode()).hexdigest()
    return cache / "machine" / f"{key[:16]}.json"
