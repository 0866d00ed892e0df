"""Keeping freed memory: nothing but speed changes, and the process is left as it was."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from csegsynth_kit.models import memory
from csegsynth_kit.models.memory import kept_memory


class Library:
    """Notes what is asked of the C library."""

    def __init__(self):
        self.calls = []

    def mallopt(self, parameter, value):
        self.calls.append((parameter, value))

    def malloc_trim(self, pad):
        self.calls.append(("trim", pad))


@pytest.fixture
def library(monkeypatch):
    library = Library()
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    return library


def test_numbers_are_the_same():
    a, b = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(0))
    expected = a @ b
    with kept_memory():
        assert torch.equal(a @ b, expected)


def test_the_defaults_come_back_also_after_an_error(library):
    def interrupted():
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"), kept_memory():
        interrupted()
    assert dict(library.calls[:2])[-4] == 0  # nothing is mapped anew
    assert library.calls[2:] == [(-3, 2**25), (-1, 2**26), (-4, 65536), ("trim", 0)]


#: Prints how many fresh pages a loop of large tensors takes before and after.
_PAGES = """
import resource
import torch
from csegsynth_kit.models.memory import kept_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(2_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
first = pages()
with kept_memory():
    pages()
    inside = pages()
pages()
print(first, inside, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory")
def test_large_tensors_take_no_fresh_pages_inside_and_no_more_than_before_after():
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    command = [sys.executable, "-c", _PAGES]
    done = subprocess.run(command, env=plain, check=True, capture_output=True, text=True)
    first, inside, after = map(int, done.stdout.split())
    assert inside < 1000
    assert after <= first + 1000


def test_inside_itself_it_does_nothing(library):
    with kept_memory():
        before = list(library.calls)
        with kept_memory():
            pass
        assert library.calls == before


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    assert memory._glibc() is None
    with kept_memory():
        pass
