import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from csegsynth_kit import cli
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.models import FAMILIES, Family, build
from csegsynth_kit.models.presets import PRESETS, preset
from csegsynth_kit.training import plan, probe
from csegsynth_kit.training.probe import Measured, measure, questionnaire
from csegsynth_kit.training.runs import STAGES
from csegsynth_kit.training.stepper import Stepper
from tests.training.jobs import toy_preset

MB = 10**6
RATES = plan.Rates(
    step=0.5,
    participant=0.1,
    drawing=0.01,
    program=400 * MB,
    memory=100 * MB,
    voxels=math.prod(GRIDS["tiny"].shape),
    weights=50 * MB,
)
MEASURED = Measured(16, seconds=2.0, memory=2 * 10**9, program=4 * 10**8, drawing=0.01)
BOTH = dict.fromkeys(STAGES, RATES)


def predicted(chosen, participants=400, **training):
    chosen = replace(chosen, pretrain=replace(chosen.pretrain, **training))
    return plan.cost(chosen, "pretrain", RATES, participants=participants)


def test_lines_go_through_what_was_measured():
    small = Measured(2, seconds=1.0, memory=600 * MB, program=300 * MB, drawing=0.1)
    large = Measured(6, seconds=2.0, memory=1000 * MB, program=300 * MB, drawing=0.2)
    rates = plan.Rates.of([small, large], voxels=10, weights=50 * MB)
    for m in (small, large):
        assert rates.step + m.batch * rates.participant == pytest.approx(m.seconds)
        assert rates.program + rates.weights + m.batch * rates.memory == pytest.approx(m.memory)


def test_memory_and_time_grow_with_batch_and_grid():
    tiny, small, full = (preset("csegsynth", name) for name in plan.PRESETS)
    costs = [predicted(tiny, batch_size=n) for n in (4, 8, 16)]
    costs += [predicted(chosen) for chosen in (small, full)]
    for less, more in pairwise(costs):
        assert less.total < more.total
        assert less.step_seconds < more.step_seconds


def test_participants_cost_memory_but_no_time_per_step():
    tiny = preset("csegsynth", "tiny")
    few, many = predicted(tiny, 100), predicted(tiny, 1000)
    assert few.step_seconds == many.step_seconds
    cohorts = [cost.memory["cohort"] for cost in (few, many)]
    assert cohorts == [n * 3 * math.prod(GRIDS["tiny"].shape) for n in (100, 1000)]
    assert min(few.steps, many.steps) >= tiny.pretrain.steps
    passes = [predicted(tiny, n, steps=0, epochs=10) for n in (160, 320)]
    assert [cost.steps for cost in passes] == [100, 200]


def test_what_is_fitted_between_epochs_takes_its_time():
    chosen = preset("csegsynth", "tiny")
    restarting = replace(chosen, model=replace(chosen.model, regression_restart=True))
    for stage, maps in (("pretrain", 0), ("finetune", 3 * 4 * 160)):
        costs = [plan.cost(one, stage, RATES, participants=160) for one in (chosen, restarting)]
        more = costs[1].validation_seconds - costs[0].validation_seconds
        epochs = math.ceil(getattr(chosen, stage).steps / 10)
        assert more == pytest.approx((1 + epochs) * maps * RATES.drawing)


@pytest.mark.parametrize("family", ["cldm", "csegsynth"])
def test_a_start_of_many_participants_needs_more_than_a_step(family):
    tiny = preset(family, "tiny")
    few, more, many = (predicted(tiny, n).memory["start or batch"] for n in (100, 160, 16_000))
    assert few == more  # a step's
    held = 4 * 4 * math.prod(GRIDS["tiny"].shape)
    assert many > 16_000 * held
    paper = [predicted(preset(family, "paper"), n) for n in (100, 16_000)]
    assert paper[0].memory["start or batch"] == paper[1].memory["start or batch"]


def test_parts_need_less_memory_and_never_less_time():
    costs = [predicted(preset("cvae", "tiny"), 40, accumulate=n) for n in (1, 2, 4, 16)]
    for whole, parts in pairwise(costs):
        assert parts.total < whole.total
        assert parts.step_seconds >= whole.step_seconds
        assert parts.steps == whole.steps


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_memory_of_weights_is_exact(family, stage):
    chosen = toy_preset(family)
    model = build(chosen.model, questionnaire() if stage == "finetune" else None)
    trained = {p for g in model.groups().values() for m in g.values() for p in m.parameters()}
    gradients = sum(p.nbytes for p in trained)
    weights = sum(p.nbytes for p in model.parameters())
    buffers = sum(b.numel() * 4 for b in model.buffers())
    expected = 2 * weights + 3 * gradients + buffers  # weights and averages; gradient, moments
    assert plan.weight_bytes(chosen, stage) == expected
    raw = replace(chosen, **{stage: replace(getattr(chosen, stage), ema=0.0)})
    assert plan.weight_bytes(raw, stage) == expected - weights


