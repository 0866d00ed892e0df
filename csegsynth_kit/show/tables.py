"""Small tables for notebooks: frames in, frames out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from csegsynth_kit.analysis.generate import predict_volumes
from csegsynth_kit.constants import CSF_DEFINITIONS, MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.models import Family

#: True effects below this (mL per SD) count as none.
_NULL_ML = 1e-9
#: What the paper reports of CSegSynth on CamCAN, of one draw: version of arXiv 2504.12352 whose
#: abstract says so, and by tissue the figure.
PAPER_MAE_ML = (2, {"WM": 36.44, "GM": 29.20, "CSF": 35.51})
PAPER_R = (1, {"WM": 0.80, "GM": 0.82, "CSF": 0.70})
#: Columns that say what a row is of.
_ABOUT = ("model", "predictor", "score", "scenario", "tissue")
#: Columns that stand as they are.
_PLAIN = ("n", "note")


def cohorts(named: Mapping[str, Cohort]) -> pd.DataFrame:
    """Describe cohorts side by side."""
    return pd.DataFrame({name: _facts(cohort) for name, cohort in named.items()})


def _facts(cohort: Cohort) -> dict[str, str]:
    x, y, z = cohort.grid.shape
    age = cohort.table.get("age", pd.Series(dtype=float)).dropna()
    sex = cohort.table.get("sex", pd.Series(dtype=object)).dropna()
    return {
        "participants": str(len(cohort)),
        "persons": str(cohort.persons.nunique()),
        "age (years)": f"{age.min():.0f} to {age.max():.0f}" if len(age) else "unknown",
        "female": f"{100 * (sex == 'female').mean():.0f} %" if len(sex) else "unknown",
        "features": str(len(cohort.feature_columns)),
        "maps": f"{x} x {y} x {z} voxels of {cohort.grid.spacing_mm[0]:g} mm",
        "CSF": CSF_DEFINITIONS[cohort.csf_definition],
        "simulated": "yes" if cohort.simulated else "no",
    }


def splits(parts: Mapping[str, Sequence[Cohort]]) -> pd.DataFrame:
    """Count the participants of each part, and the persons who are in more than one."""
    rows = {}
    for name, cohorts_ in parts.items():
        persons = [person for part in cohorts_ for person in set(part.persons)]
        sizes = dict(zip(("train", "valid", "test"), map(len, cohorts_), strict=True))
        rows[name] = sizes | {"persons in two parts": len(persons) - len(set(persons))}
    return pd.DataFrame.from_dict(rows, orient="index")


def schema(cohort: Cohort) -> pd.DataFrame:
    """List every column of the table: its kind, its possible answers, its use."""
    rows = []
    for column in cohort.columns:
        answers = cohort.table[column.name].dropna()
        values = ", ".join(column.levels)
        if column.numeric and len(answers):
            values = f"{answers.min():g} to {answers.max():g} {column.units}".strip()
        use = column.left_out or "feature"
        rows.append({"column": column.name, "kind": column.kind, "answers": values, "use": use})
    return pd.DataFrame(rows, columns=["column", "kind", "answers", "use"]).set_index("column")


def findings(cohort: Cohort) -> pd.DataFrame:
    """Count what the data doctor found, exclusions first, with an example of each kind."""
    found = pd.DataFrame(
        [(f.severity, f.code, f.subject, f.message) for f in cohort.findings()],
        columns=["severity", "finding", "subject", "example"],
    )
    found["severity"] = pd.Categorical(found["severity"], ["excluded", "doubt", "note"])
    grouped = found.groupby(["severity", "finding"], observed=True)
    return grouped.agg(count=("subject", "size"), example=("example", "first")).reset_index()


def spread_over_age(cohort: Cohort, n: int) -> pd.Series:
    """Choose ``n`` participants evenly from youngest to oldest, with a title for each.

    Without ages, the first ``n``.
    """
    if "age" not in cohort.table:
        return pd.Series({i: i for i in cohort.ids[:n]})
    ages = cohort.table["age"].dropna().sort_values()
    if ages.empty:
        return pd.Series({i: i for i in cohort.ids[:n]})
    ids = ages.index[np.linspace(0, len(ages) - 1, n).round().astype(int)]
    return pd.Series([who(cohort.table.loc[i]) for i in ids], index=ids)


def who(answers: Mapping) -> str:
    """Say a person's age and sex, as far as they are known: ``34 years, female``."""
    age, sex = (answers.get(name) for name in ("age", "sex"))
    parts = [] if pd.isna(age) else [f"{float(age):.0f} years"]
    return ", ".join(parts if pd.isna(sex) else [*parts, str(sex)])


def what_differs(before: Mapping, after: Mapping) -> str:
    """List the answers of which two people differ: ``age 35 to 75``; empty if none."""
    names = dict.fromkeys([*before, *after])
    said = {name: (_answer(before.get(name)), _answer(after.get(name))) for name in names}
    return ", ".join(f"{name} {a} to {b}" for name, (a, b) in said.items() if a != b)


def _answer(value: object) -> str:
    if pd.isna(value):
        return "unanswered"
    return str(value) if isinstance(value, str) else f"{value:g}"


def person_near(cohort: Cohort, questions: Sequence[str], *, age_years: float) -> dict:
    """Return the answers of the participant nearest to an age."""
    nearest = (cohort.table["age"] - age_years).abs().idxmin()
    return cohort.table.loc[nearest, list(questions)].dropna().to_dict()


