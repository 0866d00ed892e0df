"""A 2D ResNet-50 in the two layouts in which RadImageNet weights are published."""

import torch.nn.functional as F
from torch import Tensor, nn

_WIDTHS, _BLOCKS = (64, 128, 256, 512), (3, 4, 6, 3)


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int, *, keras: bool):
        super().__init__()
        first, second = (stride, 1) if keras else (1, stride)
        eps = 1.001e-5 if keras else 1e-5
        self.conv1 = nn.Conv2d(before, width, 1, first, bias=keras)
        self.bn1 = nn.BatchNorm2d(width, eps=eps)
        self.conv2 = nn.Conv2d(width, width, 3, second, 1, bias=keras)
        self.bn2 = nn.BatchNorm2d(width, eps=eps)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=keras)
        self.bn3 = nn.BatchNorm2d(4 * width, eps=eps)
        self.downsample = None
        if stride != 1 or before != 4 * width:
            shortcut = nn.Conv2d(before, 4 * width, 1, stride, bias=keras)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width, eps=eps))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """Images to 2048 features (He et al., 2016, arXiv 1512.03385).

    Args:
        keras: The layout of weights converted from Keras: convolutions have a bias, and a block
            halves the image in its first convolution. Otherwise torchvision's layout.
    """

    def __init__(self, *, keras: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=keras)
        self.bn1 = nn.BatchNorm2d(64, eps=1.001e-5 if keras else 1e-5)
        before = 64
        for level, (width, blocks) in enumerate(zip(_WIDTHS, _BLOCKS, strict=True), start=1):
            steps = []
            for block in range(blocks):
                stride = 2 if block == 0 and level > 1 else 1
                steps.append(_Bottleneck(before, width, stride, keras=keras))
                before = 4 * width
            setattr(self, f"layer{level}", nn.Sequential(*steps))

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, 2048) pooled features of (N, 3, H, W) images."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        for level in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = level(x)
        return x.mean((2, 3))


#: Places of RadImageNet's PyTorch release, which numbers the layers, and their names here.
NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give ``backbone.4.0.conv1.weight`` and the like the names of :class:`ResNet50`."""
    found = {}
    for name, tensor in tensors.items():
        head, _, rest = name.removeprefix("backbone.").partition(".")
        found[f"{NUMBERED.get(head, head)}.{rest}"] = tensor
    return found
