"""The ``csegsynth`` command line."""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from csegsynth_kit.constants import PACKAGED
from csegsynth_kit.errors import CsegsynthError

_LAYOUTS = ("auto", "fast", "fmriprep", "freesurfer")
_GRIDS = ("full", "small", "tiny", "paper")
_STAGES = ("pretrain", "finetune")
_FAMILIES = ("csegsynth", "cvae", "cgan", "cldm")
_GRID_HELP = "voxels: full 2 mm, small 4 mm, tiny 8 mm"
_PRESET_HELP = (
    "networks and schedule: tiny (8 mm), small (4 mm), full or paper (2 mm) (%(default)s)"
)
_FAMILY_HELP = "kind of model (%(default)s)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors are told in one line and give exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    # Loaded only now: --help and a mistyped option should not wait seconds for torch.
    command = importlib.import_module(f"csegsynth_kit.commands.{options.command}")
    try:
        command.run(options)
    except CsegsynthError as error:
        print(f"csegsynth: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("csegsynth: stopped; repeat the command to continue.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="csegsynth", description="Generate tissue maps of a brain from answers to questions."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_prepare,
        _add_simulate,
        _add_run,
        _add_generate,
        _add_train,
        _add_plan,
        _add_studio,
    ):
        add(commands)
    return parser


def _add_prepare(commands) -> None:
    parser = commands.add_parser("prepare", help="turn a folder of segmentations into a cohort")
    parser.add_argument("source", help="folder with segmentations (BIDS derivative or flat)")
    parser.add_argument("--out", required=True, help="folder of the prepared cohort")
    parser.add_argument(
        "--layout",
        default="auto",
        choices=_LAYOUTS,
        help="program that wrote the segmentations (%(default)s: detected)",
    )
    parser.add_argument("--participants", nargs="+", help="tables of answers (.tsv or .csv)")
    parser.add_argument(
        "--grid",
        default="small",
        choices=_GRIDS,
        help=f"{_GRID_HELP}, paper 2 mm and not aligned (%(default)s)",
    )
    parser.add_argument("--features", nargs="+", help="use exactly these columns as features")
    parser.add_argument("--id-column", help="column of the table that holds the ids")
    parser.add_argument(
        "--no-align",
        dest="align",
        action="store_false",
        help="do not turn heads to the template, only center them",
    )
    parser.add_argument(
        "--no-clean",
        dest="clean",
        action="store_false",
        help="keep the spinal canal and islands of label maps",
    )
    parser.add_argument("--jobs", type=int, help="processes (as many as there is room for)")


def _add_simulate(commands) -> None:
    parser = commands.add_parser("simulate", help="simulate a cohort whose truth is known")
    parser.add_argument("--out", required=True, help="folder of the prepared cohort")
    parser.add_argument("--n", type=int, help="participants (400, or everybody in the table)")
    parser.add_argument(
        "--age",
        default="lifespan",
        choices=("lifespan", "young"),
        help="ages: lifespan 18 to 88 years, young 19 to 26 years (%(default)s)",
    )
    parser.add_argument(
        "--effects",
        type=float,
        default=1.0,
        help="factor of all effects but those of age and sex (%(default)s)",
    )
    parser.add_argument(
        "--grid", default="small", choices=_GRIDS[:3], help=f"{_GRID_HELP} (%(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="number that decides all that is drawn (%(default)s)"
    )
    parser.add_argument(
        "--missing", type=float, default=0.0, help="share of answers left out, 0 to 1 (%(default)s)"
    )
    parser.add_argument("--participants", help="take people and volumes from this real table")
    parser.add_argument("--bases", help="take anatomies from this prepared cohort")
    parser.add_argument("--bids", help="also write a BIDS derivative here")
    parser.add_argument("--jobs", type=int, help="processes (all processors by default)")