def only(person: Mapping, *questions: str) -> dict:
    """Keep a person's answers to these questions only."""
    return {name: person[name] for name in questions if name in person}


def spread_of_draws(
    model: Family, people: Mapping[str, Mapping], *, n: int, seed: int
) -> pd.DataFrame:
    """Mean and SD (mL) of ``n`` draws for each of several named sets of answers."""
    rows = {}
    for name, answers in people.items():
        draws = predict_volumes(model, answers, n=n, seed=seed, antithetic=False)[0]
        rows[name] = {
            f"{tissue} {what} (mL)": value
            for i, tissue in enumerate(MEASURED)
            for what, value in (("mean", draws[:, i].mean()), ("SD", draws[:, i].std(ddof=1)))
        }
    return pd.DataFrame.from_dict(rows, orient="index").round(1)


def importance_against_truth(effects: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Compare estimated with true effects, tissue by tissue.

    Returns:
        Per tissue: Spearman correlation of absolute effects, mean absolute error (mL per SD)
        over features, the largest estimate for a feature without effect, and n features.
    """
    both = effects.merge(truth, on=["feature", "tissue"], suffixes=("", "_true"))
    rows = {}
    for tissue in MEASURED:
        own = both[both["tissue"] == tissue]
        null = own[own["effect_ml_true"].abs() < _NULL_ML]
        rows[tissue] = {
            "rank correlation": spearmanr(own["effect_ml"].abs(), own["effect_ml_true"].abs())[0],
            "mean error (mL per SD)": (own["effect_ml"] - own["effect_ml_true"]).abs().mean(),
            "largest null effect (mL per SD)": null["effect_ml"].abs().max(),
            "features": len(own),
        }
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def beside_paper(scores: pd.DataFrame, *, predictor: str, cohort: Cohort) -> pd.DataFrame:
    """Put a predictor's scores beside the paper's, which are of another cohort.

    Args:
        scores: From ``analysis.evaluate``.
        predictor: One of theirs, such as one draw of CSegSynth.
        cohort: Whose participants were scored.

    Returns:
        A row per tissue, empty if there is no such predictor. Columns of the paper name the
        version that they are from: errors and correlations need not be of the same maps.
    """
    kind = "simulated" if cohort.simulated else "real"
    ours = f"ours, {len(cohort)} {kind} people"
    own = scores[scores["predictor"] == predictor].set_index("tissue")
    columns = {}
    for what, statistic, (version, figures), digits in (
        ("MAE (mL)", "mae_ml", PAPER_MAE_ML, 1),
        ("r", "r", PAPER_R, 2),
    ):
        known = {tissue: figure for tissue, figure in figures.items() if tissue in own.index}
        columns[f"{what}, paper (version {version}), CamCAN"] = {
            tissue: f"{figure:.2f}" for tissue, figure in known.items()
        }
        columns[f"{what}, {ours}"] = {
            tissue: _with_interval(own.loc[tissue], statistic, digits) for tissue in known
        }
    return pd.DataFrame(columns).rename_axis("tissue")


def _with_interval(row: pd.Series, name: str, digits: int) -> str:
    value, low, high = (f"{row[f'{name}{end}']:.{digits}f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


def stacked(named: Mapping[str, pd.DataFrame], column: str = "scenario") -> pd.DataFrame:
    """Put tables under each other, with their names in the first column."""
    parts = [table.assign(**{column: name}) for name, table in named.items()]
    whole = pd.concat(parts, ignore_index=True)
    return whole[[column, *(name for name in whole.columns if name != column)]]


def interval_cell(value: float, low: float, high: float, *, digits: int) -> str:
    """Write ``value [low, high]``; nothing where there is no value."""
    if pd.isna(value):
        return ""
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def with_intervals(table: pd.DataFrame, digits: Mapping[str, int]) -> pd.DataFrame:
    """Write each score and its 95 % interval into one cell, ``value [low, high]``.

    Args:
        table: With columns ``x``, ``x_low`` and ``x_high`` for every score x.
        digits: Score to digits after the decimal point.

    Returns:
        What each row is of, the scores as text (empty where there is none), ``n`` and ``note``.
    """
    short = table[[name for name in _ABOUT if name in table]].copy()
    for name, places in digits.items():
        ends = table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False, name=None)
        short[name] = [interval_cell(*row, digits=places) for row in ends]
    for name in _PLAIN:
        if name in table:
            short[name] = table[name]
    if "n" in short:
        short["n"] = ["" if pd.isna(n) else int(n) for n in short["n"]]
    if "note" in short and not short["note"].any():
        short = short.drop(columns="note")
    return short


def by_tissue(
    table: pd.DataFrame,
    value: str,
    low: str,
    high: str,
    *,
    index: str = "method",
    digits: int = 2,
) -> pd.DataFrame:
    """Write values with their intervals, one row per ``index`` and one column per tissue.

    Args:
        table: A row per ``index`` and tissue.
        value: Column of the values.
        low: Column of the lower ends.
        high: Column of the upper ends.
        index: Column that names the rows.
        digits: After the point.
    """
    ends = table[[value, low, high]].itertuples(index=False, name=None)
    text = [interval_cell(*row, digits=digits) for row in ends]
    wide = table.assign(text=text).pivot(index=index, columns="tissue", values="text")
    return wide.loc[list(dict.fromkeys(table[index])), list(MEASURED)].rename_axis(columns=None)
