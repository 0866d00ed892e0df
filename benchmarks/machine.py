"""What this machine can do, and the least time that counted work takes on it."""

import platform
import time
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from csegsynth_kit.training.probe import peak_memory


def best_of(work, repeats: int = 5) -> float:
    """Seconds of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        synchronize()
        times.append(time.perf_counter() - began)
    return min(times)


def synchronize() -> None:
    """Wait for an accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rates(device: torch.device) -> tuple[float, float]:
    """Operations per second of a matrix product, and bytes per second of a copy."""
    n = 2048 if device.type == "cpu" else 8192
    a, b = torch.randn(2, n, n, device=device)
    c, d = torch.empty(2, 2**26, device=device)
    product = best_of(lambda: torch.mm(a, b))
    copy = best_of(lambda: c.copy_(d))
    return 2 * n**3 / product, 2 * c.nbytes / copy


def describe(device: torch.device) -> str:
    """One line about processor or card, and versions."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else _processor()
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    return f"{name}{threads}, torch {torch.__version__}"


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    if about.exists():
        for line in about.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_gb(device: torch.device | None = None) -> float:
    """Most memory this process (or the card) has held, in GB (1e9 bytes)."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return peak_memory() / 1e9


class Counted(TorchDispatchMode):
    """Adds up, over all PyTorch calls inside, the least time each takes on this machine.

    A call takes at least its floating-point operations at the rate of a matrix product, and at
    least the reading of its inputs and the writing of its outputs at the rate of a copy. Fewer,
    larger calls could do with less: this is the floor of the calls as they are.
    """

    def __init__(self, operations_per_s: float, bytes_per_s: float):
        super().__init__()
        self._rates = operations_per_s, bytes_per_s
        self.operations, self.bytes, self.seconds = 0, 0, 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run the call and count it."""
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        places = {t.untyped_storage().data_ptr() for t in given}
        fresh = [t for t in made if t.untyped_storage().data_ptr() not in places]
        moves = fresh or func._schema.is_mutable  # anything else is a view
        size = sum(t.numel() * t.element_size() for t in [*given, *fresh]) if moves else 0
        count = flop_registry.get(func.overloadpacket)
        operations = count(*args, **(kwargs or {}), out_val=out) if count else 0
        self.operations += operations
        self.bytes += size
        self.seconds += max(operations / self._rates[0], size / self._rates[1])
        return out
