"""Weights in a few megabytes: half precision, and 8-bit steps where matrices are large.

A large matrix is stored along its longer side, row by row, as whole steps from -127 to 127 of a
width of its own per row. Rows in which nothing reaches a thousandth of what the largest row has
are left out, and so are columns of zeros, which are code entries not in use. Templates, component
scores and mean maps are stored relative to the background, whose rows vanish with it, and
templates only where training maps differ at all: elsewhere they hold what an optimizer strays.
What this costs is measured with every packing; see ``benchmarks/packaged_weights.py``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.errors import RunError

#: Matrices with more numbers than this are stored in steps.
_LARGE = 200_000
_STEPS = 127
#: Rows below this part of the largest row are 0.
_NEGLIGIBLE = 1e-3
_TEMPLATES, _AXES = "templates.weight", ".axes"
#: Matrices with one block of rows, or of columns, per tissue. Adding the same to all tissues of
#: a voxel changes nothing: templates end in a softmax, scores read logarithms that sum to 0.
_BY_TISSUE = (_TEMPLATES, _AXES)
#: Mean maps (1, T, X, Y, Z), which end in a softmax as well.
_MEANS = ("fine_mean", "coarse_mean")
_HALF_MAX = torch.finfo(torch.float16).max


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store tensors by name in less space; :func:`unpack` inverts it but for rounding.

    Raises:
        RunError: for numbers that half precision cannot hold.
    """
    packed: dict[str, Tensor] = {}
    varying = [_in_use(t) for name, t in tensors.items() if name.endswith(_AXES)]
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            packed[f"{name}/plain"] = tensor
        elif tensor.ndim == 2 and tensor.numel() > _LARGE:
            matrix = tensor.float()
            if name.endswith(_TEMPLATES) and varying:
                matrix = matrix * varying[0][:, None]
            if name.endswith(_BY_TISSUE):
                matrix = _relative_to_background(matrix)
            packed |= {f"{name}/{part}": t for part, t in _in_steps(matrix).items()}
        elif name.endswith(_MEANS):
            packed[f"{name}/relative"] = (tensor - tensor[:, -1:])[:, :-1].half()
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
        elif kind == "relative":
            tensors[name] = torch.cat([tensor.float(), torch.zeros_like(tensor[:, :1]).float()], 1)
        elif kind == "steps":
            parts = ("width", "rows", "columns", "shape")
            tensors[name] = _from_steps(tensor, *(packed[f"{name}/{part}"] for part in parts))
    return tensors


def _in_use(axes: Tensor) -> Tensor:
    """Tell which columns of (L, T * voxels) component scores read anything."""
    size = axes.abs().amax(0)
    return size > _NEGLIGIBLE * size.max()


def _relative_to_background(matrix: Tensor) -> Tensor:
    """Subtract the block of the background, the last one along the longer side, from all."""
    long = 0 if matrix.shape[0] >= matrix.shape[1] else 1
    blocks = matrix.unflatten(long, (len(TISSUES), -1))
    return (blocks - blocks.narrow(long, len(TISSUES) - 1, 1)).flatten(long, long + 1)


def _in_steps(matrix: Tensor) -> dict[str, Tensor]:
    """Take a matrix apart into steps, their widths, the rows and columns that count, its shape."""
    rows = _long_side_first(matrix)
    largest = rows.abs().amax(1)
    kept = (largest > _NEGLIGIBLE * largest.max()).nonzero().squeeze(1)
    columns = rows.any(0).nonzero().squeeze(1)
    width = largest[kept] / _STEPS
    return {
        "steps": (rows[kept][:, columns] / width[:, None]).round().to(torch.int8),
        "width": width,
        "rows": kept.to(torch.int32),
        "columns": columns.to(torch.int32),
        "shape": torch.tensor(matrix.shape),
    }


def _from_steps(
    steps: Tensor, width: Tensor, rows: Tensor, columns: Tensor, shape: Tensor
) -> Tensor:
    height, breadth = shape.tolist()
    found = torch.zeros(max(height, breadth), min(height, breadth))
    found[rows.long()[:, None], columns.long()] = steps.float() * width[:, None]
    return found if height >= breadth else found.T.contiguous()


def _long_side_first(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
