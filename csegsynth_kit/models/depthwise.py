"""Grouped 3D convolution whose gradients are forward convolutions, too.

Where every kernel reads one channel, PyTorch computes the gradients of 3D convolutions on CPUs
ten times more slowly than the convolutions themselves, and second derivatives, which gradient
penalties need, channel by channel. Both can be written as forward convolutions: the gradient of
the input convolves with the flipped kernels, and that of the kernels takes the other gradient
as a kernel. The numbers are the same but for rounding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def depthwise(x: Tensor, weight: Tensor, channels_out: int, stride: int = 1) -> Tensor:
    """Convolve channels with one kernel each, padded to keep their size but for the stride.

    Of C kernels, each input channel is read by C / C_in neighboring ones, and C / C_out
    neighboring ones are summed to an output channel.

    Args:
        x: (N, C_in, X, Y, Z).
        weight: (C, 1, KX, KY, KZ), of odd sizes; C is the larger of C_in and C_out.
        channels_out: C_out.
        stride: Along all axes.

    Returns:
        (N, C_out, X / stride, Y / stride, Z / stride), rounded up.
    """
    if x.device.type != "cpu":
        return _convolved(x, weight, channels_out, stride)
    if torch.is_autocast_enabled("cpu"):
        x = x.float()  # In bfloat16, PyTorch's own gradients are slower still.
    with torch.autocast("cpu", enabled=False):
        return _Depthwise.apply(x, weight, channels_out, stride)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, channels_out: int, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolved(_channels_last(x), weight, channels_out, stride)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = _spread_out(gradient, ctx.stride, x.shape[-3:])
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _Depthwise.apply(gradient, weight.flip(2, 3, 4), x.shape[1], 1)
        if ctx.needs_input_grad[1]:
            of_weight = _Correlation.apply(x, gradient, weight.shape[-3:])
        return of_x, of_weight, None, None


class _Correlation(torch.autograd.Function):
    """Products of one image with shifts of another, summed over voxels and samples: kernels."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, kernel: torch.Size) -> Tensor:
        ctx.save_for_backward(x, y)
        n = max(x.shape[1], y.shape[1])
        padding = [k // 2 for k in kernel]
        # Sample by sample, as views: samples as further channels would have to be copied.
        products = [
            F.conv3d(_repeated(a, n), _repeated(b, n).transpose(0, 1), padding=padding, groups=n)
            for a, b in zip(x.split(1), y.split(1), strict=True)
        ]
        return torch.cat(products).sum(0)[:, None]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        of_x = of_y = None
        if ctx.needs_input_grad[0]:
            of_x = _Depthwise.apply(y, gradient.flip(2, 3, 4), x.shape[1], 1)
        if ctx.needs_input_grad[1]:
            of_y = _Depthwise.apply(x, gradient, y.shape[1], 1)
        return of_x, of_y, None


def _convolved(x: Tensor, weight: Tensor, channels_out: int, stride: int) -> Tensor:
    padding = [k // 2 for k in weight.shape[-3:]]
    y = F.conv3d(x, weight, None, stride, padding, 1, x.shape[1])
    return y if y.shape[1] == channels_out else y.unflatten(1, (channels_out, -1)).sum(2)


def _spread_out(gradient: Tensor, stride: int, size: torch.Size) -> Tensor:
    """Put zeros where a stride has left voxels out."""
    if stride == 1:
        return gradient
    whole = _channels_last(gradient.new_zeros(*gradient.shape[:2], *size))
    whole[:, :, ::stride, ::stride, ::stride] = gradient
    return whole


def _repeated(x: Tensor, channels: int) -> Tensor:
    if x.shape[1] == channels:
        return _channels_last(x)
    return _channels_last(x).repeat_interleave(channels // x.shape[1], 1)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)