def _add_run(commands) -> None:
    parser = commands.add_parser("run", help="run the notebook series")
    parser.add_argument("--pretrain", help="prepared cohort (the embedded young one by default)")
    parser.add_argument("--finetune", help="prepared cohort (the embedded lifespan one by default)")
    parser.add_argument("--preset", default="tiny", help=_PRESET_HELP)
    parser.add_argument(
        "--families",
        nargs="+",
        default=["csegsynth"],
        choices=(*_FAMILIES, "all"),
        metavar="F",
        help=f"families to train and compare: all, or some of {', '.join(_FAMILIES)}",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of splits, weights and training (%(default)s)"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NN", help="numbers, as in 03 04")
    parser.add_argument("--out", help="folder of the report (runs/PRESET)")
    parser.add_argument(
        "--notebooks", default="notebooks", help="folder of the notebooks (%(default)s)"
    )


def _add_generate(commands) -> None:
    parser = commands.add_parser("generate", help="generate maps of a person")
    parser.add_argument(
        "run",
        nargs="?",
        default=PACKAGED,
        help="run folder of a fine-tuned model, or name of packaged weights (%(default)s)",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--person", help="""answers as JSON, as in '{"age": 71, "sex": "female"}'""")
    who.add_argument(
        "--participants",
        help="table of answers (.tsv or .csv), one person per row; seed and id decide which "
        "individual a person gets, in any table; columns that the model does not ask for are "
        "ignored",
    )
    who.add_argument(
        "--questions",
        action="store_true",
        help="say what the model asks, and what training participants answered",
    )
    parser.add_argument("--id-column", help="column of the table that holds the ids")
    parser.add_argument("--n", type=int, default=1, help="draws per person (%(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="the individual (%(default)s): other answers with the same seed are the same person "
        "with other answers, so give other people other seeds, or ids in a table",
    )
    parser.add_argument(
        "--name",
        default="synthetic",
        help="name of the person in file names, letters and digits (%(default)s)",
    )
    parser.add_argument("--out", help="folder of the BIDS derivative that is written")


def _add_train(commands) -> None:
    parser = commands.add_parser("train", help="train one stage (also under torchrun)")
    parser.add_argument(
        "--stage",
        required=True,
        choices=_STAGES,
        help="pretrain on maps alone, or finetune on maps with answers",
    )
    parser.add_argument("--cohort", required=True, help="prepared cohort")
    parser.add_argument("--family", default="csegsynth", choices=_FAMILIES, help=_FAMILY_HELP)
    parser.add_argument("--preset", default="tiny", help=_PRESET_HELP)
    parser.add_argument("--parent", help="run folder of the pre-training")
    parser.add_argument("--from-scratch", action="store_true", help="fine-tune without --parent")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        metavar="F",
        help="shares of the participants for training, validation and test (.9 .1 0 for pretrain, "
        ".8 .1 .1 for finetune)",
    )
    parser.add_argument(
        "--accumulate",
        type=int,
        metavar="N",
        help="compute batches in N parts, where memory does not hold one; the result is the same",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of split, weights and training (%(default)s)"
    )
    parser.add_argument("--out", default="runs/models", help="folder of run folders (%(default)s)")


def _add_plan(commands) -> None:
    about = "predict memory and time of trainings on this machine"
    parser = commands.add_parser(
        "plan",
        help=about,
        description=f"{about.capitalize()}, from a few short steps (about a minute).",
    )
    parser.add_argument("--family", default="csegsynth", choices=_FAMILIES, help=_FAMILY_HELP)
    parser.add_argument("--preset", help="only this preset (by default tiny, small and full)")
    parser.add_argument(
        "--participants",
        type=int,
        default=400,
        help="number of training participants of either stage (%(default)s)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="also start the suggested preset from so many random maps and take real steps, and "
        "compare them with what was predicted",
    )


def _add_studio(commands) -> None:
    parser = commands.add_parser("studio", help="explore a model in the browser (needs voila)")
    parser.add_argument(
        "run",
        nargs="?",
        default=PACKAGED,
        help="run folder of a fine-tuned model, folder of a series, or name of packaged weights "
        "(%(default)s)",
    )
    parser.add_argument("--cohort", help="prepared cohort to compare with (by default its own)")
    parser.add_argument("--port", type=int, default=8866, help="port of the page (%(default)s)")
    parser.add_argument("--out", default="studio", help="folder of exported persons (%(default)s)")
    parser.add_argument(
        "--no-browser",
        dest="browser",
        action="store_false",
        help="do not open the page, only serve it",
    )


if __name__ == "__main__":
    sys.exit(main())
