"""`ddrl reward serve` in a process of its own, and what is left of it afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.cli.command import heed_interrupts

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that nobody listens on, below those that the system deals out to Ray meanwhile."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Service:
    """A running command.

    Attributes:
        port: that it was told to listen on.
        process: it.
    """

    def __init__(
        self,
        folder: Path,
        rewards: str,
        *,
        token: str,
        cwd: Path = ROOT,
        keys: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self._mark = f"DDRL_TEST_SERVICE={folder}"
        file = folder / "rewards.toml"
        head = f'[serve]\nport = {self.port}\ntoken_env = "SERVICE_TOKEN"\nmax_body_mb = 1\n'
        file.write_text(head + keys + rewards)
        name, _, value = self._mark.partition("=")
        self._stdout, self._stderr = folder / "stdout.txt", folder / "stderr.txt"
        with self._stdout.open("w") as out, self._stderr.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ddrl", "reward", "serve", str(file)],
                cwd=cwd,
                env={
                    **os.environ,
                    "SERVICE_TOKEN": token,
                    name: value,
                    "OMP_NUM_THREADS": "1",
                    **(env or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )
        self._num_lines = rewards.count("[[reward]]") + 1

    def wait(self, seconds: float) -> None:
        """Wait for the table."""
        end = time.monotonic() + seconds
        while self.stdout().count("\n") < self._num_lines:
            assert self.process.poll() is None, self.stderr()
            assert time.monotonic() < end, f"not up in {seconds} s: {self.stderr()}"
            time.sleep(0.1)

    def stdout(self) -> str:
        return self._stdout.read_text()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def stderr(self) -> str:
        return self._stderr.read_text()

    def pids(self, title: str = "") -> list[int]:
        """The processes that it has started, down to the last, by the start of their title."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes().decode()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            is_own = self._mark.encode() in environment
            if is_own and command.startswith(title) and state != "Z":
                found.append(int(folder.name))
        return found

    def interrupt(self, seconds: float = 150) -> int:
        """Press Ctrl-C: every process of the terminal's group gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(seconds)

    def close(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def service(
    folder: Path,
    rewards: str,
    *,
    token: str = "secret",
    seconds: float = 600,
    cwd: Path = ROOT,
    keys: str = "",
    env: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Serve rewards while the context lasts.

    Args:
        folder: for its files.
        rewards: the [[reward]] sections.
        token: that it asks for.
        seconds: that it may take to start.
        cwd: the folder that the command is run in.
        keys: more of [serve].
        env: more of the environment.
    """
    running = Service(folder, rewards, token=token, cwd=cwd, keys=keys, env=env)
    try:
        running.wait(seconds)
        yield running
    finally:
        running.close()
