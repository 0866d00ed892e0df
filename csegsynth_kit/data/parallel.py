"""Doing one thing many times in several processes, with the same results for any number."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch

from csegsynth_kit.errors import ConfigError

Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_PER_WORKER = 3
#: Below this many tasks per process, starting processes costs more than it saves.
_LEAST_PER_JOB = 16
_MEMORY = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")
_MAIN_REMEDY = (
    "Put what your script does under if __name__ == '__main__':, or pass jobs=1. If it did, a "
    "process was ended from outside, most likely for lack of memory: pass fewer jobs."
)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one torch thread: sums in another order would differ in the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_jobs(jobs: int | None) -> None:
    """Raise ConfigError unless this process may start so many others."""
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs is {jobs}", "Give 1 or more processes.")
    if jobs != 1 and multiprocessing.parent_process() is not None:
        raise ConfigError("a process started by another one was asked to start more", _MAIN_REMEDY)


def default_jobs(tasks: int, *, memory_gb: float = 0.0) -> int:
    """Return how many processes are worth starting.

    Args:
        tasks: How many there are.
        memory_gb: What one process needs at most (GB); with 0, memory is not looked at.

    Returns:
        As many as there are processors, or fewer if there is little to do or little memory.
    """
    most = min(processors(), tasks // _LEAST_PER_JOB)
    if memory_gb:
        most = int(min(most, available_bytes() / 1e9 / memory_gb))
    return max(1, most)


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_bytes() -> float:
    """Memory that new tensors or processes can have; infinite where the system does not tell.

    The least of what the machine has and what a container may still take. Free pages of
    ``os.sysconf`` leave out what the system holds only to read files faster, which is most of
    the memory once many maps were read. Linux counts it in ``MemAvailable``.
    """
    return min(_of_machine(), _of_container())


def _of_machine() -> float:
    try:
        found = dict(line.split(":") for line in _MEMORY.read_text().splitlines())
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _of_container() -> float:
    try:
        most = int((_CONTAINER / "memory.max").read_text())  # the word "max" without a limit
        return max(0, most - int((_CONTAINER / "memory.current").read_text()))
    except (OSError, ValueError):
        return float("inf")


def map_in_order(
    worker: Callable[[Task], Result], tasks: Sequence[Task], jobs: int
) -> Iterator[Result]:
    """Do every task, and yield the results in the order of the tasks.

    Only a few results per process are in memory at a time. Close the iterator if it is not
    used up, or the processes stay.

    Args:
        worker: Does one task; for several processes it must be possible to send it to them,
            as a function of a module or a method of a plain object is.
        tasks: What to do.
        jobs: Processes; 1 does everything in this one. Each uses one torch thread.

    Raises:
        ConfigError: if processes cannot be started, or one was ended from outside.
    """
    if jobs == 1:
        with one_thread():
            yield from map(worker, tasks)
        return
    check_jobs(jobs)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(worker,))
    try:
        waiting = iter(tasks)
        pending = deque(
            pool.submit(_work_here, task) for task in islice(waiting, jobs * _TASKS_PER_WORKER)
        )
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(_work_here, task) for task in islice(waiting, 1))
            yield result
    except BrokenProcessPool as error:
        raise ConfigError("the processes that share the work ended early", _MAIN_REMEDY) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


#: What a worker process does, put here by the pool's initializer: the one global state of this
#: module, because a process pool offers no other place for it.
_HERE: dict[str, Callable] = {}


def _start_worker(worker: Callable) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by who started the pool.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _HERE["worker"] = worker


def _end_with_parent() -> None:
    """End this process when the one that started it was killed: nobody else would end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _work_here(task: Task) -> Result:
    return _HERE["worker"](task)
