"""The only training loop."""

import contextlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.models import Family, TrainingSet
from csegsynth_kit.models.config import to_dict
from csegsynth_kit.models.memory import kept_memory
from csegsynth_kit.models.presets import TrainConfig
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.average import Average
from csegsynth_kit.training.feed import Feed
from csegsynth_kit.training.processes import (
    average_values,
    follow_first,
    own_share,
    wait_for_all,
)
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.stepper import Stepper
from csegsynth_kit.training.validation import validate

logger = logging.getLogger(__name__)


def default_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


class Trainer:
    """Trains one model in one run folder; stopping and resuming changes nothing.

    Args:
        model: From ``build``, warm-started or not.
        config: How this stage is trained.
        run: Where everything is written.
        device: Where to train; the accelerator if there is one by default.
        progress: Show a progress bar.
    """

    def __init__(
        self,
        model: Family,
        config: TrainConfig,
        run: Run,
        *,
        device: torch.device | str | None = None,
        progress: bool = True,
    ):
        if (run.config["stage"] == "finetune") != model.conditional:
            raise ConfigError(
                f"a {run.config['stage']} run cannot train a "
                f"{'conditional' if model.conditional else 'unconditional'} model",
                "Build fine-tuned models with features, pre-trained ones without.",
            )
        if config.to_dict() != run.config["training"]:
            raise ConfigError(
                "the training configuration is not the one the run was opened with",
                "Change the preset before Run.open, so that the run's name tells.",
            )
        if to_dict(model.config) != run.config["model"]:
            raise ConfigError(
                "the model is not configured as the run was opened for",
                "Build it from the preset that Run.open was given.",
            )
        self.device = torch.device(device) if device else default_device()
        self.model = model.to(self.device)
        self.config = config
        self.run = run
        self.progress = progress
        self.share = own_share()
        self.stepper = Stepper(self.model, config, self.share, run.path)
        self.average = Average(model, config.ema)

    def fit(self, train: Cohort, valid: Cohort | None = None) -> pd.DataFrame:
        """Train to the end, from where the run's last checkpoint left off.

        Args:
            train: Training participants.
            valid: Validation participants, for scores and for choosing the best checkpoint.

        Returns:
            The history, one row per epoch.

        Raises:
            RunError: if a loss or gradient is no longer finite, the run was begun with other data,
                or no score was finite, so that there are no best weights.
        """
        valid = valid or None  # A cohort of nobody has no scores.
        if valid is not None and set(train.persons) & set(valid.persons):
            raise ConfigError(
                "training and validation share participants", "Use Cohort.split for both."
            )
        if self.config.selection != "last" and valid is None:
            raise ConfigError(
                f"selection by {self.config.selection} needs validation participants",
                "Pass valid=, on the command line a share of --fractions for them, or choose "
                "selection='last'.",
            )
        data = self.run.claim(train, valid, self.model.features)
        feed = Feed(
            train,
            self.model.features,
            batch_size=self.config.batch_size,
            seed=self.run.config["seed"],
            hide_answers=self.config.hide_answers,
            share=self.share,
            accumulate=self.config.accumulate,
            device=self.device,
        )
        epochs = self.config.epochs or math.ceil(self.config.steps / feed.steps_per_epoch)
        about = {"data": data, **self._cohort_card(train)}
        rows = self._resume()
        if self.share.world > 1:
            wait_for_all(self.device)  # Else a late one would resume what the first has begun.
        if not rows and self._writes:
            self.run.begin()
        everybody = feed.everybody()
        if not rows:
            self.model.fit_statistics(everybody)
            self._follow_first()
            self.average.restart()
            if valid is not None:  # What the start alone is worth, training may only improve on.
                rows.append({"epoch": -1, **self._validate(valid)})
                self._save(rows, about, due=True)
        done = rows[-1]["epoch"] + 1 if rows else 0
        with kept_memory(), _flushed_denormals(), self._bar(epochs, done) as bar:
            for epoch in range(done, epochs):
                if self.model.begin_epoch(everybody, epoch * feed.steps_per_epoch):
                    self._follow_first()
                    self.average.restart()
                row = {"epoch": epoch, **self._epoch(feed, epoch, epochs)}
                due = (epoch + 1) % self.config.validate_every == 0 or epoch + 1 == epochs
                if due:
                    row["seconds"] = round(row["seconds"] + self._settle(everybody), 3)
                if valid is not None and due:
                    row |= self._validate(valid)
                rows.append(row)
                self._save(rows, about, due=due)
                bar.update()
        if self._writes:
            self.run.mark_finished(epochs)
        return pd.DataFrame(rows)

    def _epoch(self, feed: Feed, epoch: int, epochs: int) -> dict[str, float]:
        self.model.train()
        began = time.perf_counter()
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        for i, parts in enumerate(feed.epoch(epoch)):
            step = epoch * feed.steps_per_epoch + i
            self.stepper.set_learning_rate(step / (epochs * feed.steps_per_epoch))
            for values in self.stepper.batch(parts, step, feed.batch_size):
                for name, value in values.items():
                    sums[name] += value
                    counts[name] += 1
            self.average.update()
        if self.share.world > 1:
            sums = average_values(sums, self.device)
        means = {name: total / counts[name] for name, total in sums.items()}
        return means | {"seconds": round(time.perf_counter() - began, 3)}

    def _follow_first(self) -> None:
        """Take over what the first process has fitted: unlike machines round off differently."""
        if self.share.world > 1:
            follow_first([*self.model.parameters(), *self.model.buffers()])

    def _settle(self, everybody: TrainingSet) -> float:
        """Let the model fit what follows from its averaged weights; return the seconds it took."""
        self.model.eval()
        began = time.perf_counter()
        with self.average.applied():
            settled = set(self.model.settle(everybody))
            self._follow_first()
        self.average.hand_over(settled)
        self.stepper.forget(settled)
        return time.perf_counter() - began

    def _validate(self, valid: Cohort) -> dict[str, float]:
        self.model.eval()
        with self.average.applied():
            seed = self.run.config["seed"] + 1_000_003
            scores = validate(self.model, valid, draws=self.config.validation_draws, seed=seed)
        return {f"valid_{name}": score for name, score in scores.items()}

    @property
    def _writes(self) -> bool:
        return self.share.rank == 0

    def _resume(self) -> list[dict]:
        """Load the last checkpoint, if there is one, and return the history up to it."""
        if not self.run.last().exists():
            return []
        tensors, meta = checkpoint.read(self.run.last())
        weights = checkpoint.with_prefix(tensors, "model")
        checkpoint.require_same(weights, self.model.state_dict(), self.run.last())
        self.model.load_state_dict(weights)
        self.average.load(checkpoint.with_prefix(tensors, "average"))
        self.average.updates = meta["updates"]
        self.stepper.load(tensors)
        logger.info("resumed %s after epoch %d", self.run.path.name, meta["epoch"])
        return meta["history"]

    def _save(self, rows: list[dict], about: dict, *, due: bool) -> None:
        if not self._writes:
            return
        meta = {
            **{key: self.run.config[key] for key in ("family", "stage", "model", "seed")},
            **about,
            "features": self.model.features.to_dict() if self.model.features else None,
            "epoch": rows[-1]["epoch"],
            "updates": self.average.updates,
        }
        if due and is_best(rows, self.config):
            with self.average.applied():
                weights = _prefixed("model", self.model.state_dict())
                checkpoint.write(self.run.best(), weights, meta)
        tensors = _prefixed("model", self.model.state_dict())
        tensors |= _prefixed("average", self.average.state())
        tensors |= self.stepper.state()
        checkpoint.write(self.run.last(), tensors, {**meta, "history": rows})
        self.run.write_history(rows)

    def _cohort_card(self, train: Cohort) -> dict:
        """Say what maps the weights come from: simulated ones stay simulated for good."""
        start = self.run.config["parent"] or {}
        simulated = train.simulated or bool(start.get("simulated"))
        return {"csf_definition": train.csf_definition, "simulated": simulated}

    def _bar(self, epochs: int, done: int) -> tqdm:
        silent = not self.progress or not self._writes
        name = f"{self.run.config['family']} {self.run.config['stage']}"
        return tqdm(total=epochs, initial=done, desc=name, unit="epoch", disable=silent)


def is_best(rows: Sequence[Mapping[str, float]], config: TrainConfig) -> bool:
    """Tell whether the last of the epochs gives the weights to keep as best.

    Args:
        rows: The history so far, with the validation scores of its epochs.
        config: By which score one selects, and with what tolerance.
    """
    if config.selection == "last":
        return True
    name = f"valid_{config.selection}"
    scores = [row[name] for row in rows if name in row]
    earlier = [score for score in scores[:-1] if not math.isnan(score)]
    limit = min(earlier, default=math.inf) * (1 + config.selection_tolerance)
    return not math.isnan(scores[-1]) and scores[-1] < limit


@contextlib.contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Treat denormal numbers as 0 meanwhile: on CPUs they are a hundred times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}
