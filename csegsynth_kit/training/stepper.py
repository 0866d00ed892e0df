"""Gradients of the losses, and steps of the optimizers on them."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from csegsynth_kit.errors import RunError
from csegsynth_kit.models import Batch, Family, Rng
from csegsynth_kit.models.presets import TrainConfig
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.feed import Share
from csegsynth_kit.training.processes import average_gradients


class Stepper:
    """Steps each group of a model's parameters on its own loss, by its own optimizer.

    Args:
        model: On the device where it is trained.
        config: How this stage is trained.
        share: This process's part of every batch.
        path: What an error names: where the run is.
    """

    def __init__(self, model: Family, config: TrainConfig, share: Share, path: Path):
        self.model = model
        self.config = config
        self.share = share
        self.path = path
        self.optimizers = {
            group: self._optimizer(modules) for group, modules in model.groups().items()
        }

    def batch(
        self, parts: Sequence[tuple[Batch, Rng]], step: int, total: int
    ) -> Iterator[dict[str, float]]:
        """Step every group whose turn it is on one batch; yield the loss and gradient of each.

        All parts reach a group's loss, one after another, before it steps. Values are those
        of all parts together; over processes their mean is that of the batch.

        Args:
            parts: This process's parts of the batch, and their random numbers.
            step: Batches seen so far.
            total: Participants in the batch, over all processes.
        """
        weights = [len(batch.maps) * self.share.world / total for batch, _ in parts]
        passes = [
            self._backwards(self._losses(*part, step), weight)
            for part, weight in zip(parts, weights, strict=True)
        ]
        for same in zip(*passes, strict=True):
            group = same[0][0]
            values: dict[str, float] = defaultdict(float)
            for (_, terms), weight in zip(same, weights, strict=True):
                for name, value in terms.items():
                    values[f"{group}_{name}"] += value * weight
            yield values | {f"{group}_gradient_norm": self.step(group)}

    def backward(self, group: str, terms: Mapping[str, Tensor], weight: float) -> None:
        """Add the gradient of one group's loss; nobody else's parameters receive any."""
        for name, term in terms.items():
            if not torch.isfinite(term.detach()):
                raise self._diverged(f"the {group} loss '{name}' is {float(term.detach())}")
        loss = sum(term.float() for term in terms.values()) * weight
        loss.backward(inputs=self._parameters(group))

    def step(self, group: str) -> float:
        """Step one group on the gradients it has; return their norm."""
        parameters = self._parameters(group)
        if self.share.world > 1:
            average_gradients(parameters)
        norm = self._clip(parameters)
        if not math.isfinite(norm):  # of the average, so that all processes stop
            raise self._diverged(f"the norm of the {group} gradient is {norm}")
        self.optimizers[group].step()
        self.optimizers[group].zero_grad(set_to_none=True)
        return norm

    def set_learning_rate(self, progress: float) -> None:
        """Follow the schedule, after this share of the training."""
        factor = 1.0
        if self.config.schedule == "cosine":
            factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def forget(self, names: Collection[str]) -> None:
        """Drop the moments of parameters that were replaced: they mean nothing any more."""
        own = dict(self.model.named_parameters())
        for optimizer in self.optimizers.values():
            for name in names:
                optimizer.state.pop(own[name], None)

    def state(self) -> dict[str, Tensor]:
        """Return what the optimizers remember, by name."""
        tensors: dict[str, Tensor] = {}
        for group, optimizer in self.optimizers.items():
            tensors |= checkpoint.optimizer_tensors(optimizer, f"optimizer/{group}")
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` has returned, from among other tensors."""
        for group, optimizer in self.optimizers.items():
            checkpoint.load_optimizer(optimizer, tensors, f"optimizer/{group}")

    def _backwards(
        self, losses: Iterable[tuple[str, Mapping[str, Tensor]]], weight: float
    ) -> Iterator[tuple[str, dict[str, float]]]:
        """Add the gradient of each loss of a part before the next part is computed."""
        for group, terms in losses:
            self.backward(group, terms, weight)
            yield group, {name: float(term.detach()) for name, term in terms.items()}

    def _losses(
        self, batch: Batch, rng: Rng, step: int
    ) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """Run the model's generator of losses with autocast around its own code only."""
        yields = self.model.losses(batch, rng, step)
        low = self.config.precision == "bf16"
        device = batch.maps.device.type
        while True:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=low):
                item = next(yields, None)
            if item is None:
                return
            yield item

    def _diverged(self, finding: str) -> RunError:
        return RunError(
            finding,
            "Training has diverged; the last checkpoint is intact. Lower the learning rate or the "
            "weight of a term of this loss and start another run.",
            self.path,
        )

    def _parameters(self, group: str) -> list[nn.Parameter]:
        return [p for g in self.optimizers[group].param_groups for p in g["params"]]

    def _clip(self, parameters: list[nn.Parameter]) -> float:
        limit = self.config.clip_at if self.config.clip == "norm" else math.inf
        norm = float(nn.utils.clip_grad_norm_(parameters, limit))
        if self.config.clip == "value":
            nn.utils.clip_grad_value_(parameters, self.config.clip_at)
        return norm

    def _optimizer(self, modules: Mapping[str, nn.Module]) -> torch.optim.Optimizer:
        rates = dict(self.config.learning_rates)
        groups = [
            {"params": list(module.parameters()), "lr": rates.get(name, self.config.learning_rate)}
            for name, module in modules.items()
        ]
        for group in groups:
            group["initial_lr"] = group["lr"]
        maker = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.config.optimizer]
        return maker(
            groups, betas=self.config.betas, weight_decay=self.config.weight_decay, fused=True
        )
