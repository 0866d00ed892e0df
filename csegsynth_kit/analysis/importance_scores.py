"""What the methods say, side by side: one table, ranks, and how stable the ranks are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, rankdata, spearmanr

from csegsynth_kit.analysis.importance_groups import Groups
from csegsynth_kit.analysis.truth import Truth
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.simulate.truth import contributions

_INTERVAL = [2.5, 97.5]


@dataclass(frozen=True)
class Importance:
    """What one method says about every group of questions, and what else it could have said.

    Args:
        method: Its name.
        unit: Of the values.
        groups: (G,) names of questions or of groups.
        values: (G, 3) for WM, GM, CSF.
        resampled: (B, G, 3) values of resamples, from which ranks vary.
        low: (G, 3) lower end of the 95 % interval of the values.
        high: (G, 3) upper end.
        over: What was resampled: ``people`` or ``training samples``.
        n: People the values are means over, or were fitted to.
        signed: Whether values have a direction; then their size tells the importance.
        p: (G, 3) probability of as much if there were no effect, where the method has a test.
    """

    method: str
    unit: str
    groups: tuple[str, ...]
    values: np.ndarray
    resampled: np.ndarray
    low: np.ndarray
    high: np.ndarray
    over: str
    n: int
    signed: bool = False
    p: np.ndarray | None = None

    @property
    def sizes(self) -> np.ndarray:
        """(G, 3) importances."""
        return np.abs(self.values) if self.signed else self.values

    @property
    def resampled_sizes(self) -> np.ndarray:
        """(B, G, 3) importances of the resamples."""
        return np.abs(self.resampled) if self.signed else self.resampled


def with_percentiles(
    values: np.ndarray, resampled: np.ndarray, **described: str | int | bool | tuple
) -> Importance:
    """Return an importance whose interval is the percentile interval of its resamples."""
    low, high = np.percentile(resampled, _INTERVAL, axis=0)
    return Importance(values=values, resampled=resampled, low=low, high=high, **described)


def importance_table(found: Sequence[Importance], *, top: int = 3) -> pd.DataFrame:
    """Put methods under each other.

    Args:
        found: One entry per method; each may have groups of its own.
        top: How many count as the top.

    Returns:
        One row per method, question or group, and tissue: ``value`` in ``unit`` with its 95 %
        interval ``low`` and ``high`` over what ``over`` says, ``n`` people, ``rank`` of its size
        among the method's groups (1 is largest) with the 95 % interval ``rank_low`` and
        ``rank_high`` of the resamples' ranks, ``in_top``, the share of resamples in which it is
        among the ``top`` largest, and ``p`` of a test where there is one.
    """
    return pd.concat([_rows(one, top) for one in found], ignore_index=True)


def _rows(one: Importance, top: int) -> pd.DataFrame:
    ranks, resampled = _ranks(one.sizes), _ranks(one.resampled_sizes)
    low, high = np.percentile(resampled, _INTERVAL, axis=0)
    p = np.full(one.values.shape, np.nan) if one.p is None else one.p
    statistics = {
        "value": one.values,
        "low": one.low,
        "high": one.high,
        "rank": ranks,
        "rank_low": low,
        "rank_high": high,
        "in_top": (resampled <= top).mean(axis=0),
        "p": p,
    }
    tidy = {name: values.reshape(-1) for name, values in statistics.items()}
    index = pd.MultiIndex.from_product([one.groups, MEASURED], names=["feature", "tissue"])
    described = {"method": one.method, "unit": one.unit, "over": one.over, "n": one.n}
    return pd.DataFrame(tidy, index=index).assign(**described).reset_index()


def rank_stability(found: Sequence[Importance]) -> pd.DataFrame:
    """Tell how much each method's order changes from resample to resample.

    Returns:
        Per method and tissue: mean ``kendall`` tau-b between the order of all and that of a
        resample, with the 2.5 and 97.5 percentiles ``kendall_low`` and ``kendall_high``;
        ``same_first``, the share of resamples with the same first; ``over`` what was resampled;
        ``n`` people and ``groups``.
    """
    rows = []
    for one in found:
        for t, tissue in enumerate(MEASURED):
            own, others = one.sizes[:, t], one.resampled_sizes[:, :, t]
            tau = np.array([kendalltau(own, other).statistic for other in others])
            low, high = np.nanpercentile(tau, _INTERVAL)
            row = {"method": one.method, "tissue": tissue, "kendall": np.nanmean(tau)}
            row |= {"kendall_low": low, "kendall_high": high}
            row["same_first"] = (others.argmax(axis=1) == own.argmax()).mean()
            rows.append({**row, "over": one.over, "n": one.n, "groups": len(one.groups)})
    return pd.DataFrame(rows)


def rank_agreement(found: Sequence[Importance]) -> pd.DataFrame:
    """Correlate the methods' orders with each other.

    Returns:
        Per tissue and pair of methods their ``spearman`` correlation over ``groups`` questions.

    Raises:
        ConfigError: if the methods speak of different groups.
    """
    _require_same_groups(found)
    rows = []
    for t, tissue in enumerate(MEASURED):
        for i, one in enumerate(found):
            for other in found[i + 1 :]:
                rho = spearmanr(one.sizes[:, t], other.sizes[:, t]).statistic
                pair = {"tissue": tissue, "method": one.method, "other": other.method}
                rows.append({**pair, "spearman": rho, "groups": len(one.groups)})
    return pd.DataFrame(rows)


def true_importance(truth: Truth, people: pd.DataFrame, groups: Groups) -> np.ndarray:
    """Return the (G, 3) SD (mL) of what each group adds to volumes among these people.

    Only people who answer everything count. Permuting a group raises the squared error of the
    best possible model by twice the square of this.
    """
    parts = contributions(people.dropna(), truth.effects)
    sums = [sum(parts[question] for question in questions) for questions in groups.values()]
    # Constants added up leave round-off, which must not pass for an effect.
    return np.stack([part.std(axis=0).round(9) for part in sums])


def agreement_with_truth(found: Sequence[Importance], true: np.ndarray) -> pd.DataFrame:
    """Correlate each method's order with the true one.

    Args:
        found: Methods that speak of the same groups.
        true: (G, 3) true importances of these groups.

    Returns:
        Per method and tissue: ``spearman``, with the 95 % interval ``low`` and ``high`` of the
        resamples (over what ``over`` says), ``groups``, and ``nulls`` among them that have no
        effect at all, whose order is chance.

    Raises:
        ConfigError: if the methods speak of different groups.
    """
    _require_same_groups(found)
    rows = []
    for one in found:
        for t, tissue in enumerate(MEASURED):
            own = spearmanr(one.sizes[:, t], true[:, t]).statistic
            others = [spearmanr(r[:, t], true[:, t]).statistic for r in one.resampled_sizes]
            low, high = np.nanpercentile(others, _INTERVAL)
            row = {"method": one.method, "tissue": tissue, "spearman": own, "low": low}
            counts = {"groups": len(one.groups), "nulls": int((true[:, t] == 0).sum())}
            rows.append({**row, "high": high, "over": one.over, **counts})
    return pd.DataFrame(rows)


def _ranks(sizes: np.ndarray) -> np.ndarray:
    """Rank (..., G, 3) sizes over G, 1 the largest; ties share their mean rank."""
    return rankdata(-sizes, axis=-2)


def _require_same_groups(found: Sequence[Importance]) -> None:
    first = found[0]
    for one in found:
        if one.groups != first.groups:
            raise ConfigError(
                f"{first.method!r} and {one.method!r} speak of different groups",
                "Compute them with the same groups.",
            )
