"""Depthwise convolution against PyTorch's own, values and first and second derivatives."""

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn.functional import conv3d

from csegsynth_kit.models.depthwise import depthwise


def of_torch(x, weight, channels_out, stride):
    groups = min(x.shape[1], channels_out)
    weight = weight.reshape(channels_out, x.shape[1] // groups, *weight.shape[2:])
    return conv3d(x, weight, None, stride, [k // 2 for k in weight.shape[2:]], 1, groups)


def inputs(shape, channels, kernel=(3, 5, 5), dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(*shape, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(channels, 1, *kernel, generator=generator, dtype=dtype)
    return x, weight.requires_grad_()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("shape", "channels_out"),
    [((2, 3, 5, 6, 7), 3), ((1, 4, 3, 4, 4), 4), ((3, 2, 4, 8, 6), 6), ((2, 6, 4, 6, 5), 2)],
)
def test_is_the_convolution_of_torch_with_its_derivatives(shape, channels_out, stride):
    x, weight = inputs(shape, max(shape[1], channels_out))
    both = []
    for convolve in (depthwise, of_torch):
        y = convolve(x, weight, channels_out, stride)
        first = grad((y**3).sum(), (x, weight), create_graph=True)
        penalty = sum((g**2).sum() for g in first)  # as a gradient penalty does
        both.append([y, *first, *grad(penalty, (x, weight))])
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize(("channels_out", "stride"), [(2, 1), (2, 2), (4, 1), (1, 2)])
def test_gradients_are_those_of_finite_differences(channels_out, stride):
    x, weight = inputs((2, 2, 3, 4, 5), max(2, channels_out), kernel=(3, 3, 5))
    assert gradcheck(lambda x, w: depthwise(x, w, channels_out, stride), (x, weight))
    assert gradgradcheck(lambda x, w: depthwise(x, w, channels_out, stride), (x, weight))


def test_under_autocast_only_the_input_is_rounded():
    x, weight = inputs((1, 2, 4, 6, 6), 2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = depthwise(x.bfloat16(), weight, 2)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, of_torch(x.bfloat16().float(), weight, 2, 1))
