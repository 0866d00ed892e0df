"""The report of a preparation, in Markdown, for the person whose data it is."""

import re
from collections import defaultdict
from collections.abc import Sequence

from csegsynth_kit.data.findings import Finding

#: What each kind of finding means, as a heading.
_HEADINGS = {
    "bad-id": "No participant can be made out",
    "coarse-voxels": "Coarse voxels",
    "cut-off": "Brain cut by the edge of the image",
    "empty-tissue": "A tissue is empty",
    "failed": "Unexpected failure",
    "far-rotation": "Unusual orientation",
    "implausible-volume": "Implausible volume",
    "left-out": "Columns left out",
    "mirrored": "Left and right look swapped",
    "mirrored-header": "The header contradicts itself about left and right",
    "missing-tissue": "A tissue is missing",
    "mixed-kinds": "Labels and shares in one cohort",
    "modulated": "Modulated maps",
    "no-answers": "Map without a row in the table",
    "no-map": "Rows without a map",
    "no-orientation": "No orientation in the header",
    "out-of-range": "Shares outside 0 to 1",
    "poor-alignment": "Poor fit to the template",
    "repeated-answers": "The same answers under two ids",
    "repeated-map": "The same map under two names",
    "several-scans": "Several scans of one participant",
    "sum-above-1": "Shares sum to more than 1",
    "sum-below-1": "Shares sum to less than 1",
    "swapped-tissues": "Tissues look swapped",
    "uneven-voxels": "Uneven voxels",
    "units": "Units of the header",
    "unknown-labels": "Unknown labels",
    "unreadable": "Unreadable or unusable file",
    "volume-change": "Volume changed by resampling",
    "warped-unmodulated": "Maps warped to a template",
}
#: So many participants of a note are named; of exclusions and doubts all are.
_NAMED = 3
#: The file a message begins with; equal messages about different files are told once.
_FILE = re.compile(r"^\S+\.(nii|nii\.gz|mgz): ")


def report(
    title: str, facts: Sequence[tuple[str, str]], findings: Sequence[Finding], kept: int
) -> str:
    """Write what was kept, what was not, and why.

    Args:
        title: Name of the cohort.
        facts: Lines of the header, as (what, value).
        findings: Everything that was noticed.
        kept: Number of participants in the cohort.

    Returns:
        Markdown. Every exclusion and doubt is listed by participant; notes are counted.
    """
    by = {s: [f for f in findings if f.severity == s] for s in ("excluded", "doubt", "note")}
    columns = [f for f in by["note"] if f.code == "left-out"]
    notes = [f for f in by["note"] if f.code != "left-out"]
    excluded = {f.subject for f in by["excluded"]}
    doubted = {f.subject for f in by["doubt"]}
    counts = [
        ("participants kept", str(kept)),
        ("left out", str(len(excluded))),
        ("to look at", str(len(doubted))),
    ]
    lines = [f"# Preparation of {title}", "", "| | |", "|---|---|"]
    lines += [f"| {what} | {value} |" for what, value in (*counts, *facts)]
    lines += _section("Left out", by["excluded"], "Nobody was left out.")
    lines += _section("To look at", by["doubt"], "Nothing looked doubtful.")
    if columns:
        lines += ["", "## Columns that are no features", *_columns(columns)]
    if notes:
        lines += ["", "## Notes", *_notes(notes)]
    return "\n".join(lines) + "\n"


def _section(heading: str, findings: Sequence[Finding], empty: str) -> list[str]:
    lines = ["", f"## {heading}"]
    if not findings:
        return [*lines, "", empty]
    for code, members in _grouped(findings, lambda f: f.code).items():
        lines += ["", f"### {_heading(code)} ({len({f.subject for f in members})})", ""]
        for text, same in _grouped(members, lambda f: _FILE.sub("", f.message)).items():
            subjects = dict.fromkeys(f.subject for f in same)
            text = same[0].message if len(same) == 1 else text
            lines.append(f"- {', '.join(subjects)}: {text}")
    return lines


def _columns(findings: Sequence[Finding]) -> list[str]:
    lines = [""]
    for message, same in _grouped(findings, lambda f: f.message).items():
        names = ", ".join(f"`{f.subject.removeprefix('column ')}`" for f in same)
        reason = message.removeprefix("Left out: ").rstrip(".")
        lines.append(f"- {reason}: {names}")
    return lines


def _notes(findings: Sequence[Finding]) -> list[str]:
    lines = [""]
    for code, members in _grouped(findings, lambda f: f.code).items():
        # Messages that differ in numbers and file names only are one message.
        for same in _grouped(members, lambda f: _shape(f.message, f.subject)).values():
            subjects = list(dict.fromkeys(f.subject for f in same))
            if len(subjects) == 1:
                about = "" if subjects[0] == "cohort" else f"{subjects[0]}: "
                lines += [f"- {about}{m}" for m in dict.fromkeys(f.message for f in same)]
                continue
            more = f" and {len(subjects) - _NAMED} more" if len(subjects) > _NAMED else ""
            named = ", ".join(subject.removeprefix("column ") for subject in subjects[:_NAMED])
            what = "columns" if subjects[0].startswith("column ") else "participants"
            lines.append(
                f"- {_heading(code)}: {len(subjects)} {what} ({named}{more}). "
                f"For example: {same[0].message}"
            )
    return lines


def _shape(message: str, subject: str) -> str:
    return re.sub(r"\d+", "#", re.sub(r"\S*sub-\S*", "FILE", message.replace(subject, "WHO")))


def _grouped(findings: Sequence[Finding], key) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[key(finding)].append(finding)
    return groups


def _heading(code: str) -> str:
    return _HEADINGS.get(code, code.replace("-", " ").capitalize())
