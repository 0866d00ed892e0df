"""Checkpoints: one safetensors file each, with JSON in its header; no pickles."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from csegsynth_kit.errors import RunError

_KEY = "csegsynth_kit"


def write(path: Path, tensors: Mapping[str, Tensor], meta: Mapping) -> None:
    """Write tensors and JSON-ready ``meta`` to a temporary file, then rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, temporary, metadata={_KEY: json.dumps(dict(meta))})
    temporary.replace(path)


def read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Return the tensors and the meta of a checkpoint.

    Raises:
        RunError: if the file is missing, damaged or not one of ours.
    """
    if not path.exists():
        raise RunError("there is no such checkpoint", "Train first, or check the path.", path)
    try:
        with safe_open(path, framework="pt") as file:
            meta = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RunError(
            f"is damaged ({error})", "Restore it from a copy, or train again.", path
        ) from error
    if meta is None:
        raise RunError("was not written by csegsynth_kit", "Give a checkpoint of a run.", path)
    return tensors, json.loads(meta)


def require_same(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raise RunError unless both have the same tensors of the same shapes."""
    differing = sorted(
        name
        for name in stored.keys() | expected.keys()
        if name not in stored or name not in expected or stored[name].shape != expected[name].shape
    )
    if differing:
        raise RunError(
            f"does not fit the model: tensor {differing[0]} differs",
            "It was written by another version of csegsynth_kit; train again in another folder.",
            path,
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Flatten an optimizer's state to ``prefix/index/key`` tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}/{index}/{key}": torch.as_tensor(value)
        for index, entries in state.items()
        for key, value in entries.items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Invert :func:`optimizer_tensors`; learning rates stay as configured now."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in with_prefix(tensors, prefix).items():
        index, key = name.split("/")
        like = parameters[int(index)]
        if tensor.shape == like.shape:  # The fused step needs the parameter's memory layout.
            tensor = torch.empty_like(like, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under ``prefix/``, without it."""
    start = prefix + "/"
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
