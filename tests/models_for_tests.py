"""A conditional toy model that is ready to generate, without any training."""

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.models import Family, build
from csegsynth_kit.training.feed import Feed
from tests.training.jobs import toy_preset


def started_model(cohort: Cohort, *, conditional: bool = True, family: str = "csegsynth") -> Family:
    """A model that starts from components and regression: crude, but it follows the answers."""
    features = Features.fit(cohort.table, cohort.feature_columns) if conditional else None
    model = build(toy_preset(family).model, features).eval()
    model.fit_statistics(Feed(cohort, features, batch_size=4, seed=0).everybody())
    model.card = {
        "epoch": 0,
        "csf_definition": cohort.csf_definition,
        "simulated": True,
        "train": cohort.fingerprint,
        "valid": None,
    }
    return model
