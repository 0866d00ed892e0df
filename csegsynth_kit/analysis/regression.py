"""Conventional predictors of the volumes: what a generative model has to beat."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LassoCV, RidgeCV
from sklearn.model_selection import PredefinedSplit
from threadpoolctl import threadpool_limits

from csegsynth_kit.analysis.design import answers_and_square, mean_slope, regressors
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.folds import folds_of
from csegsynth_kit.errors import ConfigError

#: Maps a table of answers (N rows) to (N, 3) volumes (mL).
Predictor = Callable[[pd.DataFrame], np.ndarray]

#: Names of the baselines, by which they are found. Without one of the two questions, AGE_SEX is
#: named after the other, and without both it is absent.
TRAINING_MEAN = "training mean"
AGE_SEX = "age + sex"
RIDGE = "ridge, all features"
LASSO = "lasso, all features"
BOOSTING = "gradient boosting"
NEAREST = "nearest real person"

#: Penalties among which leave-one-out cross-validation on the training participants chooses.
_PENALTIES = np.logspace(-1, 4, 26)
#: Most trees; cross-validation on the training participants chooses how many of them to keep.
_MOST_TREES = 100
#: Interactions of up to three answers; a few hundred participants bear no larger trees.
_TREES = {"learning_rate": 0.1, "max_leaf_nodes": 4, "min_samples_leaf": 20}
_BOOSTING_FOLDS = 5
#: Per standard deviation of the volumes.
_LASSO_PENALTIES = np.geomspace(1.0, 1e-3, 30)
_LASSO_FOLDS = 10


def fit_baselines(train: Cohort, features: Features, *, seed: int = 0) -> dict[str, Predictor]:
    """Fit everything that a generative model is compared with.

    Args:
        train: Training participants.
        features: Fitted on the same participants. Missing answers are imputed as for the model,
            except by gradient boosting and the nearest person, which do without.
        seed: Of the folds in which the number of trees is chosen.

    Returns:
        Name to predictor: training mean; least squares on age, age squared and sex; ridge
        regression on all features (and age squared), its penalty by leave-one-out
        cross-validation; the lasso on the same, by cross-validation; gradient boosting; the
        nearest real person.
    """
    return {name: fit(train, features, seed) for name, fit in _fitters(features).items()}


def fit_baseline(name: str, train: Cohort, features: Features, *, seed: int = 0) -> Predictor:
    """Fit one of the baselines; see :func:`fit_baselines`.

    Raises:
        ConfigError: for a name that is no baseline of these features.
    """
    known = _fitters(features)
    if name not in known:
        raise ConfigError(f"there is no baseline {name!r}", f"There are: {'; '.join(known)}.")
    return known[name](train, features, seed)


def fit_ridge(
    train: Cohort, features: Features, asked: Sequence[str]
) -> tuple[Predictor, np.ndarray]:
    """Fit ridge regression to the answers to some questions only (and age squared).

    Args:
        train: Training participants.
        features: Fitted on the same participants.
        asked: Names of questions; without any, volumes are predicted by their mean.

    Returns:
        The predictor, which ignores all other answers, and the (3,) mean squared error (mL^2)
        on training participants left out one at a time.
    """
    chosen = [i for i, q in enumerate(features.question) if features.columns[q].name in asked]
    volumes = train.volumes.to_numpy()
    if not chosen:
        n = len(train)
        return _mean(train, features, 0), volumes.var(axis=0) * (n / (n - 1)) ** 2

    def design(table: pd.DataFrame) -> np.ndarray:
        return answers_and_square(features, table.reindex(columns=list(asked)), chosen)

    x = design(train.table)
    fits = [RidgeCV(_PENALTIES).fit(x, y) for y in volumes.T]
    left_out = np.array([-fit.best_score_ for fit in fits])
    return lambda table: np.stack([f.predict(design(table)) for f in fits], axis=1), left_out


def left_out_errors(
    train: Cohort, features: Features, *, name: str = RIDGE, folds: int = 10, seed: int = 0
) -> np.ndarray:
    """Return the (N, 3) errors (mL, real minus predicted) of a baseline on people left out.

    Everything, the encoding of the answers included, is fitted on the other folds. All rows of
    one person are in one fold.

    Args:
        train: Training participants.
        features: Fitted on the same participants.
        name: Which baseline.
        folds: Parts of the participants, each left out once.
        seed: Of the folds.

    Raises:
        ConfigError: for a name that is no baseline of these features.
    """
    fold = folds_of(train.persons, folds, seed=seed)
    residuals = np.empty((len(train), len(MEASURED)))
    ids = np.asarray(train.ids, dtype=object)
    for part in range(fold.max() + 1):
        others, left_out = train.subset(ids[fold != part]), train.subset(ids[fold == part])
        fitted = Features.fit(others.table, features.columns)
        predicted = fit_baseline(name, others, fitted, seed=seed)(left_out.table)
        residuals[fold == part] = left_out.volumes.to_numpy() - predicted
    return residuals


def residual_covariance(
    train: Cohort, features: Features, *, name: str = RIDGE, folds: int = 10, seed: int = 0
) -> np.ndarray:
    """Return the (3, 3) covariance (mL^2) of a baseline's errors on people it has not seen.

    Errors are taken about 0 rather than about their mean, as by whoever relies on the
    predictions. Arguments and errors as in :func:`left_out_errors`.
    """
    residuals = left_out_errors(train, features, name=name, folds=folds, seed=seed)
    return residuals.T @ residuals / len(train)


def regression_effects(
    train: Cohort, features: Features, *, people: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Effects of a linear regression on all features, with what the sample size allows to tell.

    Age squared is a regressor as well; the effect of age is the slope at each person, averaged.

    Args:
        train: Training participants.
        features: Fitted on the same participants.
        people: Answers at whose ages slopes are taken; by default the training participants'.

    Returns:
        One row per question with one column and tissue: ``effect_ml`` (mL per standard deviation)
        and its 95 % confidence interval ``effect_low`` and ``effect_high`` (statsmodels OLS).
    """
    people = train.table if people is None else people
    x, encoded = regressors(features, train.table)
    alone = [(i, name) for i, name in enumerate(features.names) if name in features.questions]
    weights = np.stack([mean_slope(features, people, encoded, i) for i, _ in alone])
    rows = []
    for tissue, y in zip(MEASURED, train.volumes.to_numpy().T, strict=True):
        found = sm.OLS(y, x).fit().t_test(weights)
        table = np.column_stack([found.effect, found.conf_int()])
        for (_, name), (effect, low, high) in zip(alone, table, strict=True):
            interval = {"effect_low": low, "effect_high": high}
            rows.append({"feature": name, "tissue": tissue, "effect_ml": effect, **interval})
    return pd.DataFrame(rows)


