"""The weights that come with the package, and how they are made.

Each is a safetensors file, packed, beside a JSON card: what it was trained on, how good it is,
and what it must not be used for. Nothing is downloaded.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from csegsynth_kit.constants import PACKAGED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.files import fingerprint, write_json
from csegsynth_kit.errors import RunError
from csegsynth_kit.models import Family
from csegsynth_kit.models.config import to_dict
from csegsynth_kit.models.presets import Preset
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.packing import pack, unpack
from csegsynth_kit.training.runs import METHOD, STAGES, Run, Stage, model_from

#: Where they are.
FOLDER = Path(__file__).parents[1] / "weights"
#: What tells a simulated cohort from all others.
COHORT_CARD = ("simulated", "structural_truth", "n", "age", "effects", "missing", "seed", "grid")
#: Parts that only training needs: critics, and the spread of codes about a posterior's mean.
_TRAINING_ONLY = ("critic.", "code_critic.", "encoder.log_variance.")


def pretrained_names(folder: Path = FOLDER) -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in folder.glob("*.json"))


def pretrained_card(name: str = PACKAGED, *, folder: Path = FOLDER) -> dict:
    """Return the card of packaged weights: data, accuracy, limits.

    Raises:
        RunError: if there are none of that name; lists those there are.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        known = ", ".join(pretrained_names(folder)) or "none"
        raise RunError(
            f"there are no weights '{name}' in the package", f"There are: {known}.", folder
        )
    return json.loads(path.read_text(encoding="utf-8"))


def load_pretrained(
    name: str = PACKAGED, device: torch.device | str = "cpu", *, folder: Path = FOLDER
) -> Family:
    """Return a model that comes with the package, ready to generate; needs no network.

    Args:
        name: Such as ``csegsynth-small``, or its ancestor ``alpha-gan-small``.
        device: Where it is wanted.
        folder: Where the weights are.

    Raises:
        RunError: if there are none of that name, or the file is not the one of its card.
    """
    card = pretrained_card(name, folder=folder)
    path = _file(name, card, folder)
    tensors, meta = checkpoint.read(path)
    model = model_from(unpack(tensors), meta, path, without=_TRAINING_ONLY)
    model.card |= {"weights": name, "statement": card["statement"]}
    return model.to(device)


def split_digest(train: Cohort, valid: Cohort) -> str:
    """Twelve digits that tell who trains and who validates, the same on every machine."""
    return fingerprint([list(train.ids), list(valid.ids)])


def seen_by(train: Cohort, valid: Cohort) -> dict:
    """Say for a card whom the pre-training that weights began from had seen."""
    known = {key: train.provenance.get(key) for key in COHORT_CARD}
    return {"cohort": known, "participants": len(train), "split": split_digest(train, valid)}


def trained_on(card: Mapping, cohort: Cohort) -> bool:
    """Tell whether packaged weights were trained on this simulated cohort."""
    return card["training"]["cohort"] == {key: cohort.provenance.get(key) for key in COHORT_CARD}


def how_trained(preset: Preset, family: str, stage: Stage, *, seed: int) -> dict:
    """Say for a card how weights were trained: whoever trains just so needs no training.

    Args:
        preset: Model and training configuration.
        family: Model family.
        stage: The last one of the training.
        seed: Of the training.
    """
    stages = STAGES[: STAGES.index(stage) + 1]
    return {
        "seed": seed,
        "model": fingerprint(to_dict(preset.model)),
        "stages": {name: fingerprint(getattr(preset, name).to_dict()) for name in stages},
        "method": METHOD[family],
    }


def adopt(run: Run, name: str, train: Cohort, valid: Cohort, *, folder: Path = FOLDER) -> None:
    """Put packaged weights into a run folder, so that it need not be trained.

    Args:
        run: Not trained yet; of the weights' preset, seed and method; see :func:`how_trained`.
        name: Of the weights.
        train: The training participants of the weights' cohort; see :func:`trained_on`.
        valid: Its validation participants.
        folder: Where the weights are.

    Raises:
        RunError: if the run was trained or begun, or the cohort is split in another way, so that
            people who are to be held out were trained on.
    """
    card = pretrained_card(name, folder=folder)
    if run.last().exists():
        raise RunError(
            "was begun already, and packaged weights would replace it",
            "Go on with its training, or remove the folder.",
            run.path,
        )
    if card["training"]["split"] != split_digest(train, valid):
        raise RunError(
            f"other participants train or validate here than those of '{name}'",
            "Split the cohort as the series does, with seed 0.",
            train.path,
        )
    model = load_pretrained(name, folder=folder)
    _, meta = checkpoint.read(_file(name, card, folder))
    data = run.claim(train, valid, model.features)
    weights = {f"model/{key}": tensor for key, tensor in model.state_dict().items()}
    checkpoint.write(run.best(), weights, {**meta, "data": data})
    write_json(run.adopted(), {"weights": name})
    run.mark_finished(meta["epoch"] + 1)


def adopted(run: Run) -> str | None:
    """Name of the packaged weights that a run has taken, or None if it was trained."""
    path = run.adopted()
    return json.loads(path.read_text(encoding="utf-8"))["weights"] if path.exists() else None


def open_model(given: Path | str, device: torch.device | str = "cpu") -> Family:
    """Load a model from its run folder, or by the name of packaged weights.

    Raises:
        RunError: if it is neither.
    """
    if is_packaged(given):
        return load_pretrained(str(given), device)
    try:
        return Run.load(given).load_model(device)
    except RunError as error:
        raise RunError(
            f"{error.finding}, nor the name of packaged weights ({', '.join(pretrained_names())})",
            error.remedy,
            Path(given),
        ) from error


def is_packaged(given: Path | str) -> bool:
    """Tell whether this names packaged weights, and not a folder."""
    return str(given) in pretrained_names() and not Path(given).is_dir()


def pretrained_weights(name: str, *, folder: Path = FOLDER) -> dict[str, torch.Tensor]:
    """Return the tensors of packaged weights, to start a training from (``model.start_from``)."""
    return unpack(checkpoint.read(_file(name, pretrained_card(name, folder=folder), folder))[0])


def save_pretrained(run: Run, name: str, card: Mapping, *, folder: Path = FOLDER) -> Path:
    """Pack the best weights of a run, and write them with their card.

    Conditional models are packed without what only training needs, as nothing is trained further
    from them: encoding and reconstructing take the mean of a posterior. ``start_from`` refuses
    weights that lack such parts.

    Args:
        run: A finished run.
        name: Of the weights.
        card: What to say of them, with a ``statement`` of one sentence.
        folder: Where to.

    Returns:
        The weights file.
    """
    tensors, meta = checkpoint.read(run.best())
    tensors = checkpoint.with_prefix(tensors, "model")
    if meta["stage"] == "finetune":
        tensors = {n: t for n, t in tensors.items() if not n.startswith(_TRAINING_ONLY)}
    path = folder / f"{name}.safetensors"
    checkpoint.write(path, pack(tensors), meta)
    write_json(folder / f"{name}.json", {**card, "sha256": _sha256(path), "run": run.path.name})
    return path


def _file(name: str, card: Mapping, folder: Path) -> Path:
    """Return the path of the weights, having checked that they are those of the card."""
    path = folder / f"{name}.safetensors"
    if not path.exists() or _sha256(path) != card["sha256"]:
        raise RunError(
            "is missing" if not path.exists() else "is not the file that its card describes",
            "Install csegsynth_kit again.",
            path,
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
