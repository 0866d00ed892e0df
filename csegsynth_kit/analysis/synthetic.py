"""Generated maps, with what they were generated from, and how they are written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from csegsynth_kit.constants import MEASURED, VOLUME_COLUMNS
from csegsynth_kit.data.derivative import require_new
from csegsynth_kit.data.export import export_bids
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.participants import participant_id
from csegsynth_kit.data.schema import Column
from csegsynth_kit.errors import CohortError, ConfigError, TableError
from csegsynth_kit.maps import SegmentationMaps


@dataclass(frozen=True)
class Draw:
    """What determines, with the seed, the latent of a map.

    Args:
        number: Number of the draw from these answers, from 1.
        of: How many there are.
        row: Of the person in the table, from 0.
        answers_of: Id of the person in the table; empty without ids.
        by_id: Whether the id decides, and not the row.
    """

    number: int
    of: int
    row: int = 0
    answers_of: str = ""
    by_id: bool = False

    def to_bids(self) -> dict:
        """Return entries of a sidecar from which the latent can be drawn again."""
        entries = {"Draw": self.number, "Draws": self.of}
        if self.answers_of:
            entries["AnswersOf"] = self.answers_of
        if self.by_id:
            return {**entries, "Latent": "drawn from Seed, AnswersOf and Draw (by_id=True)"}
        how = "drawn from Seed and Row (from 0), all Draws at once (by_id=False)"
        return {**entries, "Row": self.row, "Latent": how}


@dataclass(frozen=True, repr=False)
class SyntheticMaps(SegmentationMaps):
    """Generated maps, with the answers they were generated from.

    Args:
        answers: The answers asked for, one row per map (empty without features).
        columns: What the columns of ``answers`` are.
        warnings: Answers outside what the model has seen, and other doubts, of all maps together.
        own_warnings: Warnings of each map; empty if ``warnings`` hold for all.
        card: What the model was trained on.
        seed: Of the latents.
        draws: Of every map, what else its latent was drawn from; empty if none was drawn.
    """

    answers: pd.DataFrame
    columns: tuple[Column, ...]
    warnings: tuple[str, ...]
    card: dict
    seed: int = 0
    draws: tuple[Draw, ...] = ()
    own_warnings: tuple[tuple[str, ...], ...] = ()

    def named(self, participant: str) -> "SyntheticMaps":
        """Name the maps ``sub-NAMEdraw01`` and so on, a single one ``sub-NAME``.

        Each draw is another plausible individual, and hence a participant of its own.

        Raises:
            ConfigError: for maps of several people, which one name would make draws of one.
        """
        people = sum(draw.number == 1 for draw in self.draws) if self.draws else len(self)
        if people > 1:
            raise ConfigError(
                f"these are maps of {people} people, and {participant!r} names one",
                "Leave the name out, and index the table by participant_id; or generate one "
                "person at a time.",
            )
        labels = labels_of(participant, len(self))
        return replace(self, labels=labels, answers=self.answers.set_axis(list(labels)))

    def warned(self, text: str) -> "SyntheticMaps":
        """Add a warning that concerns every map."""
        own = tuple((*warnings, text) for warnings in self.own_warnings)
        return replace(self, warnings=(*self.warnings, text), own_warnings=own)

    def to_bids(self, out: Path | str, participant: str | None = None) -> Path:
        """Write a BIDS derivative that says it is synthetic, and ``volumes.tsv``.

        Args:
            out: Folder of the derivative.
            participant: A name for the person; see :meth:`named`.

        Raises:
            CohortError: if maps of these names are there, or both a single and a numbered draw
                of one name would be.
            ConfigError: for a name, but several people.
        """
        maps = self if participant is None else self.named(participant)
        require_other_names(Path(out), maps.labels)
        return export_bids(
            maps,
            out,
            synthetic=True,
            csf_definition=self.card["csf_definition"],
            extra=self._about(),
            each=self._each(),
            participants=maps.answers,
            columns=self.columns,
            volumes=maps._volumes(),
            dtype="float32",  # Steps of 1/255 would round away the faint edges of soft maps.
        )

    def _about(self) -> dict:
        answered = self.answers.notna().any(axis=None)
        about = {
            "GeneratedFrom": "the answers in participants.tsv" if answered else "no answers",
            "TrainedOnSimulatedData": self.card["simulated"],
            "Model": self.card.get("weights") or f"trained on {self.card['train']}",
        }
        if self.card.get("texture"):
            about["FineDetail"] = "random texture, not the folds of any brain"
        return about

    def _each(self) -> list[dict]:
        """Say of every map what it was drawn from, and what is in doubt about it."""
        each = [{"Seed": self.seed, **draw.to_bids()} for draw in self.draws] or [{}] * len(self)
        doubts = self.own_warnings or (self.warnings,) * len(self)
        return [
            entries | ({"Warnings": list(own)} if own else {})
            for entries, own in zip(each, doubts, strict=True)
        ]

    def _volumes(self) -> pd.DataFrame:
        """One row per map: whose answers, which draw, ``wm_ml``, ``gm_ml`` and ``csf_ml``."""
        tidy = self.volumes_ml().pivot(index="map", columns="tissue", values="volume_ml")
        table = tidy.loc[list(self.labels), list(MEASURED)].round(3)
        table.columns = list(VOLUME_COLUMNS)
        if self.draws:
            table.insert(0, "draw", [draw.number for draw in self.draws])
            table.insert(0, "answers_of", [draw.answers_of or None for draw in self.draws])
        return table


def own_warnings(features: Features, answers: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
    """Warn of every row by itself of answers that nobody in training gave."""
    own: list[list[str]] = [[] for _ in range(len(answers))]
    outside = features.outside_support(answers.reset_index(drop=True))
    for row, feature, answer, seen in outside.itertuples(index=False):
        told = answer if isinstance(answer, str) else f"{answer:g}"
        own[row].append(
            f"{feature}: {told} lies outside what training participants answered ({seen}); "
            "this map is an extrapolation."
        )
    return tuple(map(tuple, own))


def labels_of(name: str, n: int) -> tuple[str, ...]:
    """Name n draws of a person; a single one needs no number."""
    return (f"sub-{name}",) if n == 1 else tuple(f"sub-{name}draw{i + 1:02d}" for i in range(n))


def synthetic_labels(ids: Sequence[str], n: int) -> tuple[str, ...]:
    """Name n draws of everybody after a ``sub-`` id, or after a number where it is empty."""
    names = [i.removeprefix("sub-") or f"{k + 1:04d}" for k, i in enumerate(ids)]
    return tuple(label for name in names for label in labels_of(f"synthetic{name}", n))


def require_other_names(out: Path, labels: Sequence[str]) -> None:
    """Refuse names that are taken, and a single draw beside numbered ones of a name.

    Nobody could say whether ``sub-x`` and ``sub-xdraw01`` are two people or one.

    Raises:
        CohortError: names what is there.
        TableError: for a name that cannot be an id, or two that are not told apart.
    """
    ids = [participant_id(label) for label in labels]
    singles = set(ids)
    mixed = [label for label in ids if _single(label) != label and _single(label) in singles]
    if mixed:
        raise TableError(
            f"nobody could tell {mixed[0]} from a draw of {_single(mixed[0])}",
            "Rename one of them: only numbered draws of a name end in draw and a number.",
        )
    require_new(out, ids)
    there = dict.fromkeys(sorted(path.name for path in out.glob("sub-*")))
    numbered = {_single(name): name for name in reversed(there) if _single(name) != name}
    for label in ids:
        single = _single(label)
        other = numbered.get(label) if single == label else single
        if other in there:
            raise CohortError(
                f"is there already, another draw of the name of {label}",
                "Choose another name or another folder: numbered draws (of two or more at once) "
                "and single ones of a name are not mixed.",
                out / other,
            )


def _single(label: str) -> str:
    return re.sub(r"draw\d{2,}$", "", label)
