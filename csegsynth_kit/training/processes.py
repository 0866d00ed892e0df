"""What several processes that train together tell each other."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from csegsynth_kit.training.feed import Share


def own_share() -> Share:
    """Return this process's part of every batch: all of it, unless there are others."""
    if dist.is_available() and dist.is_initialized():
        return Share(dist.get_rank(), dist.get_world_size())
    return Share()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average gradients over processes, in one message."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


def average_values(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Average named numbers over processes, all of which have the same names."""
    flat = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(flat)
    return dict(zip(values, (flat / dist.get_world_size()).tolist(), strict=True))


@torch.no_grad()
def follow_first(tensors: Iterable[Tensor]) -> None:
    """Set tensors of every process to those of the first."""
    for tensor in tensors:
        whole = tensor.contiguous()
        dist.broadcast(whole, 0)
        tensor.copy_(whole)


def wait_for_all(device: torch.device) -> None:
    """Return when every process has come here; barriers of NCCL would guess the device."""
    average_values({"": 0.0}, device)
