"""How much of what clients send may be in memory at once."""

from __future__ import annotations

import asyncio


class Budget:
    """An amount of which requests take a part each; whoever asks first is given first.

    Args:
        size: the amount; a request for more waits for all of it.
    """

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._turn = asyncio.Lock()
        self._back = asyncio.Event()

    async def take(self, cost: int) -> int:
        """Wait until there is enough; return what was taken and has to be given back."""
        cost = min(cost, self._size)
        async with self._turn:
            while self._free < cost:
                self._back.clear()
                await self._back.wait()
            self._free -= cost
        return cost

    def give(self, cost: int) -> None:
        """Give back what was taken."""
        self._free += cost
        self._back.set()
