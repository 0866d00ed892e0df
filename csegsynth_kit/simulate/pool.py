"""Drawing many heads in several processes, in order, with the same result for any number."""

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, average_pool, quantize
from csegsynth_kit.simulate.anatomy import Anatomy
from csegsynth_kit.simulate.bases import Base

_TASKS_PER_WORKER = 3
_MAIN_REMEDY = (
    "Put what your script does under if __name__ == '__main__':, or pass jobs=1. If it did, a "
    "process was ended from outside, most likely for lack of memory: pass fewer jobs."
)


@dataclass(frozen=True)
class Task:
    """One head to draw.

    Args:
        participant: Its id.
        targets_ml: WM, GM, sulcal CSF, lateral ventricles (mL).
        seed: The individual.
        base: Position of the base anatomy among the workshop's.
    """

    participant: str
    targets_ml: tuple[float, float, float, float]
    seed: tuple[int, ...]
    base: int = 0


@dataclass(frozen=True)
class Drawn:
    """One head, pooled to the grid of the cohort.

    Args:
        participant: Its id.
        steps: (3, X, Y, Z) uint8 in steps of 1/255.
        volumes_ml: WM, GM, CSF (mL) before pooling and rounding.
    """

    participant: str
    steps: np.ndarray
    volumes_ml: tuple[float, float, float]


@dataclass(frozen=True)
class Workshop:
    """Draws heads at the resolution of its bases and pools them to a grid.

    Args:
        grid: Voxels of the result.
        bases: Base anatomies, all of the same spacing.
    """

    grid: Grid
    bases: tuple[Base, ...]
    _anatomies: dict[int, Anatomy] = field(default_factory=dict, repr=False)

    def draw(self, task: Task) -> Drawn:
        """Draw one head."""
        anatomy = self._anatomy(task.base)
        head = anatomy.draw(task.targets_ml, task.seed)
        factor = round(self.grid.spacing_mm[0] / anatomy.grid.spacing_mm[0])
        maps = average_pool(head.maps[None], factor)[0] if factor > 1 else head.maps
        return Drawn(task.participant, quantize(maps).numpy(), tuple(head.volumes_ml.tolist()))

    def _anatomy(self, base: int) -> Anatomy:
        if base not in self._anatomies:
            factor = round(self.grid.spacing_mm[0] / self.bases[base].grid.spacing_mm[0])
            grid = self.grid.refined(factor) if factor > 1 else self.grid
            self._anatomies[base] = Anatomy(grid, self.bases[base])
        return self._anatomies[base]


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


def draw_all(workshop: Workshop, tasks: Sequence[Task], jobs: int) -> Iterator[Drawn]:
    """Draw heads in the order of the tasks.

    Args:
        workshop: Draws one.
        tasks: What to draw.
        jobs: Processes; 1 draws in this one.

    Raises:
        ConfigError: if processes cannot be started.
    """
    if jobs == 1:
        with one_thread():
            yield from map(workshop.draw, tasks)
        return
    check_jobs(jobs)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(workshop,))
    try:
        waiting = iter(tasks)
        pending = deque(
            pool.submit(_draw_here, task) for task in islice(waiting, jobs * _TASKS_PER_WORKER)
        )
        while pending:
            drawn = pending.popleft().result()
            pending.extend(pool.submit(_draw_here, task) for task in islice(waiting, 1))
            yield drawn
    except BrokenProcessPool as error:
        raise ConfigError("the processes that draw heads ended at once", _MAIN_REMEDY) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


#: The workshop of a worker process, put here by the pool's initializer: the one global state of
#: this module, because a process pool offers no other place for it.
_HERE: dict[str, Workshop] = {}


def _start_worker(workshop: Workshop) -> None:
    torch.set_num_threads(1)
    _HERE["workshop"] = workshop


def _draw_here(task: Task) -> Drawn:
    return _HERE["workshop"].draw(task)
