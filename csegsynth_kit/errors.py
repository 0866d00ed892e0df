"""Exceptions that name the file, what was found, and the remedy."""

from pathlib import Path


class CsegsynthError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        finding: What was found, without a final period.
        remedy: What the user can do about it, as a sentence.
        path: The file or folder concerned, if there is one.
    """

    def __init__(self, finding: str, remedy: str, path: Path | str | None = None):
        self.finding, self.remedy = finding, remedy
        self.path = None if path is None else Path(path)
        place = "" if path is None else f"{path}: "
        super().__init__(f"{place}{finding}. {remedy}")

    def __reduce__(self):
        return type(self), (self.finding, self.remedy, self.path)


class MapError(CsegsynthError):
    """A segmentation file cannot be used as it is."""


class TableError(CsegsynthError):
    """A table of participants, or an answer in it, cannot be used as it is."""


class CohortError(CsegsynthError):
    """A source folder or prepared cohort is inconsistent."""


class ConfigError(CsegsynthError):
    """An option or a combination of options is impossible."""


class RunError(CsegsynthError):
    """A run folder or checkpoint does not fit what is asked of it."""


class SeriesError(CsegsynthError):
    """A notebook of the series failed."""
