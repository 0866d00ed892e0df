"""Weights in a few megabytes: half precision, and 8-bit steps where matrices are large.

A large matrix is stored along its longer side, row by row, as whole steps from -127 to 127 of a
width of its own per row; further axes, as of convolutions, are put one after the other first. Rows
in which nothing reaches a thousandth of what the largest row has are left out, and so are columns
of zeros, which are code entries not in use; one bit each tells which are there. Templates,
component scores and mean maps are stored relative to the background, whose rows vanish with it,
and templates only where training maps differ at all: elsewhere they hold what an optimizer strays.
Mean maps are one constant outside the head, and offsets of component scores make up for what
rounding takes from the scores of the mean map.
What this costs is measured with every packing; see ``benchmarks/packaged_weights.py``.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.errors import RunError

#: Matrices with more numbers than this are stored in steps, if rows are so long that a width
#: of their own is worth its space.
_LARGE, _LONG = 20_000, 16
_STEPS = 127
#: Rows below this part of the largest row are 0.
_NEGLIGIBLE = 1e-3
_TEMPLATES, _AXES, _OFFSET = "templates.weight", ".axes", ".offset"
#: Components of patches (patches, channels, T * voxels), which are added to logits, and read
#: logarithms, too.
_PATCHES = "components.axes"
#: Matrices with one block of rows, or of columns, per tissue. Adding the same to all tissues of
#: a voxel changes nothing: templates end in a softmax, scores read logarithms that sum to 0.
_BY_TISSUE = (_TEMPLATES, _AXES)
#: Mean maps (1, T, X, Y, Z), which end in a softmax as well.
_MEANS = ("fine_mean", "coarse_mean")
#: Voxels of mean maps are outside the head where all logits are this close to the constant.
_ALIKE = 0.02
_HALF_MAX = torch.finfo(torch.float16).max


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store tensors by name in less space; :func:`unpack` inverts it but for rounding.

    Raises:
        RunError: for numbers that half precision cannot hold.
    """
    packed: dict[str, Tensor] = {}
    tensors = {**tensors, **_moved_offsets(tensors)}
    # C-LDM has neither, and its axes are of patches or of noise: no side of theirs has blocks.
    by_tissue = any(name.endswith((_TEMPLATES, *_MEANS)) for name in tensors)
    varying = [_in_use(t) for name, t in tensors.items() if by_tissue and name.endswith(_AXES)]
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            packed[f"{name}/plain"] = tensor
        elif _in_large_matrix(tensor):
            matrix = tensor.float().reshape(_sides(tensor.shape))
            if name.endswith(_TEMPLATES) and varying:
                matrix = matrix * varying[0][:, None]
            if by_tissue and name.endswith(_BY_TISSUE):
                matrix = _relative_to_background(matrix, _long_side(matrix))
            if tensor.ndim == 3 and name.endswith(_PATCHES):
                matrix = _relative_to_background(matrix, side=1)
            packed |= {f"{name}/{part}": t for part, t in _in_steps(matrix).items()}
            packed[f"{name}/shape"] = torch.tensor(tensor.shape)
        elif name.endswith(_MEANS):
            packed |= {f"{name}/{part}": t for part, t in _inside(tensor).items()}
        elif tensor.abs().max() > _HALF_MAX:
            raise RunError(
                f"tensor {name} reaches {float(tensor.abs().max()):.3g}, beyond half precision",
                "Give these weights away as they are (best.safetensors).",
            )
        else:
            packed[f"{name}/half"] = tensor.half()
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what :func:`pack` was given, floating-point numbers in single precision."""
    tensors: dict[str, Tensor] = {}
    for key, tensor in packed.items():
        name, kind = key.rsplit("/", 1)
        if kind == "plain":
            tensors[name] = tensor
        elif kind == "half":
            tensors[name] = tensor.float()
        elif kind == "inside":
            parts = ("outside", "voxels", "shape")
            tensors[name] = _from_inside(tensor, *(packed[f"{name}/{part}"] for part in parts))
        elif kind == "steps":
            parts = ("width", "largest", "rows", "columns", "shape")
            tensors[name] = _from_steps(tensor, *(packed[f"{name}/{part}"] for part in parts))
    return tensors


def _in_use(axes: Tensor) -> Tensor:
    """Tell which columns of (L, T * voxels) component scores read anything."""
    size = axes.abs().amax(0)
    return size > _NEGLIGIBLE * size.max()


def _moved_offsets(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Offsets (L,) with which the mean map keeps its scores when axes are rounded."""
    means = [mean for name, mean in tensors.items() if name.endswith("coarse_mean")]
    moved: dict[str, Tensor] = {}
    for name, axes in tensors.items():
        offset = name.removesuffix(_AXES) + _OFFSET
        if means and name.endswith(_AXES) and offset in tensors and _in_large_matrix(axes):
            exact = _relative_to_background(axes.float(), _long_side(axes))
            lost = exact - _from_steps(**_in_steps(exact))
            moved[offset] = tensors[offset] + lost @ means[0].float().flatten()
    return moved


