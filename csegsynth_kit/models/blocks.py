"""Building blocks of the 3D networks."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csegsynth_kit.models.depthwise import depthwise

KERNEL = (3, 5, 5)
PADDING = (1, 2, 2)


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each voxel of (N, C, X, Y, Z)."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, channel norm, four-fold MLP, small learned scale, plus the input.

    The published residual block: 8 d^2 + 84 d parameters.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv3d(channels, channels, KERNEL, padding=PADDING, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.reduce = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, X, Y, Z) to the same shape."""
        y = (
            depthwise(x, self.depthwise.weight, x.shape[1])
            + self.depthwise.bias[:, None, None, None]
        )
        y = self.norm(y.movedim(1, -1))
        y = self.scale * self.reduce(F.gelu(self.expand(y)))
        return x + y.movedim(-1, 1)


class GroupedConv(nn.Conv3d):
    """Grouped convolution with one input or one output channel per group, computed depthwise.

    Either is exactly a depthwise convolution with the same weights, whose input channels are
    read several times or whose outputs are summed.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        groups = min(channels_in, channels_out)
        super().__init__(
            channels_in, channels_out, KERNEL, stride=stride, padding=PADDING, groups=groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, X, Y, Z) to (N, C_out, X / stride, Y / stride, Z / stride)."""
        y = depthwise(x, self.weight.reshape(-1, 1, *KERNEL), self.out_channels, self.stride[0])
        return y + self.bias[:, None, None, None]


class Pointwise(nn.Conv3d):
    """Convolution of single voxels, computed as the matrix product that it is.

    On CPUs PyTorch's gradients of such convolutions take several times as long. The initial
    weights are those of the convolution.
    """

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, X, Y, Z), channels last in memory, to (N, C_out, X, Y, Z), likewise."""
        return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Channel norm, GELU, dense 3x3x3 convolution that starts small, plus the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.conv.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, X, Y, Z) to the same shape."""
        return x + self.conv(F.gelu(self.norm(x)))


def shuffle_up(x: Tensor, factor: int = 2) -> Tensor:
    """Rearrange (N, f^3 C, X, Y, Z) into (N, C, f X, f Y, f Z)."""
    return _ShuffleUp.apply(x, factor)


class _ShuffleUp(torch.autograd.Function):
    """Passes gradients on with channels last in memory, which spares a copy of them."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        n, c, *size = x.shape
        x = x.reshape(n, c // factor**3, factor, factor, factor, *size)
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(n, c // factor**3, *(factor * s for s in size))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return shuffle_down(gradient, ctx.factor), None


def shuffle_down(x: Tensor, factor: int = 2) -> Tensor:
    """Rearrange (N, C, f X, f Y, f Z) into (N, f^3 C, X, Y, Z); inverts :func:`shuffle_up`.

    Channels come last in memory, as the convolutions that follow want them: one copy, not two.
    """
    n, c, *size = x.shape
    coarse = [s // factor for s in size]
    parts = [part for s in coarse for part in (s, factor)]
    x = x.reshape(n, c, *parts).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.reshape(n, *coarse, factor**3 * c).movedim(-1, 1)


def doubled(x: Tensor) -> Tensor:
    """Interpolate (N, C, X, Y, Z) trilinearly to (N, C, 2 X, 2 Y, 2 Z).

    As one matrix product per axis, which takes a fraction of the time that
    ``F.interpolate(x, scale_factor=2, mode="trilinear")`` takes on CPUs.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    along_x, along_y, along_z = (_doubling(length, x) for length in x.shape[2:])
    with torch.autocast(x.device.type, enabled=False):  # as exact as interpolation is
        x = along_y @ (x @ along_z.T)
        return (along_x @ x.flatten(3)).unflatten(3, x.shape[3:])


def _doubling(length: int, like: Tensor) -> Tensor:
    """Weights (2 n, n) of n voxels in what lies between them, the border repeated beyond it."""
    unit = torch.eye(length, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(unit, scale_factor=2, mode="linear")[0].T


def pad_to(x: Tensor, divisor: int) -> Tensor:
    """Pad (N, C, X, Y, Z) with zeros, on both sides, until ``divisor`` divides X, Y and Z."""
    missing = [-n % divisor for n in reversed(x.shape[-3:])]
    return F.pad(x, [p for m in missing for p in (m // 2, m - m // 2)])


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Cut the middle of the given (X, Y, Z) size out; inverts :func:`pad_to`."""
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, (x.shape[axis] - n) // 2, n)
    return x


def mlp(*widths: int, activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
    """Linear layers of these widths with an activation between them."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [nn.Linear(width_in, width_out), activation()]
    return nn.Sequential(*layers[:-1])
