"""From volumes to maps: individual heads with exactly the volumes asked for.

A base anatomy is scaled to the intracranial volume, bent by a random diffeomorphism, its
lateral ventricles are grown or shrunk along a flow, texture widens and narrows sulci, and
four offsets make the volumes exact. The same seed with other volumes is the same person at
another age.

Limits. Gyri are the base's (bent, none new) and finer blades are missing, thalamus and
pallidum are partly white matter, there are no lesions, and atrophy is the same everywhere.
These are not real people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from csegsynth_kit.constants import MEASURED, TEMPLATE_CENTER_MM
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, volumes_ml
from csegsynth_kit.simulate.average import template_base
from csegsynth_kit.simulate.bases import BACKGROUND, FLOW_SPACING_MM, Base
from csegsynth_kit.simulate.fields import exponentiate, positions, sample, smooth_noise
from csegsynth_kit.simulate.solver import solve_volumes

#: Random bending: (RMS of each component mm, full width at half maximum mm), drawn on a coarse
#: grid of the given spacing. Sized so that two simulated people overlap as much as two real ones
#: of the same volumes (Dice of WM, GM, CSF at 4 mm: 0.70, 0.66, 0.51; real 0.70, 0.69, 0.52).
_BENDING, _BENDING_SPACING_MM = ((1.7, 48.0), (0.8, 20.0)), 8.0
_ANISOTROPY, _PITCH_DEGREES = 0.02, 2.0
#: Range of the flow coefficient; beyond it the warp folds.
_GROWTH = (-1.2, 7.0)
#: Texture of WM and sulcal CSF, and of GM: (SD of the logit, full width at half maximum mm).
_TEXTURE_EDGES, _TEXTURE_GM = (2.5, 5.0), (0.6, 4.0)
#: Voxels whose background logit leads by more take no part.
_MARGIN = 12.0
#: Four SDs of texture: how much nearer it can bring them.
_TEXTURE_LEAD = 4 * _TEXTURE_EDGES[0]


@dataclass(frozen=True)
class Head:
    """One simulated head.

    Args:
        maps: (3, X, Y, Z) float32 WM, GM, CSF, non-negative, summing to at most 1.
        volumes_ml: (3,) float64 volumes (mL).
        iterations: Newton steps of the volume solver.
    """

    maps: Tensor
    volumes_ml: np.ndarray
    iterations: int


class Anatomy:
    """Draws heads on one grid.

    Args:
        grid: Voxels of the maps, of 2 or 4 mm.
        base: Where they are bent from; by default the MNI152 template.

    Raises:
        ConfigError: for other voxels.
    """

    def __init__(self, grid: Grid, base: Base | None = None):
        if len(set(grid.spacing_mm)) != 1 or grid.spacing_mm[0] not in (2.0, FLOW_SPACING_MM):
            raise ConfigError(
                f"grid '{grid.name}' has voxels of {grid.spacing_mm} mm",
                "Simulate at 2 or 4 mm, then pool.",
            )
        self.grid = grid
        self.base = template_base(grid.spacing_mm[0]) if base is None else base
        self._warp_factor = round(FLOW_SPACING_MM / grid.spacing_mm[0])
        self._warp_grid = grid.pooled(self._warp_factor) if self._warp_factor > 1 else grid
        self._points = positions(self._warp_grid) - torch.tensor(grid.center_mm).view(3, 1, 1, 1)
        # What is sampled together: the logits and, as a sixth channel, the texture.
        self._stack = torch.cat([self.base.logits, self.base.texture])
        lead = self.base.logits[BACKGROUND] - self.base.logits[1:].amax(0)
        self._near_head = (lead < _MARGIN + _TEXTURE_LEAD).float()[None]

    def draw(self, targets_ml: Sequence[float], seed: int | Sequence[int]) -> Head:
        """Draw one head.

        Args:
            targets_ml: WM, GM, sulcal CSF and lateral ventricles (mL).
            seed: The individual: same seed, same shape and texture, whatever the volumes.
        """
        targets = np.asarray(targets_ml, dtype=float)
        if targets.shape != (4,) or not (np.isfinite(targets) & (targets > 0)).all():
            raise ConfigError(
                f"target volumes are {targets.tolist()} mL",
                "Give four positive volumes: WM, GM, sulcal CSF, lateral ventricles.",
            )
        rng = np.random.default_rng(seed)
        where = self.warp(targets, rng)
        inside, logits = self._sample(where)
        logits[1:4] += self._texture(rng)[:, inside] * logits[5]
        logits = logits[:5]
        active = logits[1:].amax(0) > logits[BACKGROUND] - _MARGIN
        index = torch.nonzero(inside.flatten())[active, 0]
        shares, iterations = solve_volumes(logits[:, active], targets, self.grid.voxel_ml)
        maps = torch.zeros(len(MEASURED), inside.numel())
        maps[:, index] = torch.stack([shares[0], shares[1], shares[2] + shares[3]])
        maps = maps.view(len(MEASURED), *self.grid.shape)
        return Head(maps, volumes_ml(maps.double(), self.grid.voxel_ml).numpy(), iterations)

    def warp(self, targets: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return (3, x, y, z) positions in the base (mm) of the voxels of the warp grid."""
        scale = (targets.sum() / self.base.icv_ml) ** (1 / 3)
        stretch = _ANISOTROPY * rng.standard_normal(3)
        pitch = np.deg2rad(_PITCH_DEGREES) * rng.standard_normal()
        axes = scale * np.exp(stretch - stretch.mean())
        sine, cosine = np.sin(pitch), np.cos(pitch)
        rotation = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
        inverse = torch.from_numpy((rotation / axes[:, None]).astype(np.float32))
        straight = (inverse @ self._points.flatten(1)).view_as(self._points)
        straight += torch.tensor(TEMPLATE_CENTER_MM).view(3, 1, 1, 1)
        velocity = self._bending(rng) - self._growth(targets[3], scale) * self.base.flow
        displacement = exponentiate(velocity, self.base.flow_grid)
        return straight + sample(displacement, straight, self.base.flow_grid)

    def _growth(self, ventricles_ml: float, scale: float) -> float:
        """Time to follow the flow until the ventricles have the right size."""
        ratio = ventricles_ml / (self.base.volumes_ml[3] * scale**3)
        # What leaves the source no longer grows, what flows into the sink keeps shrinking.
        growth = ratio - 1 if ratio > 1 else np.log(ratio)
        return float(np.clip(growth, *_GROWTH))

    def _bending(self, rng: np.random.Generator) -> Tensor:
        """Draw a smooth random velocity (3, x, y, z) (mm) on the base's flow grid."""
        grid = self.base.flow_grid
        margin = 4  # voxels beyond the box, so that the periodic field does not repeat inside it
        factor = _BENDING_SPACING_MM / FLOW_SPACING_MM
        shape = tuple(int(np.ceil(n / factor)) + margin for n in grid.shape)
        field = sum(
            rms * smooth_noise(rng, (3, *shape), fwhm / _BENDING_SPACING_MM)
            for rms, fwhm in _BENDING
        )
        fine = F.interpolate(torch.from_numpy(field)[None], scale_factor=factor, mode="trilinear")
        return fine[0, :, : grid.shape[0], : grid.shape[1], : grid.shape[2]]

    def _texture(self, rng: np.random.Generator) -> Tensor:
        """Draw (3, X, Y, Z) noise of the logits of WM, GM and sulcal CSF."""
        shape, spacing = self.grid.shape, self.grid.spacing_mm[0]
        sd_edges, fwhm_edges = _TEXTURE_EDGES
        sd_gm, fwhm_gm = _TEXTURE_GM
        edges = sd_edges * smooth_noise(rng, (2, *shape), fwhm_edges / spacing)
        gm = sd_gm * smooth_noise(rng, (1, *shape), fwhm_gm / spacing)
        return torch.from_numpy(np.concatenate([edges[:1], gm, edges[1:]]))

    def _sample(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Sample the base.

        Args:
            where: (3, x, y, z) positions in the base (mm).

        Returns:
            (X, Y, Z) bool, the voxels near the head, and (6, V) logits and texture there.
        """
        near = sample(self._near_head, where, self.base.grid) > 0.01
        if self._warp_factor > 1:
            where = F.interpolate(where[None], scale_factor=self._warp_factor, mode="trilinear")[0]
            near = near.repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
        inside = near[0]
        return inside, sample(self._stack, where[:, inside], self.base.grid)
