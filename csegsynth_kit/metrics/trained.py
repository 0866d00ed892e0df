"""Opt-in extractors with published weights: the only ones whose distances may be called FID.

Weights come from a local path, or are fetched by ``download=folder``; never on import. Their
SHA-256 is in the passport. None was trained on tissue maps.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import ResNetFeatures
from torch import Tensor, nn

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, SegmentationMaps
from csegsynth_kit.metrics.extractors import batched, require_same_box
from csegsynth_kit.metrics.inception import InceptionV3
from csegsynth_kit.metrics.resnet2d import ResNet50, renamed
from csegsynth_kit.metrics.weights import Weights, download_weights, load_into, read_weights

#: Axes orthogonal to the three views.
VIEWS = ("sagittal", "coronal", "axial")
#: Gray values of WM, GM and CSF in the image that a network for T1-weighted scans is shown.
_PSEUDO_T1 = (1.0, 0.66, 0.2)
#: Mean that the weights converted from Keras expect to be subtracted, blue first.
_BGR_MEAN = (0.406, 0.456, 0.485)


class TrainedExtractor:
    """Maps to features of a frozen published network; nothing is fitted but the grid.

    Args:
        name: As in tables.
        published: Under which name distances are printed.
        weights: Where the network's tensors come from.
        run: From (n, T, X, Y, Z) maps to (n, S, D) features.
        options: What else the passport must hold.
    """

    def __init__(
        self,
        name: str,
        published: Literal["2D-FID", "3D-FID"],
        weights: Weights,
        run: Callable[[Tensor], Tensor],
        options: dict,
    ):
        self.name, self.published = name, published
        self.dim = options["dim"]
        self._weights, self._run, self._options = weights, run, options
        self._grid: Grid | None = None

    def fit(self, train: SegmentationMaps) -> Self:
        """Remember the grid; features are used as they are, as published distances do."""
        self._grid = train.grid
        return self

    def features(self, maps: SegmentationMaps) -> np.ndarray:
        """Return (S, N, D): three views for 2D networks, one space for 3D networks."""
        require_same_box(self._grid, maps, self.name)
        with torch.inference_mode():
            return batched(self._run, maps, size=8).swapaxes(0, 1)

    @property
    def passport(self) -> dict:
        """Name, file and SHA-256 of the weights, and how maps become images."""
        identity = {"file": self._weights.file, "hash": self._weights.sha256}
        return {"extractor": self.name, **identity, **self._options}


def inception2d(
    *, path: Path | str | None = None, download: Path | str | None = None
) -> TrainedExtractor:
    """Inception-v3 of the original FID, on center slices with the tissues as colors.

    Args:
        path: The weight file of pytorch-fid (``pt_inception-2015-12-05-*.pth``).
        download: Folder to fetch it to instead.
    """
    weights = _weights("inception2d", path, download)
    network = load_into(InceptionV3(), weights, ignore=("fc.", "AuxLogits."))

    def run(maps: Tensor) -> Tensor:
        return _in_views(network, maps, 299, lambda colors: 2 * colors - 1)

    options = {"dim": 2048, "views": list(VIEWS), "input": "center slices, tissues as RGB, 299"}
    return TrainedExtractor("inception2d", "2D-FID", weights, run, options)


def radimagenet2d(*, path: Path | str) -> TrainedExtractor:
    """ResNet-50 of RadImageNet (Mei et al., 2022), on center slices with tissues as colors.

    Args:
        path: ``ResNet50.pt`` of its authors, or ``RadImageNet-ResNet50_notop.pth`` as converted
            from Keras. They are handed out on request, so there is no address to fetch.
    """
    found = read_weights(path)
    weights = Weights(renamed(found.tensors), found.sha256, found.file)
    keras = "conv1.bias" in weights.tensors
    network = load_into(ResNet50(keras=keras), weights, ignore=("fc.",))
    mean = torch.tensor(_BGR_MEAN)[:, None, None]

    def scale(colors: Tensor) -> Tensor:
        return colors.flip(1) - mean if keras else 2 * colors - 1

    def run(maps: Tensor) -> Tensor:
        return _in_views(network, maps, 224, scale)

    layout = "keras" if keras else "torchvision"
    options = {"dim": 2048, "views": list(VIEWS), "input": "center slices, tissues as RGB, 224"}
    return TrainedExtractor("radimagenet2d", "2D-FID", weights, run, options | {"layout": layout})


def medicalnet(
    *, path: Path | str | None = None, download: Path | str | None = None, depth: int = 50
) -> TrainedExtractor:
    """3D ResNet of MedicalNet (Chen et al., 2019, arXiv 1904.00625), on a T1-like image.

    Args:
        path: A weight file of MedicalNet, such as ``resnet_50_23dataset.pth``.
        download: Folder to fetch it to instead.
        depth: 10, 18, 34 or 50 layers.
    """
    if depth not in (10, 18, 34, 50):
        raise ConfigError(f"there is no MedicalNet of depth {depth}", "Choose 10, 18, 34 or 50.")
    weights = _weights("medicalnet", path, download, depth=str(depth), suffix="_23dataset")
    network = ResNetFeatures(f"resnet{depth}", pretrained=False, spatial_dims=3, in_channels=1)
    network = load_into(network, weights, ignore=("conv_seg.", "fc."))

    def run(maps: Tensor) -> Tensor:
        return network(pseudo_t1(maps))[-1].mean((2, 3, 4))[:, None]

    options = {"dim": 2048 if depth == 50 else 512, "depth": depth, "input": "pseudo-T1, z-scored"}
    return TrainedExtractor("medicalnet", "3D-FID", weights, run, options)


def pseudo_t1(maps: Tensor) -> Tensor:
    """Return (N, 1, X, Y, Z) T1-like images of (N, T, X, Y, Z) maps, each z-scored."""
    values = torch.tensor(_PSEUDO_T1, dtype=maps.dtype)
    image = torch.einsum("ntxyz,t->nxyz", maps[:, : len(MEASURED)], values)[:, None]
    mean = image.mean((2, 3, 4), keepdim=True)
    return (image - mean) / image.std((2, 3, 4), keepdim=True).clamp(min=1e-6)


def center_slices(maps: Tensor, *, size: int) -> list[Tensor]:
    """Middle slices of three views as square color images.

    Args:
        maps: (N, T, X, Y, Z) shares.
        size: Edge of the images (pixels).

    Returns:
        For each of :data:`VIEWS`, (N, 3, size, size) in [0, 1]: WM red, GM green, CSF blue. The
        aspect ratio is not kept.
    """
    colors = maps[:, : len(MEASURED)]
    slices = [colors.select(axis, colors.shape[axis] // 2) for axis in (2, 3, 4)]
    return [F.interpolate(s, (size, size), mode="bilinear", align_corners=False) for s in slices]


def _in_views(
    network: nn.Module, maps: Tensor, size: int, scale: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return (N, 3, D) features of the three views."""
    views = center_slices(maps, size=size)
    return torch.stack([network(scale(view)) for view in views], dim=1)


def _weights(
    name: str, path: Path | str | None, download: Path | str | None, **parts: str
) -> Weights:
    if (path is None) == (download is None):
        raise ConfigError(
            f"'{name}' needs published weights, and nothing is fetched unasked",
            "Give path= of the weight file, or download= of a folder to fetch it to.",
        )
    return read_weights(download_weights(name, download, **parts) if path is None else path)
