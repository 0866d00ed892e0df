"""Frozen dataclasses to JSON-ready dictionaries and back, with strict keys."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import TypeVar, get_args, get_type_hints

from csegsynth_kit.errors import ConfigError

T = TypeVar("T")


def to_dict(config: object) -> dict:
    """Return a JSON-ready dictionary of a dataclass."""
    return _plain(asdict(config))


def from_dict(cls: type[T], stored: Mapping) -> T:
    """Build a dataclass from :func:`to_dict`'s result.

    Raises:
        ConfigError: for unknown or missing keys.
    """
    hints = get_type_hints(cls)
    unknown = set(stored) - {f.name for f in fields(cls)}
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no option {sorted(unknown)[0]!r}",
            "It was written by another version of csegsynth_kit, or is misspelled.",
        )
    values = {}
    for name, value in stored.items():
        inner = next((t for t in (hints[name], *get_args(hints[name])) if is_dataclass(t)), None)
        if isinstance(value, Mapping) and inner is not None:
            value = from_dict(inner, value)
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"incomplete {cls.__name__} ({error})", "Restore the file.") from error


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
