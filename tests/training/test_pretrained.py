"""Weights that come with the package: packing, checking, loading."""

import json
import socket

import pytest
import torch

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import RunError
from csegsynth_kit.maps import Grid
from csegsynth_kit.models import build
from csegsynth_kit.models.compact import log_shares
from csegsynth_kit.models.patches import PatchComponents
from csegsynth_kit.models.presets import preset
from csegsynth_kit.training import checkpoint, packing
from csegsynth_kit.training.packing import pack, unpack
from csegsynth_kit.training.pretrained import (
    FOLDER,
    adopt,
    adopted,
    how_trained,
    load_pretrained,
    open_model,
    pretrained_card,
    pretrained_names,
    pretrained_weights,
    save_pretrained,
    split_digest,
)
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.trainer import Trainer
from tests.toy import toy_cohort
from tests.training.jobs import toy_preset, train


@pytest.fixture(scope="module")
def card(run):
    train, valid = split_of(run)
    return {"statement": "Toy weights.", "training": {"split": split_digest(train, valid)}}


def split_of(run):
    """The participants that a toy run was trained and validated on."""
    return load_cohort(run.path.parents[1] / "cohort").split((0.7, 0.3, 0), seed=0)[:2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a toy model."""
    folder = tmp_path_factory.mktemp("toy")
    train, valid, _ = toy_cohort(folder / "cohort", 24).split((0.7, 0.3, 0), seed=0)
    chosen = toy_preset(epochs=1)
    features = Features.fit(train.table, train.feature_columns)
    run = Run.open(folder / "runs", family="csegsynth", stage="finetune", preset=chosen)
    model = build(chosen.model, features)
    Trainer(model, chosen.finetune, run, progress=False).fit(train, valid)
    return run


def test_packed_tensors_come_back_within_half_a_step():
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(2000, 150, generator=generator) * torch.logspace(0, 1, 2000)[:, None]
    tensors = {
        "tall": tall,
        "wide": tall.T.contiguous(),
        "small": torch.randn(7, 5, generator=generator),
        "counter": torch.tensor([3, 4]),
    }
    found = unpack(pack(tensors))
    assert found.keys() == tensors.keys()
    step = tall.abs().amax(1, keepdim=True) / 127
    assert ((found["tall"] - tall).abs() <= 0.501 * step).all()
    torch.testing.assert_close(found["wide"], found["tall"].T)
    torch.testing.assert_close(found["small"], tensors["small"], rtol=1e-3, atol=1e-6)
    assert torch.equal(found["counter"], tensors["counter"])


def test_rows_and_columns_that_do_nothing_take_no_space():
    matrix = torch.zeros(4000, 100)
    matrix[100:300] = torch.randn(200, 100, generator=torch.Generator().manual_seed(0))
    matrix[:, 60:90] = 0
    packed = pack({"templates": matrix})
    assert packed["templates/steps"].shape == (200, 70)
    found = unpack(packed)["templates"]
    assert found.shape == matrix.shape
    torch.testing.assert_close(found, matrix, atol=0.02, rtol=0)
    assert not found[:100].any()
    assert not found[300:].any()


@pytest.mark.parametrize("count", [1, 8, 1003])
def test_which_rows_are_there_takes_one_bit_each(count, monkeypatch):
    monkeypatch.setattr(packing, "_LARGE", 0)
    monkeypatch.setattr(packing, "_LONG", 1)
    generator = torch.Generator().manual_seed(count)
    matrix = (
        torch.randn(count, 1, generator=generator).sign() * torch.arange(count).fmod(3)[:, None]
    )
    packed = pack({"matrix": matrix})
    assert packed["matrix/rows"].dtype == torch.uint8
    assert len(packed["matrix/rows"]) == (count + 7) // 8
    torch.testing.assert_close(unpack(packed)["matrix"], matrix, rtol=1e-3, atol=0)


def test_mean_maps_are_one_constant_outside_the_head():
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([-7.0, -7.1, -7.2, 0.0]).reshape(1, 4, 1, 1, 1).repeat(1, 1, 11, 14, 10)
    mean = mean + torch.empty_like(mean).uniform_(-0.005, 0.005, generator=generator)
    mean[:, :, 3:8, 4:10, 2:7] = torch.randn(1, 4, 5, 6, 5, generator=generator)
    packed = pack({"generator.fine_mean": mean})
    assert packed["generator.fine_mean/inside"].shape == (3, 5 * 6 * 5)
    found, expected = unpack(packed)["generator.fine_mean"].softmax(1), mean.softmax(1)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0.025, atol=1e-3)
    space = (-3, -2, -1)
    torch.testing.assert_close(found.sum(space), expected.sum(space), rtol=2e-4, atol=0)
    assert found[0, :, 0, 0, 0].equal(found[0, :, -1, -1, -1])


def test_a_mean_map_without_an_outside_comes_back_whole():
    mean = torch.randn(1, 4, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    found = unpack(pack({"coarse_mean": mean}))["coarse_mean"]
    torch.testing.assert_close(found.softmax(1), mean.softmax(1), atol=0.02, rtol=0)


def test_the_mean_map_keeps_its_component_scores(monkeypatch):
    monkeypatch.setattr(packing, "_LARGE", 100)
    monkeypatch.setattr(packing, "_LONG", 1)
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 4, 5, 6, 7, generator=generator)
    mean = mean - mean.mean(1, keepdim=True)
    axes, offset = (torch.randn(*n, generator=generator) for n in ((12, 840), (12,)))
    weights = {"encoder.axes": axes, "encoder.offset": offset, "generator.coarse_mean": mean}
    found = unpack(pack(weights))
    scores = found["encoder.axes"] @ mean.flatten() + found["encoder.offset"]
    rounded = found["encoder.axes"] @ mean.flatten() + offset
    expected = axes @ mean.flatten() + offset
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3)
    assert (rounded - expected).abs().max() > 0.05


def test_what_all_tissues_share_takes_no_space():
    generator = torch.Generator().manual_seed(0)
    templates = torch.randn(4 * 700, 100, generator=generator)
    common = torch.randn(700, 100, generator=generator).repeat(4, 1)
    packed = pack({"templates.weight": templates + common})
    assert len(packed["templates.weight/steps"]) == 3 * 700
    found = unpack(packed)["templates.weight"].unflatten(0, (4, -1))
    expected = templates.unflatten(0, (4, -1))
    torch.testing.assert_close(found.softmax(0), expected.softmax(0), atol=0.01, rtol=0)


def test_templates_count_only_where_training_maps_differ():
    generator = torch.Generator().manual_seed(0)
    templates = torch.randn(4 * 700, 100, generator=generator)
    axes = torch.randn(100, 4 * 700, generator=generator)
    axes[:, :500] = 0
    packed = pack({"generator.templates.weight": templates, "encoder.axes": axes})
    found = unpack(packed)["generator.templates.weight"].unflatten(0, (4, -1))
    same = templates.unflatten(0, (4, -1)).clone()
    same[0, :500] = 0
    torch.testing.assert_close(found.softmax(0), same.softmax(0), atol=0.01, rtol=0)


def test_axes_of_other_things_than_tissues_and_convolutions_come_back():
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "whitening.axes": torch.randn(4 * 700, 100, generator=generator),
        "other.components": torch.randn(63, 16, 300, generator=generator),
        "conv.weight": torch.randn(20, 500, 3, 3, 3, generator=generator),
    }
    packed = pack({**tensors, "mean": torch.zeros(1, 4, 20, 30, 40)})
    assert all(packed[f"{name}/steps"].dtype == torch.int8 for name in tensors)
    assert "mean/half" in packed  # rows of four numbers are not worth a width of their own
    packed.pop("mean/half")
    for name, found in unpack(packed).items():
        assert found.shape == tensors[name].shape
        torch.testing.assert_close(found, tensors[name], atol=0.025, rtol=0)


def test_components_of_patches_read_and_render_the_same_after_packing(monkeypatch):
    grid = Grid("odd", (12, 9, 10), (4.0, 4.0, 4.0))
    patches = PatchComponents(grid, edge=4, channels=5)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(8, 4, *grid.shape, generator=generator).softmax(1)
    mean = log_shares(maps).mean(0, keepdim=True)
    patches.fit([maps], mean, first=0, last=5)
    change = log_shares(maps) - mean
    amounts = patches.amounts(change)
    rendered = (mean + patches.render(amounts)).softmax(1)
    monkeypatch.setattr(packing, "_LARGE", 100)
    packed = pack({"components.axes": patches.axes})
    assert packed["components.axes/steps"].shape[0] == 3 * 4**3  # without the background
    patches.axes.copy_(unpack(packed)["components.axes"])
    torch.testing.assert_close(patches.amounts(change), amounts, atol=0.05, rtol=0)
    found = (mean + patches.render(amounts)).softmax(1)
    torch.testing.assert_close(found, rendered, atol=0.02, rtol=0)


def test_numbers_beyond_half_precision_are_refused():
    with pytest.raises(RunError, match="volumes reaches 7e"):
        pack({"volumes": torch.tensor([7e4])})


def test_packed_model_gives_the_maps_of_the_run(run, card, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_LARGE", 100)  # so that toys are stored in steps, too
    save_pretrained(run, "toy", card, folder=tmp_path)
    packed, whole = load_pretrained("toy", folder=tmp_path), run.load_model()
    assert packed.features.to_dict() == whole.features.to_dict()
    latents = torch.randn(4, *whole.latent_shape, generator=torch.Generator().manual_seed(0))
    inputs = torch.zeros(4, whole.n_inputs)
    with torch.no_grad():
        maps, expected = (m.generate(latents, inputs) for m in (packed, whole))
    assert (maps - expected).abs().max() < 0.02
    assert packed.card["statement"] == card["statement"]
    assert not packed.training


def test_a_conditional_model_is_packed_without_its_critics(run, card, tmp_path):
    path = save_pretrained(run, "toy", card, folder=tmp_path)
    assert not [name for name in checkpoint.read(path)[0] if "critic" in name]
    names = pretrained_weights("toy", folder=tmp_path)
    assert any(name.startswith("generator.") for name in names)


def test_c_vae_encodes_and_reconstructs_without_the_spread_of_its_codes(tmp_path):
    cohort = toy_cohort(tmp_path / "cohort", 24)
    run = train(cohort.path, tmp_path / "runs", toy_preset("cvae", epochs=1))
    path = save_pretrained(run, "toy", {"statement": "Toy weights."}, folder=tmp_path)
    assert not [name for name in checkpoint.read(path)[0] if "encoder.log_variance" in name]
    packed, whole = load_pretrained("toy", folder=tmp_path), run.load_model()
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 4, *packed.config.grid.shape, generator=generator).softmax(1)
    inputs = torch.ones(3, whole.n_inputs)
    with torch.no_grad():
        for method in ("encode", "reconstruct"):
            found, expected = (getattr(m, method)(maps, inputs) for m in (packed, whole))
            torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
    with pytest.raises(RunError, match=r"tensor encoder\.log_variance"):
        build(whole.config, whole.features).start_from(pretrained_weights("toy", folder=tmp_path))


def test_nobody_is_named_in_packed_weights(run, card, tmp_path):
    path = save_pretrained(run, "toy", card, folder=tmp_path)
    ids = run.provenance()["participants"]["train"]
    content = path.read_bytes() + path.with_suffix(".json").read_bytes()
    assert not [i for i in ids if i.encode() in content]


def test_another_file_than_the_cards_is_refused(run, card, tmp_path):
    path = save_pretrained(run, "toy", card, folder=tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RunError, match="is not the file that its card describes"):
        load_pretrained("toy", folder=tmp_path)
    path.unlink()
    with pytest.raises(RunError, match="is missing"):
        load_pretrained("toy", folder=tmp_path)


def test_a_run_takes_packaged_weights_until_it_is_trained(run, card, tmp_path):
    save_pretrained(run, "toy", card, folder=tmp_path)
    train, valid = split_of(run)
    other, model = toy_run(tmp_path, train)
    adopt(other, "toy", train, valid, folder=tmp_path)
    assert other.finished
    assert adopted(other) == "toy"
    packed, taken = load_pretrained("toy", folder=tmp_path), other.load_model()
    assert taken.card["train"] == train.fingerprint
    for name, weight in packed.generator.state_dict().items():
        torch.testing.assert_close(taken.generator.state_dict()[name], weight)
    Trainer(model, toy_preset(epochs=1).finetune, other, progress=False).fit(train, valid)
    assert adopted(other) is None
    assert len(other.history()) == 2
    with pytest.raises(RunError, match="was begun already"):
        adopt(other, "toy", train, valid, folder=tmp_path)


def test_a_training_that_begins_is_not_finished_any_more(run, card, tmp_path, monkeypatch):
    save_pretrained(run, "toy", card, folder=tmp_path)
    train, valid = split_of(run)
    other, model = toy_run(tmp_path, train)
    adopt(other, "toy", train, valid, folder=tmp_path)
    trainer = Trainer(model, toy_preset(epochs=1).finetune, other, progress=False)
    monkeypatch.setattr(trainer, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, valid)
    assert not other.finished
    assert adopted(other) is None


def test_people_held_out_here_must_not_have_been_trained_on_there(run, card, tmp_path):
    save_pretrained(run, "toy", card, folder=tmp_path)
    cohort = load_cohort(run.path.parents[1] / "cohort")
    train, valid, _ = cohort.split((0.7, 0.3, 0), seed=1)
    other, _ = toy_run(tmp_path, train)
    with pytest.raises(RunError, match="other participants train or validate here"):
        adopt(other, "toy", train, valid, folder=tmp_path)
    assert not other.finished


def toy_run(folder, train):
    """A run that was not begun, and a model for it."""
    chosen = toy_preset(epochs=1)
    run = Run.open(folder / "runs", family="csegsynth", stage="finetune", preset=chosen)
    return run, build(chosen.model, Features.fit(train.table, train.feature_columns))


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(RunError, match="csegsynth-small"):
        load_pretrained("csegsynth-huge")
    with pytest.raises(RunError, match="csegsynth-small"):
        open_model("nowhere")


@pytest.mark.parametrize("name", pretrained_names())
def test_packaged_weights_load_without_a_network(name, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    model = load_pretrained(name)
    card = pretrained_card(name)
    assert model.card["simulated"]
    assert model.conditional == (card["stage"] == "finetune")
    if model.conditional:
        assert list(model.features.questions) == card["questions"]
    chosen = preset(card["family"], card["preset"])
    trained = how_trained(chosen, card["family"], card["stage"], seed=0)
    assert trained.items() <= card["training"].items()  # a study of that preset takes them
    ancestor = pretrained_card("alpha-gan-small")["training"]
    if model.conditional:
        before = card["training"]["pretraining"]
        assert before == {key: ancestor[key] for key in ("cohort", "participants", "split")}
    textured = getattr(model, "texture", None) is not None
    assert ("detail of the maps is random" if textured else "blurred") in card["not_for"]
    assert card["largest_change_ml"] < 2.0
    assert card["scores"] or card["stage"] == "pretrain"
    assert "sub-" not in json.dumps(card)


def test_packaged_weights_stay_small():
    sizes = {path.stem: path.stat().st_size for path in FOLDER.glob("*.safetensors")}
    assert sizes.keys() == set(pretrained_names())
    assert {name: size for name, size in sizes.items() if size > 12e6} == {}
    others = [n for n in sizes if pretrained_card(n)["family"] in ("cvae", "cgan", "cldm")]
    assert sum(sizes[name] for name in others) <= 30e6


def test_a_training_starts_from_the_packaged_ancestor():
    model = load_pretrained("alpha-gan-small")
    heir = build(model.config, load_pretrained("csegsynth-small").features)
    new = heir.start_from(pretrained_weights("alpha-gan-small"))
    assert new
    assert all(name.startswith("transform.") for name in new)
    for name, weight in heir.generator.state_dict().items():
        torch.testing.assert_close(weight, model.generator.state_dict()[name])
