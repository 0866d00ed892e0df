"""Volumes of real people as targets, for semi-real cohorts.

A published table seldom has all three tissues. What it lacks is drawn from the structural
model, given what it has, and every cohort made of it says what is real and what is drawn.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from csegsynth_kit.constants import VOLUME_COLUMNS
from csegsynth_kit.data.findings import Finding
from csegsynth_kit.data.participants import Participants, read_participants
from csegsynth_kit.data.tables import FCON1000, OASIS1, OASIS2
from csegsynth_kit.errors import TableError
from csegsynth_kit.simulate.questionnaire import STREAMS, uniforms
from csegsynth_kit.simulate.structural import (
    CSF_SHARES,
    DRAWN_COLUMNS,
    GM_PER_ICV,
    GM_SD_ML,
    LV_MOST_OF_CSF,
    TO_TISSUES,
    WM_PER_ICV,
    decades,
    lateral_ventricles_ml,
    noise_covariance,
)
from csegsynth_kit.simulate.truth import marginal_means

#: Rows of healthy people whose volume, given age and sex, is farther from the others than this
#: many robust SDs are taken for failed segmentations. (Not in OASIS-1, which has dementia.)
_OUTLIER_SD = 4.0
#: Fewer rows give no robust SD.
_FEWEST_FOR_OUTLIERS = 30
#: Ages (years) at which marginal means are computed; between them they are interpolated.
_AGES_YEARS = np.arange(4.0, 104.0, 4.0)

_OASIS_VOLUMES = {"eTIV", "nWBV"}
_FCON_WM = (
    "CerebralWhiteMatterVol",
    "Left-Cerebellum-White-Matter",
    "Right-Cerebellum-White-Matter",
    "Brain-Stem",
)
_FCON_LV = tuple(
    f"{side}-{part}"
    for side in ("Left", "Right")
    for part in ("Lateral-Ventricle", "Inf-Lat-Vent", "choroid-plexus")
)


@dataclass(frozen=True)
class Targets:
    """Real people with the volumes their maps shall have.

    Args:
        participants: Their answers.
        volumes: ``wm_ml``, ``gm_ml``, ``csf_ml``, ``lv_ml`` (lateral ventricles, a part of
            CSF) and ``icv_ml``, indexed alike.
        findings: Rows that were left out, and why.
        real: What is real, as a sentence.
        drawn: What is drawn, as a sentence.
    """

    participants: Participants
    volumes: pd.DataFrame
    findings: tuple[Finding, ...]
    real: str
    drawn: str

    def __len__(self) -> int:
        return len(self.volumes)


def targets_from_table(path: Path | str, seed: int = 0) -> Targets:
    """Read volumes and answers of real people, and draw the volumes the table lacks.

    Recognized are OASIS-1 (brain and CSF are real), the 1000 Functional Connectomes as
    processed by FreeSurfer (WM, GM and ventricles are real), and any table with the columns
    ``wm_ml``, ``gm_ml``, ``csf_ml`` and perhaps ``lv_ml``.

    Args:
        path: ``.csv`` or ``.tsv``.
        seed: What is drawn depends on the seed and on the person's row; retest rows share
            their person's draws.

    Raises:
        TableError: if the table is none of these or has no usable row.
    """
    people = read_participants(path)
    frame = people.frame
    _, person = np.unique(people.persons.to_numpy(str), return_inverse=True)
    first = np.unique(person, return_index=True)[1][person]
    u = uniforms(len(frame), 3, seed, STREAMS["targets"])[first]
    reasons = pd.Series("", index=frame.index)
    if people.known in (OASIS1.name, OASIS2.name) and set(frame.columns) >= _OASIS_VOLUMES:
        volumes, real, drawn = _oasis(frame, u, reasons, people.known.split()[0])
    elif people.known == FCON1000.name:
        volumes, real, drawn = _fcon(frame, u, reasons)
    elif set(VOLUME_COLUMNS) <= set(frame.columns):
        volumes, real, drawn = _generic(frame, u, reasons)
    else:
        raise TableError(
            "has no volumes that are understood",
            f"Give the columns {', '.join(VOLUME_COLUMNS)} (mL), or the table of OASIS-1, OASIS-2 "
            "(with eTIV and nWBV) or of the 1000 Functional Connectomes.",
            path,
        )
    volumes = volumes[list(DRAWN_COLUMNS)]
    _mark_impossible(volumes, reasons)
    kept = reasons == ""
    if not kept.any():
        raise TableError(
            f"none of its {len(frame)} rows is usable (first: {reasons.iloc[0]})",
            "Check units: volumes are in mL.",
            path,
        )
    findings = tuple(
        Finding("excluded", str(participant), "unusable-volumes", f"Left out: {reason}.")
        for participant, reason in reasons[~kept].items()
    )
    participants = replace(
        people.without_sensitive(),
        frame=people.without_sensitive().frame[kept],
        persons=people.persons[kept],
        findings=(*people.findings, *findings),
    )
    return Targets(participants, volumes[kept], findings, real, drawn)


def _oasis(frame: pd.DataFrame, u: np.ndarray, reasons: pd.Series, name: str):
    """Brain and CSF are measured; split the brain by the structural model."""
    icv = frame["eTIV"].astype(float)
    brain = icv * frame["nWBV"].astype(float)
    _mark(reasons, brain.isna(), "eTIV or nWBV is missing")
    _mark_unknown(frame, reasons)
    expected = _expected_given_icv(frame, icv.to_numpy())
    # OASIS measures some 6 % more brain than the model expects, a difference of methods: the
    # expectations are scaled to the measured brain, and so is the noise about them, drawn
    # given that it adds up to zero.
    scale = brain.to_numpy() / expected.sum(1)
    covariance = noise_covariance()[1:, 1:]
    total = covariance.sum()
    gm_sd = np.sqrt(covariance[1, 1] - covariance[1].sum() ** 2 / total)
    z = ndtri(u)
    gm = scale * (expected[:, 1] + gm_sd * z[:, 0])
    volumes = pd.DataFrame({"wm_ml": brain - gm, "gm_ml": gm, "csf_ml": icv - brain, "icv_ml": icv})
    volumes["lv_ml"] = _lateral_ventricles(frame, volumes, gm_sd * z[:, 0] / GM_SD_ML, z[:, 2])
    return (
        volumes,
        f"Answers, brain volume (nWBV x eTIV) and CSF volume (eTIV - brain) are real ({name}).",
        "The split of the brain into white and gray matter and the size of the lateral "
        "ventricles are drawn from the structural model.",
    )


def _fcon(frame: pd.DataFrame, u: np.ndarray, reasons: pd.Series):
    """White and gray matter and ventricles are measured; CSF follows from the head's volume."""

    def summed(*names: str) -> pd.Series:
        return sum(frame[name].astype(float) for name in names) / 1000.0

    wm, gm, lv = summed(*_FCON_WM), summed("TotalGrayVol"), summed(*_FCON_LV)
    measured = frame.select_dtypes("number")
    _mark(reasons, measured.duplicated(), "all its measurements repeat those of another row")
    _mark_unknown(frame, reasons)
    icv = summed("EstimatedTotalIntraCranialVol")
    plausible = (1 - (wm + gm) / icv).between(*CSF_SHARES)
    icv = icv.where(plausible, _icv_given_brain(frame, wm.to_numpy(), gm.to_numpy(), u[:, 1]))
    csf = icv - wm - gm
    lv = np.minimum(lv, LV_MOST_OF_CSF * csf)
    volumes = pd.DataFrame({"wm_ml": wm, "gm_ml": gm, "csf_ml": csf, "lv_ml": lv, "icv_ml": icv})
    _mark_impossible(volumes, reasons)
    _mark_outliers(volumes, frame, reasons)
    estimated, kept = int((plausible & (reasons == "")).sum()), int((reasons == "").sum())
    return (
        volumes,
        "Age, sex, site, white matter, gray matter and lateral ventricles are real (1000 "
        "Functional Connectomes, FreeSurfer).",
        f"CSF is the intracranial volume minus the brain: with FreeSurfer's estimate, which is "
        f"noisy, for {estimated} people, and drawn from the structural model for the "
        f"{kept - estimated} for whom it is impossible.",
    )


