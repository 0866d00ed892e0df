"""What the weights themselves betray: an attack on a model that is given away."""

import numpy as np
import torch

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.metrics.privacy import Attack, membership
from csegsynth_kit.models import Family

_MAPS_AT_ONCE = 16


@torch.no_grad()
def reconstruction_attack(
    model: Family, train: Cohort, held_out: Cohort, *, seed: int = 0
) -> Attack | None:
    """How well a person's reconstruction tells whether the model was trained on them.

    The attacker has the weights, the person's map and answers, and accuses people whom the
    model renders well (after Hilprecht et al., 2019, PoPETs 2019:232, reconstruction attack).

    Args:
        model: A trained model.
        train: Its training participants.
        held_out: Others, drawn at random from the same cohort.
        seed: Of the bootstrap.

    Returns:
        The attack, or None for a model that cannot render a given map.
    """
    if set(train.persons) & set(held_out.persons):
        raise ConfigError("some persons are in both groups", "Use Cohort.split for both.")
    errors = [_errors(model, cohort) for cohort in (train, held_out)]
    if any(error is None for error in errors):
        return None
    member = np.arange(len(train) + len(held_out)) < len(train)
    names = [*train.persons, *held_out.persons]
    person = np.unique(names, return_inverse=True)[1]
    return membership(-np.concatenate(errors), member, person, seed=seed)


def _errors(model: Family, cohort: Cohort) -> np.ndarray | None:
    """Return (N,) mean squared errors of shares, or None for a model that renders none."""
    inputs = None
    if model.conditional:
        inputs = torch.from_numpy(model.features.inputs(model.features.encode(cohort.table)))
    device, errors = model.volume_mean_ml.device, []
    for rows in np.split(np.arange(len(cohort)), range(_MAPS_AT_ONCE, len(cohort), _MAPS_AT_ONCE)):
        maps = cohort.maps([cohort.ids[row] for row in rows]).probabilities.to(device)
        own = None if inputs is None else inputs[rows].to(device)
        rendered = model.rendered(maps, own)
        if rendered is None:
            return None
        errors.append((rendered - maps).square().flatten(1).mean(1).double().cpu().numpy())
    return np.concatenate(errors)
