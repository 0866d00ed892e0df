"""One page for a data steward: may these maps, and this model, be released?"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from csegsynth_kit.analysis.comparable import require_comparable
from csegsynth_kit.analysis.generate import stream_maps
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.metrics.neighbors import PAIRS
from csegsynth_kit.metrics.privacy import LOW_RATE, Attack, Sign
from csegsynth_kit.metrics.release import (
    CONTROL,
    FEWEST,
    LEAK,
    LEAK_NEAREST,
    ReleaseAudit,
    release_audit,
)
from csegsynth_kit.metrics.resampling import FEWEST_PERSONS
from csegsynth_kit.models import Family
from csegsynth_kit.training.scan import Trace, scan_checkpoint
from csegsynth_kit.training.whitebox import reconstruction_attack

_MEANING = {
    "no sign of copying": "Nothing was found that tells training people from others.",
    "doubt": "A trace of the training people was found. It is below what forbids a release, but "
    "need not be chance. Somebody who answers for the data should decide.",
    "do not release": "The synthetic maps tell who was in the training set, or copy somebody.",
    "cannot tell": "The audit could not have seen a leak of a size that matters. This is not a "
    "pass.",
}
_SETS = {
    "synthetic": "synthetic maps",
    "train": "training people",
    "held out": "held-out people",
}
_LIMITS = (
    "It plays simple attackers. One with more knowledge, or with the model itself, may do better.",
    "It gives no guarantee such as differential privacy.",
    "It looks at maps, not at answers: whether the answers that maps are asked for describe one "
    "real person (k-anonymity) is another question.",
    "Its figures are averages over people: a few remembered people change them too little to be "
    "seen.",
    "It looks for the training people of the last stage. People of the pre-training cohort, and "
    "validation people, who chose the checkpoint, are not looked for.",
    "It holds for these maps. Other answers, more maps, or another model need another audit.",
    "Held-out people must be a random part of the same cohort. If they differ from the training "
    "people in anything else, it is mistaken for a leak.",
)


def audit_page(
    model: Family,
    checkpoint: Path | str,
    train: Cohort,
    held_out: Cohort,
    *,
    draws: int = 2,
    seed: int = 0,
) -> str:
    """Audit a trained model and its maps, and write the page in Markdown.

    Args:
        model: A fine-tuned model.
        checkpoint: The file with its weights, which may be given away.
        train: Its training participants.
        held_out: Others, drawn at random from the same cohort.
        draws: Maps for the answers of each participant.
        seed: Of everything drawn.

    Raises:
        CohortError: if the model was trained on others than ``train``, in whom no audit would
            find a trace, or if some of them are held out.
    """
    require_comparable({"audited": model}, train, held_out)
    n, m = (cohort.persons.nunique() for cohort in (train, held_out))
    if min(n, m) < FEWEST_PERSONS:
        return _none(n, m)
    asked = list(model.features.questions)
    made = [
        stream_maps(model, cohort.table[asked], n=draws, seed=seed + i)
        for i, cohort in enumerate((train, held_out))
    ]
    persons = [*train.persons, *held_out.persons]
    real = train.maps(), held_out.maps()
    audit = release_audit(*real, *made, persons=persons, seed=seed)
    return steward_report(
        audit,
        traces=scan_checkpoint(checkpoint, train),
        weights=reconstruction_attack(model, train, held_out, seed=seed),
    )


def steward_report(
    audit: ReleaseAudit, *, traces: Sequence[Trace] | None = None, weights: Attack | None = None
) -> str:
    """Write the page in Markdown.

    Args:
        audit: Of synthetic maps.
        traces: Of the checkpoint, from ``scan_checkpoint``; None if it is not released.
        weights: From ``reconstruction_attack``; None if weights are not released.
    """
    first = audit.attacks["anybody"]
    parts = [
        "# Release audit",
        "May these synthetic maps be given away? Do they tell who was in the training set?",
        f"## Verdict on the maps: {audit.verdict}",
        _MEANING[audit.verdict],
        _bullets(audit.reasons),
        "## What was compared",
        f"{first.n_members} training persons, {first.n_others} persons on whom the model was not "
        f"trained, and {audit.draws} synthetic maps for the answers of each of them. If the model "
        "has learned only what people have in common, both groups are equally near to the "
        "synthetic maps.",
        _figures(audit),
        "Intervals are 95 %. An attack is forbidding if it is surely better than 0.50 and above "
        f"{LEAK:.2f}; the share of nearest people, if it is above {LEAK_NEAREST:.2f}.",
        "## Distances",
        _distances(audit),
        "## Would the audit have seen copies?",
        _controls(audit),
    ]
    if traces is not None or weights is not None:
        parts += ["## If the model is given away", _model(traces, weights)]
    parts += ["## What this audit cannot tell", _bullets(_LIMITS), "## Identity"]
    parts += [f"`{json.dumps(audit.passport, sort_keys=True)}`"]
    return "\n\n".join(parts) + "\n"


def _none(n: int, m: int) -> str:
    """Write the page where there is nothing to compare."""
    reason = (
        f"{n} training persons and {m} persons on whom the model was not trained are too few: "
        f"there must be at least {FEWEST_PERSONS} of each, and {FEWEST} for intervals that can "
        "be trusted."
    )
    parts = "# Release audit", "## Verdict on the maps: cannot tell", _MEANING["cannot tell"]
    return "\n\n".join([*parts, _bullets([reason])]) + "\n"


def _figures(audit: ReleaseAudit) -> str:
    rows = [
        ("Attacker who sees all maps", audit.attacks["anybody"]),
        ("Attacker who also knows the person's answers", audit.attacks["own answers"]),
        ("Training people nearest to maps, share per head", audit.closeness.nearest),
        ("For comparison: guessing that usual brains took part", audit.attacks["no maps"]),
    ]
    lines = ["| figure | value | interval | without a leak | persons |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {_values(s)} | 0.50 | {_n(s)} |" for name, s in rows]
    for name, attack in rows[:2]:
        if np.isfinite(attack.found):
            span = f"{attack.found_low:.2f} to {attack.found_high:.2f}"
            what = f"{name}: share found at {100 * LOW_RATE:.0f} % wrongly accused"
            lines.append(
                f"| {what} | {attack.found:.2f} | {span} | {LOW_RATE:.2f} | {_n(attack)} |"
            )
    floor = audit.authenticity.floor
    lines.append(
        f"| Authentic maps (Alaa et al., 2022) | {audit.authenticity.value:.2f} | | "
        f"{floor.median:.2f}, at least {floor.alarm:.2f} | {_n(rows[0][1])} |"
    )
    twins = audit.twins
    lines.append(f"| Training people with a twin | {twins.members} | | 0 | {_n(rows[0][1])} |")
    return "\n".join(lines)


def _distances(audit: ReleaseAudit) -> str:
    near = audit.closeness
    lines = ["| from | to the nearest of | distance | interval |", "|---|---|---|---|"]
    for pair in PAIRS:
        value, low, high = near.table[pair]
        start, end = (_SETS[name] for name in pair)
        lines.append(
            f"| {start} | {near.reference} {end} | {value:.3f} | {low:.3f} to {high:.3f} |"
        )
    return "Medians, where 1 is the usual distance of two people.\n\n" + "\n".join(lines)


def _controls(audit: ReleaseAudit) -> str:
    lines = ["| copied maps | attack | interval | found out |", "|---|---|---|---|"]
    for control in audit.controls:
        found = "yes" if control.alarmed else "no"
        lines.append(f"| {100 * control.share:.0f} % | {_values(control.attack)} | {found} |")
    return (
        "The same audit of a copy machine: these maps, but some replaced by training maps. "
        f"Unless {100 * CONTROL:.0f} % of copies are found out, there is no pass.\n\n"
        + "\n".join(lines)
    )


def _model(traces: Sequence[Trace] | None, weights: Attack | None) -> str:
    lines = []
    if weights is not None:
        lines.append(
            "An attacker who has the weights lets them render a person's map, and takes whoever "
            "is rendered well for a training person. He tells a training person from "
            f"another with probability {weights.value:.2f} (95 % interval {weights.low:.2f} to "
            f"{weights.high:.2f}; {_n(weights)} persons); 0.50 is chance. This is one attack, on "
            "the parts that render maps (C-LDM: the autoencoder); others may do better."
        )
        if weights.low > 0.5:
            lines.append(
                "**Whoever has the weights can find out who took part.** Give them away only "
                "where participants have agreed to that."
            )
    else:
        lines.append(
            "No attack with the weights was made (some families cannot render a given map). That "
            "is not a pass."
        )
    if traces is not None:
        lines += [f"**{t.severity}**: {t.place}: {t.message}" for t in traces]
        if not traces:
            lines.append("No participant's map, answers, volumes or id were found in its files.")
    return _bullets(lines)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _values(sign: Sign) -> str:
    return f"{sign.value:.2f} | {sign.low:.2f} to {sign.high:.2f}"


def _n(sign: Sign) -> str:
    return f"{sign.n_members} and {sign.n_others}"
