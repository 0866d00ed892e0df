"""Many requests, one answer: what keeps a slider from running ahead of its picture."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Outcome = TypeVar("Outcome")
#: One thread: what comes later waits, rather than slowing down the picture.
_ASIDE = ThreadPoolExecutor(max_workers=1)


def aside(work: Callable[[], Outcome], then: Callable[[Outcome], None]) -> None:
    """Do slow work in a thread while the event loop goes on, then hand over the outcome.

    Without a running loop, in a script, all is done at once.

    Args:
        work: Touches no widget, and raises nothing.
        then: Called in the loop.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        then(work())
        return
    future = loop.run_in_executor(_ASIDE, work)
    future.add_done_callback(lambda done: then(done.result()))


class Latest:
    """Call a function once for many requests, after the last of them.

    Inside a running event loop (a notebook, Voilà) the call waits for its turn, so that all
    requests that have come in by then share it. Without a loop, in a script, it is made at once.

    Args:
        act: What to call. It reads the present state itself, which is why the last one counts.
        delay_s: How long nothing must have been requested; 0 for the next turn of the loop.
    """

    def __init__(self, act: Callable[[], None], *, delay_s: float = 0.0):
        self._act, self._delay_s = act, delay_s
        self._waiting: asyncio.TimerHandle | None = None
        self._held = False

    def request(self) -> None:
        """Ask for a call."""
        if self._held:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._act()
            return
        if self._waiting is not None:
            if not self._delay_s:  # It stands in line; putting it off could go on forever.
                return
            self._waiting.cancel()
        self._waiting = loop.call_later(self._delay_s, self._call)

    def _call(self) -> None:
        self._waiting = None
        self._act()

    @contextmanager
    def once(self) -> Iterator[None]:
        """Let everything requested inside share one call."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.request()
