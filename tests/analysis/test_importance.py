import numpy as np
import torch

from csegsynth_kit.analysis.generate import latents_of, predict_volumes
from csegsynth_kit.analysis.importance import gradient_importance, volume_gradients
from csegsynth_kit.maps import volumes_ml


def test_gradients_equal_finite_differences(model, cohort):
    people = cohort.table[list(model.features.questions)].head(2)
    gradients = volume_gradients(model, people, draws=2, seed=3)
    inputs = torch.from_numpy(model.features.inputs(model.features.encode(people))).double()
    model.double()
    try:
        for person in range(2):
            z = latents_of(model, person, n=2, seed=3, antithetic=True).double()
            for feature in range(len(model.features.names)):
                step = torch.zeros_like(inputs[person])
                step[feature] = 1e-4
                ends = [
                    volumes_ml(
                        model.logits_from(z, (inputs[person] + s * step).expand(2, -1)).softmax(1),
                        model.config.grid.voxel_ml,
                    )[:, :3].mean(0)
                    for s in (-1, 1)
                ]
                numeric = ((ends[1] - ends[0]) / 2e-4).detach().numpy()
                np.testing.assert_allclose(
                    gradients[person, feature], numeric, rtol=2e-3, atol=2e-3
                )
    finally:
        model.float()


def test_table_summarizes_the_gradients(model, cohort):
    people = cohort.table[list(model.features.questions)]
    gradients = volume_gradients(model, people, draws=2, seed=0)
    table = gradient_importance(model, people, draws=2, seed=0).set_index(["feature", "tissue"])
    assert len(table) == len(model.features.questions) * 3
    age = model.features.names.index("age")
    assert np.isclose(table.loc[("age", "GM"), "effect_ml"], gradients[:, age, 1].mean())
    assert np.isclose(
        table.loc[("age", "GM"), "importance_ml"], np.abs(gradients[:, age, 1]).mean()
    )
    assert (table["effect_low"] <= table["effect_ml"]).all()
    assert (table["effect_ml"] <= table["effect_high"]).all()


def test_unanswered_questions_have_no_effect_and_others_stand_in_for_them(model, cohort):
    """The effect of an answer given is that of changing it, imputed answers moving along."""
    answered = ["age", "site"]
    people = cohort.table[list(model.features.questions)].dropna().head(3)[answered]
    gradients = volume_gradients(model, people, draws=2, seed=3)
    names = np.array(model.features.names)
    hidden = np.isin(names, ["sex", "education"])
    assert hidden.sum() == 2
    assert (gradients[:, hidden] == 0).all()
    assert (np.abs(gradients[:, ~hidden]) > 0).all()
    step = 0.5  # years; the grid of answers is fine enough for a central difference
    ends = [
        predict_volumes(model, people.iloc[[0]].assign(age=people["age"].iloc[0] + s), n=2, seed=3)
        for s in (-step, step)
    ]
    age = list(names).index("age")
    numeric = (ends[1] - ends[0]).mean(1)[0] / (2 * step) * model.features.sd[age]
    np.testing.assert_allclose(gradients[0, age], numeric, rtol=0.02, atol=0.05)