def _generic(frame: pd.DataFrame, u: np.ndarray, reasons: pd.Series):
    volumes = frame[list(VOLUME_COLUMNS)].apply(pd.to_numeric, errors="coerce")
    _mark(reasons, volumes.isna().any(axis=1), "a volume is missing")
    volumes["icv_ml"] = volumes[list(VOLUME_COLUMNS)].sum(axis=1)
    if "lv_ml" in frame:
        volumes["lv_ml"] = pd.to_numeric(frame["lv_ml"], errors="coerce")
        _mark(reasons, volumes["lv_ml"].isna(), "lv_ml is missing")
        _mark(reasons, volumes["lv_ml"] >= volumes["csf_ml"], "lv_ml is not a part of csf_ml")
        return volumes, "Answers and volumes are those of the table.", "No volume is drawn."
    _mark_unknown(frame, reasons)
    z = ndtri(u)
    volumes["lv_ml"] = _lateral_ventricles(frame, volumes, z[:, 0], z[:, 2])
    return (
        volumes,
        "Answers and the volumes of white matter, gray matter and CSF are those of the table.",
        "The size of the lateral ventricles is drawn from the structural model.",
    )


def _mark(reasons: pd.Series, where: pd.Series, reason: str) -> None:
    """Note a reason for rows that have none yet."""
    reasons[where.to_numpy(bool) & (reasons == "").to_numpy()] = reason


