"""Averaged weights, which generate steadier maps than those of the last step."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of all weights, for sampling."""

    def __init__(self, model: nn.Module, decay: float):
        self._model, self._decay = model, decay
        self.restart()

    def restart(self) -> None:
        """Begin again from the model's present weights."""
        self.updates = 0
        self._weights = (
            {name: p.detach().clone() for name, p in self._model.named_parameters()}
            if self._decay
            else {}
        )

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the present weights; faster at first, when the average is still old."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        if self._weights:
            own = dict(self._model.named_parameters())
            torch._foreach_lerp_(
                list(self._weights.values()), [own[n] for n in self._weights], 1 - decay
            )

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the model for a while."""
        own = dict(self._model.named_parameters())
        kept = {name: own[name].data for name in self._weights}
        for name, weight in self._weights.items():
            own[name].data = weight
        try:
            yield
        finally:
            for name, weight in kept.items():
                own[name].data = weight

    @torch.no_grad()
    def hand_over(self, names: Iterable[str]) -> None:
        """Set parameters of the model to their averages."""
        own = dict(self._model.named_parameters())
        for name in names:
            if name in self._weights:
                own[name].copy_(self._weights[name])

    def state(self) -> dict[str, Tensor]:
        """Return the averaged weights by name."""
        return dict(self._weights)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over averaged weights by name."""
        for name, weight in self._weights.items():
            weight.copy_(weights[name])
