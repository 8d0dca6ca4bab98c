"""Where metrics go: a JSON-lines file always, TensorBoard and Weights & Biases when asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ddrl.errors import CheckpointError, UsageError

__all__ = ["JSONLSink", "MetricSink", "TensorBoardSink", "WandbSink", "read_metrics"]


class MetricSink(Protocol):
    """Takes the metrics of one iteration."""

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Record them."""
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


class JSONLSink:
    """One JSON object per line, flushed after each.

    Args:
        path: of the file.
        resume_at: iterations that a resumed run keeps; later lines are dropped, since the run
            will make them again.

    Raises:
        CheckpointError: the file can't be written.
    """

    def __init__(self, path: Path, *, resume_at: int = 0) -> None:
        self._path = path
        with _named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = [line for line in _lines(path) if line["step"] <= resume_at]
            beside = path.with_suffix(".writing")
            beside.write_text("".join(json.dumps(line) + "\n" for line in kept))
            beside.replace(path)
            self._file = path.open("a")

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Append a line."""
        with _named_errors(self._path):
            self._file.write(json.dumps({"step": step, **metrics}) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with _named_errors(self._path):
            self._file.close()


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into one sentence."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"Metrics can't be written to {path}: {error.strerror or error}.",
            hint="free space or make the folder writable, then run the same command again; "
            "earlier checkpoints are kept",
        ) from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; a line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a metrics file; empty where there is none."""
    return _lines(path)


class TensorBoardSink:
    """Scalars for TensorBoard.

    Args:
        folder: of the event files.
        resume_at: later points of an earlier process are hidden.
    """

    def __init__(self, folder: Path, *, resume_at: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self._folder = folder
        with _named_errors(folder):
            self._writer: Any = SummaryWriter(str(folder), purge_step=resume_at + 1)

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Add a point to every metric."""
        with _named_errors(self._folder):
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close."""
        with _named_errors(self._folder):
            self._writer.close()


class WandbSink:
    """Weights & Biases.

    Args:
        project: its name there.
        name: of the run; the run is resumed under the same name.
        config: what is shown beside it.

    Raises:
        UsageError: the package is not installed.
    """

    def __init__(self, project: str, *, name: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UsageError(
                "run.wandb_project is set, but wandb is not installed.",
                hint="pip install 'ddrl[wandb]'",
            ) from error
        self._run: Any = wandb.init(
            project=project, name=name, id=name, resume="allow", config=dict(config)
        )
        self._newest = 0

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Log the metrics; those of an earlier step at the newest, with their own as ``late/step``.

        Weights & Biases drops what comes for a step before its newest.
        """
        late = {"late/step": step} if step < self._newest else {}
        self._newest = max(step, self._newest)
        self._run.log({**metrics, **late}, step=self._newest)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
