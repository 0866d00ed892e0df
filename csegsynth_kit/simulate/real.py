"""Base anatomies made of real segmentations, for semi-real cohorts."""

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter, label
from torch import Tensor

from csegsynth_kit.constants import TEMPLATE_CENTER_MM
from csegsynth_kit.errors import MapError
from csegsynth_kit.maps import Grid
from csegsynth_kit.simulate.average import template_base, ventricle_side
from csegsynth_kit.simulate.bases import Base, head_distance, make_base
from csegsynth_kit.simulate.fields import positions, sample

#: Blurs (SD mm) and their weights: the first keeps the anatomy, the wider ones let boundaries
#: move by a few millimeters when volumes change.
_BLURS = ((0.7, 0.90), (2.5, 0.09), (6.0, 0.01))
#: Exponent that undoes the blur: with it the share of certain voxels and the entropy of a map
#: with its own volumes are those of the real map.
_GAMMA = 1.5
#: Real maps have gyri of their own: only a little texture is added.
_TEXTURE = 0.3
_CLOSING_MM, _CERTAIN_MM = 8.0, 5.0
#: Lateral ventricles: CSF this deep inside the head, where the template's are nearer than its
#: other CSF, in pieces of at least this share of the largest.
_DEPTH_MM, _VENTRICLE_SHARE, _LEAST_PIECE = 10.0, 0.5, 0.05


def real_base(tissues: Tensor, grid: Grid, name: str) -> Base:
    """Make a base of one aligned segmentation.

    Args:
        tissues: (3, X, Y, Z) shares of WM, GM, CSF.
        grid: Their voxels, 2 or 4 mm, aligned to the template.
        name: A participant's id.

    Raises:
        MapError: if it has no CSF where lateral ventricles are.
    """
    spacing = grid.spacing_mm[0]
    wm, gm, csf = tissues.numpy()
    distance = head_distance(wm + gm + csf > 0.5, grid, _CLOSING_MM)
    lateral = lateral_ventricles(tissues, distance, grid, name)
    background = np.clip(1 - wm - gm - csf, 0, 1)
    shares = np.stack([background, wm, gm, csf * ~lateral, csf * lateral])
    blurred = sum(
        weight * gaussian_filter(shares, (0, *[sd / spacing] * 3), truncate=3.0)
        for sd, weight in _BLURS
    )
    outside = torch.from_numpy(distance > _CERTAIN_MM)
    return make_base(
        name, grid, torch.from_numpy(blurred), outside=outside, gamma=_GAMMA, texture=_TEXTURE
    )


def lateral_ventricles(tissues: Tensor, distance: np.ndarray, grid: Grid, name: str) -> np.ndarray:
    """Find the lateral ventricles of a real head.

    In real heads they connect through the third ventricle with the cisterns, so that a
    connected component is several times too large. The template decides which CSF is theirs.

    Args:
        tissues: (3, X, Y, Z) shares of WM, GM, CSF.
        distance: (X, Y, Z) distance to the surface of the head (mm), negative inside.
        grid: Their voxels.
        name: A participant's id, for the message.

    Returns:
        (X, Y, Z) bool, a little larger than the ventricles.
    """
    nearer, template_grid = ventricle_side()
    icv_ml = float(tissues.sum(dtype=torch.float64)) * grid.voxel_ml
    scale = (icv_ml / template_base(template_grid.spacing_mm[0]).icv_ml) ** (1 / 3)
    center = torch.tensor(TEMPLATE_CENTER_MM).view(3, 1, 1, 1)
    where = center + (positions(grid) - center) / scale
    theirs = sample(nearer, where, template_grid)[0].numpy() < 0
    csf = tissues[2].numpy() > _VENTRICLE_SHARE
    pieces, n = label(csf & theirs & (distance < -_DEPTH_MM))
    if n == 0:
        raise MapError(
            f"{name} has no CSF where lateral ventricles are",
            "Use maps with CSF that are aligned to the template.",
        )
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return binary_dilation((sizes >= _LEAST_PIECE * sizes.max())[pieces])
