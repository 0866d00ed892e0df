"""Batches whose order, noise and hidden answers depend on (seed, epoch, step) alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import at_once, dequantize
from csegsynth_kit.models.base import Batch, Rng, TrainingSet


@dataclass(frozen=True)
class Share:
    """Which part of every batch is computed here and now.

    Args:
        rank: Number of this process.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    def rows(self, n: int) -> slice:
        """Rows of this share of a batch of ``n``."""
        cuts = np.linspace(0, n, self.world + 1).astype(int)
        return slice(int(cuts[self.rank]), int(cuts[self.rank + 1]))

    def cut(self, parts: int) -> list["Share"]:
        """Cut this share into smaller ones, as if so many processes computed it."""
        return [Share(self.rank * parts + i, self.world * parts) for i in range(parts)]


class Feed:
    """The training participants, held in memory as uint8, in batches.

    Args:
        cohort: Training participants.
        features: Fitted questions, or None.
        batch_size: Participants per batch over all processes. The remainder of an epoch is left
            out; it is another one in every epoch.
        seed: Of order, noise and hidden answers.
        hide_answers: Share of participants from whom a random part of the answers is hidden.
        share: This process's part.
        accumulate: Parts in which this process computes its part of a batch.
        device: Where batches are wanted.
    """

    def __init__(
        self,
        cohort: Cohort,
        features: Features | None,
        *,
        batch_size: int,
        seed: int,
        hide_answers: float = 0.0,
        share: Share = Share(),
        accumulate: int = 1,
        device: torch.device | str = "cpu",
    ):
        self.batch_size = min(batch_size, len(cohort))
        self._shares = share.cut(accumulate)
        if self.batch_size < share.world * accumulate:
            raise ConfigError(
                f"{self.batch_size} participants per batch cannot feed {share.world} processes "
                f"with {accumulate} parts each",
                "Use fewer processes, fewer parts or larger batches.",
            )
        self._at_once = at_once(cohort.grid)
        self._quantized = torch.from_numpy(cohort.quantized()).to(device)
        self._volumes = torch.tensor(cohort.volumes.to_numpy(), dtype=torch.float32)
        self._features = features
        self._persons = tuple(cohort.persons)
        self._encoded = features.encode(cohort.table) if features else None
        self._seed, self._hide, self._device = seed, hide_answers, device

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch."""
        return len(self._quantized) // self.batch_size

    def everybody(self) -> TrainingSet:
        """Return all training participants, nobody's answers hidden."""
        inputs = None
        if self._features is not None:
            inputs = torch.from_numpy(self._features.inputs(self._encoded)).to(self._device)
        return TrainingSet(
            lambda: (dequantize(part) for part in self._quantized.split(self._at_once)),
            self._volumes.to(self._device),
            inputs,
            self._persons,
        )

    def epoch(self, epoch: int) -> Iterator[list[tuple[Batch, Rng]]]:
        """Yield this process's parts of every batch of an epoch, with their random numbers."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._quantized))
        for step in range(self.steps_per_epoch):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            key, n = (self._seed, epoch, step), len(chosen)
            inputs = self._inputs(chosen, key)
            parts = [share.rows(n) for share in self._shares]
            yield [
                (
                    self._batch(chosen, inputs, rows),
                    Rng(*key, total=n, rows=rows, device=self._device),
                )
                for rows in parts
            ]

    def _batch(self, chosen: np.ndarray, inputs: torch.Tensor | None, rows: slice) -> Batch:
        mine = torch.from_numpy(chosen[rows])
        volumes = self._volumes[torch.from_numpy(chosen)]
        # The other participant comes from the whole batch, whoever computes which part of it.
        other = [None if x is None else torch.roll(x, 1, 0) for x in (volumes, inputs)]
        volumes, inputs, *other = (
            None if x is None else x[rows].to(self._device) for x in (volumes, inputs, *other)
        )
        return Batch(
            dequantize(self._quantized[mine.to(self._quantized.device)]), volumes, inputs, *other
        )

    def _inputs(self, chosen: np.ndarray, key: tuple) -> torch.Tensor | None:
        """Return the (N, n_inputs) inputs of the whole batch, some answers hidden."""
        if self._features is None:
            return None
        encoded = self._encoded[chosen]
        if self._hide:
            rng = np.random.default_rng([*key, 1])  # 1: apart from the order's generator
            person = rng.random(len(chosen)) < self._hide
            share = rng.random((len(chosen), 1))
            hidden = person[:, None] & (rng.random(encoded.answered.shape) < share)
            encoded = self._features.hide(encoded, hidden)
        return torch.from_numpy(self._features.inputs(encoded))