def _mark_unknown(frame: pd.DataFrame, reasons: pd.Series) -> None:
    for name in ("age", "sex"):
        known = frame[name].notna() if name in frame else pd.Series(False, index=frame.index)
        _mark(reasons, ~known, f"{name} is unknown, which the structural model needs")


def _mark_impossible(volumes: pd.DataFrame, reasons: pd.Series) -> None:
    _mark(reasons, ~(volumes > 0).all(axis=1), "a volume is not positive")
    odd = ~volumes["icv_ml"].between(600, 2600)
    _mark(reasons, odd, "WM + GM + CSF is not between 600 and 2600 mL")


def _mark_outliers(volumes: pd.DataFrame, frame: pd.DataFrame, reasons: pd.Series) -> None:
    """Mark rows whose measured volumes are far from those of others of their age and sex."""
    usable = (reasons == "").to_numpy()
    if usable.sum() < _FEWEST_FOR_OUTLIERS:
        return
    age, male = decades(frame), (frame["sex"] == "male").to_numpy(float)
    design = np.column_stack([np.ones(len(frame)), age, age**2, male])
    for name, transform in (("wm_ml", np.asarray), ("gm_ml", np.asarray), ("lv_ml", np.log)):
        y = transform(volumes[name].where(usable, 1.0).to_numpy(float))
        residual = y - design @ np.linalg.lstsq(design[usable], y[usable], rcond=None)[0]
        middle = np.median(residual[usable])
        sd = 1.4826 * np.median(np.abs(residual[usable] - middle))
        distance = (residual - middle) / sd
        for i in np.flatnonzero(usable & (np.abs(distance) > _OUTLIER_SD)):
            reasons.iloc[i] = (
                f"{name} = {volumes[name].iloc[i]:.0f} mL is {distance[i]:+.1f} robust SDs from "
                "others of that age and sex"
            )


def _expected_given_icv(frame: pd.DataFrame, icv: np.ndarray) -> np.ndarray:
    """Return (N, 2) expected WM and GM (mL) given age, sex and intracranial volume.

    Questions the model knows but the table lacks count at their mean for age and sex.
    """
    means = _expected(frame)
    surprise = icv - means.sum(1)
    return means[:, :2] + surprise[:, None] * [WM_PER_ICV, GM_PER_ICV]


def _expected(frame: pd.DataFrame) -> np.ndarray:
    """Return (N, 3) marginal means of WM, GM, CSF (mL) given age and sex; 0 where unknown."""
    age = frame["age"].fillna(0).to_numpy(float)
    result = np.zeros((len(frame), 3))
    for sex in ("female", "male"):
        rows = (frame["sex"] == sex).to_numpy()
        table = marginal_means(_AGES_YEARS, sex=sex)
        for t, tissue in enumerate(("WM", "GM", "CSF")):
            result[rows, t] = np.interp(age[rows], _AGES_YEARS, table[tissue])
    return result


def _icv_given_brain(
    frame: pd.DataFrame, wm: np.ndarray, gm: np.ndarray, u: np.ndarray
) -> np.ndarray:
    """Draw (N,) intracranial volumes given WM, GM, age and sex, with a possible share of CSF."""
    means = _expected(frame)
    to_brain = TO_TISSUES[:2]
    components = noise_covariance()
    brain_covariance = to_brain @ components @ to_brain.T
    weights = np.linalg.solve(brain_covariance, to_brain @ components[:, 0])
    sd = np.sqrt(components[0, 0] - weights @ (to_brain @ components[:, 0]))
    mean = means.sum(1) + (np.column_stack([wm, gm]) - means[:, :2]) @ weights
    low, high = (ndtr(((wm + gm) / (1 - share) - mean) / sd) for share in CSF_SHARES)
    return mean + sd * ndtri(np.clip(low + u * (high - low), 1e-12, 1 - 1e-12))


def _lateral_ventricles(
    frame: pd.DataFrame, volumes: pd.DataFrame, gm_noise: np.ndarray, z: np.ndarray
) -> np.ndarray:
    return lateral_ventricles_ml(
        decades(frame),
        volumes["icv_ml"].to_numpy(),
        volumes["csf_ml"].to_numpy(),
        gm_noise,
        z,
    )
