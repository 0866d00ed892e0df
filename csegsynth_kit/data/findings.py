"""What was noticed about a participant, a column or a cohort."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["excluded", "doubt", "note"]


@dataclass(frozen=True)
class Finding:
    """One remark of the reading and checking code.

    Args:
        severity: ``excluded`` if it was left out, ``doubt`` if a person should look at it,
            ``note`` if it is only good to know.
        subject: A participant id, ``column NAME`` or ``cohort``.
        code: A short, stable name of the kind of finding.
        message: What was found and, where there is one, the remedy.
    """

    severity: Severity
    subject: str
    code: str
    message: str


def first_of(names: Sequence[str], most: int = 5) -> str:
    """List the first few names, and tell that there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
