"""Broken inputs end in an error or an exclusion that says what to do, never in half a cohort."""

import re

import pytest

from csegsynth_kit.data.cohort import load_cohort
from tests.data.bad_inputs import BAD, CASES, GOOD, outcome


@pytest.mark.parametrize("name", CASES)
def test_a_broken_input_is_named_and_leaves_nothing_half_done(name, tmp_path):
    case = CASES[name]
    before = {path.name for path in tmp_path.iterdir()}

    result = outcome(case, tmp_path)

    left = {path.name for path in tmp_path.iterdir()} - before - {"source"}
    if isinstance(case.expected, str):
        assert result.error is None, result.message
        assert case.expected in result.excluded
        assert case.names in result.excluded[case.expected]
        assert re.search(r"\. [A-Z].*\.$", result.excluded[case.expected]), "no remedy"
        assert result.kept == (GOOD,)
        assert left == {"out"}
        assert BAD in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
        assert load_cohort(tmp_path / "out").ids == (GOOD,)
        return
    assert type(result.error) is case.expected, result.excluded
    assert case.names in result.message
    assert result.error.remedy.endswith(".")
    if name == "output that exists":
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]
    elif name == "another half-finished cohort":
        assert left == {".out.partial"}
    else:
        assert left == set()
