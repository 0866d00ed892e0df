"""Published network weights: read from a local file, or fetched when, and only when, asked."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from csegsynth_kit.errors import ConfigError

#: Where the weights of each extractor are published, and the start of the file's SHA-256 where
#: its name or release states one.
SOURCES = {
    "inception2d": (
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        "6726825d",
    ),
    "medicalnet": (
        "https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet{depth}/resolve/main/"
        "resnet_{depth}{suffix}.pth",
        None,
    ),
}


@dataclass(frozen=True)
class Weights:
    """Tensors of a weight file, with the file's identity.

    Args:
        tensors: Name to tensor, without any ``module.`` prefix.
        sha256: Of the file; part of the passport of every number.
        file: Its name.
    """

    tensors: dict[str, Tensor]
    sha256: str
    file: str


def read_weights(path: Path | str) -> Weights:
    """Read tensors from a ``.safetensors`` file, or from a ``.pth`` file without unpickling code.

    Raises:
        ConfigError: if there is no such file, or it holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            "there is no weight file", "Download it, or give the path where it is.", path
        )
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A broken or foreign file fails in many ways, all with one cure.
        raise ConfigError(
            f"is no readable file of tensors ({type(error).__name__})",
            "Download it again; files with pickled code are refused.",
            path,
        ) from error
    found = found.get("state_dict", found)
    tensors = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return Weights(tensors, _sha256(path), path.name)


def download_weights(name: str, folder: Path | str, **parts: str) -> Path:
    """Fetch published weights into a folder, unless they are there, and return their path.

    Args:
        name: Key of :data:`SOURCES`.
        folder: Where to keep them.
        parts: What the address leaves open, such as ``depth``.
    """
    if name not in SOURCES:
        raise ConfigError(
            f"the weights of '{name}' are not published at a fixed address",
            "Download them from their authors and give the path.",
        )
    address, start = SOURCES[name]
    address = address.format(**parts)
    path = Path(folder) / address.rsplit("/", 1)[1]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(address, str(path), hash_prefix=start, progress=False)
    except (URLError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"{address} cannot be fetched ({error})", "Fetch it by hand and give its path."
        ) from error
    return path


def load_into(network: nn.Module, weights: Weights, *, ignore: tuple[str, ...] = ()) -> nn.Module:
    """Fill a network with weights, every tensor of it, and freeze it in evaluation mode.

    Args:
        network: Whose state is replaced.
        weights: What to fill in.
        ignore: Beginnings of names in the file that the network does not need.
    """
    tensors = {n: t for n, t in weights.tensors.items() if not n.startswith(ignore)}
    wanted = network.state_dict()
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = sorted(set(wanted) - counters - set(tensors))
    foreign = sorted(set(tensors) - set(wanted))
    unlike = sorted(n for n in set(wanted) & set(tensors) if wanted[n].shape != tensors[n].shape)
    if missing or foreign or unlike:
        counts = f"{len(missing)} tensors are missing, {len(foreign)} unknown, {len(unlike)} unlike"
        raise ConfigError(
            f"{weights.file} does not fit the network: {counts} "
            f"(first: {(missing + foreign + unlike)[0]})",
            "Give the published file of this very network.",
        )
    network.load_state_dict(tensors, strict=False)
    return network.eval().requires_grad_(False)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
