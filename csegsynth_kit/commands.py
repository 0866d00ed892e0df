"""What the ``csegsynth`` commands do; parsed options in, files and a few printed lines out."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from csegsynth_kit.analysis.generate import checked_people, generate
from csegsynth_kit.analysis.synthetic import (
    SyntheticMaps,
    labels_of,
    require_other_names,
    synthetic_labels,
)
from csegsynth_kit.batch import find_notebooks, run_series
from csegsynth_kit.data.answers import (
    abbreviations,
    perhaps_meant,
    person_of,
    question_words,
    read_answers_for,
    shortened,
    unanswered,
)
from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.files import require_folder
from csegsynth_kit.data.participants import participant_id
from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.errors import ConfigError, RunError
from csegsynth_kit.models import Family, build
from csegsynth_kit.models.presets import preset
from csegsynth_kit.show.cohorts import doctor_figure
from csegsynth_kit.show.plots import save, style
from csegsynth_kit.show.studio_server import server
from csegsynth_kit.show.study import families_of
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.training import plan
from csegsynth_kit.training.pretrained import open_model
from csegsynth_kit.training.runs import STAGES, Run, warm_start
from csegsynth_kit.training.trainer import Trainer

#: So many volumes are printed; all are in a table.
_MOST_ROWS = 20


def prepare_command(options: argparse.Namespace) -> None:
    """Run ``csegsynth prepare``."""
    cohort = prepare(
        options.source,
        options.out,
        layout=options.layout,
        participants=options.participants,
        grid=options.grid,
        features=options.features,
        id_column=options.id_column,
        align=options.align,
        clean=options.clean,
        jobs=options.jobs,
    )
    style()
    save(doctor_figure(cohort), cohort.path / "report.png")
    print(f"{cohort.path}: {len(cohort)} participants; see report.md")


def simulate_command(options: argparse.Namespace) -> None:
    """Run ``csegsynth simulate``."""
    cohort = simulate_cohort(
        options.out,
        n=options.n,
        age=options.age,
        effects=options.effects,
        grid=options.grid,
        seed=options.seed,
        missing=options.missing,
        participants=options.participants,
        bases=options.bases,
        bids=options.bids,
        jobs=options.jobs,
    )
    print(f"{cohort.path}: {len(cohort)} participants")


def train_command(options: argparse.Namespace) -> None:
    """Run ``csegsynth train``."""
    distributed = _one_of_several()
    if distributed:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        run = _train_stage(options)
    finally:
        if distributed:
            dist.destroy_process_group()
    print(run.path)


def _one_of_several() -> bool:
    """Whether torchrun started this process and others; cluster jobs may set the world to 1."""
    world = int(os.environ.get("WORLD_SIZE") or 1)
    if world <= 1:
        return False
    if "RANK" not in os.environ:
        raise ConfigError(
            f"WORLD_SIZE is {world}, but RANK does not tell which of these processes this is",
            "Start several with torchrun --nproc-per-node N -m csegsynth_kit.cli train …, or unset "
            "WORLD_SIZE to train in one.",
        )
    return True


def _train_stage(options: argparse.Namespace) -> Run:
    require_folder(Path(options.out))
    chosen = preset(options.family, options.preset)
    finetune = options.stage == "finetune"
    if finetune and not options.parent and not options.from_scratch:
        raise ConfigError(
            "fine-tuning starts from a pre-training, and none is given",
            "Give its run folder with --parent, or say --from-scratch.",
        )
    parent = _pretrained(options.parent) if options.parent else None
    fractions = options.fractions or ((0.8, 0.1, 0.1) if finetune else (0.9, 0.1, 0.0))
    train, valid, test = load_cohort(options.cohort).split(tuple(fractions), seed=options.seed)
    features = Features.fit(train.table, train.feature_columns) if finetune else None
    model = build(chosen.model, features, seed=options.seed)
    if parent:
        parent.require_unseen(test)
        print(f"new: {', '.join(warm_start(model, parent.best()))}")
    run = Run.open(
        options.out,
        family=options.family,
        stage=options.stage,
        preset=chosen,
        seed=options.seed,
        parent=parent,
    )
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    training = getattr(chosen, options.stage)
    if options.accumulate is not None:
        training = replace(training, accumulate=options.accumulate)
    Trainer(model, training, run, device=device).fit(train, valid)
    return run


def _pretrained(path: str) -> Run:
    run = Run.load(path)
    if not run.finished:
        raise RunError(
            "is not trained to its end yet, so nothing can start from it",
            "Repeat the command that began it, csegsynth train or run: it continues.",
            run.path,
        )
    return run


def plan_command(options: argparse.Namespace) -> None:
    """Run ``csegsynth plan``."""
    names = [options.preset] if options.preset else list(plan.PRESETS)
    presets = [preset(options.family, name) for name in names]
    free = plan.free_memory()
    print("A few short steps are taken on this machine; that lasts about a minute.", flush=True)
    print("Free memory: " + ("unknown" if free is None else f"{free / 1e9:.1f} GB"))
    found = plan.plans(presets, participants=options.participants, free=free)
    print(plan.table(found, free).to_string(index=False))
    print(
        "batch: participants per step; parts: a batch is computed in so many; step: seconds of "
        "one; in all: time of the whole stage; fits: whether memory suffices."
    )
    best = plan.suggestion(found, free)
    if best is None:
        print("None of these fits into memory. Free some, or choose a smaller preset.")
        return
    chosen, costs = best
    time = plan.spoken(sum(cost.seconds for cost in costs))
    print(f"Suggested: --preset {chosen.name}, the finest of these that fits; {time} in all.")
    for cost in costs:
        own = getattr(preset(options.family, chosen.name), cost.stage)
        if cost.accumulate > own.accumulate:
            print(
                f"For --stage {cost.stage}, memory holds a batch only in smaller parts: add "
                f"--accumulate {cost.accumulate} to csegsynth train."
            )
    if options.check:
        compared = plan.check(chosen, costs, participants=options.participants)
        print(compared.round(2).to_string(index=False))


def generate_command(options: argparse.Namespace) -> None:
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


def _require_place(options: argparse.Namespace) -> None:
    """Refuse a folder or a name that would fail once the maps are there."""
    if options.out is None:
        raise ConfigError("no folder for the maps is given", "Name one with --out.")
    require_folder(Path(options.out))
    participant_id(options.name)


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


def run_command(options: argparse.Namespace) -> None:
    """Run ``csegsynth run``."""
    families = families_of(",".join(options.families))
    # Refused now rather than by a cell of the first notebook, as are cohorts below.
    for family in families:
        preset(family, options.preset)
    out = Path(options.out or Path("runs") / options.preset).resolve()
    require_folder(out)
    parameters = {"preset": options.preset, "seed": options.seed, "out": str(out)}
    for stage in STAGES:
        cohort = getattr(options, stage)
        if cohort is not None:
            load_cohort(cohort)
            parameters[f"{stage}_cohort"] = str(Path(cohort).resolve())
    notebooks = find_notebooks(options.notebooks, options.only)
    index = run_series(notebooks, out, parameters, families=families)
    print(f"Report: {index}")


def studio_command(options: argparse.Namespace) -> None:
    """Run ``csegsynth studio``, until it is interrupted."""
    command, environment = server(
        options.run,
        cohort=options.cohort,
        port=options.port,
        browser=options.browser,
        out=options.out,
    )
    place = f"http://localhost:{options.port}/"
    print(f"The studio is at {place} in a few seconds; Ctrl+C ends it.", flush=True)
    # This process becomes the server, so that whatever ends it ends the server.
    os.execve(command[0], command, environment)
