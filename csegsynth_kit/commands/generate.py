"""Generate maps of people."""

import argparse
import sys
from pathlib import Path

from csegsynth_kit.analysis.generate import checked_people, generate
from csegsynth_kit.analysis.synthetic import (
    SyntheticMaps,
    labels_of,
    require_other_names,
    synthetic_labels,
)
from csegsynth_kit.data.answers import (
    abbreviations,
    perhaps_meant,
    person_of,
    question_words,
    read_answers_for,
    shortened,
    unanswered,
)
from csegsynth_kit.data.files import require_folder
from csegsynth_kit.data.participants import participant_id
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.models import Family
from csegsynth_kit.training.pretrained import open_model

#: So many volumes are printed; all are in a table.
_MOST_ROWS = 20


def run(options: argparse.Namespace) -> None:
    """Run ``csegsynth generate``."""
    if not options.questions:
        _require_place(options)
    model = open_model(options.run)
    if options.questions:
        _print_questions(model)
        return
    people = _people(options, model)
    table = options.participants is not None
    n = options.n
    labels = synthetic_labels(people.index, n) if table else labels_of(options.name, n)
    require_other_names(Path(options.out), labels)
    maps = generate(model, people, n=n, seed=options.seed, by_id=table)
    if table and (doubt := _nobodys(maps)):
        maps = maps.warned(doubt)
    _print_cautions(maps)
    if not table:
        maps = maps.named(options.name)
    maps.to_bids(options.out)
    volumes = maps.volumes_ml().pivot(index="map", columns="tissue", values="volume_ml")
    print("Volumes (mL) of synthetic maps:")
    print(volumes[["WM", "GM", "CSF"]].head(_MOST_ROWS).round(1).to_string())
    if len(maps) > _MOST_ROWS:
        print(f"and {len(maps) - _MOST_ROWS} more")
    print(f"{options.out}: synthetic maps: {len(maps)}, their volumes in volumes.tsv")
    if "statement" in model.card:
        print(model.card["statement"])
    elif model.card.get("simulated"):
        print(
            "The model was trained on simulated people: what it draws is no evidence of real ones."
        )


def _require_place(options: argparse.Namespace) -> None:
    """Refuse a folder or a name that would fail once the maps are there."""
    if options.out is None:
        raise ConfigError("no folder for the maps is given", "Name one with --out.")
    require_folder(Path(options.out))
    participant_id(options.name)


def _people(options: argparse.Namespace, model: Family):
    if options.participants is None:
        return None if options.person is None else person_of(options.person)
    checked_people(model, {})  # A model that takes no answers is refused.
    people = read_answers_for(model.features, options.participants, id_column=options.id_column)
    if people.ignored:
        print(
            f"Ignored columns, which the model does not ask for: {shortened(people.ignored)}.",
            file=sys.stderr,
        )
    absent = people.frame.columns[people.frame.isna().all()]
    if meant := perhaps_meant(people.ignored, absent):
        print(f"WARNING: nobody answers what may be meant by {meant}.", file=sys.stderr)
    for finding in people.findings:
        if finding.severity == "doubt":
            print(f"WARNING: {finding.subject}: {finding.message}", file=sys.stderr)
    return people.frame


def _nobodys(maps: SyntheticMaps) -> str:
    """Warn of a table in which what matters most is open for everybody: a misread column?"""
    open_for_all = [
        name for name in ("age", "sex") if name in maps.answers and maps.answers[name].isna().all()
    ]
    if not open_for_all:
        return ""
    named = " and ".join(open_for_all)
    return f"{named}: nobody's answer is known; name the columns so if the table has them."


def _print_cautions(maps: SyntheticMaps) -> None:
    for warning in maps.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    people = maps.answers.iloc[:: maps.draws[0].of]
    by_all, by_some = unanswered(people)
    everybody = " by everybody" if len(people) > 1 else ""
    for who, left_open in ((everybody, by_all), (" by some", by_some)):
        if left_open:
            print(
                f"Unanswered{who}, {len(left_open)} of {people.shape[1]} questions: "
                f"{shortened(left_open, most=4)}.",
                file=sys.stderr,
            )
    if by_all or by_some:
        print(
            "Open questions are n/a in participants.tsv. Each counts as the average to be expected "
            "from the answers given, and the model is told that it is open; the draws do not vary "
            "it.",
            file=sys.stderr,
        )


def _print_questions(model: Family) -> None:
    if not model.conditional:
        print("This model was only pre-trained and asks nothing.")
        return
    words = question_words(model.features)
    words.columns = ["question", "answers seen in training", "what is asked"]
    widths = [max(len(name), words[name].str.len().max()) for name in words.columns]
    for row in (words.columns, *words.itertuples(index=False)):
        print("  ".join(w.ljust(n) for w, n in zip(row, widths, strict=True)).rstrip())
    for short, meaning in abbreviations(model.features).items():
        print(f"{short}: {meaning}.")
    print("Every question may be left out. Answers beyond those seen are generated, but flagged.")
    if model.card["simulated"]:
        print("Those seen are of simulated people: real scores may lie on other scales.")
