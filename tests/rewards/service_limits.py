"""What a service on Ray Serve keeps from other users of the machine, and from greedy clients."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.rewards.service_process import Service

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.remote import RemoteReward
from ddrl.rewards.wire.message import CONTENT_TYPE

NOBODY = 65534

SLOW = """
[[reward]]
name = "beside_it:Slow"
cpus = 0.25
"""

MODULE = """
import time


class Slow:
    def score(self, media, prompts):
        time.sleep(0.02)
        return media.flatten(1).mean(1) + prompts.prompt_id
"""

STRANGERS = ("dill", "yaml", "numpy", "PIL", "torch", "sitecustomize", "usercustomize", "starlette")


def strange_folder(folder: Path, ran: Path) -> Path:
    """A folder to run a service in: modules of its rewards, and those of a stranger.

    Args:
        folder: to make it in.
        ran: the file that a stranger's module writes when it is imported.
    """
    work = folder / "work"
    work.mkdir()
    (work / "beside_it.py").write_text(MODULE)
    (work / "served.py").write_bytes((Path(__file__).parent / "served.py").read_bytes())
    for name in STRANGERS:
        (work / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\n")
    return work


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder that everybody may enter, with a short path: Ray's sockets lie there."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def check_limits(running: Service, temporary: Path) -> None:
    """All of it."""
    assert "RAY_AUTH_MODE=disabled does not count here" in running.stderr()
    check_folders(temporary)
    check_processes(running)
    check_ports(running)
    check_slow_bodies(running)
    check_many_samples(running)


def check_folders(temporary: Path) -> None:
    """Nobody else enters a folder of the service, whatever Ray does to those inside."""
    (folder,) = temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    inside = [path for path in folder.rglob("*") if path.is_dir()]
    assert any(stat.S_IMODE(path.stat().st_mode) == 0o777 for path in inside)  # as Ray wants it
    if os.geteuid() != 0:
        return
    script = f"import os; os.setgroups([]); os.setuid({NOBODY}); os.listdir({str(inside[0])!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd="/"
    )
    assert "PermissionError" in done.stderr
    assert str(inside[0]) in done.stderr


def check_processes(running: Service) -> None:
    """Every process has Ray's own token, and none that was started has the clients' one."""
    started = [pid for pid in running.pids() if pid != running.process.pid]
    assert len(started) > 8
    tokens, seen = set(), 0
    for pid in started:
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        assert not any(one.startswith(b"SERVICE_TOKEN=") for one in variables), pid
        if b"" in variables[:-1]:
            continue  # it is ending, or its title is written where its environment began
        seen += 1
        assert b"RAY_AUTH_MODE=token" in variables
        tokens |= {one for one in variables if one.startswith(b"RAY_AUTH_TOKEN=")}
    assert seen >= 3
    assert len(tokens) == 1
    assert len(tokens.pop()) > 40


def check_ports(running: Service) -> None:
    """Every port listens on loopback, but for one of each replica, which asks for Ray's token."""
    replicas = running.pids("ray::ServeReplica")
    other = _listening([pid for pid in running.pids() if pid not in replicas])
    assert running.port in other
    assert len(other) > 5
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000"}
    assert set(other.values()) <= loopback
    grpc = pytest.importorskip("grpc")
    found = _listening(replicas)
    assert found.keys() - other.keys()
    for port in (port for port, address in found.items() if address not in loopback):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def _listening(pids: list[int]) -> dict[int, str]:
    """The ports of processes, each with its address as the kernel writes it."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(link).removeprefix("socket:[").rstrip("]"))
            except OSError:
                continue
    found = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in inodes:  # listens
                address, _, port = cells[1].partition(":")
                found[int(port, 16)] = address
    return found


def check_slow_bodies(running: Service) -> None:
    """A body that does not come is waited for as long as the file says, and no longer."""
    head = (
        "POST /Slow HTTP/1.1\r\nhost: here\r\nauthorization: Bearer secret\r\n"
        f"content-type: {CONTENT_TYPE}\r\ncontent-length: 100000\r\n\r\n"
    )
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as slow:
        slow.sendall(head.encode() + b"x")
        for _ in range(15):
            time.sleep(0.1)
            slow.sendall(b"x")  # each byte in time
        reply = slow.recv(4096).decode()
        while "did not arrive" not in reply and (more := slow.recv(4096)):
            reply += more.decode()  # the body may come after the head
    assert reply.startswith("HTTP/1.1 408 ")
    assert "did not arrive within 2 s" in reply
    assert 1.9 < time.monotonic() - start < 10


def check_many_samples(running: Service) -> None:
    """A large request is refused, or takes turns with the small ones that come after it."""
    url = running.url("Slow")

    def remote(size: int, timeout: float = 60) -> RemoteReward:
        options: dict[str, Any] = {
            "samples_per_request": size,
            "encoding": "uint8",
            "timeout": timeout,
        }
        return RemoteReward(url=url, token_env="SERVICE_TOKEN", attempts=1, **options)

    def ask(reward: RemoteReward, count: int) -> torch.Tensor:
        prompts = Prompts(torch.arange(count), ("a",) * count, ({},) * count)
        return reward.score(torch.ones(count, 3, 1, 1), prompts)

    with pytest.raises(RewardError, match=r"4097 samples, above the limit of 4096 .status 413"):
        ask(remote(0), 4097)
    answers: list[torch.Tensor] = []
    large = threading.Thread(target=lambda: answers.append(ask(remote(0), 3200)))
    start = time.monotonic()
    large.start()
    time.sleep(0.7)
    small, waits = remote(1), []
    for _ in range(3):
        asked = time.monotonic()
        assert ask(small, 1).tolist() == [1.0]
        waits.append(time.monotonic() - asked)
    assert large.is_alive()  # it takes 200 calls of 20 ms at least
    large.join(120)
    seconds = time.monotonic() - start
    assert answers[0].tolist() == [1.0 + i for i in range(3200)]
    assert seconds > 4
    assert max(waits) < 1.5, waits
