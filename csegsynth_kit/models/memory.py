"""Keep freed memory for the next step instead of giving it back to the system each time."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

# Parameters of glibc's mallopt(3). Once one is set, thresholds no longer follow what a program
# does, so that afterwards they are set to what they would have reached: their largest values.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEPT = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}
_AFTER = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _MMAP_MAX: 65536}

_inside = False


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let the process keep what it frees meanwhile; afterwards give it back.

    Large tensors otherwise come as fresh pages each time, which the system fills with zeros
    first: a third of the time of a training step on a CPU. Only where the C library is glibc,
    and no ``MALLOC_`` variable says otherwise; elsewhere nothing changes.
    """
    global _inside
    library = _glibc()
    if library is None or _inside:
        yield
        return
    _inside = True
    _set(library, _KEPT)
    try:
        yield
    finally:
        _set(library, _AFTER)
        library.malloc_trim(0)
        _inside = False


def _set(library: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        library.mallopt(parameter, value)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return None
    return ctypes.CDLL(None)
