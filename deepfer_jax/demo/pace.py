"""How fast something goes at most, by waiting: what comes faster stays with its sender.

pace = Pace()
await pace.wait(0.004)      # of four milliseconds each: 250 a second
"""

import asyncio
import time

# Shorter than the clock of a sleep is worth; so much may also come at once.
_MIN_SECONDS = 0.02


class Pace:
    """Adds up what is to take time, and waits when that is ahead of the clock."""

    def __init__(self):
        self._due = 0.0

    async def wait(self, seconds: float) -> None:
        """Waits until what came before has had its time; then this takes `seconds`."""
        now = time.monotonic()
        self._due = max(now, self._due) + seconds
        if self._due - now > _MIN_SECONDS:
            await asyncio.sleep(self._due - now)
