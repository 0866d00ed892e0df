import numpy as np
import pandas as pd
import pytest

from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.errors import ConfigError, TableError
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.simulate.questionnaire import draw_participants
from csegsynth_kit.simulate.structural import CSF_SHARES, draw_volumes
from csegsynth_kit.simulate.targets import targets_from_table

TISSUE_COLUMNS = ["wm_ml", "gm_ml", "csf_ml"]


def oasis_like(path, n=60):
    """A table with OASIS-1's columns; the last two rows are retests of the first two people."""
    table = draw_participants(n, seed=3)
    volumes = draw_volumes(table, seed=3)
    rows = pd.DataFrame(
        {
            "ID": [f"OAS1_{i:04d}_MR1" for i in range(n)],
            "M/F": table.sex.map({"female": "F", "male": "M"}).to_numpy(),
            "Hand": "R",
            "Age": table.age.round().astype(int).to_numpy(),
            "Educ": np.where(np.arange(n) % 2, "", "3"),
            "SES": np.where(np.arange(n) % 3, "2", "4"),
            "MMSE": np.where(np.arange(n) % 2, "", "29"),
            "CDR": np.where(np.arange(n) % 9, "0", "0.5"),
            "eTIV": volumes.icv_ml.round().astype(int).to_numpy(),
            "nWBV": ((volumes.wm_ml + volumes.gm_ml) / volumes.icv_ml).round(3).to_numpy(),
            "ASF": 1.2,
            "Delay": "N/A",
        }
    )
    retest = rows.iloc[:2].assign(
        ID=["OAS1_0000_MR2", "OAS1_0001_MR2"], eTIV=rows.eTIV.iloc[:2] + 4, Delay="20"
    )
    pd.concat([rows, retest]).to_csv(path, index=False)
    return rows


def test_oasis_keeps_brain_and_csf_and_draws_the_rest(tmp_path):
    rows = oasis_like(tmp_path / "oasis.csv")
    found = targets_from_table(tmp_path / "oasis.csv", seed=1)
    v = found.volumes.iloc[: len(rows)]
    brain = (rows.eTIV * rows.nWBV).to_numpy()
    np.testing.assert_allclose(v.wm_ml + v.gm_ml, brain, atol=1e-9)
    np.testing.assert_allclose(v.csf_ml, rows.eTIV - brain, atol=1e-9)
    np.testing.assert_allclose(v.icv_ml, rows.eTIV)
    assert (v.lv_ml <= 0.3 * v.csf_ml + 1e-9).all()
    assert (v.gm_ml / v.wm_ml).between(0.8, 1.9).all()
    assert "brain volume" in found.real
    assert "drawn from the structural model" in found.drawn
    assert [c.name for c in found.participants.feature_columns][:2] == ["sex", "age"]


def test_oasis_2_is_read_likewise_and_without_volumes_none_is(tmp_path):
    rows = oasis_like(tmp_path / "oasis.csv", 12)
    rows.assign(Group="Nondemented", Visit=1).to_csv(tmp_path / "oasis2.csv", index=False)
    found = targets_from_table(tmp_path / "oasis2.csv", seed=1)
    np.testing.assert_allclose(found.volumes.icv_ml, rows.eTIV)
    assert "(OASIS-2)" in found.real
    rows.drop(columns=["eTIV", "nWBV", "ASF"]).to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(TableError, match="no volumes that are understood"):
        targets_from_table(tmp_path / "none.csv")


def test_the_drawn_split_is_centered_on_the_truth(tmp_path):
    table = draw_participants(400, seed=6)
    volumes = draw_volumes(table, seed=6)
    oasis_like(tmp_path / "oasis.csv", 400)
    truth = draw_volumes(draw_participants(400, seed=3), seed=3)
    drawn = targets_from_table(tmp_path / "oasis.csv", seed=1).volumes.iloc[:400]
    error = drawn.gm_ml.to_numpy() - truth.gm_ml.to_numpy()
    assert abs(error.mean()) < 3
    assert error.std() < 30 < volumes.gm_ml.std()


