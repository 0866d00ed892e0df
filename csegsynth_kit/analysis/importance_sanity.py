"""Does an importance come from what the model has learned? Randomize it and see.

After Adebayo et al. 2018 (Sanity checks for saliency maps, arXiv 1810.03292): an explanation
that stays when the weights are replaced by noise does not explain the model.
"""

import copy
import itertools

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from csegsynth_kit.analysis.importance import volume_gradients
from csegsynth_kit.analysis.importance_groups import group_effects, single_questions
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.models import Family

#: Units of volumes are no knowledge.
_KEPT = ("volume_mean_ml", "volume_sd_ml")
#: What is randomized, and which of (reads the answers, draws the map) that is. The last two
#: lines of the table are the cascade from the answers down to the map.
RANDOMIZED = {
    "what draws the map": (False, True),
    "what reads the answers": (True, False),
    "everything": (True, True),
}


def randomization_check(
    model: Family, people: pd.DataFrame, *, seeds: int = 3, draws: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Correlate the ranking of the trained model with rankings of randomized copies of it.

    Every number of the part, trained or measured before training, is replaced by one drawn from
    its own tensor: sizes stay, what they know is gone.

    Args:
        model: A trained conditional model.
        people: Answers at which gradients are taken.
        seeds: Randomized copies of each kind.
        draws: Antithetic draws per person.
        seed: Of latents and weights.

    Returns:
        Per part of the model that is ``randomized`` and tissue: mean ``spearman`` correlation of
        sizes of effects with the trained model's, the smallest and largest of the copies
        ``least`` and ``most``, the ``seeds``, and the ``questions`` ranked. Without any relation
        single correlations vary around 0 with an SD of 1 / sqrt(questions - 1).
    """
    trained = _sizes(model, people, draws, seed)
    rows = []
    for name, parts in RANDOMIZED.items():
        others = np.stack(
            [
                _sizes(randomized(model, *parts, seed=seed + 1 + i), people, draws, seed)
                for i in range(seeds)
            ]
        )
        for t, tissue in enumerate(MEASURED):
            rho = np.array([spearmanr(trained[:, t], other[:, t]).statistic for other in others])
            row = {"randomized": name, "tissue": tissue, "spearman": rho.mean()}
            row |= {"least": rho.min(), "most": rho.max()}
            rows.append({**row, "seeds": seeds, "questions": len(trained)})
    return pd.DataFrame(rows)


@torch.no_grad()
def randomized(model: Family, reader: bool, drawer: bool, *, seed: int) -> Family:
    """Return a copy whose weights know nothing.

    Args:
        model: A conditional model.
        reader: Randomize the parts that a conditional model has on top of its unconditional
            ancestor: they read the answers.
        drawer: Randomize everything else but the units of volumes.
        seed: Of what is drawn.
    """
    ignorant = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for name, weights in itertools.chain(ignorant.named_parameters(), ignorant.named_buffers()):
        if name in _KEPT or not weights.is_floating_point():
            continue
        if reader if name.startswith(model.conditional_parts) else drawer:
            n = weights.numel()
            drawn = torch.randint(n, (n,), generator=generator).to(weights.device)
            weights.copy_(weights.flatten()[drawn].view_as(weights))
    return ignorant


def _sizes(model: Family, people: pd.DataFrame, draws: int, seed: int) -> np.ndarray:
    """Return the (Q, 3) sizes of mean gradients per question."""
    mean = volume_gradients(model, people, draws=draws, seed=seed).mean(axis=0)
    return np.abs(group_effects(mean, model.features, single_questions(model.features)))
