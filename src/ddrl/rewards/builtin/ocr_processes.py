"""Readers of text in processes of their own, one thread each, for the reward ``ocr``.

Run as a module it is such a process: it takes pictures from a connection that it was started with
and gives their texts back, until the connection closes. That happens however its parent ends.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any

from ddrl.errors import RewardError
from ddrl.rewards.builtin.ocr_reader import TextReader

# Loading takes seconds, on a busy machine many; a batch of pictures takes less.
_SECONDS = 300.0


@dataclass(frozen=True)
class _Reader:
    process: subprocess.Popen[bytes]
    connection: Connection

    @classmethod
    def start(cls, options: Mapping[str, Any]) -> _Reader:
        ours, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # One thread each: more of them would wait for one another.
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
                start_new_session=True,  # Ctrl-C is for the run, whose end ends this
            )
        with contextlib.suppress(OSError):  # it has ended already, which is found at the first read
            ours.send(dict(options))
        return cls(process, ours)

    def read(self, pictures: Sequence[Any], *, as_lines: bool) -> list[str]:
        """The texts of pictures.

        Raises:
            RewardError: the process failed, ended or did not answer.
        """
        try:
            self.connection.send((as_lines, list(pictures)))
            if not self.connection.poll(_SECONDS):
                raise RewardError(
                    f"A process that reads text did not answer within {_SECONDS:g} seconds.",
                    hint="the machine may be overloaded: set a smaller number of workers for the "
                    "reward ocr",
                )
            texts, fault = self.connection.recv()
        except (EOFError, OSError) as error:
            code = self._ended()
            raise RewardError(
                f"A process that reads text has ended{code}.",
                hint="it may have run out of memory: set a smaller number of workers for the "
                "reward ocr, or workers = 1",
            ) from error
        if fault:
            raise RewardError(
                f"A process that reads text failed: {fault}.",
                hint="workers = 1 of the reward ocr reads in the run's own process",
            )
        return [str(text) for text in texts]

    def _ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(timeout=5)
            return f" by signal {-code}" if code < 0 else f" with {code}"
        return ""


def _end(readers: list[_Reader], threads: ThreadPoolExecutor) -> None:
    """End processes; what they read is lost."""
    threads.shutdown(wait=False, cancel_futures=True)
    for reader in readers:
        reader.process.kill()  # it holds nothing that has to be saved
    for reader in readers:
        reader.process.wait()
    readers.clear()  # connections close with them, once no thread waits on one


class ReaderProcesses:
    """A fixed number of processes that read pictures, started at the first of them.

    They end with this object, with the interpreter, and after anything goes wrong; the next read
    starts new ones.

    Args:
        num: of processes.
        batch_size: pictures that one is given at a time, at most.
        options: of the reader that each of them has.
    """

    def __init__(self, num: int, *, batch_size: int, options: Mapping[str, Any]) -> None:
        self._num, self._batch_size, self._options = num, batch_size, dict(options)
        self._finish: weakref.finalize[..., ReaderProcesses] | None = None
        self._idle: SimpleQueue[_Reader] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None
        self.process_ids: tuple[int, ...] = ()

    def read(self, pictures: Sequence[Any], *, as_lines: bool) -> list[str]:
        """The text of every picture, in their order.

        Args:
            pictures: arrays (H, W, 3) of bytes, blue first.
            as_lines: each is one line; else its lines are searched for.

        Raises:
            RewardError: a process failed, ended or did not answer.
        """
        threads = self._start()
        # Equal parts in whole rounds, so that no process waits for the last one.
        rounds = math.ceil(len(pictures) / (self._num * self._batch_size))
        size = max(1, math.ceil(len(pictures) / (self._num * max(1, rounds))))
        parts = [pictures[i : i + size] for i in range(0, len(pictures), size)]
        idle = self._idle

        def part_of(part: Sequence[Any]) -> list[str]:
            reader = idle.get()
            try:
                return reader.read(part, as_lines=as_lines)
            finally:
                idle.put(reader)

        try:
            found: list[Future[list[str]]] = [threads.submit(part_of, part) for part in parts]
            return [text for one in found for text in one.result()]
        except BaseException:  # Ctrl-C too: an answer under way would be taken for the next one's
            self.close()
            raise

    def close(self) -> None:
        """End the processes."""
        if self._finish is not None:
            self._finish()
        self._finish = self._threads = None
        self.process_ids = ()

    def _start(self) -> ThreadPoolExecutor:
        if self._threads is not None:
            return self._threads
        threads = ThreadPoolExecutor(self._num, thread_name_prefix="ocr")
        readers: list[_Reader] = []
        self._finish = weakref.finalize(self, _end, readers, threads)
        self._idle = SimpleQueue()
        for _ in range(self._num):
            readers.append(_Reader.start(self._options))
            self._idle.put(readers[-1])
        self.process_ids = tuple(reader.process.pid for reader in readers)
        self._threads = threads
        return threads


def _serve(connection: Connection) -> None:
    """Read pictures as they come, until the other end closes."""
    reader, broken = None, ""
    with contextlib.suppress(EOFError, OSError):  # the run has ended
        options = connection.recv()
        try:
            reader = TextReader(**options)
        except Exception as error:  # told with the answer to the first pictures
            broken = f"{type(error).__name__}: {error}"
        while True:
            as_lines, pictures = connection.recv()
            texts, fault = [], broken
            if reader is not None:
                try:
                    texts = reader.read(pictures, as_lines=as_lines)
                except Exception as error:
                    fault = f"{type(error).__name__}: {error}"
            connection.send((texts, fault))


def _watch_parent(parent: int) -> None:
    """End this process when its parent does, in the middle of a picture too."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    import threading

    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    _serve(Connection(int(sys.argv[1])))
