"""White-matter, gray-matter and CSF segmentations of a person, from questionnaire features.

The names a notebook needs; each is loaded when it is first used.
"""

import importlib

_EXPORTS = {
    "prepare": "data.prepare",
    "load_cohort": "data.cohort",
    "read_participants": "data.participants",
    "Features": "data.features",
    "simulate_cohort": "simulate.cohort",
    "preset": "models.presets",
    "build": "models",
    "warm_start": "training.runs",
    "Run": "training.runs",
    "load_model": "training.runs",
    "load_pretrained": "training.pretrained",
    "Trainer": "training.trainer",
    "generate": "analysis.generate",
    "generate_shared": "analysis.generate",
    "predict_volumes": "analysis.generate",
    "SegmentationMaps": "maps",
    "evaluate_volumes": "analysis.evaluate",
    "gradient_importance": "analysis.importance",
    "simulate_trajectory": "analysis.trajectory",
    "Study": "show.study",
    "studio": "show.studio",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
