"""Removing from label maps of whole heads what is not brain or the CSF around it.

SynthSeg's label 24 follows the spinal canal to the edge of the image and leaves shell-like
fragments along dura and vessels. Removing them takes 10 to 30 mL of CSF off a typical map.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation, binary_opening, generate_binary_structure, label

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.nifti import spacing_mm
from csegsynth_kit.data.readers.base import SubjectMaps, crop
from csegsynth_kit.errors import MapError

#: CSF further below the lowest brain voxel than this is spinal (mm).
_BELOW_BRAIN_MM = 4.0
#: Radius of the opening (mm): structures thinner than 5 to 6 mm disappear.
_OPENING_MM = 2.0
#: Thin structures up to this far from the brain stay: they are subarachnoid space (mm).
_NEAR_BRAIN_MM = 2.0


@dataclass(frozen=True)
class Cleaned:
    """A cleaned map, and what was taken off it.

    Args:
        maps: The maps after cleaning.
        removed_ml: WM, GM and CSF removed (mL).
    """

    maps: SubjectMaps
    removed_ml: tuple[float, float, float]


def clean_labels(maps: SubjectMaps) -> Cleaned:
    """Keep the brain, and the CSF that belongs to it.

    In this order: the largest connected piece of WM and GM is the brain; CSF more than 4 mm
    below it goes; thin structures away from it go; of what remains, the largest connected
    piece stays.

    Args:
        maps: Tissues of 0 and 1, axes within 45 degrees of upright.

    Raises:
        MapError: if there is no brain.
    """
    spacing = spacing_mm(maps.affine)
    csf = maps.tissues[MEASURED.index("CSF")] > 0.5
    brain = _largest(
        (maps.tissues[MEASURED.index("WM")] + maps.tissues[MEASURED.index("GM")]) > 0.5
    )
    lowest = int(np.flatnonzero(brain.any(axis=(0, 1)))[0])
    spinal_below = max(lowest - round(_BELOW_BRAIN_MM / spacing[2]), 0)
    csf[:, :, :spinal_below] = False
    head = brain | csf
    cross = generate_binary_structure(3, 1)
    opened = binary_opening(head, cross, iterations=_steps(_OPENING_MM, spacing))
    near = binary_dilation(brain, cross, iterations=_steps(_NEAR_BRAIN_MM, spacing))
    kept = _largest(opened | (head & near))
    tissues = maps.tissues * kept
    removed = (maps.tissues.sum(axis=(1, 2, 3)) - tissues.sum(axis=(1, 2, 3))) * maps.voxel_ml
    tissues, affine, box = crop(tissues, maps.affine)
    labels = None if maps.labels is None else np.where(kept, maps.labels, 0)[box]
    cleaned = replace(maps, tissues=tissues, affine=affine, labels=labels)
    return Cleaned(cleaned, tuple(float(r) for r in removed))


def _steps(radius_mm: float, spacing: np.ndarray) -> int:
    return max(1, round(radius_mm / float(spacing.mean())))


def _largest(mask: np.ndarray) -> np.ndarray:
    """Keep the largest piece of (X, Y, Z) voxels connected by their faces."""
    pieces, count = label(mask)
    if count == 0:
        raise MapError("there is neither white nor gray matter", "Repeat the segmentation.")
    if count == 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces == sizes.argmax()
