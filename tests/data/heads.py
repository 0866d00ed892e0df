"""Small heads to write in every layout: the template at coarse voxels, life-sized."""

import hashlib
import json
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from csegsynth_kit.data.template import template_maps

#: The template is an average of normalized heads, larger than a real one. At this size, pooled
#: voxels are a third of the 8 mm grid's, so that preparing without alignment need not resample.
SIZE = 8 / 9
POOL = (3, 3, 3)
#: Files written before, by content: writing the same head again is copying.
_WRITTEN: dict[str, bytes] = {}


@cache
def head(growth: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A life-sized head with voxels of 2.67 mm and right-anterior-superior axes.

    Args:
        growth: Width relative to the usual head, so that heads differ.

    Returns:
        (3, 66, 78, 70) float32 WM, GM, CSF, and the (4, 4) affine.
    """
    maps, affine = template_maps()
    before = np.array([1, 0, 21])  # Room below, which the template lacks.
    maps = np.pad(maps, [(0, 0), (1, 0), (0, 1), (21, 0)])
    shape = [n // f for n, f in zip(maps.shape[1:], POOL, strict=True)]
    blocks = maps.reshape(3, shape[0], POOL[0], shape[1], POOL[1], shape[2], POOL[2])
    pooled = blocks.mean(axis=(2, 4, 6))
    pooled_affine = np.diag([*(np.array(POOL) * SIZE), 1.0])
    pooled_affine[0, 0] *= growth
    first = (np.array(POOL) - 1) / 2 - before
    pooled_affine[:3, 3] = (affine[:3, 3] + first) * SIZE + [3.0, -5.0, 7.0]
    # The template's rim of CSF is one voxel thin; a real brain mask is wider.
    rim = gaussian_filter(pooled.sum(axis=0), 0.6) - pooled.sum(axis=0)
    pooled[2] += np.clip(rim, 0, 1 - pooled.sum(axis=0))
    return pooled.astype(np.float32), pooled_affine


def label_head(*, outer: bool = True, growth: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The same head as FreeSurfer labels, left and right told apart.

    Args:
        outer: Label CSF around the brain (24), as SynthSeg does and aseg does not.
        growth: As in :func:`head`.

    Returns:
        (66, 78, 70) int32 labels, and the (4, 4) affine.
    """
    tissues, affine = head(growth)
    best = np.concatenate([tissues, 1 - tissues.sum(axis=0, keepdims=True)]).argmax(axis=0)
    middle = int(np.average(np.arange(best.shape[0]), weights=tissues.sum(axis=(0, 2, 3))))
    left = np.broadcast_to((np.arange(best.shape[0]) < middle)[:, None, None], best.shape)
    labels = np.select(
        [best == 0, best == 1, best == 2],
        [np.where(left, 2, 41), np.where(left, 3, 42), np.full(best.shape, 24)],
        0,
    )
    ventricles = np.zeros(best.shape, bool)
    ventricles[27:39, 34:54, 34:44] = True
    labels[(labels == 24) & ventricles] = 4
    # Coarse voxels lose thin CSF: a layer of one voxel around the brain stands for it.
    labels[(labels == 0) & binary_dilation(best < 3)] = 24
    if not outer:
        labels[labels == 24] = 0
    return labels.astype(np.int32), affine


def save(path: Path, data: np.ndarray, affine: np.ndarray, axes: str = "LAS") -> Path:
    """Write an image with the given axes, which need not be those of ``data`` (RAS)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffixes = path.name[path.name.index(".") :]
    what = [data.tobytes(), affine.tobytes(), f"{data.dtype}{data.shape}{axes}{suffixes}".encode()]
    key = hashlib.sha256(b"".join(what)).hexdigest()
    if key not in _WRITTEN:
        _write(path, data, affine, axes)
        _WRITTEN[key] = path.read_bytes()
    path.write_bytes(_WRITTEN[key])
    return path


def _write(path: Path, data: np.ndarray, affine: np.ndarray, axes: str) -> None:
    image = nib.Nifti1Image(data, affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes)
    )
    image = image.as_reoriented(turn)
    if path.suffix == ".mgz":
        image = nib.MGHImage(np.asanyarray(image.dataobj), image.affine)
    else:
        image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write_fast(folder: Path, participant: str, tissues=None, affine=None, **options) -> list[Path]:
    """Write CSF, GM, WM as pve_0, 1, 2 in a flat folder."""
    tissues, affine = _default(tissues, affine)
    return [
        save(folder / f"{participant}_pve_{number}.nii.gz", tissues[t], affine, **options)
        for number, t in enumerate((2, 1, 0))
    ]


def write_probseg(
    folder: Path, participant: str, tissues=None, affine=None, *, prefix: str = "", **options
) -> dict[str, Path]:
    """Write fMRIPrep's probseg maps; ``prefix`` holds further entities such as ``_ses-1``."""
    tissues, affine = _default(tissues, affine)
    anat = folder / participant / "anat"
    return {
        tissue: save(
            anat / f"{participant}{prefix}_label-{tissue}_probseg.nii.gz",
            tissues[t],
            affine,
            **options,
        )
        for t, tissue in enumerate(("WM", "GM", "CSF"))
    }


def write_dseg(folder: Path, participant: str, *, values=(2, 1, 3), prefix: str = "") -> Path:
    """Write labels of WM, GM, CSF as ``values`` (BIDS: 2, 1, 3)."""
    tissues, affine = head()
    best = np.concatenate([tissues, 1 - tissues.sum(axis=0, keepdims=True)]).argmax(axis=0)
    labels = np.array([*values, 0], np.uint8)[best]
    labels[(best == 3) & binary_dilation(best < 3)] = values[2]
    return save(
        folder / participant / "anat" / f"{participant}{prefix}_dseg.nii.gz", labels, affine
    )


def write_synthseg(folder: Path, participant: str, labels=None, affine=None, **options) -> Path:
    """Write a flat SynthSeg map."""
    if labels is None:
        labels, affine = label_head(**options)
    return save(folder / f"{participant}_synthseg.nii.gz", labels, affine, "LIA")


def write_aseg(folder: Path, participant: str, labels=None, affine=None, name="aseg.mgz") -> Path:
    """Write FreeSurfer's aseg in a subjects folder."""
    if labels is None:
        labels, affine = label_head(outer=False)
    return save(folder / participant / "mri" / name, labels, affine, "LIA")


def write_table(path: Path, ids: list[str], described: dict | None = None, **columns) -> Path:
    """Write a BIDS table with ``age`` and ``sex`` unless other columns are given."""
    columns = columns or {
        "age": [20 + 3 * i for i in range(len(ids))],
        "sex": ["F" if i % 2 else "M" for i in range(len(ids))],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ["\t".join(["participant_id", *columns])]
    rows += ["\t".join(map(str, row)) for row in zip(ids, *columns.values(), strict=True)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    if described is not None:
        path.with_suffix(".json").write_text(json.dumps(described), encoding="utf-8")
    return path


def _default(tissues, affine):
    default, default_affine = head()
    return (default if tissues is None else tissues), (default_affine if affine is None else affine)
