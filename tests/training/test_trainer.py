import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.multiprocessing as mp

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError, RunError
from csegsynth_kit.models import FAMILIES, build, family_class
from csegsynth_kit.models.presets import TrainConfig
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.average import Average
from csegsynth_kit.training.feed import Feed, Share
from csegsynth_kit.training.runs import METHOD, Run, load_model
from csegsynth_kit.training.stepper import Stepper
from csegsynth_kit.training.trainer import Trainer, is_best
from tests.toy import toy_cohort
from tests.training.jobs import (
    first_gradient_norms,
    restarting_preset,
    toy_preset,
    train,
    train_as_one_of_two,
    uneven_preset,
    whole_preset,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cohort_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "cohort"
    toy_cohort(path, 24, missing=0.2)
    return path


@pytest.fixture(scope="module")
def uninterrupted(cohort_path, tmp_path_factory):
    """Folder of one run per family, each on one thread in a process of its own."""
    runs = tmp_path_factory.mktemp("uninterrupted")
    assert in_processes(cohort_path, runs) == dict.fromkeys(FAMILIES, 0)
    return runs


@pytest.fixture(scope="module")
def resumed(cohort_path, tmp_path_factory):
    """Likewise, but each was killed in the middle of an epoch and begun again.

    A diffusion model is killed just before its latents are measured for the denoiser.
    """
    runs = tmp_path_factory.mktemp("resumed")
    assert in_processes(cohort_path, runs, "die") == dict.fromkeys(FAMILIES, -9)
    for family in FAMILIES:
        killed = only_run(runs, family)
        assert checkpoint.read(killed.last())[1]["epoch"] == 1
        assert not killed.finished
    assert in_processes(cohort_path, runs) == dict.fromkeys(FAMILIES, 0)
    return runs


@pytest.fixture(scope="module")
def finished(uninterrupted):
    return only_run(uninterrupted)


def in_processes(cohort: Path, runs: Path, *words: str) -> dict[str, int]:
    """Train every family in a process of its own; return how each ended."""
    command = [sys.executable, "-m", "tests.training.jobs", str(cohort), str(runs), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def shared(cohort_path, tmp_path_factory):
    """Folder of what two processes trained together."""
    folder = tmp_path_factory.mktemp("shared")
    arguments = (cohort_path, folder / "runs", folder / "meeting", folder / "norms")
    mp.start_processes(train_as_one_of_two, arguments, nprocs=2, start_method="spawn")
    return folder


@pytest.fixture(scope="module")
def at_once(cohort_path, tmp_path_factory):
    """Folder of one run per family whose batches were computed at once."""
    runs = tmp_path_factory.mktemp("at_once")
    for family in FAMILIES:
        train(cohort_path, runs, uneven_preset(family, accumulate=1))
    return runs


def require_equal(run: Run, expected: Run) -> None:
    """Loss curves agree within 2e-4 relatively, weights within two strides of Adam.

    Sums in another order differ by round-off; where a gradient is hardly more than that, Adam
    strides by the learning rate (3e-4) all the same.
    """
    tables = [r.history().drop(columns="seconds") for r in (run, expected)]
    pd.testing.assert_frame_equal(*tables, rtol=2e-4, atol=1e-6)
    tensors, wanted = (checkpoint.read(r.last())[0] for r in (run, expected))
    for name in wanted:
        torch.testing.assert_close(tensors[name], wanted[name], rtol=2e-3, atol=6e-4)


def only_run(runs: Path, family: str = "csegsynth") -> Run:
    (path,) = runs.glob(f"{family}-*")
    return Run.load(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_resuming_after_a_kill_in_mid_epoch_is_bit_exact(family, uninterrupted, resumed):
    finished, killed = only_run(uninterrupted, family), only_run(resumed, family)
    assert killed.finished
    for name in ("last.safetensors", "best.safetensors"):
        tensors, meta = checkpoint.read(killed.path / name)
        expected, expected_meta = checkpoint.read(finished.path / name)
        assert tensors.keys() == expected.keys()
        assert [n for n in tensors if not torch.equal(tensors[n], expected[n])] == []
        assert meta["epoch"] == expected_meta["epoch"]
    timeless = [run.history().drop(columns="seconds") for run in (killed, finished)]
    pd.testing.assert_frame_equal(*timeless, check_exact=True)


def test_two_processes_compute_what_one_does(cohort_path, finished, shared, tmp_path):
    require_equal(only_run(shared / "runs"), finished)
    # Adam and clipping forgive a wrong factor; the gradients themselves do not.
    norms = json.loads((shared / "norms" / "norms.json").read_text())
    assert norms == pytest.approx(first_gradient_norms(cohort_path, tmp_path / "alone"), rel=1e-3)
    assert {name.split()[0] for name in norms} == set(FAMILIES)


@pytest.mark.parametrize("accumulate", [2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_in_parts_trains_as_one_at_once(family, accumulate, at_once, cohort_path, tmp_path):
    run = train(cohort_path, tmp_path, uneven_preset(family, accumulate))
    assert run.path.name == only_run(at_once, family).path.name
    require_equal(run, only_run(at_once, family))


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_may_compute_their_shares_in_parts(family, shared, at_once):
    require_equal(only_run(shared / "norms" / "uneven", family), only_run(at_once, family))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_parts_add_up_to_that_of_the_batch(family, cohort_path, tmp_path):
    """Every term on, no clipping: the mean over parts of unequal size is that over rows."""
    chosen, histories = whole_preset(family), []
    for accumulate in (1, 4):
        parts = replace(chosen, finetune=replace(chosen.finetune, accumulate=accumulate))
        histories.append(train(cohort_path, tmp_path / str(accumulate), parts).history())
    norms = [h.filter(like="gradient_norm").iloc[-1] for h in histories]
    assert len(norms[0])
    pd.testing.assert_series_equal(*norms, rtol=2e-4)


def test_a_batch_in_parts_resumes_exactly(cohort_path, tmp_path, monkeypatch):
    chosen = toy_preset(epochs=3, accumulate=2)
    whole = train(cohort_path, tmp_path / "whole", chosen)
    original = Feed.epoch

    def interrupted(self, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return original(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Feed, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(cohort_path, tmp_path / "stopped", chosen)
    tensors, _ = checkpoint.read(train(cohort_path, tmp_path / "stopped", chosen).last())
    expected, _ = checkpoint.read(whole.last())
    assert [n for n in expected if not torch.equal(tensors[n], expected[n])] == []


@pytest.mark.parametrize(
    "chosen", [restarting_preset(epochs=2), toy_preset("cldm")], ids=["csegsynth", "cldm"]
)
def test_what_the_first_process_fits_is_what_all_train_from(chosen, shared, cohort_path, tmp_path):
    """Its start, what it settles, and what it measures before an epoch; averages as well."""
    folder, family = shared / "norms" / "unlike", chosen.model.family
    first, second = (only_run(folder / rank, family) for rank in "01")
    expected, found = (checkpoint.read(run.last())[0] for run in (first, second))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    require_equal(first, train(cohort_path, tmp_path, chosen))


@pytest.mark.parametrize("n", [6, 7, 11])
def test_parts_of_a_share_are_its_rows(n):
    for rank in range(2):
        share = Share(rank, 2)
        rows = [i for part in share.cut(3) for i in range(n)[part.rows(n)]]
        assert rows == list(range(n)[share.rows(n)])


def test_more_parts_than_participants_are_refused(cohort_path):
    with pytest.raises(ConfigError, match="with 4 parts each"):
        Feed(load_cohort(cohort_path), None, batch_size=3, seed=0, accumulate=4)
    with pytest.raises(ConfigError, match="a batch in 0 parts"):
        toy_preset(accumulate=0)


def test_a_shared_batch_is_the_whole_batch(cohort_path):
    cohort = load_cohort(cohort_path)
    options = {"batch_size": 7, "seed": 3}
    whole = list(Feed(cohort, None, **options).epoch(1))
    parts = [list(Feed(cohort, None, share=Share(r, 3), **options).epoch(1)) for r in range(3)]
    assert len(whole) == 24 // 7
    for i, ((batch, _),) in enumerate(whole):
        volumes = torch.cat([batch.volumes for part in parts for batch, _ in part[i]])
        torch.testing.assert_close(volumes, batch.volumes)


def test_epochs_visit_participants_once_in_another_order(cohort_path):
    cohort = load_cohort(cohort_path)
    feed = Feed(cohort, None, batch_size=6, seed=0)
    orders = [torch.cat([b.volumes for ((b, _),) in feed.epoch(e)]) for e in (0, 1)]
    everybody = feed.everybody().volumes.sort(0).values
    for order in orders:
        torch.testing.assert_close(order.sort(0).values, everybody)
    assert not torch.equal(*orders)


@pytest.mark.parametrize("hide", [0.0, 0.5, 1.0])
def test_a_random_part_of_the_answers_is_hidden_from_that_share_of_people(hide, tmp_path):
    cohort = toy_cohort(tmp_path / "cohort", 24)  # all of whom answer everything
    features = Features.fit(cohort.table, cohort.feature_columns)
    feed = Feed(cohort, features, batch_size=24, seed=0, hide_answers=hide)
    batches = [batch for epoch in range(60) for ((batch, _),) in feed.epoch(epoch)]
    inputs = torch.cat([batch.features for batch in batches])
    n = len(features.questions)
    flags, values = inputs[:, -n:], inputs[:, :-n]
    # A part is uniform between none and all: of 4 answers, none are hidden in 1 of 5.
    assert float(flags.mean()) == pytest.approx(hide / 2, abs=0.03)
    assert float(flags.any(1).float().mean()) == pytest.approx(hide * 4 / 5, abs=0.04)
    assert not values[flags.all(1)].any()  # nothing is left to tell people from the average
    assert not feed.everybody().features[:, -n:].any()


def test_statistics_are_computed_on_all_maps_in_order(cohort_path):
    cohort = load_cohort(cohort_path)
    everybody = Feed(cohort, None, batch_size=6, seed=0).everybody()
    torch.testing.assert_close(torch.cat(list(everybody.maps())), cohort.maps().probabilities)


def test_model_of_a_run_generates_with_the_averaged_weights(finished):
    model = load_model(finished.path)
    assert model.features.questions == ("age", "sex", "education", "site")
    assert model.card["csf_definition"] == "intracranial"


def test_the_best_weights_are_the_averaged_ones(cohort_path, tmp_path):
    chosen = toy_preset(epochs=2, selection="last")
    run = train(cohort_path, tmp_path, chosen)
    average = checkpoint.with_prefix(checkpoint.read(run.last())[0], "average")
    raw = checkpoint.with_prefix(checkpoint.read(run.last())[0], "model")
    model = load_model(run.best())
    assert all(torch.equal(p, average[n]) for n, p in model.named_parameters())
    assert any(not torch.equal(p, raw[n]) for n, p in model.named_parameters())


@pytest.mark.parametrize(
    ("tolerance", "scores", "best"),
    [
        (0.0, [1.0, 0.9, 0.904, 0.95], [True, True, False, False]),
        (0.01, [1.0, 0.9, 0.904, 0.95], [True, True, True, False]),
        (0.01, [1.0, 1.005, 1.009, 1.011], [True, True, True, False]),  # it does not creep up
        (0.01, [math.nan, 1.0, math.nan], [False, True, False]),
    ],
)
def test_the_best_checkpoint_is_the_last_within_the_tolerance(tolerance, scores, best):
    config = TrainConfig(epochs=1, selection="energy_score", selection_tolerance=tolerance)
    rows = [{"valid_energy_score": score} for score in scores]
    assert [is_best(rows[:n], config) for n in range(1, len(rows) + 1)] == best


@pytest.mark.parametrize("ema", [0.9, 0.0])
def test_training_goes_on_from_what_was_settled(ema, cohort_path, tmp_path):
    run = train(cohort_path, tmp_path, restarting_preset(epochs=2, ema=ema))
    tensors = checkpoint.read(run.last())[0]
    raw, average = (checkpoint.with_prefix(tensors, part) for part in ("model", "average"))
    own = [name for name in raw if name.startswith("transform.")]
    assert own
    assert all(torch.equal(raw[name], average[name]) for name in own if ema)
    assert not raw["transform.nonlinear.2.weight"].any()  # as at the start
    groups = load_model(run.best()).groups()["generator"]
    places = [part for part, module in groups.items() for _ in module.parameters()]
    moments = checkpoint.with_prefix(tensors, "optimizer/generator")
    with_moments = {places[int(name.split("/")[0])] for name in moments}
    assert with_moments == {"encoder", "generator"}


def test_what_was_settled_is_resumed_exactly(cohort_path, tmp_path, monkeypatch):
    expected = checkpoint.read(train(cohort_path, tmp_path / "a", restarting_preset()).last())[0]
    original = Feed.epoch

    def broken(self, current):
        if current == 2:
            raise InterruptedError
        return original(self, current)

    monkeypatch.setattr(Feed, "epoch", broken)
    with pytest.raises(InterruptedError):
        train(cohort_path, tmp_path / "b", restarting_preset())
    monkeypatch.setattr(Feed, "epoch", original)
    found = checkpoint.read(train(cohort_path, tmp_path / "b", restarting_preset()).last())[0]
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_history_begins_with_what_the_start_is_worth(finished):
    history = finished.history()
    assert list(history["epoch"]) == [-1, 0, 1, 2, 3]
    start = history.iloc[0]
    assert start["valid_energy_score"] > 0
    assert pd.isna(start["generator_reconstruction"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_moves_nobody_elses_weights(family, cohort_path, tmp_path):
    cohort = load_cohort(cohort_path)
    chosen = toy_preset(family)
    run = Run.open(tmp_path, family=family, stage="pretrain", preset=chosen)
    trainer = Trainer(build(chosen.model), chosen.pretrain, run, device="cpu", progress=False)
    model = trainer.model
    model.fit_statistics(Feed(cohort, None, batch_size=6, seed=0).everybody())
    ((batch, rng),) = next(Feed(cohort, None, batch_size=6, seed=0).epoch(0))
    groups = model.groups()
    for group, terms in model.losses(batch, rng, step=0):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        trainer.stepper.backward(group, terms, 1.0)
        trainer.stepper.step(group)
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        own = {f"{m}.{n}" for m in groups[group] for n, _ in getattr(model, m).named_parameters()}
        assert moved
        assert moved <= own


def test_other_questions_or_weights_in_the_same_run_are_refused(cohort_path, tmp_path):
    cohort = load_cohort(cohort_path)
    training, valid, _ = cohort.split((0.5, 0.25, 0.25))
    chosen = toy_preset(epochs=1)
    run = Run.open(tmp_path, family="csegsynth", stage="finetune", preset=chosen)
    for names, refusal in ((("age", "sex"), None), (("age", "site"), "features differ")):
        columns = [column for column in cohort.feature_columns if column.name in names]
        model = build(chosen.model, Features.fit(training.table, columns))
        trainer = Trainer(model, chosen.finetune, run, device="cpu", progress=False)
        if refusal is None:
            trainer.fit(training, valid)
        else:
            with pytest.raises(RunError, match=refusal):
                trainer.fit(training, valid)
    other = replace(chosen.model, volume_loss="absolute")
    with pytest.raises(ConfigError, match="not configured as the run"):
        Trainer(build(other, model.features), chosen.finetune, run, device="cpu")


def pretrained(cohort_path, runs):
    return train(cohort_path, runs, toy_preset(epochs=1), stage="pretrain")


def test_held_out_participants_must_not_have_been_pre_trained_on(cohort_path, tmp_path):
    base = pretrained(cohort_path, tmp_path)
    training, valid, _ = load_cohort(cohort_path).split((0.5, 0.25, 0.25))
    base.require_unseen(valid)
    with pytest.raises(RunError, match=f"trained on {len(training)} of {len(training)}"):
        base.require_unseen(training)
    chosen = toy_preset(epochs=1)
    run = Run.open(tmp_path, family="csegsynth", stage="finetune", preset=chosen, parent=base)
    model = build(chosen.model, Features.fit(valid.table, valid.feature_columns))
    with pytest.raises(RunError, match="are to be held out"):
        Trainer(model, chosen.finetune, run, device="cpu", progress=False).fit(valid, training)


def test_what_was_simulated_stays_simulated(cohort_path, tmp_path):
    base = pretrained(cohort_path, tmp_path)
    assert base.identity()["simulated"]
    cohort = load_cohort(cohort_path)
    real = replace(cohort, provenance=cohort.provenance | {"simulated": False})
    training, valid, _ = real.split((0.5, 0.25, 0.25))
    chosen = toy_preset(epochs=1)
    run = Run.open(tmp_path, family="csegsynth", stage="finetune", preset=chosen, parent=base)
    model = build(chosen.model, Features.fit(training.table, training.feature_columns))
    Trainer(model, chosen.finetune, run, device="cpu", progress=False).fit(training, valid)
    assert run.load_model().card["simulated"] is True


def test_real_weights_that_count_csf_differently_are_no_start(cohort_path, tmp_path):
    base = pretrained(cohort_path, tmp_path)
    training, valid, _ = load_cohort(cohort_path).split((0.5, 0.25, 0.25))
    chosen = toy_preset(epochs=1)
    run = Run.open(tmp_path, family="csegsynth", stage="finetune", preset=chosen, parent=base)
    start = run.config["parent"] | {"simulated": False, "csf_definition": "ventricular"}
    run = replace(run, config=run.config | {"parent": start})
    model = build(chosen.model, Features.fit(training.table, training.feature_columns))
    with pytest.raises(RunError, match="count CSF differently"):
        Trainer(model, chosen.finetune, run, device="cpu", progress=False).fit(training, valid)


def test_best_checkpoint_has_the_smallest_validation_score(finished):
    history = finished.history()
    _, meta = checkpoint.read(finished.best())
    assert meta["epoch"] == history.loc[history["valid_energy_score"].idxmin(), "epoch"]


def test_a_finished_run_is_not_trained_again(cohort_path, finished, monkeypatch):
    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Stepper, "step", fail)
    run = train(cohort_path, finished.path.parent)
    assert run.path == finished.path


def test_another_configuration_is_another_folder(tmp_path):
    first = Run.open(tmp_path, family="csegsynth", stage="pretrain", preset=toy_preset())
    again = Run.open(tmp_path, family="csegsynth", stage="pretrain", preset=toy_preset())
    other = Run.open(
        tmp_path, family="csegsynth", stage="pretrain", preset=toy_preset(learning_rate=1e-3)
    )
    assert first.path == again.path != other.path


def test_a_changed_method_is_another_folder_for_its_family_alone(tmp_path, monkeypatch):
    def opened(family: str) -> Run:
        return Run.open(tmp_path, family=family, stage="pretrain", preset=toy_preset(family))

    assert set(METHOD) == set(FAMILIES)
    before = {family: opened(family).path for family in FAMILIES}
    monkeypatch.setitem(METHOD, "cvae", -1)
    changed = {family for family in FAMILIES if opened(family).path != before[family]}
    assert changed == {"cvae"}


def test_other_data_in_the_same_run_is_refused(cohort_path, finished, tmp_path):
    toy_cohort(tmp_path / "other", 24, seed=9)
    with pytest.raises(RunError, match="was begun with other data"):
        train(tmp_path / "other", finished.path.parent)


@pytest.mark.parametrize(
    ("odd", "finding"),
    [
        (lambda weights: weights.sum() / 0, "the generator loss 'odd' is (nan|inf|-inf)"),
        # 0 itself, but its slope is 0 times infinity.
        (lambda weights: (0 * weights).sqrt().sum(), "norm of the generator gradient is nan"),
    ],
    ids=["loss", "gradient"],
)
def test_divergence_is_named_and_leaves_the_checkpoint(
    odd, finding, cohort_path, tmp_path, monkeypatch
):
    last_step, kept = 2 * 2 - 1, []  # of the second epoch: its weights would be stored next

    def diverging(self, batch, rng, step):
        for group, terms in original(self, batch, rng, step):
            if step == last_step and group == "generator":
                kept.append(only_run(tmp_path).last().read_bytes())
                terms = terms | {"odd": odd(self.generator.templates.weight)}
            yield group, terms

    family = family_class("csegsynth")
    original = family.losses
    monkeypatch.setattr(family, "losses", diverging)
    with pytest.raises(RunError, match=finding):
        train(cohort_path, tmp_path, toy_preset(epochs=2), stage="pretrain")
    run = only_run(tmp_path)
    assert [run.last().read_bytes()] == kept
    assert all(weights.isfinite().all() for weights in checkpoint.read(run.last())[0].values())


def test_training_and_validation_must_not_share_participants(cohort_path, tmp_path):
    cohort = load_cohort(cohort_path)
    chosen = toy_preset()
    run = Run.open(tmp_path, family="csegsynth", stage="pretrain", preset=chosen)
    trainer = Trainer(build(chosen.model), chosen.pretrain, run, device="cpu", progress=False)
    with pytest.raises(ConfigError, match="share participants"):
        trainer.fit(cohort, cohort)


def test_nobody_to_validate_with_is_no_validation(cohort_path, tmp_path):
    training, _, nobody = load_cohort(cohort_path).split((0.5, 0.5, 0.0))
    for selection in ("energy_score", "last"):
        chosen = toy_preset(epochs=1, selection=selection)
        run = Run.open(tmp_path, family="csegsynth", stage="pretrain", preset=chosen)
        trainer = Trainer(build(chosen.model), chosen.pretrain, run, device="cpu", progress=False)
        if selection == "last":
            assert "valid_energy_distance" not in trainer.fit(training, nobody)
            assert run.best().exists()
        else:
            with pytest.raises(ConfigError, match=r"needs validation .*--fractions"):
                trainer.fit(training, nobody)


def test_a_run_without_best_weights_is_not_finished(cohort_path, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "csegsynth_kit.training.trainer.validate", lambda *_, **__: {"energy_score": math.nan}
    )
    with pytest.raises(RunError, match="no best weights"):
        train(cohort_path, tmp_path, toy_preset(epochs=1))
    assert not only_run(tmp_path).finished


def test_checkpoint_is_never_half_written(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    checkpoint.write(path, {"a": torch.ones(3)}, {"epoch": 1})

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(path, {"a": torch.zeros(3)}, {"epoch": 2})
    tensors, meta = checkpoint.read(path)
    assert meta == {"epoch": 1}
    assert torch.equal(tensors["a"], torch.ones(3))


def test_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "best.safetensors"
    checkpoint.write(path, {"a": torch.ones(300)}, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"best\.safetensors: is damaged"):
        checkpoint.read(path)


def test_fused_step_equals_the_plain_one_after_a_reload():
    """The fused optimizer reads memory in order: reloaded states need the weights' layout."""
    torch.manual_seed(0)
    conv = torch.nn.Conv3d(4, 6, 3).to(memory_format=torch.channels_last_3d)
    plain = torch.nn.Conv3d(4, 6, 3)
    plain.load_state_dict(conv.state_dict())
    fused = torch.optim.Adam(conv.parameters(), fused=True)
    usual = torch.optim.Adam(plain.parameters())
    for _ in range(3):
        x = torch.randn(2, 4, 5, 6, 7)
        for layer, optimizer in ((conv, fused), (plain, usual)):
            optimizer.zero_grad()
            layer(x).square().mean().backward()
            optimizer.step()
        stored = checkpoint.optimizer_tensors(fused, "o")
        contiguous = {name: tensor.contiguous() for name, tensor in stored.items()}
        checkpoint.load_optimizer(fused, contiguous, "o")
    torch.testing.assert_close(conv.weight, plain.weight)


def test_average_follows_the_recursion():
    layer = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average = Average(layer, 0.5)
    expected = 0.0
    for step in range(1, 5):
        with torch.no_grad():
            layer.weight.fill_(float(step))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert float(layer.weight) == pytest.approx(expected)
    assert float(layer.weight) == 4.0


def test_low_precision_training_stays_close(cohort_path, tmp_path):
    low = replace(toy_preset(), pretrain=toy_preset(epochs=1, precision="bf16").pretrain)
    high = toy_preset(epochs=1)
    losses = [
        train(cohort_path, tmp_path, chosen, stage="pretrain").history()["generator_reconstruction"]
        for chosen in (low, high)
    ]
    low, high = (float(loss.iloc[-1]) for loss in losses)
    assert low == pytest.approx(high, rel=0.05)
    assert low != high  # 8 bits of mantissa leave a trace
