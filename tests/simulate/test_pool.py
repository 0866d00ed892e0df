import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.simulate.average import template_base
from csegsynth_kit.simulate.pool import Task, Workshop, check_jobs, draw_all, one_thread


def test_heads_come_in_the_order_of_the_tasks():
    workshop = Workshop(GRIDS["tiny"], (template_base(4.0),))
    wanted = (507.0, 612.0, 363.0, 24.0)
    tasks = [Task(f"sub-{i}", wanted, (1, i)) for i in (3, 1, 2)]
    drawn = list(draw_all(workshop, tasks, 1))
    assert [head.participant for head in drawn] == ["sub-3", "sub-1", "sub-2"]
    assert (drawn[1].steps == workshop.draw(tasks[1]).steps).all()
    assert drawn[0].steps.shape == (3, *GRIDS["tiny"].shape)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_child_process_is_told_why_it_may_not_start_others(monkeypatch):
    """A script without a main guard is run again by its own workers, and must not fork on."""
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    check_jobs(1)
    for jobs in (None, 2):
        with pytest.raises(ConfigError, match="if __name__ == '__main__'"):
            check_jobs(jobs)


def test_workers_that_die_are_reported(monkeypatch):
    def broken(self, *_):
        raise BrokenProcessPool

    monkeypatch.setattr(ProcessPoolExecutor, "submit", broken)
    task = Task("sub-1", (507.0, 612.0, 363.0, 24.0), (0,))
    with pytest.raises(ConfigError, match="pass fewer jobs"):
        list(draw_all(Workshop(GRIDS["tiny"], ()), [task], 2))
