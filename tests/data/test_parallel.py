"""Work on several processes: order, threads, and who may start how many."""

import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from csegsynth_kit.data import parallel
from csegsynth_kit.data.parallel import check_jobs, default_jobs, map_in_order, one_thread
from csegsynth_kit.errors import ConfigError


@dataclass(frozen=True)
class Worker:
    """Tells where and how a task was done; later tasks are done sooner."""

    longest_s: float = 0.0

    def work(self, task: int) -> tuple[int, int, int]:
        time.sleep(self.longest_s / (task + 1))
        return task, os.getpid(), torch.get_num_threads()


def die(task: int) -> None:
    os._exit(task)


def beat(file: Path) -> None:
    """Show for a minute that this process is alive."""
    for i in range(300):
        file.write_text(str(i))
        time.sleep(0.2)


def test_results_come_in_the_order_of_the_tasks():
    tasks = list(range(9))
    done = list(map_in_order(Worker(0.3).work, tasks, 2))
    assert [task for task, _, _ in done] == tasks
    assert os.getpid() not in {pid for _, pid, _ in done}
    assert {threads for _, _, threads in done} == {1}


def test_few_tasks_are_taken_before_results_are_used():
    taken = []

    class Tasks(list):
        def __iter__(self):
            for task in super().__iter__():
                taken.append(task)
                yield task

    with closing(map_in_order(Worker().work, Tasks(range(1000)), 2)) as results:
        assert next(results)[0] == 0
    assert len(taken) < 10


def test_threads_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        assert [threads for _, _, threads in map_in_order(Worker().work, [1, 2], 1)] == [1, 1]
        assert torch.get_num_threads() == 2
        with closing(map_in_order(Worker().work, [1, 2], 1)) as unfinished:
            next(unfinished)
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


def test_processes_that_cannot_be_started_are_reported(monkeypatch):
    def broken(self, *_):
        raise BrokenProcessPool

    monkeypatch.setattr(ProcessPoolExecutor, "submit", broken)
    with pytest.raises(ConfigError, match="pass fewer jobs"):
        list(map_in_order(Worker().work, [1], 2))


def test_a_process_that_was_ended_is_reported():
    with pytest.raises(ConfigError, match="pass fewer jobs"):
        list(map_in_order(die, [9, 9], 2))


def test_processes_end_with_the_one_that_was_killed(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.data.test_parallel import beat;"
        "from csegsynth_kit.data.parallel import map_in_order;"
        "list(map_in_order(beat, [Path(sys.argv[1])], 2))"
    )
    file = tmp_path / "beat"
    started = subprocess.Popen([sys.executable, "-c", code, str(file)])
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    started.kill()
    started.wait()
    time.sleep(1)
    last = file.read_text()
    time.sleep(1)
    assert file.read_text() == last


def test_processes_are_as_many_as_have_work_and_room(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "processors", lambda: 8)
    monkeypatch.setattr(parallel, "_CONTAINER", tmp_path)
    assert [default_jobs(n) for n in (0, 1, 31, 32, 1000)] == [1, 1, 1, 2, 8]
    memory = tmp_path / "meminfo"
    monkeypatch.setattr(parallel, "_MEMORY", memory)
    memory.write_text("MemTotal: 90000000 kB\nMemAvailable: 5000000 kB\n")
    assert default_jobs(1000, memory_gb=1.5) == 3
    assert default_jobs(1000, memory_gb=100.0) == 1
    (tmp_path / "memory.max").write_text("4000000000\n")  # a container with less
    (tmp_path / "memory.current").write_text("500000000\n")
    assert default_jobs(1000, memory_gb=1.5) == 2
    (tmp_path / "memory.max").write_text("max\n")
    assert default_jobs(1000, memory_gb=1.5) == 3
    memory.unlink()
    pages = {"SC_PHYS_PAGES": 1_000_000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert default_jobs(1000, memory_gb=1.5) == 2
    monkeypatch.delattr(os, "sysconf")
    assert default_jobs(1000, memory_gb=1.5) == 8
