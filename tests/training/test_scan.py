import json

import numpy as np
import pytest
import torch

from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, RunError
from csegsynth_kit.maps import quantize
from csegsynth_kit.models.compact import pooled_log_shares
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.runs import load_model
from csegsynth_kit.training.scan import scan_checkpoint
from csegsynth_kit.training.whitebox import reconstruction_attack
from tests.models_for_tests import started_model
from tests.toy import toy_cohort
from tests.training.jobs import toy_preset, train

ROWS = {"map", "answers", "volumes", "resemblance", "span"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scan")


@pytest.fixture(scope="module")
def parts(folder):
    """Toy people hardly differ in shape, so each gets a noise of their own."""
    cohort = toy_cohort(folder / "cohort", 80)
    shares = cohort.maps().probabilities.clamp(min=0.05).log()
    noise = torch.randn(shares.shape, generator=torch.Generator().manual_seed(0))
    np.save(folder / "cohort" / "maps.npy", quantize((shares + noise).softmax(1)[:, :3]).numpy())
    return cohort.split((0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def people(parts):
    return parts[0]


@pytest.fixture(scope="module")
def run(folder, parts):
    return train(folder / "cohort", folder / "runs", toy_preset(epochs=1))


def kinds(traces):
    return {(trace.severity, trace.kind) for trace in traces}


def planted(path, people, **tensors):
    """Scan a file of noise of every shape, among which something is hidden."""
    rng = torch.Generator().manual_seed(0)
    noise = {"weight": torch.randn(64, 48, generator=rng), "bias": torch.randn(48, generator=rng)}
    features = Features.fit(people.table, people.feature_columns)
    checkpoint.write(path / "model.safetensors", noise | tensors, {"features": features.to_dict()})
    return [t for t in scan_checkpoint(path / "model.safetensors", people) if t.kind in ROWS]


def test_an_honest_run_holds_nobodys_row(run, people):
    found = [trace for trace in scan_checkpoint(run.path, people) if trace.kind in ROWS]
    assert found == []


def test_checkpoints_hold_no_ids(run, people):
    for path in (run.best(), run.last()):
        assert not [trace for trace in scan_checkpoint(path, people) if trace.kind == "ids"]
        content = path.read_bytes()
        assert not [name for name in people.ids if name.encode() in content]
    assert people.ids[0] in (run.path / "provenance.json").read_text()


def test_noise_is_nobody(tmp_path, people):
    assert planted(tmp_path, people) == []


def test_maps_in_bytes_are_seen(tmp_path, people):
    quantized = torch.from_numpy(people.quantized()[:3].copy()).flatten(1)
    assert quantized.dtype == torch.uint8
    assert "map" in {trace.kind for trace in planted(tmp_path, people, buffer=quantized)}


def hidden(people, form):
    """A training person's map in disguise, as a vector."""
    maps = people.maps().probabilities
    flat = maps.flatten(1)
    sd = flat.std(0)
    return {
        "scaled and shifted": 0.03 * flat[7] - 2,
        "beside the mean": flat[7] - flat.mean(0),
        "z-scores": torch.where(sd > 1e-4, (flat[7] - flat.mean(0)) / sd.clamp(min=1e-4), 0),
        "without background": maps[7, :3].flatten(),
        "one tissue": 5 * maps[7, 1].flatten(),
        "labels": maps[7].argmax(0).flatten().float(),
        "log shares, pooled": -pooled_log_shares(maps[7:8], 2)[0],
    }[form]


@pytest.mark.parametrize(
    "form",
    [
        "scaled and shifted",
        "beside the mean",
        "z-scores",
        "without background",
        "one tissue",
        "labels",
        "log shares, pooled",
    ],
)
def test_a_map_is_found_in_a_column_of_an_optimizer(form, tmp_path, people):
    row = hidden(people, form)
    tensor = torch.randn(len(row), 3, generator=torch.Generator().manual_seed(1))
    tensor[:, 2] = row
    found = planted(tmp_path, people, **{"optimizer/generator/7/exp_avg": tensor})
    assert kinds(found) == {("leak", "map")}
    assert "optimizer/generator/7/exp_avg" in found[0].place
    assert "1 training participants" in found[0].message


def test_maps_one_after_another_in_a_flat_tensor_are_found(tmp_path, people):
    flat = people.maps().probabilities[:4].flatten()
    (found,) = planted(tmp_path, people, table=flat)
    assert "4 training participants" in found.message


def test_a_held_out_map_and_averages_are_no_participant(tmp_path, people, parts):
    maps, other = people.maps().probabilities, parts[2].maps().probabilities
    averages = torch.stack([maps.mean(0), maps[:20].mean(0), other[0]]).flatten(1)
    assert planted(tmp_path, people, fine_mean=averages) == []


def test_answers_and_volumes_are_found(tmp_path, people):
    features = Features.fit(people.table, people.feature_columns)
    rows = features.inputs(features.encode(people.table))
    weight = torch.randn(6, rows.shape[1], generator=torch.Generator().manual_seed(1))
    weight[4] = torch.from_numpy(0.2 * rows[3] + 0.1)
    assert kinds(planted(tmp_path, people, linear=weight)) == {("leak", "answers")}
    volumes = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    volumes[9] = torch.tensor(people.volumes.to_numpy()[5], dtype=torch.float32)
    assert kinds(planted(tmp_path, people, bias=volumes)) == {("leak", "volumes")}


@pytest.fixture
def alone(run, tmp_path):
    """A checkpoint in a folder of its own, whose texts name nobody."""
    tensors, meta = checkpoint.read(run.best())
    checkpoint.write(tmp_path / "best.safetensors", tensors, meta | {"split": {}})
    return tmp_path / "best.safetensors"


def test_texts_that_name_nobody_are_clean(alone, people):
    assert {severity for severity, _ in kinds(scan_checkpoint(alone, people))} <= {"note"}


def text_about(people, what):
    volumes = people.volumes.to_numpy()[2].tolist()
    answers = people.table.iloc[2].to_dict()
    return {
        "id": ({"deep": [{"scan": f"maps/{people.ids[2]}_T1w.nii"}]}, ("doubt", "ids")),
        "digest": ({"scans": sorted(people.scans)[:1]}, ("doubt", "digests")),
        "volumes": ({"rows": [[1.0, 2.0, 3.0], volumes]}, ("leak", "volumes")),
        "answers": ({"best": answers}, ("leak", "answers")),
        "list": ([list(answers.values())], ("leak", "answers")),
    }[what]


@pytest.mark.parametrize("what", ["id", "digest", "volumes", "answers", "list"])
def test_people_are_found_in_json(what, alone, people):
    content, expected = text_about(people, what)
    (alone.parent / "notes.json").write_text(json.dumps(content))
    found = [t for t in scan_checkpoint(alone.parent, people) if t.place == "notes.json"]
    assert kinds(found) == {expected}


def test_held_out_ids_are_not_training_ids(alone, people, parts):
    (alone.parent / "notes.json").write_text(json.dumps(list(parts[2].ids)))
    assert "notes.json" not in {t.place for t in scan_checkpoint(alone.parent, people)}


def test_numbers_that_serve_as_ids_count_only_as_whole_texts(alone, people):
    table = people.table.set_axis([str(i) for i in range(len(people))])
    numbered = type(people)(
        **{f: getattr(people, f) for f in ("path", "columns", "volumes", "grid", "rows")},
        table=table,
        provenance=people.provenance,
    )
    (alone.parent / "notes.json").write_text(json.dumps({"what": "epoch 12 of 30"}))
    assert "notes.json" not in {t.place for t in scan_checkpoint(alone.parent, numbered)}
    (alone.parent / "notes.json").write_text(json.dumps({"split": ["12"]}))
    assert "notes.json" in {t.place for t in scan_checkpoint(alone.parent, numbered)}


def started(folder, people, **options):
    model = started_model(people, **options)
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    folder.mkdir()
    checkpoint.write(folder / "best.safetensors", tensors, {"features": None})
    return {t.kind for t in scan_checkpoint(folder, people) if t.kind in ROWS}


def test_as_many_components_as_people_hold_everybody(tmp_path, people):
    """The honest start from 12 components; two people's component is either of them."""
    assert started(tmp_path / "two", people.subset(people.ids[:2]), conditional=False) >= {"map"}
    assert "span" in started(tmp_path / "twelve", people.subset(people.ids[:12]))
    assert started(tmp_path / "all", people) == set()


def test_components_of_a_gan_betray_its_people(parts):
    """It never learns to encode, but the components it starts from fit those it was started on."""
    members, _, others = parts
    model = started_model(members, family="cgan")
    found = reconstruction_attack(model, members, others)
    assert model.reconstruct(members.maps().probabilities) is None
    assert found.low > 0.5


def test_a_folder_without_checkpoint_is_refused(tmp_path, people):
    with pytest.raises(RunError, match="holds no checkpoint"):
        scan_checkpoint(tmp_path, people)


def test_reconstruction_attack_finds_who_was_rendered_best(run, parts):
    model = load_model(run.path)
    members, _, others = parts
    honest = reconstruction_attack(model, members, others)
    assert (honest.n_members, honest.n_others) == (len(members), len(others))
    known = {m.numpy().tobytes() for m in members.maps().probabilities}
    model.reconstruct = lambda maps, features: torch.stack(
        [m if m.numpy().tobytes() in known else m.flip(0) for m in maps]
    )
    assert reconstruction_attack(model, members, others).value == 1
    model.reconstruct = lambda maps, features: None
    assert reconstruction_attack(model, members, others) is None
    with pytest.raises(ConfigError, match="both groups"):
        reconstruction_attack(model, members, members)
