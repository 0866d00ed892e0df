"""Intervals over training samples: how an effect varies had the model learned from others.

Nearly all of what our models know of the answers sits in the closed-form start of their
conditioning: ridge regressions of the codes, and a lasso of the volumes to which draws are
calibrated. That can be fitted again to resampled training participants. The
encoder and the generator stay as they are, and so does whatever fine-tuning changed of them:
these intervals leave out how those would vary, which is little where the start is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from torch import Tensor

from csegsynth_kit.analysis.importance import of_answers, volume_gradients
from csegsynth_kit.analysis.importance_groups import Groups, checked_groups, group_effects
from csegsynth_kit.analysis.importance_scores import Importance
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.volumes import resamples
from csegsynth_kit.models import Family, build
from csegsynth_kit.models.calibration import volume_target
from csegsynth_kit.models.codes import CodeFamily
from csegsynth_kit.training.feed import Feed

_LEVEL = 0.95


@dataclass(frozen=True)
class Refitter:
    """A model whose conditioning can be fitted again, and what it is fitted to.

    Args:
        model: A copy of the trained model, the transform's weights at their first values.
        blank: These first values.
        codes: (N, L) codes of the training participants' maps.
        inputs: (N, n_inputs) their answers, encoded.
        volumes: (N, 3) their volumes (mL).
        persons: (N,) person of each row.
    """

    model: CodeFamily
    blank: dict[str, Tensor]
    codes: Tensor
    inputs: Tensor
    volumes: Tensor
    persons: np.ndarray

    @classmethod
    @torch.no_grad()
    def of(cls, model: Family, train: Cohort) -> "Refitter":
        """Read codes off the training participants' maps, once.

        Args:
            model: A trained conditional model.
            train: Participants to fit to. Their answers are encoded as the model does it.

        Raises:
            ConfigError: for a model that does not start from a regression.
        """
        _require_refit(model)
        device = model.volume_mean_ml.device
        copy = build(model.config, model.features).to(device).eval()
        learned = model.state_dict()
        kept = {n: w for n, w in learned.items() if not n.startswith(model.conditional_parts)}
        copy.load_state_dict({**copy.state_dict(), **kept})
        feed = Feed(train, model.features, batch_size=1, seed=0, device=device)
        everybody = feed.everybody()
        codes = torch.cat([copy.encode(maps) for maps in everybody.maps()])
        blank = {n: w.clone() for n, w in copy.transform.state_dict().items()}
        persons = np.asarray(everybody.persons, dtype=object)
        return cls(copy, blank, codes, everybody.features, everybody.volumes, persons)

    def fit(self, rows: np.ndarray) -> Family:
        """Fit the conditioning to some training participants, of whom some may come twice.

        Returns:
            The refitter's own model: good until the next fit.
        """
        chosen = torch.from_numpy(np.asarray(rows)).to(self.codes.device)
        self.model.transform.load_state_dict(self.blank)
        self.model.start_transform(
            self.codes[chosen],
            self.inputs[chosen],
            self.volumes[chosen],
            tuple(self.persons[rows]),
        )
        return self.model

    def resampled(self, times: int, *, seed: int = 0) -> Iterator[Family]:
        """Fit to bootstrap resamples of persons; copies of a person never part in folds."""
        rows = resamples(len(self.codes), times=times, seed=seed, persons=self.persons)
        for chosen in rows:
            yield self.fit(chosen)


def can_refit(model: Family) -> bool:
    """Tell whether a model's conditioning starts from a regression that can be repeated."""
    if not (isinstance(model, CodeFamily) and model.conditional):
        return False
    return model.config.architecture == "compact" and model.config.regression_start


def _require_refit(model: Family) -> None:
    if not can_refit(model):
        raise ConfigError(
            f"a model of family {model.config.family!r} with this configuration does not start "
            "from a regression of codes",
            "Use csegsynth, cgan or cvae with compact networks and regression_start.",
        )


