"""Where the spread of a person's volumes comes from: the law of total variance.

A person's volumes are uncertain because questions were left unanswered, because people with the
same answers differ, and because the model would be another one had it been trained again. The
variance of all draws is exactly the sum of three: the mean variance within, and the variances of
the means between, each level of this nesting.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from csegsynth_kit.analysis.comparable import require_trained_alike
from csegsynth_kit.analysis.generate import predict_shared_volumes
from csegsynth_kit.analysis.regression import RIDGE, fit_baseline
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.models import Family

UNANSWERED = "unanswered questions"
SAME_ANSWERS = "people with the same answers"
MODELS = "trained models"
TRAINING = "training participants (ridge)"
TOTAL = "total"


def completed(
    features: Features, train: pd.DataFrame, person: Mapping, *, donors: int = 40, seed: int = 0
) -> pd.DataFrame:
    """Answer a person's open questions as training participants like this person did.

    Predictive mean matching (Little 1988, doi:10.2307/1391878; van Buuren 2018, Flexible
    Imputation of Missing Data, 3.4): donors are the participants whose open answers, predicted
    from the answers to the other questions, are nearest to this person's. Each lends all of the
    open answers at once, so that they go together.

    Args:
        features: The questions.
        train: Answers of the training participants.
        person: Answers given.
        donors: How many; fewer if fewer answered these questions.
        seed: Decides between equally near ones.

    Returns:
        One row per donor, all questions answered that anybody answered; a single row if the
        person left nothing open.
    """
    asked = list(features.questions)
    own = features.table_of(person)[asked]
    open_questions = [name for name in asked if own[name].isna().all()]
    if not open_questions:
        return own
    pool = train[asked].dropna(subset=open_questions)
    if pool.empty:
        raise ConfigError(
            f"no training participant answered all of {', '.join(open_questions)}",
            "Answer one of them.",
        )
    hidden = np.isin([asked[i] for i in features.question], open_questions)
    expected = _expected(features, pd.concat([own, pool]), hidden)
    distance = ((expected[1:] - expected[0]) ** 2).sum(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(pool))
    nearest = shuffled[np.argsort(distance[shuffled].round(9), kind="stable")][:donors]
    filled = own.iloc[[0] * len(nearest)].reset_index(drop=True)
    for name in open_questions:
        filled[name] = pool[name].to_numpy()[nearest]
    return filled


def decompose_spread(
    models: Family | Sequence[Family],
    person: Mapping,
    train: Cohort,
    *,
    donors: int = 40,
    draws: int = 128,
    refits: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Split the variance of a person's volumes into what it comes from.

    Args:
        models: One trained model, or several that differ in nothing but the seed of training
            or the participants.
        person: Answers given.
        train: Training participants: who answers the open questions.
        donors: Ways in which the open questions are answered; see :func:`completed`.
        draws: Antithetic draws of each model and way, with the same latents for all. The SD of
            people with the same answers is then known to about 9 % (1 / sqrt(draws)).
        refits: Bootstrap samples of training participants to which ridge regression is fitted
            in place of a single model; 0 leaves that part unmeasured.
        seed: Of donors, latents and bootstrap.

    Returns:
        One row per ``part`` and tissue: ``sd_ml``, and ``share`` of the total variance. The
        parts are ``unanswered questions``; ``people with the same answers`` (the latents); and
        either ``trained models``, the spread of the means of several models, or ``training
        participants (ridge)``, how much a regression would move had others been trained on.
        Variances add up to that of the last part, ``total``. NaN where not measured.

    Raises:
        ConfigError: for models that are asked different questions.
        CohortError: if a model was trained on others than ``train``.
    """
    models = [models] if isinstance(models, Family) else list(models)
    require_trained_alike({f"model {i}": one for i, one in enumerate(models, 1)}, train)
    features = models[0].features
    people = completed(features, train.table, person, donors=donors, seed=seed)
    volumes = np.stack([predict_shared_volumes(m, people, n=draws, seed=seed) for m in models])
    within, unanswered, between = variance_parts(volumes)
    parts = {UNANSWERED: unanswered, SAME_ANSWERS: within}
    if len(models) > 1:
        parts[MODELS] = between
    else:
        parts[TRAINING] = _refitted(features, train, people, refits, seed)
    total = np.nansum(list(parts.values()), axis=0)
    table = [
        {
            "part": part,
            "tissue": tissue,
            "sd_ml": np.sqrt(variance[i]),
            "share": variance[i] / total[i],
        }
        for part, variance in {**parts, TOTAL: total}.items()
        for i, tissue in enumerate(MEASURED)
    ]
    return pd.DataFrame(table)


def variance_parts(volumes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split the variance of nested draws.

    Args:
        volumes: (S, J, M, K) of S models, J ways to answer what is open, M draws.

    Returns:
        Three (K,) variances: within draws; between ways to answer; between models. Their sum
        is the variance of all S * J * M draws (about their mean, divided by their number).
    """
    by_way, by_model = volumes.mean(axis=2), volumes.mean(axis=(1, 2))
    within = volumes.var(axis=2).mean(axis=(0, 1))
    return within, by_way.var(axis=1).mean(axis=0), by_model.var(axis=0)


def _expected(features: Features, people: pd.DataFrame, hidden: np.ndarray) -> np.ndarray:
    """Return (N, H) hidden standardized answers as the others let expect them."""
    values = features.encode(people).values
    return features.impute(np.where(hidden, np.nan, values))[:, hidden]


def _refitted(
    features: Features, train: Cohort, people: pd.DataFrame, refits: int, seed: int
) -> np.ndarray:
    """Return the (3,) variance of ridge's mean prediction over bootstraps of participants."""
    if refits < 2:
        return np.full(len(MEASURED), np.nan)
    train = train.one_scan_each()
    rng, ids = np.random.default_rng([seed, 1]), np.asarray(train.ids, dtype=object)
    means = []
    for _ in range(refits):
        sample = train.subset(rng.choice(ids, len(ids)))
        means.append(fit_baseline(RIDGE, sample, features, seed=seed)(people).mean(axis=0))
    return np.var(means, axis=0)
