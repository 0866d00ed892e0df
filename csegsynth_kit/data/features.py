"""Typed features: encode, impute and standardize with training statistics; invert; check.

Everything here is fitted on training participants only. A missing answer is imputed by its
mean given the answers that were given, under a Gaussian fitted to the training table, and is
flagged to the network, so that a person may leave questions unanswered.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from csegsynth_kit.data.renaming import in_any_case
from csegsynth_kit.data.schema import SEX_WORDS, Column
from csegsynth_kit.errors import TableError

#: Smallest eigenvalue left in the correlation matrix, so that collinear answers stay solvable.
_EIGENVALUE_FLOOR = 0.02
#: Numbers outside these bounds are mistakes, not rare answers.
_POSSIBLE = {"age": (0.0, 125.0)}
#: Answers so many times the training range beyond it are mistakes, too; nearer ones are flagged.
_FARTHEST_RANGES = 3.0


@dataclass(frozen=True)
class Encoded:
    """Encoded answers.

    Args:
        values: (N, F) float64, standardized; NaN where unanswered.
        answered: (N, C) bool, one entry per question.
    """

    values: np.ndarray
    answered: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows) -> "Encoded":
        return Encoded(self.values[rows], self.answered[rows])


@dataclass(frozen=True)
class Features:
    """The questions a model is given, with the statistics of its training participants.

    Args:
        columns: One entry per question.
        names: (F,) encoded names; a question with k > 2 unordered answers has k of them.
        question: (F,) index into ``columns`` of every encoded name.
        mean: (F,) training mean before standardization.
        sd: (F,) training standard deviation (n - 1) before standardization.
        correlation: (F, F) training correlation, eigenvalues at least 0.02.
        support: Per question, the smallest and largest number, or the answers, seen in training.
    """

    columns: tuple[Column, ...]
    names: tuple[str, ...]
    question: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    correlation: np.ndarray
    support: tuple[tuple, ...]

    @classmethod
    def fit(cls, table: pd.DataFrame, columns: Sequence[Column]) -> "Features":
        """Fit the encoding on training participants.

        Args:
            table: Training participants only.
            columns: The questions to use. Those that are constant or unanswered in ``table``
                are dropped; compare ``columns`` of the result.

        Raises:
            TableError: if a column is missing from the table or none is left.
        """
        absent = [c.name for c in columns if c.name not in table]
        if absent:
            raise TableError(f"the table has no column {absent[0]!r}", "Choose other features.")
        kept = tuple(c for c in columns if table[c.name].nunique(dropna=True) > 1)
        if not kept:
            raise TableError(
                "no feature varies among the training participants",
                "Choose other features, or more participants.",
            )
        raw, names, question = _numbers(table, kept)
        mean, sd = np.nanmean(raw, axis=0), np.nanstd(raw, axis=0, ddof=1)
        varies = sd > 0  # a level nobody in training has
        raw, mean, sd = raw[:, varies], mean[varies], sd[varies]
        names = tuple(n for n, v in zip(names, varies, strict=True) if v)
        question = np.asarray(question)[varies]
        return cls(
            kept,
            names,
            question,
            mean,
            sd,
            _correlation((raw - mean) / sd),
            tuple(_support(table[c.name], c) for c in kept),
        )

    @property
    def questions(self) -> tuple[str, ...]:
        """Names of the questions."""
        return tuple(column.name for column in self.columns)

    @property
    def n_inputs(self) -> int:
        """Length of one row of :meth:`inputs`: encoded values, then one flag per question."""
        return len(self.names) + len(self.columns)

    def column(self, name: str) -> Column:
        """Return the question of that name, or raise TableError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise TableError(
            f"{name!r} is not a feature of this model",
            f"Its features are {', '.join(self.questions)}.",
        )

    def encode(self, table: pd.DataFrame) -> Encoded:
        """Encode and standardize; columns the table lacks count as unanswered."""
        table = table.reindex(columns=list(self.questions))
        raw, names, _ = _numbers(table, self.columns)
        raw = raw[:, [names.index(name) for name in self.names]]
        return Encoded((raw - self.mean) / self.sd, table.notna().to_numpy())

    def impute(self, values: np.ndarray) -> np.ndarray:
        """Fill NaN with the mean given the other answers (training correlation).

        Args:
            values: (N, F) standardized, NaN where unanswered.
        """
        filled = np.where(np.isnan(values), 0.0, values)
        patterns, rows = np.unique(np.isnan(values), axis=0, return_inverse=True)
        for i, hidden in enumerate(patterns):
            if not hidden.any() or hidden.all():
                continue
            here = np.flatnonzero(rows.reshape(-1) == i)
            given = ~hidden
            weights = np.linalg.solve(
                self.correlation[np.ix_(given, given)], self.correlation[np.ix_(given, hidden)]
            )
            filled[np.ix_(here, hidden)] = values[np.ix_(here, given)] @ weights
        return filled

    def inputs(self, encoded: Encoded) -> np.ndarray:
        """Return (N, n_inputs) float32: imputed values, then 1 where a question is unanswered."""
        return np.concatenate(
            [self.impute(encoded.values), ~encoded.answered], axis=1, dtype=np.float64
        ).astype(np.float32)

    def hide(self, encoded: Encoded, hidden: np.ndarray) -> Encoded:
        """Return the answers with those of (N, C) bool ``hidden`` taken away."""
        values = np.where(hidden[:, self.question], np.nan, encoded.values)
        return Encoded(values, encoded.answered & ~hidden)

    def decode(self, values: np.ndarray) -> pd.DataFrame:
        """Invert :meth:`encode`: answers in their own units, NaN where values are NaN."""
        raw = np.asarray(values, float) * self.sd + self.mean
        return pd.DataFrame(
            {
                column.name: _answers(raw[:, self.question == i], column, self._levels_of(i))
                for i, column in enumerate(self.columns)
            }
        )

    def _levels_of(self, question: int) -> list[str]:
        prefix = self.columns[question].name + "="
        return [
            name.removeprefix(prefix)
            for name, q in zip(self.names, self.question, strict=True)
            if q == question
        ]

    def table_of(self, people: Mapping | Iterable[Mapping] | pd.DataFrame) -> pd.DataFrame:
        """Turn one person, several, or a table into a checked table of answers.

        Questions may be written in upper or lower case.

        Raises:
            TableError: for unknown features and impossible answers, by name.
        """
        if isinstance(people, Mapping):
            people = [people]
        table = people if isinstance(people, pd.DataFrame) else pd.DataFrame(list(people))
        names = [str(name) for name in table.columns]
        table = table.set_axis(names, axis=1).rename(columns=in_any_case(names, self.questions))
        for name in table.columns:
            self.column(name)
        checked = {
            c.name: self._checked(table, c, seen)
            for c, seen in zip(self.columns, self.support, strict=True)
        }
        return pd.DataFrame(checked, index=table.index)

    def _checked(self, table: pd.DataFrame, column: Column, seen: tuple) -> pd.Series:
        if column.name not in table:
            return pd.Series(np.nan, table.index, dtype=float if column.numeric else object)
        answers = table[column.name]
        if column.numeric:
            return _checked_numbers(answers, column, seen)
        words = {level.lower(): level for level in column.levels}
        if column.name == "sex":
            words |= {w: s for w, s in SEX_WORDS.items() if s in column.levels}
        text = answers.map(_as_text, na_action="ignore")
        known = text.map(lambda a: words.get(a.lower()), na_action="ignore").astype(object)
        wrong = known.isna() & answers.notna()
        if wrong.any():
            raise TableError(
                f"{_first(answers, wrong)} is not a possible answer",
                f"Possible answers are {', '.join(column.levels)}, or leave it out.",
            )
        return known.where(known.notna(), np.nan)

    def outside_support(self, table: pd.DataFrame) -> pd.DataFrame:
        """List answers that no training participant gave or reached.

        Returns:
            Columns ``row``, ``feature``, ``answer``, ``seen_in_training``.
        """
        found = []
        for column, seen in zip(self.columns, self.support, strict=True):
            answers = table[column.name] if column.name in table else pd.Series(dtype=float)
            if column.numeric:
                outside = (answers < seen[0]) | (answers > seen[1])
                described = f"{seen[0]:g} to {seen[1]:g}"
            else:
                outside = answers.notna() & ~answers.isin(seen)
                described = ", ".join(seen)
            found += [(row, column.name, a, described) for row, a in answers[outside].items()]
        return pd.DataFrame(found, columns=["row", "feature", "answer", "seen_in_training"])

    def to_dict(self) -> dict:
        """Return a JSON-ready description; holds no participant's row."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "names": list(self.names),
            "question": self.question.tolist(),
            "mean": self.mean.tolist(),
            "sd": self.sd.tolist(),
            "correlation": self.correlation.tolist(),
            "support": [list(s) for s in self.support],
        }

    @classmethod
    def from_dict(cls, stored: Mapping) -> "Features":
        """Invert :meth:`to_dict`."""
        columns = tuple(Column(**{**c, "levels": tuple(c["levels"])}) for c in stored["columns"])
        return cls(
            columns,
            tuple(stored["names"]),
            np.asarray(stored["question"], int),
            np.asarray(stored["mean"], float),
            np.asarray(stored["sd"], float),
            np.asarray(stored["correlation"], float),
            tuple(tuple(s) for s in stored["support"]),
        )


def _numbers(table: pd.DataFrame, columns: Sequence[Column]):
    """Encode without standardizing: numbers as they are, ranks, 0/1, or one column per level."""
    encoded, names, question = [], [], []
    for i, column in enumerate(columns):
        answers = table[column.name]
        if column.numeric:
            parts = {column.name: answers.astype(float)}
        elif column.kind == "ordinal" or len(column.levels) == 2:
            parts = {column.name: answers.map({v: r for r, v in enumerate(column.levels)})}
        else:
            parts = {
                f"{column.name}={level}": (answers == level).where(answers.notna())
                for level in column.levels
            }
        for name, values in parts.items():
            encoded.append(values.to_numpy(dtype=float, na_value=np.nan))
            names.append(name)
            question.append(i)
    return np.stack(encoded, axis=1), names, question


def _correlation(z: np.ndarray) -> np.ndarray:
    """Correlation of (N, F) standardized values from pairwise complete rows, made definite."""
    given = ~np.isnan(z)
    z = np.where(given, z, 0.0)
    count = given.T.astype(float) @ given
    raw = np.divide(z.T @ z, np.maximum(count - 1, 1), where=count > 2, out=np.zeros_like(count))
    np.fill_diagonal(raw, 1.0)
    eigenvalues, vectors = np.linalg.eigh(raw)
    definite = (vectors * np.maximum(eigenvalues, _EIGENVALUE_FLOOR)) @ vectors.T
    scale = np.sqrt(np.diag(definite))
    return definite / np.outer(scale, scale)


def _support(answers: pd.Series, column: Column) -> tuple:
    if column.numeric:
        return float(answers.min()), float(answers.max())
    return tuple(level for level in column.levels if (answers == level).any())


def _answers(raw: np.ndarray, column: Column, levels: list[str]) -> list:
    """Invert the encoding of one question from its (N, k) unstandardized values."""
    if column.numeric:
        return raw[:, 0].tolist()
    missing = np.isnan(raw).any(axis=1)
    if raw.shape[1] > 1 or (column.kind == "categorical" and len(column.levels) > 2):
        choice = np.nan_to_num(raw).argmax(axis=1)
    else:
        levels = list(column.levels)
        choice = np.nan_to_num(raw[:, 0]).round().clip(0, len(levels) - 1).astype(int)
    return [np.nan if m else levels[i] for i, m in zip(choice, missing, strict=True)]


def _as_text(answer) -> str:
    """Write whole numbers without a decimal point, so that 1 and 1.0 name the same level."""
    if isinstance(answer, float) and answer.is_integer():
        return str(int(answer))
    return str(answer).strip()


def _checked_numbers(answers: pd.Series, column: Column, seen: tuple[float, float]) -> pd.Series:
    numbers = pd.to_numeric(answers, errors="coerce")
    low, high = _possible(column, seen)
    truth_values = answers.map(lambda answer: isinstance(answer, bool | np.bool_))
    wrong = answers.notna() & (truth_values | ~((numbers >= low) & (numbers <= high)))
    if wrong.any():
        raise TableError(
            f"{_first(answers, wrong)} is not possible",
            f"Give a number from {low:g} to {high:g}"
            f"{f' ({column.units})' if column.units else ''}, or leave it out.",
        )
    return numbers.astype(float)


def _first(answers: pd.Series, wrong: pd.Series) -> str:
    """Return the first of the wrong answers with its question and, where there is one, its id."""
    of = f" of {answers.index[wrong][0]}" if answers.index.name == "participant_id" else ""
    return f"{answers.name}{of} = {answers[wrong].tolist()[0]!r}"


def _possible(column: Column, seen: tuple[float, float]) -> tuple[float, float]:
    """Bounds beyond which a number cannot be meant, given what training participants answered."""
    if column.name in _POSSIBLE:
        return _POSSIBLE[column.name]
    margin = _FARTHEST_RANGES * (seen[1] - seen[0])
    low = max(0.0, seen[0] - margin) if seen[0] >= 0 else seen[0] - margin
    return low, seen[1] + margin