def _in_large_matrix(tensor: Tensor) -> bool:
    return tensor.ndim >= 2 and tensor.numel() > _LARGE and min(_sides(tensor.shape)) >= _LONG


def _relative_to_background(matrix: Tensor, side: int) -> Tensor:
    """Subtract the block of the background, the last one along a side, from all."""
    blocks = matrix.unflatten(side, (len(TISSUES), -1))
    return (blocks - blocks.narrow(side, len(TISSUES) - 1, 1)).flatten(side, side + 1)


def _inside(mean: Tensor) -> dict[str, Tensor]:
    """Take a mean map (1, T, X, Y, Z) apart into logits inside the head and those outside.

    The median finds the constant, as most voxels are outside. What is stored is the mean over
    them: shares of tissues are tiny there, but over so many voxels they add up to milliliters.
    """
    relative = (mean.float() - mean[:, -1:].float())[0, :-1].flatten(1)
    middle = relative.median(1, keepdim=True).values
    voxels = ((relative - middle).abs() > _ALIKE).any(0)
    return {
        "inside": relative[:, voxels].half(),
        "outside": relative[:, ~voxels].mean(1).nan_to_num(),  # there may be none
        "voxels": _bits(voxels),
        "shape": torch.tensor(mean.shape),
    }


def _from_inside(inside: Tensor, outside: Tensor, voxels: Tensor, shape: Tensor) -> Tensor:
    _, tissues, *space = shape.tolist()
    found = torch.zeros(tissues, math.prod(space))
    found[:-1] = outside[:, None]
    found[:-1, _mask(voxels, found.shape[1])] = inside.float()
    return found.reshape(*shape.tolist())


def _in_steps(matrix: Tensor) -> dict[str, Tensor]:
    """Take a matrix apart into steps, their widths, the rows and columns that count, its shape."""
    rows = _long_side_first(matrix)
    size = rows.abs().amax(1)
    largest = size.max()
    kept = size > _NEGLIGIBLE * largest
    columns = rows.any(0)
    width = (size[kept] / largest).half()
    steps = rows[kept][:, columns] / _widths(width, largest)
    return {
        "steps": steps.round().to(torch.int8),
        "width": width,
        "largest": largest,
        "rows": _bits(kept),
        "columns": _bits(columns),
        "shape": torch.tensor(matrix.shape),
    }


def _from_steps(
    steps: Tensor, width: Tensor, largest: Tensor, rows: Tensor, columns: Tensor, shape: Tensor
) -> Tensor:
    height, breadth = _sides(shape.tolist())
    found = torch.zeros(max(height, breadth), min(height, breadth))
    kept, used = (
        _mask(bits, n).nonzero().squeeze(1)
        for bits, n in zip((rows, columns), found.shape, strict=True)
    )
    found[kept[:, None], used] = steps.float() * _widths(width, largest)
    matrix = found if height >= breadth else found.T
    return matrix.reshape(shape.tolist())


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    """Sides of the matrix in which a tensor of two or more axes is stored."""
    if len(shape) == 2:
        return shape[0], shape[1]
    return shape[0] * shape[1], math.prod(shape[2:])


def _widths(width: Tensor, largest: Tensor) -> Tensor:
    """Widths (rows, 1) of steps, from half-precision parts of the largest row's."""
    return width.float()[:, None] * (largest / _STEPS)


def _bits(mask: Tensor) -> Tensor:
    """Put a mask (n,) into bytes (n / 8,); :func:`_mask` inverts it."""
    return torch.from_numpy(np.packbits(mask.numpy()))


def _mask(bits: Tensor, count: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count)).bool()


def _long_side(matrix: Tensor) -> int:
    return 0 if matrix.shape[0] >= matrix.shape[1] else 1


def _long_side_first(matrix: Tensor) -> Tensor:
    return matrix.T if _long_side(matrix) else matrix
