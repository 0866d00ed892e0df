"""Answers to a model's questions: from a raw table or from JSON, and what is asked in words."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import pandas as pd

from csegsynth_kit.data.features import Features
from csegsynth_kit.data.participants import Participants, read_participants
from csegsynth_kit.data.schema import Column
from csegsynth_kit.data.tables import ABBREVIATIONS
from csegsynth_kit.errors import TableError

#: Names of so few letters are other words if a letter differs.
_SHORT = 4
_EXAMPLE = """--person '{"age": 71, "sex": "female"}'"""


def read_answers_for(
    features: Features, path: Path | str, *, id_column: str | None = None
) -> Participants:
    """Read from a raw table what a model asks, by the rules of :func:`read_participants`.

    Args:
        features: The questions, with what training participants answered.
        path: ``.tsv`` or ``.csv`` with one row per participant.
        id_column: Column that holds the ids, if it has an unusual name.

    Returns:
        Its ``frame`` has every question as a column, NaN where unanswered; ``ignored`` are the
        columns that the model does not ask for.

    Raises:
        TableError: for an unreadable table, clashing ids and impossible answers, if a column
            looks like a misspelled question, or if no question is among the columns.
    """
    path = Path(path)
    asked = {
        column.name: tuple(seen) if column.numeric else column.levels
        for column, seen in zip(features.columns, features.support, strict=True)
    }
    people = read_participants(path, asked=asked, id_column=id_column)
    _require_questions(people, features.questions, path)
    try:
        table = features.table_of(people.frame)
    except TableError as error:
        raise TableError(error.finding, error.remedy, path) from error
    return replace(people, frame=table)


def _require_questions(people: Participants, questions: tuple[str, ...], path: Path) -> None:
    absent = [name for name in questions if name not in people.frame]
    meant = [(column, name) for column in people.ignored for name in absent if _slip(column, name)]
    if meant:
        raise TableError(
            "has columns that look like misspelled questions: "
            + ", ".join(f"'{column}' ({name}?)" for column, name in meant),
            "Give them the names in brackets, or remove them.",
            path,
        )
    if not len(people.frame.columns):
        raise TableError(
            f"has none of the model's questions (columns: {shortened(people.ignored)})",
            f"Name its columns as the questions: {', '.join(questions)}.",
            path,
        )


def _slip(column: str, question: str, *, short: bool = False) -> bool:
    """Tell whether names differ at most in case, in punctuation, and by one letter if long.

    Where names of few letters count as well, much is found that is another word.
    """
    a, b = (re.sub(r"[\W_]", "", name.lower()) for name in (column, question))
    if a == b:
        return True
    if re.findall(r"\d", a) != re.findall(r"\d", b):
        return False  # The items of a questionnaire have numbers.
    if not short and min(len(a), len(b)) <= _SHORT:
        return False  # SES is not sex.
    same = sum(block.size for block in SequenceMatcher(None, a, b).get_matching_blocks())
    return same >= max(len(a), len(b)) - 1


def perhaps_meant(ignored: Iterable[str], open_questions: Iterable[str]) -> str:
    """Name ignored columns that may be questions nobody has answered under their own names."""
    pairs = [
        f"'{column}' ({name}?)"
        for column in ignored
        for name in open_questions
        if _slip(column, name, short=True) or _begins(column, name)
    ]
    return ", ".join(pairs)


def _begins(column: str, question: str) -> bool:
    """Tell whether a name begins with the other: education_level, handedness; not IST_item12."""
    a, b = column.lower(), question.lower()
    if a.startswith(f"{b}_") or b.startswith(f"{a}_"):
        return True
    return len(a) >= _SHORT and b.startswith(a) and not re.search(r"\d", b[len(a) :])


def person_of(text: str) -> dict:
    """Read one person's answers from JSON.

    Raises:
        TableError: if it is no JSON object; tells how a shell wants it quoted.
    """
    try:
        person = json.loads(text)
    except json.JSONDecodeError as error:
        raise TableError(
            f"--person is not valid JSON ({error}): {text}",
            f"Write {_EXAMPLE}, with single quotes around and double quotes inside "
            r'(at the prompt of Windows "{\"age\": 71}").',
        ) from error
    if not isinstance(person, dict):
        raise TableError(f"--person is not a JSON object: {text}", f"Write {_EXAMPLE}.")
    return person


def unanswered(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Name the questions that everybody leaves open, and those that some do.

    Args:
        table: Answers, one row per person.

    Returns:
        Two lists; names in the second come with how many of the people leave them open.
    """
    counts = table.isna().sum()
    by_all = [name for name, count in counts.items() if count == len(table)]
    by_some = [f"{n} ({c} of {len(table)})" for n, c in counts.items() if 0 < c < len(table)]
    return by_all, by_some


def question_words(features: Features) -> pd.DataFrame:
    """Say what a model asks.

    Returns:
        One row per question: ``question``, ``answers`` (those of training participants: from
        the smallest to the largest number with units, or the choices) and ``meaning``.
    """
    rows = [
        {
            "question": column.name,
            "answers": _answers(column, seen),
            "meaning": column.description or column.name.replace("_", " "),
        }
        for column, seen in zip(features.columns, features.support, strict=True)
    ]
    return pd.DataFrame(rows)


def _answers(column: Column, seen: tuple) -> str:
    if column.numeric:
        return f"{seen[0]:g} to {seen[1]:g} {column.units}".strip()
    return ", ".join(seen)


def abbreviations(features: Features) -> dict[str, str]:
    """Return what the abbreviations in the names of the questions stand for."""
    parts = {part.upper() for name in features.questions for part in name.split("_")}
    return {short: meaning for short, meaning in ABBREVIATIONS.items() if short in parts}


def shortened(names: Sequence[str], *, most: int = 12) -> str:
    """List names, only the first of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
