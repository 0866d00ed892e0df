"""Where our networks start: at principal components of maps, at regressions on features."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from csegsynth_kit.data.folds import folds_of
from csegsynth_kit.models.compact import (
    CompactGenerator,
    CompactTransform,
    ComponentReader,
    log_shares,
    pooled_log_shares,
)

#: Components below this share of the largest are round-off.
_SMALLEST_EIGENVALUE = 1e-9
#: Variance left to code entries that do not vary, where 1 is usual.
_SMALLEST_VARIANCE = 1e-4
#: Penalties among which leave-one-out cross-validation on the training participants chooses.
_PENALTIES = np.logspace(-1, 4, 16)
#: Parts of the participants, each of which is predicted from the others.
_FOLDS = 10


@torch.no_grad()
def start_from_components(
    generator: CompactGenerator,
    encoder: ComponentReader,
    chunks: Iterable[Tensor],
    *,
    first: int,
    last: int,
) -> None:
    """Start some templates at the principal components of the training maps.

    With ``first`` 0 the mean is taken as well, and codes of the training maps have mean 0 and,
    entry by entry, variance 1. Otherwise entries before ``first`` keep what they mean, and the
    new ones describe what those leave over, its mean included: what a pre-training cohort of
    young adults has never shown. Entries the maps have no dimensions for stay unused, and so do
    those after ``last``: their templates are 0.

    Args:
        generator: Its templates ``first`` to ``last`` are set.
        encoder: Its scores ``first`` to ``last`` are set.
        chunks: (n, T, X, Y, Z) training maps, a few at a time.
        first: First code entry.
        last: One after the last.
    """
    if first == last:
        return
    coarse, total, count = [], 0.0, 0
    for maps in chunks:
        coarse.append(pooled_log_shares(maps, encoder.factor))
        total, count = total + log_shares(maps).double().sum(0), count + len(maps)
    # Everybody's log shares are held in double precision once, and worked on in place.
    left = coarse[0].new_empty(count, coarse[0].shape[1], dtype=torch.double)
    torch.cat(coarse, out=left)
    del coarse
    if first == 0:
        generator.coarse_mean.copy_(left.mean(0).reshape(generator.coarse_mean.shape))
        generator.fine_mean.copy_(total[None] / count)
    mean = generator.coarse_mean.flatten().double()
    known = F.normalize(encoder.axes[:first].double(), dim=1)
    left -= mean
    left.addmm_(left @ known.T, known, alpha=-1)
    # Components from the (n, n) Gram matrix: n is far smaller than the number of voxels.
    values, vectors = torch.linalg.eigh(left @ left.T)
    kept = min(last - first, int((values > _SMALLEST_EIGENVALUE * values[-1]).sum()))
    values, vectors = values[-kept:].flip(0), vectors[:, -kept:].flip(1)
    axes = left.T @ vectors / values.sqrt()
    axes *= torch.where(axes.sum(0) < 0, -1.0, 1.0)  # eigenvectors come with an arbitrary sign
    size = (values / (count - 1)).sqrt()
    new = slice(first, first + kept)
    generator.templates.weight[:, first:] = 0
    generator.templates.weight[:, new] = (axes * size).float()
    encoder.axes[first:last], encoder.offset[first:last] = 0, 0
    encoder.axes[new] = (axes / size).T.float()
    encoder.offset[new] = -(mean @ axes / size).float()


def numbers_held(people: int, length: int) -> int:
    """How many numbers (of 4 bytes) :func:`start_from_components` holds at once of people.

    Args:
        people: Training participants.
        length: Log shares of each on the template grid.
    """
    shares = 3 * length  # in single and in double precision
    products = 2 * 4 * people  # each with all: Gram matrix, eigenvectors, and twice room for them
    return people * (shares + products)


@torch.no_grad()
def start_from_regression(transform: CompactTransform, features: Tensor, codes: Tensor) -> None:
    """Start T at the ridge regression of the training participants' codes on their features.

    Afterwards T(z, c) has the regression's mean, and the covariance of its residuals.

    Args:
        transform: Freshly built.
        features: (N, F).
        codes: (N, L) codes of the same participants' maps.
    """
    # Not at the top: generating fits nothing, and should not wait a second for scikit-learn.
    from sklearn.covariance import ledoit_wolf

    expanded = transform.expanded(features)
    slopes, intercepts = ridge(expanded, codes)
    transform.linear.weight.copy_(slopes)
    transform.linear.bias.copy_(intercepts)
    residuals = (codes - transform.linear(expanded)).double()
    sd = residuals.std(0).clamp(min=_SMALLEST_VARIANCE**0.5)
    # With few participants for many entries, correlations are mostly noise: shrink them.
    correlation, _ = ledoit_wolf((residuals / sd).cpu(), assume_centered=True)
    root = torch.linalg.cholesky(torch.from_numpy(correlation).to(sd))
    transform.mix.weight.copy_(root * sd[:, None])


def ridge(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Fit ridge regressions, one penalty per target, chosen by leave-one-out cross-validation.

    Args:
        inputs: (N, F).
        targets: (N, D).

    Returns:
        Slopes (D, F) and intercepts (D,).
    """
    from sklearn.linear_model import RidgeCV  # here as above

    fit = RidgeCV(_PENALTIES, alpha_per_target=True).fit(inputs.cpu(), targets.cpu())
    return torch.from_numpy(fit.coef_).to(targets), torch.from_numpy(fit.intercept_).to(targets)


def ridge_left_over(
    inputs: Tensor, targets: Tensor, persons: Sequence[str] | None = None
) -> Tensor:
    """What :func:`ridge` leaves over in participants that it has not seen.

    In those it was fitted to, it leaves over too little: every slope explains some noise.

    Args:
        inputs: (N, F).
        targets: (N, D).
        persons: (N,) person of each row, where rows may share one.

    Returns:
        (N, D) targets less predictions, with the penalties that :func:`ridge` chooses.
    """
    from sklearn.linear_model import Ridge, RidgeCV  # here as above
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    x, y = inputs.cpu().double().numpy(), targets.cpu().double().numpy()
    chosen = RidgeCV(_PENALTIES, alpha_per_target=True).fit(x, y).alpha_
    persons = range(len(x)) if persons is None else persons
    folds = PredefinedSplit(folds_of(persons, _FOLDS, seed=0))
    # By singular values: as fast for thousands of targets with penalties of their own as for one.
    predicted = cross_val_predict(Ridge(chosen, solver="svd"), x, y, cv=folds)
    return torch.from_numpy(y - predicted).to(targets)