def test_retests_are_the_same_individual(tmp_path):
    oasis_like(tmp_path / "oasis.csv", 8)
    found = targets_from_table(tmp_path / "oasis.csv", seed=1)
    first, again = found.volumes.iloc[0], found.volumes.iloc[-2]
    assert again.name == "sub-OAS10000MR2"
    assert first.gm_ml / first.wm_ml == pytest.approx(again.gm_ml / again.wm_ml, abs=0.01)
    assert first.lv_ml == pytest.approx(again.lv_ml, rel=0.02)
    cohort = simulate_cohort(
        tmp_path / "cohort",
        participants=found,
        grid="tiny",
        jobs=1,
        progress=False,
    )
    assert len(cohort) == 10
    assert cohort.persons["sub-OAS10000MR2"] == cohort.persons["sub-OAS10000MR1"]
    chosen = ["sub-OAS10000MR1", "sub-OAS10000MR2", "sub-OAS10001MR1"]
    one, retest, other = cohort.maps(chosen).probabilities[:, :3]
    assert (one - retest).abs().mean() < 0.2 * (one - other).abs().mean()
    np.testing.assert_allclose(cohort.volumes, found.volumes[TISSUE_COLUMNS], atol=1e-3)


def fcon_like(path, n=80):
    table = draw_participants(n, age="young", seed=4)
    v = draw_volumes(table, seed=4) * 1000
    etiv = v.icv_ml.to_numpy().copy()
    etiv[5] = 1000 * 900.0  # Less than the brain: FreeSurfer's estimate failed.
    rows = pd.DataFrame(
        {
            "sub_id": [f"site_sub{i}" for i in range(n)],
            "age": table.age.to_numpy(),
            "sex": (table.sex == "male").astype(int).to_numpy(),
            "site": np.where(np.arange(n) % 2, "a", "b"),
            "TotalGrayVol": v.gm_ml.to_numpy(),
            "CerebralWhiteMatterVol": v.wm_ml.to_numpy() * 0.9,
            "Left-Cerebellum-White-Matter": v.wm_ml.to_numpy() * 0.03,
            "Right-Cerebellum-White-Matter": v.wm_ml.to_numpy() * 0.03,
            "Brain-Stem": v.wm_ml.to_numpy() * 0.04,
            "EstimatedTotalIntraCranialVol": etiv,
            "Left-Lateral-Ventricle": v.lv_ml.to_numpy() * 0.45,
            "Right-Lateral-Ventricle": v.lv_ml.to_numpy() * 0.45,
            "Left-Inf-Lat-Vent": v.lv_ml.to_numpy() * 0.05,
            "Right-Inf-Lat-Vent": v.lv_ml.to_numpy() * 0.05,
            "Left-choroid-plexus": 0.0,
            "Right-choroid-plexus": 0.0,
        }
    )
    rows.loc[7, "TotalGrayVol"] = 150_000.0
    rows = pd.concat([rows, rows.iloc[[3]].assign(sub_id="copy_sub3")])
    rows.to_csv(path, index=False)
    return v / 1000


def test_fcon_keeps_tissues_and_replaces_impossible_heads(tmp_path):
    truth = fcon_like(tmp_path / "fcon1000.csv")
    found = targets_from_table(tmp_path / "fcon1000.csv", seed=2)
    why = {f.subject: f.message for f in found.findings}
    assert set(why) == {"sub-sitesub7", "sub-copysub3"}
    assert "repeat those of another row" in why["sub-copysub3"]
    assert "gm_ml = 150 mL" in why["sub-sitesub7"]
    kept = [i for i in range(80) if i != 7]
    drawn = found.volumes.to_numpy()
    np.testing.assert_allclose(drawn[:, :2], truth.iloc[kept, :2], atol=1e-6)
    usual = [row for row, i in enumerate(kept) if i != 5]
    expected = truth.iloc[kept].iloc[usual]
    np.testing.assert_allclose(drawn[usual, 2], expected.csf_ml, atol=1e-6)
    np.testing.assert_allclose(drawn[usual, 3], expected.lv_ml, rtol=1e-6)
    share = (found.volumes.csf_ml / found.volumes.icv_ml).loc["sub-sitesub5"]
    assert CSF_SHARES[0] <= share <= CSF_SHARES[1]
    assert "drawn from the structural model for the 1" in found.drawn


def generic(path, **columns):
    table = draw_participants(6, seed=1)
    volumes = draw_volumes(table, seed=1)
    rows = table.join(volumes.drop(columns=["lv_ml", "icv_ml"])).assign(**columns)
    rows.to_csv(path, sep="\t")
    return rows


def test_retests_keep_their_person_through_a_derivative(tmp_path):
    oasis_like(tmp_path / "oasis.csv", 8)
    options = {"grid": "tiny", "jobs": 1, "progress": False}
    table = tmp_path / "oasis.csv"
    made = simulate_cohort(tmp_path / "a", participants=table, bids=tmp_path / "bids", **options)
    read = prepare(tmp_path / "bids", tmp_path / "b", grid="tiny", progress=False)
    assert read.persons.to_dict() == made.persons.to_dict()
    assert read.persons.nunique() < len(read)
    assert read.statement == made.statement
    assert read.simulated


