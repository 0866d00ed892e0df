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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors are told in one line and give exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    # Loaded only now: --help and a mistyped option should not wait seconds for torch.
    commands = importlib.import_module("csegsynth_kit.commands")
    try:
        getattr(commands, f"{options.command}_command")(options)
    except CsegsynthError as error:
        print(f"csegsynth: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("csegsynth: stopped; repeat the command to continue.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="csegsynth", description=__doc__)
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
    parser.add_argument("--layout", default="auto", choices=_LAYOUTS)
    parser.add_argument("--participants", nargs="+", help="tables of answers (.tsv or .csv)")
    parser.add_argument("--grid", default="small", choices=_GRIDS)
    parser.add_argument("--features", nargs="+", help="use exactly these columns as features")
    parser.add_argument("--id-column", help="column of the table that holds the ids")
    parser.add_argument("--no-align", dest="align", action="store_false")
    parser.add_argument("--no-clean", dest="clean", action="store_false")
    parser.add_argument("--jobs", type=int, help="processes (as many as there is room for)")


def _add_simulate(commands) -> None:
    parser = commands.add_parser("simulate", help="simulate a cohort whose truth is known")
    parser.add_argument("--out", required=True, help="folder of the prepared cohort")
    parser.add_argument("--n", type=int, help="participants (400, or everybody in the table)")
    parser.add_argument("--age", default="lifespan", choices=("lifespan", "young"))
    parser.add_argument("--effects", type=float, default=1.0, help="multiplies weak effects")
    parser.add_argument("--grid", default="small", choices=_GRIDS[:3])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--missing", type=float, default=0.0, help="share of answers left out")
    parser.add_argument("--participants", help="take people and volumes from this real table")
    parser.add_argument("--bases", help="take anatomies from this prepared cohort")
    parser.add_argument("--bids", help="also write a BIDS derivative here")
    parser.add_argument("--jobs", type=int, help="processes (all processors by default)")


def _add_run(commands) -> None:
    parser = commands.add_parser("run", help="run the notebook series")
    parser.add_argument("--pretrain", help="prepared cohort (the embedded young one by default)")
    parser.add_argument("--finetune", help="prepared cohort (the embedded lifespan one by default)")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument(
        "--families",
        nargs="+",
        default=["csegsynth"],
        choices=(*_FAMILIES, "all"),
        metavar="F",
        help=f"families to train and compare: all, or some of {', '.join(_FAMILIES)}",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], metavar="NN", help="numbers, as in 03 04")
    parser.add_argument("--out", help="folder of the report (runs/PRESET)")
    parser.add_argument("--notebooks", default="notebooks", help="folder of the notebooks")


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
        help="table of answers (.tsv or .csv), one person per row; columns that the model does "
        "not ask for are ignored",
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
        "with other answers, so give other people other seeds",
    )
    parser.add_argument("--name", default="synthetic", help="participant name in the derivative")
    parser.add_argument("--out", help="folder of the BIDS derivative that is written")


def _add_train(commands) -> None:
    parser = commands.add_parser("train", help="train one stage (also under torchrun)")
    parser.add_argument("--stage", required=True, choices=_STAGES)
    parser.add_argument("--cohort", required=True, help="prepared cohort")
    parser.add_argument("--family", default="csegsynth", choices=_FAMILIES)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--parent", help="run folder of the pre-training")
    parser.add_argument("--from-scratch", action="store_true", help="fine-tune without --parent")
    parser.add_argument(
        "--fractions", type=float, nargs=3, metavar="F", help="training, validation, test shares"
    )
    parser.add_argument(
        "--accumulate",
        type=int,
        metavar="N",
        help="compute batches in N parts, where memory does not hold one; the result is the same",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/models", help="folder of run folders")


def _add_plan(commands) -> None:
    parser = commands.add_parser("plan", help="what fits on this machine, and how long it takes")
    parser.add_argument("--family", default="csegsynth", choices=_FAMILIES)
    parser.add_argument("--preset", help="only this preset (by default tiny, small and full)")
    parser.add_argument("--participants", type=int, default=400, help="for training (%(default)s)")
    parser.add_argument(
        "--check", action="store_true", help="take three steps of what is suggested and compare"
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
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--out", default="studio", help="folder of exported persons")
    parser.add_argument("--no-browser", dest="browser", action="store_false")


if __name__ == "__main__":
    sys.exit(main())
