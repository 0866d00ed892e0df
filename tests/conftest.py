"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real files that tests marked ``real`` read.

    A variable that names no folder is a mistake of whoever set it, so it fails; without the
    variable the tests are skipped, unless ``CSEGSYNTH_REQUIRE_REAL=1`` says that they must run.
    """
    folder = os.environ.get("CSEGSYNTH_TEST_DATA")
    if folder is None:
        reason = "CSEGSYNTH_TEST_DATA does not name the folder of the real files"
        if os.environ.get("CSEGSYNTH_REQUIRE_REAL", "0") not in ("", "0"):
            pytest.fail(reason)
        pytest.skip(reason)
    if not Path(folder).is_dir():
        pytest.fail(f"CSEGSYNTH_TEST_DATA={folder} is no folder")
    return Path(folder)
