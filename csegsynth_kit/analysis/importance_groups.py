"""Questions that stand for each other: which belong together, and how they move together.

Where answers are correlated, what one of them is worth given the others depends on the others,
and shares of importance are dealt out nearly at random. A group is asked about as a whole.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError

#: Name to the questions it stands for.
Groups = Mapping[str, Sequence[str]]


def single_questions(features: Features) -> dict[str, tuple[str, ...]]:
    """Return every question as a group of its own."""
    return {name: (name,) for name in features.questions}


def correlated_groups(
    features: Features, *, least_r: float = 0.4, alone: Sequence[str] = ("age", "sex")
) -> dict[str, tuple[str, ...]]:
    """Cluster questions whose answers are correlated among the training participants.

    Average linkage on 1 - abs(r); between questions with several columns, r is the largest over
    pairs of columns.

    Args:
        features: Fitted on the training participants.
        least_r: Mean correlation within a group and between the parts it was joined from.
        alone: Questions that join no group: age is correlated with nearly everything.

    Returns:
        Groups of two or more questions, in the order of the questions; named after them.
    """
    free = [i for i, name in enumerate(features.questions) if name not in alone]
    if len(free) < 2:
        return {}
    columns = [features.question == i for i in free]
    size = np.abs(features.correlation)
    r = np.array([[size[np.ix_(a, b)].max() for b in columns] for a in columns])
    np.fill_diagonal(r, 1.0)
    tree = linkage(squareform(1 - r, checks=False), "average")
    cluster = fcluster(tree, 1 - least_r, "distance")
    members = [
        tuple(features.questions[free[i]] for i in np.flatnonzero(cluster == c))
        for c in dict.fromkeys(cluster)
    ]
    return {" + ".join(names): names for names in members if len(names) > 1}


def checked_groups(features: Features, groups: Groups | None) -> dict[str, tuple[str, ...]]:
    """Return the groups, by default every question alone.

    Raises:
        ConfigError: for an empty group, or one that names a question twice.
        TableError: for a question the features do not have.
    """
    if groups is None:
        return single_questions(features)
    for name, questions in groups.items():
        for question in questions:
            features.column(question)
        if not questions or len(set(questions)) < len(questions):
            raise ConfigError(
                f"group {name!r} has the questions {list(questions)}",
                "Name one question or more, each once.",
            )
    return {name: tuple(questions) for name, questions in groups.items()}


def columns_of(features: Features, questions: Sequence[str]) -> np.ndarray:
    """Return the indices of the encoded columns of some questions."""
    chosen = [features.questions.index(question) for question in questions]
    return np.flatnonzero(np.isin(features.question, chosen))


def common_direction(features: Features, questions: Sequence[str]) -> np.ndarray:
    """Return how the answers of a group change together.

    The first principal component of the group's training correlation, scaled to one standard
    deviation of its score: the change of each answer that goes with it. The answer that takes
    part most rises. For one numeric answer this is one standard deviation of it.

    Args:
        features: Fitted on the training participants.
        questions: Members of the group.

    Returns:
        (F,) training standard deviations of each encoded column, 0 outside the group.
    """
    columns = columns_of(features, questions)
    values, vectors = np.linalg.eigh(features.correlation[np.ix_(columns, columns)])
    leading = vectors[:, -1] * np.sign(vectors[np.abs(vectors[:, -1]).argmax(), -1])
    direction = np.zeros(len(features.names))
    direction[columns] = leading * np.sqrt(values[-1])
    return direction


def group_effects(gradients: np.ndarray, features: Features, groups: Groups) -> np.ndarray:
    """Reduce gradients to one effect per group.

    Args:
        gradients: (..., F, 3) mean gradients (mL per training standard deviation).
        features: Of the model.
        groups: Name to questions.

    Returns:
        (..., G, 3) mL per standard deviation: of a numeric answer or two named ones, the
        gradient; of a question with k > 2 unordered answers, the SD, over the training answers,
        of what each answer changes from the average one; of several questions, the gradient
        along their common direction.
    """
    effects = []
    for questions in groups.values():
        columns = columns_of(features, questions)
        if len(questions) == 1 and len(columns) > 1:
            effects.append(_effect_of_levels(gradients[..., columns, :], features, columns))
        else:
            effects.append(
                np.einsum("...fv,f->...v", gradients, common_direction(features, questions))
            )
    return np.stack(effects, axis=-2)


def _effect_of_levels(own: np.ndarray, features: Features, columns: np.ndarray) -> np.ndarray:
    """SD (..., 3) over a question's k answers of the change from the average to each of them.

    Moving one of its k columns alone would describe nobody: an answer excludes the others.

    Args:
        own: (..., k, 3) gradients of its columns.
        features: Of the model.
        columns: (k,) indices of its columns.
    """
    share, sd = features.mean[columns], features.sd[columns]
    changes = (np.eye(len(columns)) - share) / sd  # [answer, column], training SDs
    effects = np.einsum("lk,...kv->...lv", changes, own)
    return np.sqrt(np.einsum("l,...lv->...v", share / share.sum(), effects**2))
