"""A start whose draws have the volumes that regression expects, on average and in spread.

Codes are regressed one by one, each with its own penalty, and maps depend on them through a
softmax: together, the volumes of the draws miss what a regression of the volumes themselves
gives by a little. Here T is moved by the smallest change that makes up for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from csegsynth_kit.data.folds import folds_of
from csegsynth_kit.models.base import Rng
from csegsynth_kit.models.compact import CompactTransform, with_powers

#: Corrections; each removes nine tenths of what is left.
_ROUNDS = 3
#: Participants whose draws are looked at, and draws of each (in pairs z, -z).
_PEOPLE, _DRAWS = 400, 4
#: Participants whose codes the slope of volumes is taken at.
_SLOPES_AT = 64
_FOLDS = 10
#: Share of the volumes' mean variance below which a direction of volumes is hardly corrected.
_DAMPING = 1e-3
#: Penalties among which cross-validation chooses, per standard deviation.
_PENALTIES = np.geomspace(1.0, 1e-3, 30)
#: The larger a feature is, the smaller its slope and the penalty on it.
_FREE = 100.0
#: Codes whose volumes are computed at a time, and fewer where gradients need the memory.
_AT_ONCE, _WITH_GRADIENTS = 32, 4


def maps_drawn(people: int) -> int:
    """How many maps :func:`calibrate` draws for so many training participants."""
    return _ROUNDS * _DRAWS * min(people, _PEOPLE)


@dataclass(frozen=True)
class VolumeTarget:
    """What a regression lets expect of the volumes, in training standard deviations.

    Args:
        mean: (N, 3) expected volumes of the training participants.
        slopes: (F + squares, 3) of the regression; most are 0.
        covariance: (3, 3) of what is left over, in participants the regression has not seen.
    """

    mean: Tensor
    slopes: Tensor
    covariance: Tensor


def volume_target(
    features: Tensor,
    volumes: Tensor,
    persons: Sequence[str] | None = None,
    *,
    curved: Sequence[int] = (),
) -> VolumeTarget:
    """Regress volumes on features, by the lasso: most answers tell nothing.

    Cubes are left out, though T has them: there they straighten what maps bend, here they
    would take noise at the ends of the age range for ageing.

    Args:
        features: (N, F) of the training participants.
        volumes: (N, 3) of the same, in training standard deviations.
        persons: (N,) person of each row, where rows may share one.
        curved: Features that enter squared as well. They are not penalized, because they surely
            tell something: shrunk slopes of age would make trajectories flat.
    """
    # Not at the top: generating fits nothing, and should not wait a second for scikit-learn.
    from sklearn.linear_model import Lasso, LassoCV
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    expanded = with_powers(features, curved, 2)
    x, y = expanded.cpu().double().numpy(), volumes.cpu().double().numpy()
    scale = np.ones(x.shape[1])
    scale[[*curved, *range(features.shape[1], len(scale))]] = _FREE
    x *= scale
    persons = range(len(x)) if persons is None else persons
    folds = PredefinedSplit(folds_of(persons, _FOLDS, seed=0))
    means, slopes, residuals = [], [], []
    for one in y.T:
        fit = LassoCV(alphas=_PENALTIES, cv=folds).fit(x, one)
        means.append(fit.predict(x))
        slopes.append(fit.coef_ * scale)
        residuals.append(one - cross_val_predict(Lasso(fit.alpha_), x, one, cv=folds))
    left = np.stack(residuals, axis=1)
    covariance = left.T @ left / len(left)
    return VolumeTarget(
        torch.from_numpy(np.stack(means, axis=1)).to(volumes),
        torch.from_numpy(np.stack(slopes, axis=1)).to(volumes),
        torch.from_numpy(covariance).to(volumes),
    )


@torch.no_grad()
def calibrate(
    transform: CompactTransform,
    volumes_of: Callable[[Tensor], Tensor],
    features: Tensor,
    volumes: Tensor,
    *,
    persons: Sequence[str] | None = None,
    rest: int = 0,
) -> None:
    """Correct T until draws have the expected volumes and the spread of what is left over.

    Codes move along the direction in which they vary together with the volumes, so that an
    added milliliter is added where people differ, not anywhere.

    Args:
        transform: Started at the regression of codes on features.
        volumes_of: Maps (n, L + rest) codes, and the noise that T leaves alone, to (n, 3) volumes
            in training standard deviations.
        features: (N, F) of the training participants.
        volumes: (N, 3) their volumes, in training standard deviations.
        persons: (N,) person of each row, where rows may share one.
        rest: How many standard normal numbers ``volumes_of`` takes besides codes.
    """
    target = volume_target(features, volumes, persons, curved=transform.curved)
    chosen, expected = _spread(features, _PEOPLE), _spread(target.mean, _PEOPLE)
    expanded = transform.expanded(chosen)
    design = F.pad(expanded, (0, 1), value=1.0)
    explained = torch.linalg.pinv(design.double()).float()  # a question all answer has rank 0
    half = Rng(0, total=len(chosen), device=features.device).normal(
        _DRAWS // 2, transform.mix.in_features + rest
    )
    for _ in range(_ROUNDS):
        drawn = _volumes(transform, volumes_of, chosen, half)
        spread = drawn[: _DRAWS // 2] - drawn.mean(0)  # the others are antithetic twins
        covariance = torch.einsum("mni,mnj->ij", spread, spread) / spread[..., 0].numel()
        slope = _slope(volumes_of, transform, chosen, rest)
        along = _direction(slope, transform.mix.weight)
        # What features explain of the gap: nothing else can be made up for by a shift.
        gap = explained @ (expected - drawn.mean(0))
        transform.linear.weight += along @ gap[:-1].T
        transform.linear.bias += along @ gap[-1]
        stretch = _root(target.covariance) @ torch.linalg.inv(_root(covariance))
        identity = torch.eye(len(stretch), device=stretch.device)
        transform.mix.weight += along @ (stretch - identity) @ slope @ transform.mix.weight


def _volumes(transform, volumes_of, features: Tensor, half: Tensor) -> Tensor:
    """Volumes (M, N, 3) of draws from (N, M / 2, L + rest) noise and its negative."""
    noise = torch.cat([half, -half], dim=1).transpose(0, 1)
    length = transform.mix.in_features
    rows = []
    for draws in noise:
        parts = zip(draws.split(_AT_ONCE), features.split(_AT_ONCE), strict=True)
        codes = (torch.cat([transform(z[:, :length], c), z[:, length:]], dim=1) for z, c in parts)
        rows.append(torch.cat([volumes_of(code) for code in codes]))
    return torch.stack(rows)


@torch.enable_grad()
def _slope(volumes_of, transform: CompactTransform, features: Tensor, rest: int) -> Tensor:
    """Mean change (3, L) of volumes with the code, at people's mean codes."""
    codes = transform.moments(_spread(features, _SLOPES_AT))[0].detach()
    total = 0.0
    for code in codes.split(_WITH_GRADIENTS):
        code.requires_grad_(True)
        volumes = volumes_of(F.pad(code, (0, rest)))
        slopes = [torch.autograd.grad(v, code, retain_graph=True)[0] for v in volumes.sum(0)]
        total = total + torch.stack(slopes).sum(1)
    return total / len(codes)


def _spread(rows: Tensor, n: int) -> Tensor:
    """Take ``n`` rows from first to last: ids may come by age."""
    return rows[torch.linspace(0, len(rows) - 1, min(n, len(rows))).round().long()]


def _direction(slope: Tensor, mix: Tensor) -> Tensor:
    """Changes of the code (L, 3) that add one standard deviation to one volume each."""
    covariance = mix @ (mix.T @ slope.T)
    return covariance @ torch.linalg.inv(_damped(slope @ covariance, _DAMPING))


def _root(covariance: Tensor) -> Tensor:
    return torch.linalg.cholesky(_damped(covariance, _DAMPING**2))


def _damped(covariance: Tensor, share: float) -> Tensor:
    """Add a share of the mean variance: volumes that move together allow no inverse."""
    return covariance + share * covariance.diag().mean() * torch.eye(len(covariance)).to(covariance)
