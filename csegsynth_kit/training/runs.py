"""Run folders: deterministic names, configuration, history, checkpoints, provenance."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.files import file_digest, fingerprint, write_json, write_text
from csegsynth_kit.errors import RunError
from csegsynth_kit.models import FAMILIES, Family, build
from csegsynth_kit.models.config import from_dict, to_dict
from csegsynth_kit.models.presets import Preset
from csegsynth_kit.training import checkpoint

Stage = Literal["pretrain", "finetune"]
STAGES = ("pretrain", "finetune")

#: Of each family, raised with every change after which one of its configurations trains to other
#: weights: a run of before must not pass for one of now.
METHOD = {"cvae": 2, "cgan": 2, "cldm": 3, "csegsynth": 2}


@dataclass(frozen=True)
class Run:
    """One training: a folder whose name says what it is.

    Args:
        path: The folder.
        config: Family, stage, preset name, model and training configuration, seed, parent.
        parent: The pre-training run, where it is at hand.
    """

    path: Path
    config: dict
    parent: "Run | None" = None

    @classmethod
    def open(
        cls,
        root: Path | str,
        *,
        family: str,
        stage: Stage,
        preset: Preset,
        seed: int = 0,
        parent: "Run | None" = None,
    ) -> "Run":
        """Open the run of this configuration, or begin it.

        A changed configuration has another folder, so nothing is ever continued by mistake.

        Args:
            root: Folder that holds the runs.
            family: Model family.
            stage: ``pretrain`` (unconditional) or ``finetune`` (conditional).
            preset: Model and training configuration.
            seed: Of initial weights, data order and noise.
            parent: The pre-training run whose weights are the start.
        """
        if stage not in STAGES:
            raise RunError(f"there is no stage '{stage}'", f"Choose one of {', '.join(STAGES)}.")
        config = {
            "family": family,
            "stage": stage,
            "preset": preset.name,
            "model": to_dict(preset.model),
            "training": getattr(preset, stage).to_dict(),
            "seed": seed,
            "parent": parent.identity() if parent else None,
            "version": version("csegsynth_kit"),
            "method": METHOD[family],
        }
        name = f"{family}-{stage}-{preset.name}-seed{seed}-{fingerprint(config)[:8]}"
        run = cls(Path(root) / name, config, parent)
        if not (run.path / "config.json").exists():
            write_json(run.path / "config.json", config)
        return run

    @classmethod
    def load(cls, path: Path | str) -> "Run":
        """Open an existing run folder.

        Raises:
            RunError: if it is not a run folder.
        """
        path = Path(path)
        if not (path / "config.json").exists():
            there = [
                f"{p.parent.relative_to(path)}" for p in sorted(path.glob("models/*/config.json"))
            ]
            raise RunError(
                "is not a run folder (no config.json)",
                f"Give one of those in it: {', '.join(there)}."
                if there
                else "Give a folder in the models/ of what 'csegsynth run' wrote, or one that "
                "'csegsynth train' wrote.",
                path,
            )
        return cls(path, json.loads((path / "config.json").read_text(encoding="utf-8")))

    def last(self) -> Path:
        """Path of the checkpoint from which training resumes."""
        return self.path / "last.safetensors"

    def best(self) -> Path:
        """Path of the weights to generate with."""
        return self.path / "best.safetensors"

    def adopted(self) -> Path:
        """Path of the note which packaged weights were taken instead of a training."""
        return self.path / "packaged.json"

    @property
    def finished(self) -> bool:
        """Whether training has reached its last epoch."""
        return (self.path / "done.json").exists()

    def begin(self) -> None:
        """Forget what stood here instead of a training, which begins now."""
        for path in (self.path / "done.json", self.adopted()):
            path.unlink(missing_ok=True)

    def mark_finished(self, epochs: int) -> None:
        """Note that training has reached its last epoch.

        Raises:
            RunError: if it has left no weights to generate with.
        """
        if not self.best().exists():
            raise RunError(
                "has no best weights, as no validation score was a number",
                "Validate with more participants, or choose selection='last'.",
                self.path,
            )
        write_json(self.path / "done.json", {"epochs": epochs})

    def history(self) -> pd.DataFrame:
        """Return the record of the training, one row per epoch."""
        path = self.path / "history.csv"
        if not path.exists():
            raise RunError("has no history yet", "Train it first.", self.path)
        return pd.read_csv(path)

    def write_history(self, rows: list[dict]) -> None:
        """Replace the record of the training."""
        write_text(self.path / "history.csv", pd.DataFrame(rows).to_csv(index=False))

    def identity(self) -> dict:
        """Say which weights a fine-tuning starts from, and what they were trained on."""
        provenance = self.provenance()
        return {
            "run": self.path.name,
            "weights": file_digest(self.best()) if self.best().exists() else None,
            "csf_definition": provenance["cohort"]["csf_definition"] if provenance else None,
            "simulated": provenance["cohort"]["simulated"] if provenance else None,
        }

    def provenance(self) -> dict:
        """Return what the run was trained on; empty before it begins."""
        path = self.path / "provenance.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def require_unseen(self, cohort: Cohort) -> None:
        """Raise RunError if participants on whom a model is to be judged were trained on."""
        shared = cohort.scans & set(self.provenance().get("scans", ()))
        if shared:
            raise RunError(
                f"was trained on {len(shared)} of {len(cohort)} participants of {cohort.path} "
                "who are to be held out",
                "Pre-train on other participants, or on the training participants of this "
                "cohort alone (csegsynth train --fractions).",
                self.path,
            )

    def claim(self, train: Cohort, valid: Cohort | None, features: Features | None) -> dict:
        """Tie the run to its data and questions, or check that they are the same as before.

        Raises:
            RunError: if the run was begun with other data or questions, or starts from weights
                that have seen the validation participants or count CSF differently.
        """
        self._require_fitting_parent(train, valid)
        data = {
            "features": fingerprint(features.to_dict()) if features else None,
            "train": train.fingerprint,
            "valid": valid.fingerprint if valid else None,
            "n_train": len(train),
            "n_valid": len(valid) if valid else 0,
        }
        path = self.path / "provenance.json"
        if path.exists():
            before = self.provenance()["data"]
            if before != data:
                what = [key for key in data if before.get(key) != data[key]]
                raise RunError(
                    f"was begun with other data or questions ({', '.join(what)} differ; then "
                    f"{before['n_train']} training participants, now {data['n_train']})",
                    "Use another folder for runs, or remove this one.",
                    self.path,
                )
            return data
        provenance = {
            "data": data,
            # Here and not in checkpoints: weights may be given away, this file must not be.
            "participants": {
                "train": list(train.ids),
                "valid": list(valid.ids) if valid else [],
            },
            "scans": sorted(train.scans),
            "cohort": {
                key: train.provenance.get(key)
                for key in ("source", "csf_definition", "simulated", "statement")
            },
            "python": platform.python_version(),
            "torch": torch.__version__,
            "csegsynth_kit": version("csegsynth_kit"),
        }
        write_json(path, provenance)
        return data

    def _require_fitting_parent(self, train: Cohort, valid: Cohort | None) -> None:
        if self.parent is None:
            return
        if valid is not None:
            self.parent.require_unseen(valid)
        start = self.config["parent"]
        mixed = start["csf_definition"] != train.csf_definition
        if mixed and not start["simulated"]:
            raise RunError(
                f"starts from weights of maps that count CSF differently "
                f"('{start['csf_definition']}', and '{train.csf_definition}' here)",
                "Pre-train on segmentations of the same tool, or start from simulated ones.",
                self.path,
            )

    def load_model(self, device: torch.device | str = "cpu") -> Family:
        """Return the trained model, ready to generate."""
        return load_model(self.best(), device)


def load_model(path: Path | str, device: torch.device | str = "cpu") -> Family:
    """Return the model of a run folder or of a checkpoint file, ready to generate."""
    path = Path(path)
    if path.is_dir():
        path = Run.load(path).best()
    tensors, meta = checkpoint.read(path)
    return model_from(checkpoint.with_prefix(tensors, "model"), meta, path).to(device)


def model_from(
    weights: Mapping[str, Tensor], meta: Mapping, path: Path, *, without: tuple[str, ...] = ()
) -> Family:
    """Build the model that a checkpoint's meta describes, with these weights.

    Args:
        weights: Tensors by name.
        meta: Of the checkpoint.
        path: Of the checkpoint, for messages.
        without: Parts (prefixes of tensor names) that may be missing, and then are not trained.
    """
    config_type = FAMILIES[meta["family"]]
    features = None if meta["features"] is None else Features.from_dict(meta["features"])
    model = build(from_dict(config_type, meta["model"]), features)
    own = model.state_dict()
    missing = {n: own[n] for n in own.keys() - weights.keys() if n.startswith(without or "/")}
    weights = {**weights, **missing}
    checkpoint.require_same(weights, own, path)
    model.load_state_dict(weights)
    model.card = {key: meta[key] for key in ("epoch", "csf_definition", "simulated")}
    model.card |= {part: meta["data"].get(part) for part in ("train", "valid")}
    return model.eval()


def warm_start(model: Family, path: Path | str) -> list[str]:
    """Start a model from another run's best weights, and name what is new in it."""
    tensors, _ = checkpoint.read(Path(path))
    return model.start_from(checkpoint.with_prefix(tensors, "model"))