def refit_effects(
    model: Family,
    train: Cohort,
    people: pd.DataFrame,
    *,
    groups: Groups | None = None,
    refits: int = 20,
    draws: int = 2,
    seed: int = 0,
    refitter: Refitter | None = None,
) -> Importance:
    """Mean gradients of a trained model, with intervals over training samples.

    The standard error is the SD over bootstrap resamples of the training participants; the
    interval is the value plus or minus it times Student's t. It knows nothing of bias: a
    shrunken effect has a short interval at the wrong place.

    By default only the regression of the volumes is fitted again, to which the start of
    the model is calibrated: draws follow it on average, so that the model's effects move as its
    slopes do, in a hundredth of the time of a whole refit. With a ``refitter`` the whole
    conditioning is.

    Args:
        model: A trained conditional model that :func:`can_refit`.
        train: Its training participants.
        people: Answers at which gradients are taken, of participants it has not seen.
        groups: Name to questions; by default every question alone.
        refits: Resamples.
        draws: Antithetic draws per person.
        seed: Of resamples and latents.
        refitter: Made of ``model`` and ``train``; needed for a model without ``volume_start``.

    Returns:
        Effects (mL per training standard deviation) and intervals ``over`` training samples.

    Raises:
        ConfigError: for fewer than two refits, or a model that cannot be refitted.
    """
    if refits < 2:
        raise ConfigError(f"{refits} refits have no spread", "Ask for 20, or 2 at least.")
    _require_refit(model)
    if refitter is None and not model.config.volume_start:
        raise ConfigError(
            "this model is not calibrated to a regression of the volumes",
            "Pass refitter=Refitter.of(model, train) to refit all of its conditioning.",
        )
    groups = checked_groups(model.features, groups)
    own = _mean_gradients(model, people, draws, seed)
    if refitter is None:
        resampled = own + _changes_of_slopes(model, train, people, refits, seed)
    else:
        refitted = refitter.resampled(refits, seed=seed)
        resampled = np.stack([_mean_gradients(one, people, draws, seed) for one in refitted])
    values = group_effects(own, model.features, groups)
    resampled = group_effects(resampled, model.features, groups)
    reach = student.ppf((1 + _LEVEL) / 2, refits - 1) * resampled.std(axis=0, ddof=1)
    return Importance(
        method="gradient",
        unit="mL per SD",
        groups=tuple(groups),
        values=values,
        resampled=resampled,
        low=values - reach,
        high=values + reach,
        over="training samples",
        n=len(train),
        signed=True,
    )


def _mean_gradients(model: Family, people: pd.DataFrame, draws: int, seed: int) -> np.ndarray:
    """Return the (F, 3) mean gradients (mL per training standard deviation)."""
    return volume_gradients(model, people, draws=draws, seed=seed).mean(axis=0)


def _changes_of_slopes(
    model: CodeFamily, train: Cohort, people: pd.DataFrame, refits: int, seed: int
) -> np.ndarray:
    """Refit the regression of the volumes: (B, F, 3) changes of its mean slopes at ``people``.

    Slopes are in the answers given, as gradients are: 0 where a question is open, and what an
    answer lets expect of open ones counts as its own.
    """
    features, curved = model.features, list(model.transform.curved)
    inputs = torch.from_numpy(features.inputs(features.encode(train.table)))[:, : model.n_inputs]
    volumes = torch.tensor(train.volumes.to_numpy(), dtype=torch.float32)
    unit = model.volume_sd_ml.cpu()
    volumes = (volumes - model.volume_mean_ml.cpu()) / unit
    persons = np.asarray(train.persons, dtype=object)
    answers = features.encode(people[list(features.questions)]).values
    own = features.impute(answers)[:, curved]

    def slopes(rows: np.ndarray) -> np.ndarray:
        target = volume_target(inputs[rows], volumes[rows], tuple(persons[rows]), curved=curved)
        per_sd = (target.slopes * unit).double().numpy()
        each = np.tile(per_sd[: len(features.names)], (len(own), 1, 1))
        for i, column in enumerate(curved):
            each[:, column] += 2 * np.outer(own[:, i], per_sd[model.n_inputs + i])
        return of_answers(features, answers, each).mean(axis=0)

    everybody = slopes(np.arange(len(train)))
    rows = resamples(len(train), times=refits, seed=seed, persons=persons)
    return np.stack([slopes(chosen) for chosen in rows]) - everybody
