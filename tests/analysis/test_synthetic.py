"""Generated maps on disk: what they say of themselves, and what may stand beside them."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from csegsynth_kit.analysis.generate import generate, generate_shared
from csegsynth_kit.analysis.synthetic import synthetic_labels
from csegsynth_kit.data.raw_table import MISSING
from csegsynth_kit.errors import CohortError, ConfigError, TableError

PEOPLE = pd.DataFrame(
    {"age": [30.0, 71.0], "sex": ["male", None], "education": ["low", "high"], "site": ["a", "b"]},
    index=pd.Index(["sub-x1", "sub-02"], name="participant_id"),
)


def written(folder):
    """Of every map: its name, sidecar and answers, and the share of GM."""
    path = folder / "participants.tsv"
    answers = pd.read_csv(path, sep="\t", index_col=0, na_values=list(MISSING))
    for path in sorted(folder.glob("sub-*/anat/*label-GM_probseg.json")):
        name = path.name.split("_")[0]
        image = nib.load(path.with_suffix(".nii.gz"))
        person = {key: value for key, value in answers.loc[name].items() if not pd.isna(value)}
        yield name, json.loads(path.read_text()), person, image.get_fdata(dtype=np.float32)


@pytest.mark.parametrize("by_id", [True, False])
def test_a_map_can_be_made_again_from_its_sidecar(model, tmp_path, by_id):
    generate(model, PEOPLE, n=3, seed=7, by_id=by_id).to_bids(tmp_path)
    again = 0
    for _, sidecar, person, share in written(tmp_path):
        # Other people stand before this one, where rows decide.
        table = pd.DataFrame([{}] * sidecar.get("Row", 0) + [person])
        table.index = pd.Index([*map(str, table.index[:-1]), sidecar["AnswersOf"]])
        table.index.name = "participant_id"
        n = sidecar["Draw"] if by_id else sidecar["Draws"]
        maps = generate(model, table, n=n, seed=sidecar["Seed"], by_id=by_id)
        made = maps.probabilities[-n:][sidecar["Draw"] - 1, 1].numpy()
        np.testing.assert_allclose(made, share, atol=1e-4)
        again += 1
    assert again == 6


def test_a_person_without_a_table_can_be_made_again(model, tmp_path):
    generate(model, {"age": 50}, n=2, seed=3).to_bids(tmp_path, "grandma")
    for (name, sidecar, person, share), number in zip(written(tmp_path), (1, 2), strict=True):
        assert name == f"sub-grandmadraw0{number}"
        assert "AnswersOf" not in sidecar
        maps = generate(model, person, n=sidecar["Draws"], seed=sidecar["Seed"])
        made = maps.probabilities[sidecar["Draw"] - 1, 1].numpy()
        np.testing.assert_allclose(made, share, atol=1e-4)


def test_shared_latents_are_those_of_the_first_row(model):
    maps = generate_shared(model, PEOPLE, seed=3)
    assert [draw.row for draw in maps.draws] == [0, 0]
    alone = generate(model, PEOPLE.iloc[1].dropna().to_dict(), seed=3)
    # Round-off depends on how many maps are generated at once.
    torch.testing.assert_close(maps.probabilities[1:], alone.probabilities, atol=1e-4, rtol=0)


def test_volumes_are_those_of_the_maps(model, tmp_path):
    maps = generate(model, PEOPLE, n=2, seed=1, by_id=True)
    maps.to_bids(tmp_path)
    volumes = pd.read_csv(tmp_path / "volumes.tsv", sep="\t", index_col=0)
    assert list(volumes) == ["answers_of", "draw", "wm_ml", "gm_ml", "csf_ml"]
    assert tuple(volumes.index) == maps.labels
    assert volumes["answers_of"].tolist() == ["sub-x1"] * 2 + ["sub-02"] * 2
    assert volumes["draw"].tolist() == [1, 2, 1, 2]
    for name, _, _, share in written(tmp_path):
        expected = share.sum() * maps.grid.voxel_ml
        assert volumes.loc[name, "gm_ml"] == pytest.approx(expected, rel=1e-4)
    described = json.loads((tmp_path / "volumes.json").read_text())
    assert set(described) == set(volumes)
    generate(model, {"age": 50}).to_bids(tmp_path, "other")
    more = pd.read_csv(tmp_path / "volumes.tsv", sep="\t", index_col=0)
    pd.testing.assert_frame_equal(more.iloc[:4], volumes)
    assert more.index[4] == "sub-other"
    assert pd.isna(more.loc["sub-other", "answers_of"])


@pytest.mark.parametrize(("first", "then", "there"), [(1, 2, "sub-x"), (2, 1, "sub-xdraw01")])
def test_single_and_numbered_draws_of_a_name_are_not_mixed(model, tmp_path, first, then, there):
    generate(model, n=first).to_bids(tmp_path, "x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CohortError, match="another draw of the name of sub-x") as error:
        generate(model, n=then).to_bids(tmp_path, "x")
    assert str(error.value).startswith(f"{tmp_path / there}: ")
    assert "Choose another name or another folder" in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    generate(model, n=then).to_bids(tmp_path, "xy")


@pytest.mark.parametrize(
    ("n", "ids"), [(1, ["x", "xdraw01"]), (1, ["x-draw123", "b", "x"]), (2, ["xdraw02", "x"])]
)
def test_ids_that_look_like_a_draw_of_another_are_refused(model, tmp_path, n, ids):
    people = PEOPLE.iloc[[0] * len(ids)].set_axis(pd.Index(ids, name="participant_id"))
    with pytest.raises(
        TableError, match=r"tell sub-\w+draw\d+ from a draw of sub-syntheticx.*Rename"
    ):
        generate(model, people, n=n).to_bids(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [1, 2])
def test_one_name_is_not_given_to_several_people(model, tmp_path, n):
    for maps in (generate(model, PEOPLE, n=n), generate_shared(model, PEOPLE)):
        with pytest.raises(ConfigError, match=r"maps of 2 people, and 'p' names one\. Leave the"):
            maps.to_bids(tmp_path / "out", "p")
    assert list(tmp_path.iterdir()) == []


def test_maps_are_named_by_id_else_by_number(model):
    expected = ("sub-syntheticx1draw01", "sub-syntheticx1draw02")
    assert synthetic_labels(["sub-x1", ""], 2) == (
        *expected,
        "sub-synthetic0002draw01",
        "sub-synthetic0002draw02",
    )
    assert synthetic_labels(["", "sub-02"], 1) == ("sub-synthetic0001", "sub-synthetic02")
    for n in (1, 2):
        assert generate(model, PEOPLE, n=n).labels == synthetic_labels(["sub-x1", "sub-02"], n)
