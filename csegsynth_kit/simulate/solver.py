"""Exact volumes: the four offsets that give every tissue the volume asked for."""

import numpy as np
import torch
from torch import Tensor

from csegsynth_kit.errors import ConfigError

#: Largest error of a volume (mL), and limits of the iteration.
TOLERANCE_ML = 1e-4
_LARGEST_STEP, _MOST_ITERATIONS = 1.5, 60


def solve_volumes(logits: Tensor, targets_ml: np.ndarray, voxel_ml: float) -> tuple[Tensor, int]:
    """Shift the logits of four classes so that their volumes become the targets.

    The offsets b solve sum softmax(z + b) * voxel = target. The left side is the gradient of
    the convex function sum logsumexp(z + b), so that there is one solution, found by Newton's
    method with the 4 x 4 Hessian.

    Args:
        logits: (5, V) float32; class 0 is the background and stays fixed.
        targets_ml: (4,) volumes (mL), positive.
        voxel_ml: Volume of one voxel (mL).

    Returns:
        (4, V) float32 shares of classes 1 to 4 whose sums are the targets within
        TOLERANCE_ML, and the number of iterations.

    Raises:
        ConfigError: if the volumes cannot be reached in the voxels there are.
    """
    target = torch.from_numpy(np.asarray(targets_ml, dtype=np.float64))
    offsets = torch.zeros(5, 1)
    for iteration in range(_MOST_ITERATIONS):
        shares = torch.softmax(logits + offsets, dim=0)[1:]
        volumes = shares.sum(1, dtype=torch.float64) * voxel_ml
        error = volumes - target
        if error.abs().max() < TOLERANCE_ML:
            return shares, iteration
        hessian = torch.diag(volumes) - (shares @ shares.T).double() * voxel_ml
        # A class that is nearly full or empty everywhere has no curvature left.
        step = torch.linalg.solve(hessian + 1e-6 * torch.eye(4, dtype=torch.float64), error)
        step = step * (_LARGEST_STEP / step.abs().max().clamp(min=_LARGEST_STEP))
        offsets[1:, 0] -= step.float()
    raise ConfigError(
        f"volumes {np.round(targets_ml, 1).tolist()} mL (WM, GM, sulcal CSF, lateral ventricles) "
        f"are not reached: still {error.abs().max():.3g} mL off",
        "Check that they are volumes of a human head in mL.",
    )