def _fitters(
    features: Features,
) -> dict[str, Callable[[Cohort, Features, int], Predictor]]:
    """Name to a function that fits a baseline, in the order of tables."""
    few = " + ".join(name for name in features.names if name in ("age", "sex"))
    return {
        TRAINING_MEAN: _mean,
        **({few: _age_sex} if few else {}),
        RIDGE: _ridge,
        LASSO: _lasso,
        BOOSTING: _boosting,
        NEAREST: _nearest,
    }


def _mean(train: Cohort, features: Features, seed: int) -> Predictor:
    mean = train.volumes.to_numpy().mean(axis=0)
    return lambda table: np.tile(mean, (len(table), 1))


def _age_sex(train: Cohort, features: Features, seed: int) -> Predictor:
    chosen = [i for i, name in enumerate(features.names) if name in ("age", "sex")]

    def design(table: pd.DataFrame) -> np.ndarray:
        return sm.add_constant(answers_and_square(features, table, chosen), has_constant="add")

    fits = [sm.OLS(y, design(train.table)).fit() for y in train.volumes.to_numpy().T]
    return lambda table: np.stack([fit.predict(design(table)) for fit in fits], axis=1)


def _ridge(train: Cohort, features: Features, seed: int) -> Predictor:
    return _linear(train, features, lambda x, y: RidgeCV(_PENALTIES).fit(x, y))


