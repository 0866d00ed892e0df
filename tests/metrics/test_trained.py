import hashlib

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import ResNetFeatures
from monai.networks.nets.resnet import resnet50 as monai_resnet50
from safetensors.torch import save_file

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics import weights
from csegsynth_kit.metrics.extractors import label
from csegsynth_kit.metrics.inception import InceptionV3
from csegsynth_kit.metrics.resnet2d import NUMBERED, ResNet50
from csegsynth_kit.metrics.trained import (
    center_slices,
    inception2d,
    medicalnet,
    pseudo_t1,
    radimagenet2d,
)
from tests.metrics.people import people


@pytest.fixture(scope="module")
def maps():
    return people(3)


def drawn(network: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict of the published names and shapes with drawn values."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.state_dict().items():
        if tensor.dtype != torch.float32:
            state[name] = torch.tensor(1)
        elif name.endswith("running_var"):
            state[name] = torch.rand(tensor.shape, generator=rng) + 0.5
        else:
            fan = tensor[0].numel() if tensor.ndim > 1 else 4
            state[name] = torch.randn(tensor.shape, generator=rng) * (2 / fan) ** 0.5
    return state


def test_inception_has_the_published_tensors():
    state = InceptionV3().state_dict()
    learned = {n: t for n, t in state.items() if n.endswith(("weight", "bias"))}
    assert sum(t.numel() for t in learned.values()) == 23_834_568 - 2048 * 1000 - 1000
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.bn.running_var": (64,),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_inception_pools_as_the_fid_variant_does():
    """Averages leave out the padding; the very last block pools by the maximum."""
    network = InceptionV3().eval()
    network.load_state_dict(drawn(network))
    padded_average = torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    pools = {"Mixed_5b": padded_average, "Mixed_6c": padded_average, "Mixed_7b": padded_average}
    pools["Mixed_7c"] = torch.nn.MaxPool2d(3, 1, 1)
    channels = {"Mixed_5b": 192, "Mixed_6c": 768, "Mixed_7b": 1280, "Mixed_7c": 2048}
    for name, pool in pools.items():
        block = getattr(network, name)
        x = torch.rand(1, channels[name], 8, 8, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            expected = block.branch_pool(pool(x))
            torch.testing.assert_close(block(x)[:, -expected.shape[1] :], expected)


def test_inception2d_from_a_file_of_the_published_form(tmp_path, maps):
    state = drawn(InceptionV3())
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(state, path)
    extractor = inception2d(path=path).fit(maps)
    features = extractor.features(maps)
    assert features.shape == (3, 3, 2048)
    assert label(extractor) == "2D-FID (inception2d)"
    assert extractor.passport["hash"] == hashlib.sha256(path.read_bytes()).hexdigest()
    network = InceptionV3().eval()
    network.load_state_dict({n: t for n, t in state.items() if not n.startswith("fc.")})
    axial = torch.nn.functional.interpolate(
        maps.probabilities[:, :3, :, :, 7], (299, 299), mode="bilinear", align_corners=False
    )
    with torch.no_grad():
        np.testing.assert_allclose(features[2], network(2 * axial - 1), rtol=1e-3, atol=1e-4)


def test_resnet50_equals_monais_with_the_same_tensors():
    """MONAI's 2D network has torchvision's names and layout, but not the Keras one."""
    ours = ResNet50().eval()
    theirs = monai_resnet50(
        spatial_dims=2,
        n_input_channels=3,
        feed_forward=False,
        bias_downsample=False,
        conv1_t_stride=2,
    ).eval()
    state = drawn(ours)
    ours.load_state_dict(state)
    theirs.load_state_dict(state)
    images = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in ours.parameters()) == 25_557_032 - 2048 * 1000 - 1000


def test_radimagenet2d_reads_both_published_layouts(tmp_path, maps):
    places = {name: place for place, name in NUMBERED.items()}
    numbered = {}
    for name, tensor in drawn(ResNet50()).items():
        head, rest = name.split(".", 1)
        numbered[f"backbone.{places[head]}.{rest}"] = tensor
    torch.save(numbered, tmp_path / "ResNet50.pt")
    save_file(drawn(ResNet50(keras=True)), tmp_path / "notop.safetensors")
    for file, layout in (("ResNet50.pt", "torchvision"), ("notop.safetensors", "keras")):
        extractor = radimagenet2d(path=tmp_path / file).fit(maps)
        assert extractor.passport["layout"] == layout
        assert extractor.features(maps).shape == (3, 3, 2048)
        assert label(extractor, 20) == "Frechet distance (radimagenet2d, PCA 20)"


@pytest.mark.parametrize("depth", [10, 18])
def test_medicalnet_reads_the_files_of_its_authors(tmp_path, maps, depth):
    network = ResNetFeatures(f"resnet{depth}", pretrained=False)
    state = {f"module.{name}": tensor for name, tensor in drawn(network).items()}
    torch.save({"state_dict": state}, tmp_path / "resnet.pth")
    extractor = medicalnet(path=tmp_path / "resnet.pth", depth=depth).fit(maps)
    assert extractor.features(maps).shape == (1, 3, 512)
    assert label(extractor) == "3D-FID (medicalnet)"
    with pytest.raises(ConfigError, match="does not fit the network"):
        medicalnet(path=tmp_path / "resnet.pth", depth=34)


def test_incomplete_or_foreign_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no weight file"):
        inception2d(path=tmp_path / "missing.pth")
    (tmp_path / "broken.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(ConfigError, match="no readable file"):
        inception2d(path=tmp_path / "broken.pth")
    torch.save({"state_dict": {}, "code": print}, tmp_path / "code.pth")
    with pytest.raises(ConfigError, match="pickled code are refused"):
        inception2d(path=tmp_path / "code.pth")
    state = drawn(InceptionV3())
    del state["Mixed_6c.branch7x7_2.bn.running_mean"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ConfigError, match="1 tensors are missing"):
        inception2d(path=tmp_path / "part.pth")


def test_nothing_is_fetched_unless_asked(tmp_path, monkeypatch):
    fetched = []

    def fetch(url, target, hash_prefix, progress):
        fetched.append((url, hash_prefix, progress))
        torch.save(drawn(InceptionV3()), target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(ConfigError, match="nothing is fetched unasked"):
        inception2d()
    with pytest.raises(ConfigError, match="nothing is fetched unasked"):
        inception2d(path="a.pth", download=tmp_path)
    assert fetched == []
    inception2d(download=tmp_path)
    inception2d(download=tmp_path)
    assert fetched == [(*weights.SOURCES["inception2d"], False)]


def test_addresses_are_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: None)
    path = weights.download_weights("medicalnet", tmp_path, depth="50", suffix="_23dataset")
    assert path.name == "resnet_50_23dataset.pth"
    with pytest.raises(ConfigError, match="not published at a fixed address"):
        weights.download_weights("radimagenet2d", tmp_path)


def test_slices_are_the_middle_of_three_views(maps):
    p = maps.probabilities
    sagittal, coronal, axial = center_slices(p, size=16)
    expected = torch.nn.functional.interpolate(
        p[:, :3, 6], (16, 16), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(sagittal, expected)
    assert coronal.shape == axial.shape == (3, 3, 16, 16)
    assert (axial.min() >= 0) & (axial.max() <= 1)


def test_pseudo_t1_orders_the_tissues(maps):
    image = pseudo_t1(maps.probabilities)
    torch.testing.assert_close(image.mean((1, 2, 3, 4)), torch.zeros(3), atol=1e-5, rtol=0)
    hard = maps.probabilities.argmax(1)
    means = [image[:, 0][hard == t].mean() for t in range(4)]
    assert means[0] > means[1] > means[2] > means[3]
