"""Images in and out: read into right-anterior-superior axes, write atomically.

Every reason why a file cannot be used is a MapError that names the file and a remedy.
"""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from csegsynth_kit.errors import MapError

#: Edge lengths (mm) that a voxel of a brain image can have.
POSSIBLE_EDGE_MM = (0.2, 12.0)
#: Fewer voxels than this along an axis is a slice or a thumbnail, not a head.
_FEWEST_VOXELS = 8
#: What nibabel, gzip and numpy raise for files that are damaged or something else.
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    ValueError,
    zlib.error,
    ImageFileError,
    MGHError,
    HeaderDataError,
    HeaderTypeError,
)


@dataclass(frozen=True)
class Image:
    """One volume with right-anterior-superior voxel axes.

    Args:
        path: The file it was read from.
        data: (X, Y, Z) float32 shares or int32 labels.
        affine: (4, 4) from voxel indices to world positions (mm). Oblique axes stay oblique:
            the voxel axes are only flipped and swapped to the nearest anatomical ones.
        remarks: What is odd about the header, as (code, message).
    """

    path: Path
    data: np.ndarray
    affine: np.ndarray
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) edge lengths of a voxel (mm)."""
        return spacing_mm(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel (mL)."""
        return voxel_ml(self.affine)


def spacing_mm(affine: np.ndarray) -> np.ndarray:
    """(3,) edge lengths (mm) of the voxels of a (4, 4) affine."""
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def voxel_ml(affine: np.ndarray) -> float:
    """Volume (mL) of the voxels of a (4, 4) affine."""
    return float(abs(np.linalg.det(affine[:3, :3]))) / 1000.0


def read_image(path: Path | str, *, labels: bool = False) -> Image:
    """Read a ``.nii``, ``.nii.gz`` or ``.mgz`` volume.

    Args:
        path: The file.
        labels: Read whole numbers (int32) instead of shares (float32).

    Raises:
        MapError: if the file is absent, damaged, no image, not one volume, if its header
            gives no usable voxels, or if it holds NaN, infinity or (as labels) fractions.
    """
    path = Path(path)
    image = _open(path)
    affine = _checked_affine(image, path)
    data = _values(image, path, labels)
    orientation = io_orientation(affine)
    data = apply_orientation(data, orientation)
    affine = affine @ inv_ornt_aff(orientation, image.shape[:3])
    return Image(path, data, affine, _remarks(image))


