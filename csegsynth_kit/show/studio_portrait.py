"""One individual under changing answers, without the tables that cost more than the map."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from csegsynth_kit.analysis.generate import latents_of
from csegsynth_kit.data.features import Encoded, Features
from csegsynth_kit.models import Family


@torch.no_grad()
def portrait(model: Family, answers: Mapping, *, seed: int) -> Tensor:
    """Return (T, X, Y, Z) shares: the first map of ``generate`` with the same arguments.

    Args:
        model: A trained conditional model.
        answers: Possible answers of one person, in the words of the model's questions.
        seed: The individual.
    """
    device = model.volume_mean_ml.device
    features = torch.from_numpy(model.features.inputs(encoded_person(model.features, answers)))
    latent = latents_of(model, 0, n=1, seed=seed)
    return model.generate(latent.to(device), features.to(device))[0].cpu()


def encoded_person(features: Features, answers: Mapping) -> Encoded:
    """Encode one person as ``Features.encode`` does, fifty times as fast.

    Args:
        features: The questions.
        answers: Possible answers, in the words of the questions; those left out are unanswered.
    """
    raw = [
        _number(
            features.columns[question].levels, name, answers.get(features.columns[question].name)
        )
        for name, question in zip(features.names, features.question, strict=True)
    ]
    given = [answers.get(column.name) is not None for column in features.columns]
    return Encoded(((np.array(raw) - features.mean) / features.sd)[None], np.array([given]))


def _number(levels: tuple[str, ...], name: str, answer: float | str | None) -> float:
    """What ``name`` stands for: a number, a rank among levels, or whether it is this level."""
    if answer is None:
        return np.nan
    if not levels:
        return float(answer)
    _, equals, level = name.partition("=")
    return float(answer == level) if equals and level in levels else float(levels.index(answer))
