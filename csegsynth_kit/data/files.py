"""Writing files so that a reader never sees half of one."""

import hashlib
import json
import os
from pathlib import Path

import pandas as pd

from csegsynth_kit.errors import ConfigError


def require_folder(out: Path) -> None:
    """Refuse a place where no folder can be written, before any work is done for it.

    Raises:
        ConfigError: if ``out`` or a folder above it is a file, or is not writable.
    """
    there = next(place for place in (out, *out.absolute().parents) if os.access(place, os.F_OK))
    if not there.is_dir():
        raise ConfigError("is a file, not a folder", "Name a folder, new or empty.", there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            "is a folder that you may not write to",
            "Choose another folder, or change its permissions.",
            there,
        )


def write_text(path: Path, text: str) -> None:
    """Write to a temporary file beside ``path``, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, content: dict) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_tsv(path: Path, table: pd.DataFrame) -> None:
    """Write a BIDS table atomically: tabs, ``n/a`` for missing, the index as first column."""
    write_text(path, table.to_csv(sep="\t", na_rep="n/a", lineterminator="\n"))


def file_digest(path: Path) -> str:
    """Return 12 hexadecimal digits that identify a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def fingerprint(content: object) -> str:
    """Return 12 hexadecimal digits that identify JSON-ready content."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
