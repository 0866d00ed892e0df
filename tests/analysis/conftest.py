import pytest

from tests.models_for_tests import started_model
from tests.toy import toy_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    return toy_cohort(tmp_path_factory.mktemp("analysis") / "cohort", 40, missing=0.1)


@pytest.fixture(scope="session")
def model(cohort):
    return started_model(cohort)