def test_sensitive_answers_are_not_copied(tmp_path):
    generic(tmp_path / "mine.tsv", religiosity_today=[1, 2, 3, 2, 1, 3])
    found = targets_from_table(tmp_path / "mine.tsv")
    assert "religiosity_today" not in found.participants.frame
    assert "IST_fluid" in found.participants.frame


def test_any_table_with_three_volumes_will_do(tmp_path):
    rows = generic(tmp_path / "mine.tsv")
    found = targets_from_table(tmp_path / "mine.tsv", seed=0)
    np.testing.assert_allclose(found.volumes[TISSUE_COLUMNS], rows[TISSUE_COLUMNS], rtol=1e-9)
    assert (found.volumes.lv_ml > 0).all()
    features = {column.name for column in found.participants.feature_columns}
    assert "IST_fluid" in features
    assert not features & {"wm_ml", "gm_ml", "csf_ml"}
    given = generic(tmp_path / "given.tsv", lv_ml=[10.0, 20, 30, 15, 12, 40])
    assert list(targets_from_table(tmp_path / "given.tsv").volumes.lv_ml) == list(given.lv_ml)


def test_unusable_rows_are_left_out_with_a_reason(tmp_path):
    rows = generic(tmp_path / "mine.tsv")
    rows.loc["sub-0002", "gm_ml"] = np.nan
    rows.loc["sub-0003", "csf_ml"] = -40.0
    rows.loc["sub-0004", "wm_ml"] = 500_000.0
    rows.loc["sub-0005", "age"] = np.nan
    rows.to_csv(tmp_path / "bad.tsv", sep="\t", na_rep="n/a")
    found = targets_from_table(tmp_path / "bad.tsv")
    assert list(found.volumes.index) == ["sub-0001", "sub-0006"]
    assert [f.severity for f in found.findings] == ["excluded"] * 4
    reasons = [f.message for f in found.findings]
    for part, reason in zip(
        ("missing", "not positive", "between 600 and 2600", "age is unknown"), reasons, strict=True
    ):
        assert part in reason
    cohort = simulate_cohort(
        tmp_path / "made", participants=tmp_path / "bad.tsv", grid="tiny", jobs=1, progress=False
    )
    assert len(cohort) == 2
    assert len(cohort.provenance["excluded"]) == 4
    report = (cohort.path / "report.md").read_text(encoding="utf-8")
    assert "Rows of the table left out: 4" in report
    assert "age is unknown" in report


def test_tables_without_volumes_are_refused(tmp_path):
    draw_participants(5).to_csv(tmp_path / "none.tsv", sep="\t")
    with pytest.raises(TableError, match="no volumes that are understood"):
        targets_from_table(tmp_path / "none.tsv")
    generic(tmp_path / "mm3.tsv", wm_ml=5e5, gm_ml=6e5, csf_ml=3e5)
    with pytest.raises(TableError, match="volumes are in mL"):
        targets_from_table(tmp_path / "mm3.tsv")


def test_options_of_simulated_people_do_not_go_with_a_table(tmp_path):
    generic(tmp_path / "mine.tsv")
    with pytest.raises(ConfigError, match="describe simulated people"):
        simulate_cohort(tmp_path / "x", participants=tmp_path / "mine.tsv", effects=2.0)
    with pytest.raises(ConfigError, match="6 usable participants"):
        simulate_cohort(tmp_path / "x", participants=tmp_path / "mine.tsv", n=7)


@pytest.mark.real
def test_oasis_1_is_used_as_it_is(real_data):
    path = real_data / "oasis1" / "oasis_cross-sectional.csv"
    found = targets_from_table(path, seed=0)
    raw = pd.read_csv(path)
    assert len(found) == len(raw)
    assert not found.findings
    np.testing.assert_allclose(found.volumes.icv_ml, raw.eTIV)
    np.testing.assert_allclose(
        found.volumes.wm_ml + found.volumes.gm_ml, raw.eTIV * raw.nWBV, atol=1e-6
    )
    retests = raw.ID.str.endswith("_MR2").sum()
    assert found.participants.persons.nunique() == len(raw) - retests


@pytest.mark.real
def test_fcon_1000_drops_its_repeated_subject(real_data):
    found = targets_from_table(real_data / "fcon1000" / "fcon1000.csv", seed=0)
    why = {f.subject: f.message for f in found.findings}
    assert any("repeat those of another row" in message for message in why.values())
    assert len(why) < 10
    shares = found.volumes.csf_ml / found.volumes.icv_ml
    assert shares.between(0.119, 0.451).all()
    assert [c.name for c in found.participants.feature_columns] == ["age", "sex", "site"]
