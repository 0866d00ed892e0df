"""The report names everyone who was left out, and does not flood."""

from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.report import report


def test_every_exclusion_and_doubt_is_listed_by_participant():
    findings = [
        Finding("excluded", "sub-1", "unreadable", "a.nii: is damaged. Copy it again."),
        Finding("excluded", "sub-2", "no-answers", "has no row."),
        Finding("excluded", "sub-3", "no-answers", "has no row."),
        Finding("doubt", "sub-4", "mirrored", "a.nii.gz: sides look swapped."),
    ]
    text = report("mine", [("source", "`x`")], findings, kept=7)
    assert "| participants kept | 7 |" in text
    assert "| left out | 3 |" in text
    assert "| to look at | 1 |" in text
    assert "| source | `x` |" in text
    assert "- sub-1: a.nii: is damaged. Copy it again." in text
    assert "### Map without a row in the table (2)" in text
    assert "- sub-2, sub-3: has no row." in text
    assert "- sub-4: a.nii.gz: sides look swapped." in text


def test_equal_doubts_about_many_files_are_one_line():
    findings = [
        Finding("doubt", f"sub-{i}", "coarse-voxels", f"sub-{i}_dseg.nii.gz: voxels of 4 mm.")
        for i in range(50)
    ]
    text = report("mine", [], findings, kept=50)
    assert text.count("voxels of 4 mm.") == 1
    assert all(f"sub-{i}," in text or f"sub-{i}:" in text for i in range(50))


def test_notes_are_counted_and_three_named():
    findings = [
        Finding("note", f"sub-{i}", "several-scans", f"several scans: ses-{i} is used.")
        for i in range(400)
    ]
    findings.append(Finding("note", "cohort", "no-map", "3 rows have no map."))
    findings += [Finding("note", f"column {c}", "spelling", "one answer.") for c in "ab"]
    text = report("mine", [], findings, kept=400)
    assert "Spelling: 2 columns (a, b)." in text
    assert "Several scans of one participant: 400 participants (sub-0, sub-1, sub-2 and 397" in text
    assert "- 3 rows have no map." in text
    assert len(text.splitlines()) < 25


def test_columns_are_grouped_by_why_they_are_no_features():
    findings = [
        Finding("note", f"column {name}", "left-out", f"Left out: {reason}.")
        for name, reason in (
            ("religion", "sensitive"),
            ("politics", "sensitive"),
            ("x", "constant"),
        )
    ]
    text = report("mine", [], findings, kept=1)
    assert "## Columns that are no features" in text
    assert "- sensitive: `religion`, `politics`" in text
    assert "Nobody was left out." in text
    assert "Nothing looked doubtful." in text
