"""Keeping freed memory: nothing but speed changes, and the process is left as it was."""

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
    assert library.calls[2:] == [(-1, 128 * 1024), (-4, 65536), ("trim", 0)]


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
