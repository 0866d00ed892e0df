"""What every model family offers, and what the trainer hands it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import RunError
from csegsynth_kit.maps import Grid, volumes_ml

#: A group of parameters that step together, and the weighted terms of its loss.
GroupLoss = tuple[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Batch:
    """Some training participants.

    Args:
        maps: (N, T, X, Y, Z) shares.
        volumes: (N, 3) true volumes at source resolution (mL).
        features: (N, n_inputs) of ``Features.inputs``, or None without features.
        other_volumes: (N, 3) true volumes (mL) of another participant of the whole batch each.
        other_features: (N, n_inputs) their features, or None without features.
    """

    maps: Tensor
    volumes: Tensor
    features: Tensor | None = None
    other_volumes: Tensor | None = None
    other_features: Tensor | None = None


@dataclass(frozen=True)
class TrainingSet:
    """All training participants, for what is computed once before training.

    Args:
        maps: Gives (n, T, X, Y, Z) maps in order, a few at a time, each time it is called.
        volumes: (N, 3) true volumes (mL).
        features: (N, n_inputs) of ``Features.inputs``, or None.
        persons: (N,) person of each row, or None if nobody has several.
    """

    maps: Callable[[], Iterable[Tensor]]
    volumes: Tensor
    features: Tensor | None = None
    persons: tuple[str, ...] | None = None


class Rng:
    """Random numbers that depend on a key and a place in the batch, not on who computes them.

    Every process draws the numbers of the whole batch and keeps those of its own rows, so that
    several processes compute what one would, and a resumed run what an uninterrupted one would.

    Args:
        key: For example (seed, epoch, step).
        total: Rows of the whole batch.
        rows: This process's rows; all by default.
        device: Where the numbers are wanted. They are drawn on the CPU.
    """

    def __init__(
        self,
        *key: int,
        total: int,
        rows: slice = slice(None),
        device: torch.device | str = "cpu",
    ):
        state = np.random.SeedSequence(key).generate_state(2, np.uint64)
        self._generator = torch.Generator().manual_seed(int(state[0] >> 1))
        self._total, self._rows, self._device = total, rows, device

    def normal(self, *shape: int) -> Tensor:
        """Return (N, *shape) standard normal numbers."""
        drawn = torch.randn(self._total, *shape, generator=self._generator)
        return drawn[self._rows].to(self._device)

    def uniform(self, *shape: int) -> Tensor:
        """Return (N, *shape) numbers from [0, 1)."""
        drawn = torch.rand(self._total, *shape, generator=self._generator)
        return drawn[self._rows].to(self._device)


class Config(Protocol):
    """The frozen dataclass of a family: its grid and hyper-parameters."""

    family: str
    grid: Grid


class Family(nn.Module):
    """Base of all families: volumes in training units, warm start, and the contract.

    A subclass defines ``latent_shape``, ``groups``, ``losses`` and ``logits_from``, and, if it
    encodes maps, ``reconstruct``. With ``features`` it is conditional, without it is the
    unconditional ancestor that is pre-trained.

    Args:
        config: Hyper-parameters.
        features: The questions it is given, or None.
    """

    latent_shape: tuple[int, ...]
    #: Parts (prefixes of tensor names) that only a conditional model has.
    conditional_parts: tuple[str, ...] = ()
    #: Parts that a conditional model builds anew, in another form than its ancestor's.
    rebuilt_parts: tuple[str, ...] = ()

    def __init__(self, config: Config, features: Features | None):
        super().__init__()
        self.config = config
        self.features = features
        self.register_buffer("volume_mean_ml", torch.zeros(len(MEASURED)))
        self.register_buffer("volume_sd_ml", torch.ones(len(MEASURED)))
        self.warm_started = False
        #: What it was trained on; filled in when a trained model is loaded.
        self.card = {
            "epoch": None,
            "csf_definition": "unknown",
            "simulated": None,
            "train": None,
            "valid": None,
        }

    @property
    def conditional(self) -> bool:
        """Whether this model is given features."""
        return self.features is not None

    def groups(self) -> Mapping[str, Mapping[str, nn.Module]]:
        """Return who is optimized together: group to named modules."""
        raise NotImplementedError

    def losses(self, batch: Batch, rng: Rng, step: int) -> Iterator[GroupLoss]:
        """Yield a group and its loss terms; what follows a ``yield`` runs after it stepped.

        Args:
            batch: Training participants.
            rng: Random numbers of this step.
            step: Batches seen so far in this run, from 0.
        """
        raise NotImplementedError

    def logits_from(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Map (N, *latent_shape) latents, and features if conditional, to (N, T, X, Y, Z)."""
        raise NotImplementedError

    def reconstruct(self, maps: Tensor, features: Tensor | None = None) -> Tensor | None:
        """Return the model's rendering of (N, T, X, Y, Z) maps of people, or None if it has none.

        Args:
            maps: (N, T, X, Y, Z) shares.
            features: (N, n_inputs), for a conditional model.
        """
        return None

    def rendered(self, maps: Tensor, features: Tensor | None = None) -> Tensor | None:
        """Render maps as well as whoever has the weights could; by default, reconstruct them."""
        return self.reconstruct(maps, features)

    def generate(self, latents: Tensor, features: Tensor | None = None) -> Tensor:
        """Map latents to (N, T, X, Y, Z) shares; the same latent is the same individual."""
        return self.logits_from(latents, features).float().softmax(1)

    def fit_statistics(self, training: TrainingSet) -> None:
        """Take scale factors, and a good start, from the training participants."""
        self.volume_mean_ml.copy_(training.volumes.mean(0))
        self.volume_sd_ml.copy_(training.volumes.std(0))

    def begin_epoch(self, training: TrainingSet, step: int) -> bool:
        """Prepare for an epoch; what is computed here must go into buffers, to be resumed.

        Args:
            training: All training participants.
            step: Batches seen so far in this run.

        Returns:
            Whether averaged weights must begin again from the present ones.
        """
        return False

    def settle(self, training: TrainingSet) -> Iterable[str]:
        """Fit after an epoch what is computed from the weights to generate with, in place.

        It is called with the averaged weights in place, before they are scored and stored.

        Args:
            training: All training participants.

        Returns:
            Names of parameters that were set: training, too, goes on from these values.
        """
        return ()

    def phases(self, steps: int) -> list[tuple[int, int]]:
        """Cut a training of so many steps where what a step computes becomes something else.

        Returns:
            First step of each phase, and the one after its last.
        """
        return [(0, steps)]

    def standardized_volumes(self, maps: Tensor) -> Tensor:
        """Volumes of (..., T, X, Y, Z) maps in training means and standard deviations."""
        measured = maps[..., : len(MEASURED), :, :, :]
        volumes = volumes_ml(measured, self.config.grid.voxel_ml)
        return (volumes - self.volume_mean_ml) / self.volume_sd_ml

    def start_from(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Take over the weights of the unconditional ancestor.

        Returns:
            Names of the new tensors, those of conditional and rebuilt parts, which keep their
            values; of the weights, only those of rebuilt parts may remain unused.

        Raises:
            RunError: if a tensor has another shape, if the weights hold some this model lacks, or
                if they lack some that pre-training should have given.
        """
        own = self.state_dict()
        for name in own.keys() & weights.keys():
            if own[name].shape != weights[name].shape:
                raise RunError(
                    f"tensor {name} has shape {tuple(weights[name].shape)} in the weights and "
                    f"{tuple(own[name].shape)} in the model",
                    "Warm-start only between models of the same preset.",
                )
        new, unused = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
        unexpected = [n for n in unused if not n.startswith(self.rebuilt_parts)]
        expected = self.conditional_parts + self.rebuilt_parts
        unexpected += [n for n in new if not n.startswith(expected)]
        if unexpected:
            raise RunError(
                f"tensor {unexpected[0]} is only in one of model and weights "
                f"({len(unexpected)} such tensors)",
                "Warm-start only from the pre-training of the same family and preset.",
            )
        self.load_state_dict({**own, **{n: w for n, w in weights.items() if n in own}})
        self.warm_started = True
        return new