@pytest.mark.parametrize("free", [10**8, 10**9, 3 * 10**9, 10**10, 10**11, 10**12])
def test_what_does_not_fit_is_not_suggested(free):
    presets = [preset("csegsynth", name) for name in plan.PRESETS]
    plans = [plan.fitted(p, BOTH, participants=400, free=free) for p in presets]
    best = plan.suggestion(plans, free)
    fitting = [p.name for p, costs in plans if max(c.total for c in costs) <= 0.9 * free]
    assert (best and best[0].name) == (fitting[-1] if fitting else None)


def test_parts_are_suggested_only_where_a_batch_does_not_fit():
    tiny = preset("csegsynth", "tiny")
    _, costs = plan.fitted(tiny, BOTH, participants=400, free=10**11)
    assert [cost.accumulate for cost in costs] == [1, 1]
    tight = int(costs[0].total / 0.9) - 1
    chosen, costs = plan.fitted(tiny, BOTH, participants=400, free=tight)
    assert chosen.pretrain.accumulate == costs[0].accumulate == 2
    assert plan.fits(costs, tight)
    assert not plan.fits([predicted(tiny)], tight)


def test_unknown_memory_refuses_nothing_and_is_said():
    tiny = preset("csegsynth", "tiny")
    planned = plan.fitted(tiny, BOTH, participants=400, free=None)
    assert plan.suggestion([planned], None) == planned
    assert set(plan.table([planned], None)["fits"]) == {"unknown"}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_preset_can_be_built_on_the_box_it_is_measured_on(family):
    for chosen in PRESETS[family].values():
        grid = plan.probed(chosen.model.grid)
        assert math.prod(grid.shape) <= math.prod(chosen.model.grid.shape)
        with torch.device("meta"):
            build(replace(chosen.model, grid=grid))


@pytest.mark.parametrize(("steps", "phases"), [(3, [(0, 3)]), (9, [(0, 5), (5, 9)])])
def test_a_diffusion_model_is_measured_in_both_its_phases(steps, phases):
    assert build(toy_preset("cldm").model).phases(steps) == phases


def test_steps_are_measured_in_another_process():
    measured = measure(toy_preset("cldm"), "finetune", batches=(1, 2), steps=9)
    assert [m.batch for m in measured] == [1, 2]
    assert 0 < measured[0].program < measured[0].memory <= measured[1].memory
    assert min(m.seconds for m in measured) > 0


def test_a_step_costs_the_mean_over_phases_and_drawing_that_of_a_map(monkeypatch):
    clock = [0.0]

    def step(self, parts, step, total):
        clock[0] += 1.0 if step < 5 else 3.0  # the denoiser's
        return iter(())

    def generate(self, latents, features=None):
        clock[0] += 0.5 * len(latents)
        return latents

    monkeypatch.setattr(probe, "ProcessPoolExecutor", lambda n, **_: ThreadPoolExecutor(n))
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(Stepper, "batch", step)
    monkeypatch.setattr(Family, "generate", generate)
    measured = measure(toy_preset("cldm"), "pretrain", batches=(1, 2), steps=9)
    assert [m.seconds for m in measured] == pytest.approx([(5 * 1.0 + 4 * 3.0) / 9] * 2)
    assert [m.drawing for m in measured] == pytest.approx([0.5] * 2)


def test_what_the_parent_holds_is_not_counted():
    held = bytearray(10**9)
    assert measure(toy_preset(), "pretrain", batches=(2,), steps=9)[0].memory < len(held)


def test_a_check_starts_from_participants_and_would_notice_what_they_take():
    toy = toy_preset()
    few, many = (
        measure(toy, "pretrain", batches=(2,), steps=9, participants=n)[0] for n in (20, 1000)
    )
    held = toy.model.numbers_to_start(1000) * 4
    maps = 1000 * math.prod(toy.model.grid.shape) * 3
    assert many.memory - few.memory > maps + held / 2


def test_the_plan_is_printed_in_plain_words(monkeypatch, capsys):
    tried = []
    monkeypatch.setattr(plan, "measured_rates", lambda *_, **__: RATES)
    monkeypatch.setattr(plan, "free_memory", lambda: 3 * 10**9)
    monkeypatch.setattr(plan, "measure", lambda p, stage, **_: tried.append(p) or [MEASURED])
    assert cli.main(["plan", "--check"]) == 0
    told = capsys.readouterr().out
    assert "Free memory: 3.0 GB" in told
    assert "Suggested: --preset small" in told
    assert (
        "For --stage pretrain, memory holds a batch only in smaller parts: add --accumulate" in told
    )
    assert "the finest of these that fits; " in told
    assert {p.name for p in tried} == {"small"}
    assert min(p.pretrain.accumulate for p in tried) > 1
    monkeypatch.setattr(plan, "free_memory", lambda: 10**8)
    assert cli.main(["plan"]) == 0
    assert "None of these fits into memory" in capsys.readouterr().out


def test_nobody_to_train_with_is_refused():
    with pytest.raises(ConfigError, match="with 0 participants"):
        plan.plans([], participants=0, free=None)


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 seconds"), (600, "10.0 minutes"), (10_800, "3.0 hours")]
)
def test_durations_are_spoken_in_a_unit_that_suits(seconds, words):
    assert plan.spoken(seconds) == words


def test_every_family_has_the_presets_that_are_planned():
    assert all(name in PRESETS[family] for family in FAMILIES for name in plan.PRESETS)