def write_nifti(
    path: Path | str,
    data: np.ndarray,
    affine: np.ndarray,
    *,
    slope: float | None = None,
    description: str = "",
) -> None:
    """Write a volume to a temporary file beside ``path``, then rename it into place.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.
        data: (X, Y, Z), stored in its own dtype.
        affine: (4, 4) from voxel indices to world positions (mm); stored as sform and qform.
        slope: What readers multiply the stored numbers by, for shares kept as integers.
        description: At most 79 characters for the header.
    """
    path = Path(path)
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    image.set_sform(affine, code="aligned")
    image.set_qform(affine, code="aligned")
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    if slope is not None:
        image.header.set_slope_inter(slope, 0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        nib.save(image, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _open(path: Path) -> nib.spatialimages.SpatialImage:
    if not path.exists():
        if path.is_symlink():
            raise MapError(
                "is a link to a file that is not here",
                "Fetch its content first, for example with 'datalad get'.",
                path,
            )
        raise MapError("the file does not exist", "Check the path.", path)
    _refuse_pointer(path)
    try:
        image = nib.load(path)
    except _UNREADABLE as error:
        raise MapError(
            f"cannot be read as an image ({_short(error)})",
            "Copy or download it again; it should be a NIfTI (.nii, .nii.gz) or .mgz file.",
            path,
        ) from error
    shape = tuple(image.shape)
    volumes = int(np.prod(shape[3:])) if len(shape) > 3 else 1
    if len(shape) < 3 or volumes != 1 or min(shape[:3]) < _FEWEST_VOXELS:
        raise MapError(
            f"has shape {tuple(int(n) for n in shape)}, not one three-dimensional volume",
            "Give one map per file, for example split with 'fslsplit'.",
            path,
        )
    return image


def _refuse_pointer(path: Path) -> None:
    """Recognize the small text files that stand for content git keeps elsewhere."""
    if path.stat().st_size > 1024:
        return
    start = path.read_bytes()
    if b"annex/objects" in start or b"git-lfs" in start:
        raise MapError(
            "is a pointer to content that is not here",
            "Fetch it first with 'datalad get', 'git annex get' or 'git lfs pull'.",
            path,
        )


def _checked_affine(image: nib.spatialimages.SpatialImage, path: Path) -> np.ndarray:
    affine = np.asarray(image.affine, dtype=float)
    finite = np.isfinite(affine).all()
    edges = spacing_mm(affine) if finite else np.zeros(3)
    # Zero or parallel columns: the box of a voxel has no volume.
    if not finite or edges.min() == 0 or voxel_ml(affine) * 1000 < 0.05 * edges.prod():
        raise MapError(
            f"its affine is singular (voxel edges {np.round(edges, 4).tolist()} mm)",
            "Repair the header, for example with 'fslorient -copyqform2sform'.",
            path,
        )
    low, high = POSSIBLE_EDGE_MM
    if edges.min() < low or edges.max() > high:
        raise MapError(
            f"has voxels of {' x '.join(f'{e:.4g}' for e in edges)} mm",
            f"Edges should be {low:g} to {high:g} mm; if the header is in meters or centimeters, "
            "rewrite it in millimeters.",
            path,
        )
    return affine


def _values(image: nib.spatialimages.SpatialImage, path: Path, labels: bool) -> np.ndarray:
    if image.get_data_dtype().kind not in "iufb":
        raise MapError(
            f"holds {image.get_data_dtype()} values, not numbers", "Give a scalar image.", path
        )
    try:
        if labels:
            data = np.asanyarray(image.dataobj)
        else:
            data = image.get_fdata(dtype=np.float32, caching="unchanged")
    except _UNREADABLE as error:
        raise MapError(
            f"is damaged or cut short ({_short(error)})",
            "Copy or download it again, or repeat the segmentation.",
            path,
        ) from error
    data = data.reshape(data.shape[:3])
    if data.dtype.kind == "f":
        bad = data.size - int(np.isfinite(data).sum())
        if bad:
            raise MapError(
                f"holds {bad} voxels that are NaN or infinite",
                "Repeat the segmentation, or set them to 0 (for example 'fslmaths -nan').",
                path,
            )
    return _as_labels(data, path) if labels else data


def _as_labels(data: np.ndarray, path: Path) -> np.ndarray:
    if data.dtype.kind == "f":
        whole = np.rint(data)
        if np.abs(whole - data).max() > 1e-3:
            raise MapError(
                "holds fractions, so it is no label map",
                "Resample label maps with nearest neighbors, or give probability maps.",
                path,
            )
        data = whole
    low, high = int(data.min()), int(data.max())
    if low < 0 or high > 99_999:
        raise MapError(
            f"holds labels from {low} to {high}", "Give a map of FreeSurfer or BIDS labels.", path
        )
    return data.astype(np.int32)


def _remarks(image: nib.spatialimages.SpatialImage) -> tuple[tuple[str, str], ...]:
    """Tell what is odd about the header of a file that can nevertheless be read."""
    header, remarks = image.header, []
    if isinstance(image, nib.Nifti1Image):
        units = header.get_xyzt_units()[0]
        if units in ("meter", "micron"):
            remarks.append(
                ("units", f"the header says its positions are in {units}; they are read as mm")
            )
        qform, sform = header.get_qform(coded=True), header.get_sform(coded=True)
        if qform[0] is None and sform[0] is None:
            remarks.append(
                (
                    "no-orientation",
                    "the header has no orientation (sform and qform codes are 0); left and right "
                    "are guessed",
                )
            )
        elif qform[0] is not None and sform[0] is not None and _mirrored(qform[0], sform[0]):
            remarks.append(
                (
                    "mirrored-header",
                    "sform and qform disagree about left and right; the sform is used",
                )
            )
    elif "goodRASFlag" in header and not header["goodRASFlag"]:
        remarks.append(("no-orientation", "the header has no orientation; the default is used"))
    return tuple(remarks)


def _mirrored(a: np.ndarray, b: np.ndarray) -> bool:
    return np.linalg.det(a[:3, :3]) * np.linalg.det(b[:3, :3]) < 0


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
