"""The study that notebooks share: cohorts, splits, and what may not be trained on."""

from dataclasses import replace
from functools import partial

import pytest

from csegsynth_kit.errors import CohortError, RunError
from csegsynth_kit.show import study as module
from csegsynth_kit.show.study import Study
from csegsynth_kit.training.pretrained import (
    COHORT_CARD,
    adopt,
    how_trained,
    pretrained_card,
    pretrained_names,
    save_pretrained,
    seen_by,
    split_digest,
)
from csegsynth_kit.training.runs import METHOD
from tests.toy import TOY_GRID, toy_cohort
from tests.training.jobs import toy_preset


@pytest.fixture
def study(tmp_path):
    toy_cohort(tmp_path / "young", 20, seed=1)
    toy_cohort(tmp_path / "lifespan", 30, seed=0)
    cohorts = {"pretrain": tmp_path / "young", "finetune": tmp_path / "lifespan"}
    return Study(tmp_path / "out", toy_preset(epochs=1), "csegsynth", 0, cohorts)


def test_both_stages_train_and_the_model_answers(study):
    with pytest.raises(RunError, match="is not trained yet"):
        study.model()
    study.train("pretrain", progress=False)
    run = study.train("finetune", progress=False)
    assert run.config["parent"]["run"] == study.run("pretrain").path.name
    assert run.config["parent"]["weights"]
    assert study.model().conditional
    assert not study.model("pretrain").conditional


def test_packaged_weights_stand_in_for_a_training(study, tmp_path, monkeypatch):
    study.train("pretrain", progress=False)
    study.train("finetune", progress=False)
    folder = tmp_path / "weights"
    folder.mkdir()
    for stage, name in (("pretrain", "alpha-gan-toy"), ("finetune", "csegsynth-toy")):
        known = {key: study.cohort(stage).provenance.get(key) for key in COHORT_CARD}
        about = {"cohort": known, **how_trained(study.preset, study.family, stage, seed=0)}
        about["split"] = split_digest(*study.split(stage)[:2])
        if stage == "finetune":
            about["pretraining"] = seen_by(*study.split("pretrain")[:2])
        card = {"statement": "Toys.", "training": about}
        save_pretrained(study.run(stage), name, card, folder=folder)
    untrained = replace(study, out=tmp_path / "elsewhere")
    with pytest.raises(RunError, match="weights come with the package"):
        untrained.model()
    monkeypatch.setattr(module, "pretrained_names", partial(pretrained_names, folder))
    monkeypatch.setattr(module, "pretrained_card", partial(pretrained_card, folder=folder))
    monkeypatch.setattr(module, "adopt", partial(adopt, folder=folder))
    assert untrained.model().card["train"] == study.split("finetune")[0].fingerprint
    assert "'csegsynth-toy', which comes with the package" in untrained.origin()
    assert study.origin() == "CSegSynth was trained in this series."
    with pytest.raises(RunError, match="is not trained yet"):
        replace(untrained, seed=1).model()  # of another seed, so of another split
    toy_cohort(tmp_path / "others", 22, seed=2)
    others = {"pretrain": tmp_path / "others"}
    after_others = replace(study, out=tmp_path / "mine", cohorts=study.cohorts | others)
    after_others.train("pretrain", progress=False)
    with pytest.raises(RunError, match="is not trained yet"):
        after_others.model()  # these weights began from another pre-training
    with pytest.raises(RunError, match="is not trained yet"):
        replace(after_others, cohorts=study.cohorts).model()  # whatever cohort is named now
    longer = toy_preset(epochs=2)
    faster = replace(study.preset, finetune=replace(study.preset.finetune, learning_rate=0.01))
    younger = replace(study.preset, pretrain=replace(study.preset.pretrain, learning_rate=0.01))
    for trained_otherwise in (longer, faster, younger):
        with pytest.raises(RunError, match="is not trained yet"):
            replace(untrained, preset=trained_otherwise).model()
    parts = replace(study.preset, finetune=replace(study.preset.finetune, accumulate=2))
    assert replace(untrained, preset=parts).model().conditional  # which changes no result
    monkeypatch.setitem(METHOD, study.family, METHOD[study.family] + 1)
    with pytest.raises(RunError, match="is not trained yet"):
        untrained.model()


def test_one_cohort_for_both_stages_has_one_split(study):
    both = replace(study, cohorts=dict.fromkeys(study.cohorts, study.cohorts["finetune"]))
    train, valid, test = both.split("finetune")
    young, young_valid, nobody = both.split("pretrain")
    assert (young.ids, young_valid.ids, len(nobody)) == (train.ids, valid.ids, 0)
    assert not set(test.ids) & {*young.ids, *young_valid.ids}
    both.train("pretrain", progress=False)
    both.train("finetune", progress=False)


def test_a_copy_of_the_test_people_is_refused_before_pre_training(study, tmp_path):
    toy_cohort(tmp_path / "copy", 30, seed=0)  # the same people in another folder
    leaking = replace(study, cohorts=study.cohorts | {"pretrain": tmp_path / "copy"})
    with pytest.raises(CohortError, match=r"holds out \d+ segmentations that .* trains on"):
        leaking.train("pretrain", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_cohort_of_another_grid_is_refused(study, tmp_path):
    toy_cohort(tmp_path / "coarse", 12, grid=replace(TOY_GRID, spacing_mm=(12.0, 10.0, 8.0)))
    other = replace(study, cohorts=study.cohorts | {"finetune": tmp_path / "coarse"})
    with pytest.raises(CohortError, match="but preset 'toy' needs"):
        other.cohort("finetune")
