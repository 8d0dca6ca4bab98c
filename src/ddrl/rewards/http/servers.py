"""Servers that are asked for one thing: several requests at a time, in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ddrl.rewards.http.client import make_client
from ddrl.rewards.http.endpoints import Endpoints
from ddrl.rewards.http.retry import Patience, persist

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class Servers:
    """An event loop in a daemon thread, with one client whose connections are kept between calls.

    The thread starts with the first request and ends with the object, or with the process, so
    that a caller can wait for many requests and leave any of them. anyio's
    ``start_blocking_portal`` can't stand for it: its end waits for the thread, and this object
    may end wherever objects happen to be collected.

    Args:
        urls: the addresses, in the order of preference.
        content_type: content type of the requests.
        token: sent as a bearer token; empty: none.
        connections: requests under way at once.
        patience: how often and how long a request is made.
        ca_file: certificates to trust; see :func:`~ddrl.rewards.http.client.make_client`.

    Raises:
        RewardError: a proxy or the file can't be used.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        content_type: str,
        token: str,
        connections: int,
        patience: Patience,
        ca_file: str,
    ) -> None:
        headers = {"content-type": content_type}
        if token:
            headers["authorization"] = f"Bearer {token}"
        self.client = make_client(urls, headers=headers, connections=connections, ca_file=ca_file)
        self._endpoints, self._patience = Endpoints(urls), patience
        self._connections = connections
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def persist(self, ask: Callable[[str, float], Awaitable[T]]) -> T:
        """Ask one address after another; see :func:`~ddrl.rewards.http.retry.persist`."""
        return await persist(self._endpoints, ask, self._patience)

    def gather(self, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """Wait for calls, as many at a time as there are connections; results in their order."""

        async def work() -> list[T]:
            turn = asyncio.Semaphore(self._connections)

            async def one(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
                async with turn:
                    return await call()

            return await asyncio.gather(*map(one, calls))

        return self.run(work())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work in the thread; an exception of the waiting (Ctrl-C) cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
                work = _live(self.client, ready)
                thread = threading.Thread(target=asyncio.run, args=(work,), daemon=True)
                thread.start()
                self._loop, stop = ready.result()
                weakref.finalize(self, _stop, self._loop, stop)
            return self._loop


async def _live(
    client: httpx.AsyncClient, ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
) -> None:
    stop = asyncio.Event()
    ready.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()
    with suppress(Exception):
        await client.aclose()


def _stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # Without waiting for it: this runs wherever objects happen to be collected, in a thread that
    # imports something too, and closing connections needs the import lock.
    with suppress(RuntimeError):  # it is closed already
        loop.call_soon_threadsafe(stop.set)
