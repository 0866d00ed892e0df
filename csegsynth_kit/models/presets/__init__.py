"""Every hyper-parameter, stated once.

``paper`` is the published architecture, losses and schedule with their defects mended,
``paper-reference`` the same with the defects put back; ``tiny``, ``small`` and ``full`` are
ours, for the 8, 4 and 2 mm grids.
"""

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.models.presets.cgan import CGAN
from csegsynth_kit.models.presets.cldm import CLDM
from csegsynth_kit.models.presets.csegsynth import CSEGSYNTH
from csegsynth_kit.models.presets.cvae import CVAE
from csegsynth_kit.models.presets.training import Preset, TrainConfig

PRESETS = {
    family: {preset.name: preset for preset in presets}
    for family, presets in {
        "cvae": CVAE,
        "cgan": CGAN,
        "cldm": CLDM,
        "csegsynth": CSEGSYNTH,
    }.items()
}


def preset(family: str, name: str) -> Preset:
    """Return a family's preset, or raise ConfigError that lists what there is."""
    if family not in PRESETS:
        raise ConfigError(
            f"there is no model family '{family}'", f"Choose one of {', '.join(PRESETS)}."
        )
    if name not in PRESETS[family]:
        raise ConfigError(
            f"family '{family}' has no preset '{name}'",
            f"Choose one of {', '.join(PRESETS[family])}.",
        )
    return PRESETS[family][name]


__all__ = ["PRESETS", "Preset", "TrainConfig", "preset"]
