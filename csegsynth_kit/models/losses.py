"""Loss functions: pure, on tensors, each returning a scalar mean."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_LOG = -100.0


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Excess of the soft cross-entropy over the target's own entropy: 0 for a perfect match.

    Args:
        logits: (N, T, X, Y, Z).
        target: (N, T, X, Y, Z) shares.

    Returns:
        Mean Kullback-Leibler divergence per voxel (nats).
    """
    log_shares = F.log_softmax(logits.float(), dim=1)
    target = target.float()
    return (torch.xlogy(target, target) - target * log_shares).sum(1).mean()


def bce_on_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of each channel of the softmax, as published (parity option)."""
    shares = logits.float().softmax(1)
    positive = target * shares.log().clamp(min=_SMALLEST_LOG)
    negative = (1 - target) * (1 - shares).log().clamp(min=_SMALLEST_LOG)
    return -(positive + negative).mean()


def energy_score(draws: Tensor, truth: Tensor) -> Tensor:
    """Proper scoring rule of several draws per person (Gneiting and Raftery 2007).

    E|V - v| - E|V - V'| / 2 is least when the draws are distributed as the truth given what is
    known of the person: the draws must center on the truth and spread as much as it does.

    Args:
        draws: (M, N, D), M >= 2 independent draws for each of N persons.
        truth: (N, D).
    """
    m = draws.shape[0]
    to_truth = _distance(draws - truth).mean()
    first, second = torch.triu_indices(m, m, offset=1, device=draws.device)
    return to_truth - 0.5 * _distance(draws[first] - draws[second]).mean()


def absolute_error(draws: Tensor, truth: Tensor) -> Tensor:
    """Mean |V - v| of (M, N, D) draws and (N, D) truth: the published volume loss."""
    return (draws - truth).abs().mean()


def gaussian_divergence(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor
) -> Tensor:
    """Kullback-Leibler divergence of one normal law from another, entry by entry (nats)."""
    gap = prior_log_variance - log_variance
    apart = (mean - prior_mean).square() * (-prior_log_variance).exp()
    return 0.5 * (gap + (-gap).exp() + apart - 1)


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: Tensor) -> Tensor:
    """Ask that ``positive`` be closer to ``anchor`` than ``negative`` is, by ``margin``.

    Args:
        anchor: (N, D) true volumes.
        positive: (N, D) volumes generated from the person's own features.
        negative: (N, D) volumes generated from other features.
        margin: (N,) or scalar.
    """
    gap = (anchor - positive).abs().sum(1) - (anchor - negative).abs().sum(1)
    return (gap + margin).clamp(min=0).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    mix: Tensor,
    norm: Literal["per_sample", "reference"] = "per_sample",
) -> Tensor:
    """Penalty of Wasserstein critics: (|gradient| - 1)^2 between real and generated samples.

    Args:
        critic: Maps (N, ...) to (N,).
        real: (N, ...).
        fake: (N, ...), detached from what generated it.
        mix: (N,) uniform shares of ``real``.
        norm: ``per_sample`` takes the norm over everything but N (Gulrajani et al. 2017);
            ``reference`` over dimension 1 only, as the published scripts do, which asks for a
            unit gradient at every voxel.
    """
    mix = mix.reshape(-1, *[1] * (real.dim() - 1))
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    if norm == "per_sample":
        gradient = gradient.flatten(1)
    # The square root needs a floor: its own gradient is infinite at 0.
    length = gradient.square().sum(1).clamp(min=1e-12).sqrt()
    return (length - 1).square().mean()


def _distance(difference: Tensor) -> Tensor:
    """Euclidean length over the last dimension, with a finite gradient at 0."""
    return difference.square().sum(-1).clamp(min=1e-12).sqrt()
