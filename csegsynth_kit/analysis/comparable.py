"""What must hold before models are compared: same training, same questions, nobody twice."""

from collections.abc import Mapping

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.errors import CohortError, ConfigError
from csegsynth_kit.models import Family


def require_comparable(models: Mapping[str, Family], train: Cohort, test: Cohort) -> None:
    """Check that test participants are new to all models and measured alike.

    Raises:
        CohortError: if test and training share participants or count CSF differently.
        ConfigError: as :func:`require_trained_alike`.
    """
    shared = set(train.persons) & set(test.persons)
    if shared:
        raise CohortError(
            f"{len(shared)} persons are in both training and test ({sorted(shared)[0]})",
            "Use Cohort.split for both.",
            test.path,
        )
    require_trained_alike(models, train)
    require_same_csf(models, train, test)


def require_same_csf(models: Mapping[str, Family], *cohorts: Cohort) -> None:
    """Check that models and cohorts count the same as CSF, or raise CohortError."""
    counted = {model.card["csf_definition"] for model in models.values()}
    definitions = {*counted, *(cohort.csf_definition for cohort in cohorts)}
    if len(definitions) > 1:
        raise CohortError(
            f"CSF is counted in different ways: {', '.join(sorted(definitions))}",
            "Compare only cohorts with the same csf_definition.",
            cohorts[-1].path,
        )


def require_not_chosen_by(models: Mapping[str, Family], test: Cohort) -> None:
    """Check that no model's checkpoint was chosen by the test participants.

    A model knows the fingerprints of its training and validation participants, not their names,
    because weights may be given away. So the very validation participants are found out, but
    not some of them among others, nor anybody of the pre-training: ``Cohort.split`` keeps the
    former apart, and ``Run.require_unseen`` of the pre-training run the latter.

    Raises:
        CohortError: if the test participants are a model's validation participants.
    """
    for name, model in models.items():
        if model.card["valid"] == test.fingerprint:
            raise CohortError(
                f"these {len(test)} are the validation participants by whom the weights of "
                f"{name!r} were chosen",
                "Evaluate it on the test participants (the third part of Cohort.split).",
                test.path,
            )


def require_trained_alike(models: Mapping[str, Family], train: Cohort) -> None:
    """Check that all models learned from ``train``, and are asked the same questions.

    Raises:
        CohortError: if a model was trained on other participants.
        ConfigError: if there is no model, one takes no answers, or they take different ones.
    """
    if not models:
        raise ConfigError("there is no model", "Give at least one.")
    for name, model in models.items():
        if not model.conditional:
            raise ConfigError(
                f"{name!r} was only pre-trained and takes no answers", "Give fine-tuned models."
            )
        if model.card["train"] not in (None, train.fingerprint):
            raise CohortError(
                f"these {len(train)} are not the training participants of the model {name!r}",
                "Give the split it was trained with (Cohort.split with the same fractions and "
                "seed).",
                train.path,
            )
    asked = {name: model.features.questions for name, model in models.items()}
    (first, questions), *others = asked.items()
    for name, own in others:
        if set(own) != set(questions):
            different = ", ".join(sorted(set(own) ^ set(questions)))
            raise ConfigError(
                f"{first!r} and {name!r} are asked different questions ({different})",
                "Evaluate them one at a time.",
            )