def _lasso(train: Cohort, features: Features, seed: int) -> Predictor:
    """The kind of regression that our models' volumes start from."""
    folds = PredefinedSplit(folds_of(train.persons, _LASSO_FOLDS, seed=seed))

    def fit(x: np.ndarray, y: np.ndarray) -> LassoCV:
        return LassoCV(alphas=_LASSO_PENALTIES * (y.std() or 1.0), cv=folds).fit(x, y)

    return _linear(train, features, fit)


def _linear(train: Cohort, features: Features, fit: Callable) -> Predictor:
    """Fit a linear model of all features, and age squared, per tissue."""
    x = answers_and_square(features, train.table)
    fits = [fit(x, y) for y in train.volumes.to_numpy().T]

    def predict(table: pd.DataFrame) -> np.ndarray:
        x = answers_and_square(features, table)
        return np.stack([fitted.predict(x) for fitted in fits], axis=1)

    return predict


def _boosting(train: Cohort, features: Features, seed: int) -> Predictor:
    """Gradient boosting per tissue; unanswered questions go the way that fits best."""
    x = features.encode(train.table).values
    fold = folds_of(train.persons, _BOOSTING_FOLDS, seed=seed)
    # Small trees are done before threads have met; on a busy machine they wait for minutes.
    with threadpool_limits(1):
        fits = [_boosted(x, y, fold) for y in train.volumes.to_numpy().T]

    def predict(table: pd.DataFrame) -> np.ndarray:
        x = features.encode(table).values
        with threadpool_limits(1):
            return np.stack([fit.predict(x) for fit in fits], axis=1)

    return predict


def _boosted(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> HistGradientBoostingRegressor:
    """Fit as many trees to (N, F) answers and (N,) volumes as predict left-out folds best."""
    errors = np.zeros(_MOST_TREES)
    for part in range(fold.max() + 1):
        kept, out = fold != part, fold == part
        fit = _trees(_MOST_TREES).fit(x[kept], y[kept])
        errors += [((predicted - y[out]) ** 2).sum() for predicted in fit.staged_predict(x[out])]
    return _trees(int(errors.argmin()) + 1).fit(x, y)


def _trees(n: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(max_iter=n, early_stopping=False, random_state=0, **_TREES)


def _nearest(train: Cohort, features: Features, seed: int) -> Predictor:
    """Predict the volumes of the training participant with the most similar answers.

    The squared distance is the sum, over the questions that the person asked about answers, of
    squared differences in training standard deviations; over the k columns of a question with k
    unordered answers it is their mean, so that every question counts alike. Where a participant
    did not answer, the difference is the expected one to a random participant, x^2 + 1, so that
    leaving questions out brings nobody nearer. The first of equally near participants is taken.
    """
    volumes, (theirs, unknown) = train.volumes.to_numpy(), _zero_filled(features, train.table)
    weights = 1 / np.bincount(features.question)[features.question]

    def predict(table: pd.DataFrame) -> np.ndarray:
        own, unanswered = _zero_filled(features, table)
        counted = weights * ~unanswered
        # Without the term in x^2 alone, which is the same for every participant.
        distance = counted @ (theirs**2 + unknown).T - 2 * (counted * own) @ theirs.T
        return volumes[distance.argmin(axis=1)]

    return predict


def _zero_filled(features: Features, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, F) standardized answers, 0 where there are none, and whether there are none."""
    values = features.encode(table).values
    return np.nan_to_num(values), np.isnan(values)
