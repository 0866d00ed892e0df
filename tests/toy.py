"""A toy cohort of nested ellipsoids: cheap, not cubic, with volumes that depend on answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from csegsynth_kit.data.cohort import Cohort, load_cohort
from csegsynth_kit.data.schema import Column
from csegsynth_kit.data.writer import CohortWriter
from csegsynth_kit.maps import Grid, average_pool, quantize, volumes_ml

TOY_GRID = Grid("toy", (8, 12, 16), (12.0, 10.0, 7.0), (3.0, -5.0, 7.0))
TOY_COLUMNS = (
    Column("age", "continuous", units="years"),
    Column("sex", "categorical", ("female", "male")),
    Column("education", "ordinal", ("low", "medium", "high")),
    Column("site", "categorical", ("a", "b", "c")),
)


def toy_table(n: int, seed: int = 0, *, missing: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.uniform(18, 88, n).round(1),
            "sex": rng.choice(["female", "male"], n),
            "education": rng.choice(["low", "medium", "high"], n),
            "site": rng.choice(["a", "b", "c"], n),
        },
        index=pd.Index([f"sub-{i + 1:03d}" for i in range(n)], name="participant_id"),
    )
    for name in ("education", "site"):
        table[name] = table[name].astype(object).mask(rng.random(n) < missing)
    return table


def toy_cohort(
    path: Path, n: int = 24, *, seed: int = 0, grid: Grid = TOY_GRID, missing: float = 0.0
) -> Cohort:
    """Write and open a cohort; brains shrink with age and are larger in men."""
    table = toy_table(n, seed, missing=missing)
    rng = np.random.default_rng([seed, 1])
    writer = CohortWriter(path, grid, n, {"toy": seed, "n": n})
    for participant, row in table.iterrows():
        size = 1.0 + 0.06 * (row.sex == "male") + 0.03 * rng.standard_normal()
        core = size * (0.95 - 0.002 * (row.age - 50)) * (1 + 0.02 * rng.standard_normal())
        maps = _nested(grid, (0.52 * core, 0.72 * core, 0.85 * size))
        volumes = volumes_ml(maps, grid.voxel_ml)
        writer.add(participant, quantize(maps).numpy(), {"volumes_ml": volumes.tolist()})
    writer.finish(table, TOY_COLUMNS, {"csf_definition": "intracranial", "simulated": True})
    return load_cohort(path)


def _nested(grid: Grid, radii: tuple[float, float, float]) -> torch.Tensor:
    """WM, GM, CSF as nested ellipsoids whose radii are shares of the half box."""
    fine = [torch.linspace(-1, 1, 4 * n + 1)[:-1] + 1 / (4 * n) for n in grid.shape]
    x, y, z = torch.meshgrid(*fine, indexing="ij")
    r = (x**2 + (1.1 * y) ** 2 + (0.9 * z + 0.05) ** 2).sqrt()
    inside = torch.stack([r < radius for radius in radii]).float()
    shells = torch.stack([inside[0], inside[1] - inside[0], inside[2] - inside[1]])
    return average_pool(shells[None], 4)[0]
