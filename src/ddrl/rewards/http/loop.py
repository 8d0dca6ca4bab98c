"""A thread in which requests are under way, so that a caller can wait for many and leave any."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class HttpLoop:
    """An event loop in a daemon thread with one client, whose connections are kept between calls.

    It starts with the first call and ends with the object, or with the process.

    Args:
        client: what work asks with.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

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
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=_serve,
                    args=(self._loop, self.client),
                    name="asking servers",
                    daemon=True,
                )
                thread.start()
                weakref.finalize(self, _stop, self._loop)
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        with suppress(Exception):
            loop.run_until_complete(client.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    # Without waiting for it: this runs wherever objects happen to be collected, in a thread that
    # imports something too, and closing connections needs the import lock.
    with suppress(RuntimeError):  # it is closed already
        loop.call_soon_threadsafe(loop.stop)
