"""Does a checkpoint, or anything beside it, hold a training participant's data?"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import RunError
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.rows import SAME, Match, Reference, find, references, rows_of_length

_LETTER = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class Trace:
    """Something of training participants that was found in a run.

    Args:
        severity: ``leak`` for a participant's map, answers or volumes; ``doubt`` for what tells
            who took part, or nearly a map; ``note`` for what is only good to know.
        kind: A short, stable name: ``map``, ``answers``, ``volumes``, ``resemblance``,
            ``span``, ``ids``, ``digests`` or ``extremes``.
        place: File, and tensor or part of it.
        message: What was found, with figures, and what to do.
    """

    severity: Literal["leak", "doubt", "note"]
    kind: str
    place: str
    message: str


def scan_checkpoint(path: Path | str, train: Cohort) -> list[Trace]:
    """Compare a checkpoint, or a whole run folder, with the training participants.

    Every tensor, those of averaged weights and optimizers included, is read along its last and
    its first axes at the lengths of maps (whole, by tissue, in log shares, pooled), answers and
    volumes, and compared beside scale, shift and the training mean; see ``rows.find``. Texts
    are searched for ids, digests of scans, answers and volumes.

    Nothing found is no proof: parts of rows, and rows that are encrypted, rotated, mixed or
    noisy, stay hidden. Whether generated maps, or reconstructions, betray people is another
    question; see ``metrics.release`` and ``whitebox``.

    Args:
        path: A checkpoint that is to be given away alone, or a whole run folder.
        train: The training participants.

    Returns:
        Traces, leaks first; empty if nothing was found.
    """
    path = Path(path)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise RunError("holds no checkpoint", "Give a checkpoint or the folder of a run.", path)
    traces: list[Trace] = []
    for file in files:
        traces += _in_checkpoint(file, train)
    # A checkpoint given away alone has nothing beside it, and nothing matches.
    for file in sorted(path.glob("*.json")):
        traces += _in_json(file.name, json.loads(file.read_text(encoding="utf-8")), train)
    for file in sorted([*path.glob("*.csv"), *path.glob("*.tsv")]):
        traces += _in_texts(file.name, [file.read_text(encoding="utf-8")], train)
    order = ("leak", "doubt", "note")
    return sorted(traces, key=lambda trace: order.index(trace.severity))


def _in_checkpoint(file: Path, train: Cohort) -> Iterator[Trace]:
    tensors, meta = checkpoint.read(file)
    stored = meta.get("features")
    features = None if stored is None else Features.from_dict(stored)
    yield from _in_tensors(file.name, tensors, train, features)
    yield from _in_json(f"{file.name} (header)", meta, train)
    if features is not None:
        yield from _extremes(f"{file.name} (header)", features, train)


def _in_tensors(
    file: str, tensors: dict[str, Tensor], train: Cohort, features: Features | None
) -> Iterator[Trace]:
    best: dict[str, dict[int, tuple[Match, Reference]]] = {}
    for reference in references(train, features):
        matrices = [
            (name, rows)
            for name, tensor in tensors.items()
            for rows in rows_of_length(tensor, reference.length)
        ]
        for name, match in find(matrices, reference, people=len(train)):
            known = best.setdefault(name, {})
            if match.participant not in known or _rank(match) > _rank(known[match.participant][0]):
                known[match.participant] = match, reference
    for name, found in best.items():
        yield from _told(f"{file}: {name}", found)


def _rank(match: Match) -> tuple[bool, float]:
    return not match.spanned, round(match.likeness, 3)


def _told(place: str, best: dict[int, tuple[Match, Reference]]) -> Iterator[Trace]:
    """Sum up the matches of a tensor, one trace for each kind."""
    kinds: dict[tuple[str, str], list[Match]] = {}
    for match, reference in best.values():
        what = "map" if reference.is_map else "volumes" if "volumes" in match.kind else "answers"
        kind = "span" if match.spanned else what if match.likeness > SAME else "resemblance"
        kinds.setdefault((kind, match.kind), []).append(match)
    for (kind, form), matches in kinds.items():
        most = max(match.likeness for match in matches)
        people = f"{len(matches)} training participants"
        if kind == "span":
            message = (
                f"its rows together span the {form} of {people}: there are about as many as "
                "people, so that whoever has a person's map can tell whether they took part. Use "
                "fewer components, or more participants."
            )
        elif kind == "resemblance":
            message = (
                f"rows resemble the {form} of {people} (correlation up to {most:.4f} beside the "
                "mean). In weights: use fewer components, or more participants; in optimizers: "
                "release the best checkpoint, which has none."
            )
        else:
            message = (
                f"rows are the {form} of {people} (correlation {most:.4f} beside scale, shift and "
                "mean). Do not release this file."
            )
        yield Trace("doubt" if kind in ("span", "resemblance") else "leak", kind, place, message)


def _in_json(place: str, content: object, train: Cohort) -> Iterator[Trace]:
    texts, lists, mappings = [], [], []
    _collect(content, texts, lists, mappings)
    yield from _in_texts(place, texts, train)
    volumes = train.volumes.to_numpy(float)
    found = sum(_holds(lists, row) for row in volumes)
    if found:
        yield Trace("leak", "volumes", place, f"the volumes of {found} training participants.")
    answers = train.table[[column.name for column in train.feature_columns]]
    found = sum(_answered(lists, mappings, row.dropna().to_dict()) for _, row in answers.iterrows())
    if found:
        yield Trace("leak", "answers", place, f"the answers of {found} training participants.")


def _collect(content: object, texts: list[str], lists: list[list], mappings: list[dict]) -> None:
    """Sort the contents of JSON into texts (names included), lists and mappings."""
    if isinstance(content, str):
        texts.append(content)
    elif isinstance(content, dict):
        mappings.append(content)
        texts += content
        for value in content.values():
            _collect(value, texts, lists, mappings)
    elif isinstance(content, list):
        lists.append(content)
        for value in content:
            _collect(value, texts, lists, mappings)


def _in_texts(place: str, texts: Iterable[str], train: Cohort) -> Iterator[Trace]:
    whole = set(texts)
    # Names may be part of a longer text; mere numbers there may mean anything.
    words = {w for text in whole for w in re.split(r"[^A-Za-z0-9-]+", text) if _LETTER.search(w)}
    ids = {*train.ids, *train.persons} & (whole | words)
    if ids:
        yield Trace(
            "doubt",
            "ids",
            place,
            f"ids of {len(ids)} training participants: with a list of names, they tell who took "
            "part. Remove them before a release.",
        )
    digests = train.scans & (whole | words)
    if digests:
        yield Trace(
            "doubt",
            "digests",
            place,
            f"digests of {len(digests)} training scans: whoever knows a person's exact volumes "
            "can tell whether they took part. Remove them before a release.",
        )


def _holds(lists: Iterable[list], row: np.ndarray) -> bool:
    """Whether a list begins with these numbers, as far as six digits show."""
    starts = [found[: len(row)] for found in lists if len(found) >= len(row)]
    numbers = [s for s in starts if all(type(x) in (int, float) for x in s)]
    return any(np.allclose(s, row, rtol=1e-6, atol=0) for s in numbers)


def _answered(lists: Iterable[list], mappings: Iterable[dict], answers: dict) -> bool:
    """Whether a person's answers stand in a list, in order, or in a mapping by question."""
    if len(answers) < 3:  # So few are shared by many.
        return False
    values = list(answers.values())
    by_name = any(all(m.get(name) == a for name, a in answers.items()) for m in mappings)
    return by_name or any(values == found[: len(values)] for found in lists)


def _extremes(place: str, features: Features, train: Cohort) -> Iterator[Trace]:
    """Tell if the range of an answer is a single participant's."""
    alone = []
    for column, seen in zip(features.columns, features.support, strict=True):
        counts = train.table[column.name].value_counts()
        if any(counts.get(end, 0) == 1 for end in seen):
            alone.append(column.name)
    if alone:
        yield Trace(
            "note",
            "extremes",
            place,
            f"the smallest or largest answer, or a rare one, is a single training participant's "
            f"in {len(alone)} questions ({', '.join(alone)}).",
        )
