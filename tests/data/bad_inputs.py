"""Broken inputs, and what must become of each. Kept as data, so that a script can print them."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from csegsynth_kit.data.prepare import prepare
from csegsynth_kit.errors import CohortError, ConfigError, CsegsynthError, TableError
from tests.data.heads import (
    head,
    label_head,
    save,
    write_aseg,
    write_dseg,
    write_fast,
    write_probseg,
    write_synthseg,
    write_table,
)

GOOD, BAD = "sub-good", "sub-bad"


@dataclass(frozen=True)
class Case:
    """One broken input.

    Args:
        make: Writes it into a folder and returns further options of ``prepare``.
        expected: The error it raises, or the code of the exclusion of ``sub-bad`` while
            ``sub-good`` is prepared.
        names: What the message must name, usually the file.
    """

    make: Callable[[Path], dict | None]
    expected: type[CsegsynthError] | str
    names: str
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of it: an error or the exclusions, and who was kept."""

    error: CsegsynthError | None
    excluded: dict[str, str]
    kept: tuple[str, ...]

    @property
    def message(self) -> str:
        return str(self.error) if self.error else next(iter(self.excluded.values()), "")


def outcome(case: Case, folder: Path) -> Outcome:
    """Prepare the broken input in ``folder/source`` as ``folder/out``."""
    source = folder / "source"
    source.mkdir()
    options = {"source": source, "out": folder / "out", "grid": "tiny", "align": False}
    options |= {"progress": False, **case.options, **(case.make(source) or {})}
    try:
        cohort = prepare(**options)
    except CsegsynthError as error:
        return Outcome(error, {}, ())
    excluded = {f["code"]: f["message"] for f in cohort.provenance["excluded"]}
    return Outcome(None, excluded, cohort.ids)


def _probseg(change: Callable[[np.ndarray, np.ndarray], tuple] | None = None):
    """Make probseg maps of two people; ``change`` spoils tissues and affine of one."""

    def make(source: Path) -> None:
        write_probseg(source, GOOD)
        tissues, affine = (array.copy() for array in head(1.02))
        write_probseg(source, BAD, *(change(tissues, affine) if change else (tissues, affine)))

    return make


def _spoil(tissue: str, how: Callable[[Path], object]):
    """Make probseg maps of two people, and let ``how`` spoil one file."""

    def make(source: Path) -> None:
        _probseg()(source)
        how(source / BAD / "anat" / f"{BAD}_label-{tissue}_probseg.nii.gz")

    return make


def _value(number: float):
    def change(tissues: np.ndarray, affine: np.ndarray):
        tissues[1, 20:23, 30, 20] = number
        return tissues, affine

    return _probseg(change)


def _scaled(factor: float):
    return _probseg(lambda tissues, affine: (tissues * np.float32(factor), affine))


def _voxels(factor: float):
    return _probseg(lambda tissues, affine: (tissues, affine @ np.diag([factor] * 3 + [1])))


def _broken_mgz(content: bytes):
    def make(source: Path) -> None:
        write_aseg(source, GOOD)
        write_aseg(source, BAD).write_bytes(content)

    return make


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _four_volumes(path: Path) -> None:
    image = nib.load(path)
    data = np.stack([np.asarray(image.dataobj)] * 3, axis=-1)
    nib.save(nib.Nifti1Image(data, image.affine), path)


def _cropped(path: Path) -> None:
    image = nib.load(path)
    nib.save(image.slicer[:, 2:, :], path)


def _moved(path: Path) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[1, 3] += 4
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def _header(**entries):
    """Overwrite fields of the header where they lie in the file, past nibabel's checks."""

    def spoil(path: Path) -> None:
        raw = gzip.decompress(path.read_bytes())
        header = nib.Nifti1Header(raw[:348], check=False)
        for name, value in entries.items():
            header[name] = value
        path.write_bytes(gzip.compress(header.binaryblock + raw[348:]))

    return spoil


def _colors(path: Path) -> None:
    image = nib.load(path)
    data = np.zeros(image.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(data, image.affine), path)


def _swapped_fast(source: Path) -> None:
    write_fast(source, GOOD)
    tissues, affine = head()
    write_fast(source, BAD, tissues[[1, 0, 2]], affine)


def _fast_numbers_in_dseg(source: Path) -> None:
    write_dseg(source, GOOD)
    write_dseg(source, BAD, values=(3, 2, 1))


def _far_island(source: Path) -> None:
    write_probseg(source, GOOD)
    tissues, affine = head()
    tissues = np.pad(tissues, [(0, 0), (0, 0), (0, 0), (0, 30)])
    tissues[2, 20:24, 30:34, -4:] = 1
    write_probseg(source, BAD, tissues, affine)


def _table(write: Callable[[Path], object], **options):
    """Make good maps and a spoiled table beside them."""

    def make(source: Path) -> dict:
        write_probseg(source, GOOD)
        write_probseg(source, BAD, *head(1.02))
        write(source / "participants.tsv")
        return options

    return make


def _rows(*lines: str, description: str | None = None):
    def write(path: Path) -> None:
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        if description is not None:
            path.with_suffix(".json").write_text(description, encoding="utf-8")

    return _table(write)


def _labels(change: Callable[[np.ndarray], np.ndarray]):
    def make(source: Path) -> None:
        write_synthseg(source, GOOD)
        labels, affine = label_head(growth=1.02)
        write_synthseg(source, BAD, change(labels), affine)

    return make


def _unknown_labels(labels: np.ndarray) -> np.ndarray:
    labels[np.isin(labels, (3, 42)) & (np.arange(labels.shape[0]) < 22)[:, None, None]] = 400
    return labels


def _without_white_matter(labels: np.ndarray) -> np.ndarray:
    labels[np.isin(labels, (2, 41))] = 0
    return labels


def _sidecar(text: str):
    return _spoil("CSF", lambda p: Path(str(p)[:-7] + ".json").write_text(text, encoding="utf-8"))


def _two_layouts(source: Path) -> None:
    write_dseg(source / "fmriprep", GOOD)
    write_aseg(source / "freesurfer", GOOD)


def _mixed_csf(source: Path) -> None:
    write_synthseg(source, "sub-1")
    write_synthseg(source, "sub-2", outer=False)


def _warped(name: str):
    def make(source: Path) -> None:
        write_dseg(source, GOOD)
        tissues, affine = head()
        save(source / BAD / "anat" / f"{BAD}_{name}.nii.gz", tissues[1], affine)

    return make


def _only(name: str):
    def make(source: Path) -> None:
        tissues, affine = head()
        save(source / name, tissues[1], affine)

    return make


def _twice(source: Path) -> None:
    write_dseg(source / "a", GOOD)
    write_dseg(source / "b", GOOD)


def _four_classes(source: Path) -> None:
    write_fast(source, GOOD)
    write_fast(source, BAD)
    save(source / f"{BAD}_pve_3.nii.gz", *(a[0] if a.ndim == 4 else a for a in head()))


def _existing_output(source: Path) -> None:
    write_probseg(source, GOOD)
    out = source.parent / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep me", encoding="utf-8")


def _other_half_finished(source: Path) -> None:
    write_probseg(source, GOOD)
    partial = source.parent / ".out.partial"
    partial.mkdir()
    (partial / "plan.json").write_text('{"source": "elsewhere"}', encoding="utf-8")


def _all_bad(source: Path) -> None:
    write_probseg(source, BAD, head()[0] * 0, head()[1])


def _ages(path: Path, sex: str = "F\tM") -> None:
    first, second = sex.split("\t")
    write_table(path, [GOOD, BAD], age=[20, 30], sex=[first, second])


CASES: dict[str, Case] = {
    "gzip cut short": Case(_spoil("GM", _cut_short), "unreadable", f"{BAD}_label-GM"),
    "text named .nii.gz": Case(
        _spoil("WM", lambda p: p.write_text("no image at all, but long enough " * 40)),
        "unreadable",
        f"{BAD}_label-WM",
    ),
    "gzip that is no NIfTI": Case(
        _spoil("WM", lambda p: p.write_bytes(gzip.compress(b"x" * 5000))),
        "unreadable",
        f"{BAD}_label-WM",
    ),
    "empty file": Case(
        _spoil("CSF", lambda p: p.write_bytes(b"")), "unreadable", f"{BAD}_label-CSF"
    ),
    "git-annex pointer": Case(
        _spoil("GM", lambda p: p.write_text("/annex/objects/MD5E-s81--12.nii.gz")),
        "unreadable",
        f"{BAD}_label-GM",
    ),
    "link to nowhere": Case(
        _spoil("GM", lambda p: (p.unlink(), p.symlink_to("nowhere.nii.gz"))),
        "unreadable",
        f"{BAD}_label-GM",
    ),
    "color image": Case(_spoil("GM", _colors), "unreadable", f"{BAD}_label-GM"),
    "several volumes in one file": Case(
        _spoil("GM", _four_volumes), "unreadable", f"{BAD}_label-GM"
    ),
    "NaN": Case(_value(np.nan), "unreadable", f"{BAD}_label-GM"),
    "infinity": Case(_value(np.inf), "unreadable", f"{BAD}_label-GM"),
    "negative shares": Case(_value(-0.5), "out-of-range", f"{BAD}_label-GM"),
    "percent instead of shares": Case(_scaled(100), "out-of-range", BAD),
    "shares that sum to more than 1": Case(
        _probseg(lambda t, a: (np.stack([t[0], t[1], np.minimum(t[2] + t[1] / 2, 1)]), a)),
        "sum-above-1",
        BAD,
    ),
    "all maps 0": Case(_scaled(0), "unreadable", BAD),
    "one tissue 0": Case(
        _probseg(lambda t, a: (t * np.array([1, 1, 0], np.float32)[:, None, None, None], a)),
        "empty-tissue",
        "CSF",
    ),
    "tissues of other shapes": Case(_spoil("GM", _cropped), "unreadable", f"{BAD}_label-GM"),
    "tissues at other positions": Case(_spoil("CSF", _moved), "unreadable", f"{BAD}_label-CSF"),
    "singular affine": Case(
        _spoil("WM", _header(srow_x=0, srow_y=0)), "unreadable", f"{BAD}_label-WM"
    ),
    "affine with NaN": Case(_spoil("WM", _header(srow_z=np.nan)), "unreadable", f"{BAD}_label-WM"),
    "voxels in meters": Case(_voxels(0.001), "unreadable", f"{BAD}_label-WM"),
    "voxels of 40 mm": Case(_voxels(11), "unreadable", f"{BAD}_label-WM"),
    "voxels twice as long as they are": Case(_voxels(2), "implausible-volume", BAD),
    "gray and white matter swapped (FAST)": Case(_swapped_fast, "swapped-tissues", BAD),
    "dseg with FAST's numbers": Case(_fast_numbers_in_dseg, "swapped-tissues", BAD),
    "tissue far from the head": Case(_far_island, "unreadable", BAD),
    "a tissue missing": Case(_spoil("CSF", Path.unlink), "missing-tissue", "CSF"),
    "FAST with four classes": Case(_four_classes, "too-many-classes", BAD),
    "unknown labels": Case(_labels(_unknown_labels), "unreadable", "400"),
    "labels without white matter": Case(_labels(_without_white_matter), "unreadable", "WM"),
    "label map with fractions": Case(
        _labels(lambda x: x.astype(np.float32) + 0.5), "unreadable", f"{BAD}_synthseg"
    ),
    "FreeSurfer labels named dseg": Case(
        lambda s: (
            write_dseg(s, GOOD),
            save(s / BAD / "anat" / f"{BAD}_dseg.nii.gz", *label_head()),
            None,
        )[-1],
        "unreadable",
        f"{BAD}_dseg",
    ),
    "broken .json beside a map": Case(_sidecar("{"), "unreadable", f"{BAD}_label-CSF"),
    "unknown CSF definition": Case(
        _sidecar('{"CsfDefinition": "some"}'), "unreadable", f"{BAD}_label-CSF"
    ),
    "map warped to a template": Case(
        _warped("space-MNI152NLin2009cAsym_res-2_label-GM_probseg"), "warped-unmodulated", BAD
    ),
    "modulated map": Case(_warped("space-GM226_label-GM_mod"), "modulated", "WM and CSF"),
    "map without a row": Case(
        _rows("participant_id\tage", f"{GOOD}\t20", "sub-other\t30"), "no-answers", "participants"
    ),
    "id twice in the table": Case(
        _rows("participant_id\tage", f"{GOOD}\t20", f"{GOOD}\t30"), TableError, "participants.tsv"
    ),
    "id with a slash": Case(
        _rows("participant_id\tage", f"{GOOD}\t20", "sub-01/02\t30"), TableError, "sub-01/02"
    ),
    "row without id": Case(
        _rows("participant_id\tage", f"{GOOD}\t20", "n/a\t30"), TableError, "line 3"
    ),
    "empty table": Case(_rows(), TableError, "participants.tsv"),
    "table with a header only": Case(_rows("participant_id\tage"), TableError, "participants.tsv"),
    "table without ids": Case(_rows("age\tsex", "20\tF", "30\tM"), TableError, "participants.tsv"),
    "column name twice": Case(
        _rows("participant_id\tage\tage", f"{GOOD}\t20\t20"), TableError, "age"
    ),
    "answer that is no level": Case(
        _rows(
            "participant_id\tsmoking",
            f"{GOOD}\tnever",
            f"{BAD}\tsometimes",
            description='{"smoking": {"Levels": {"never": "", "daily": ""}}}',
        ),
        TableError,
        "sometimes",
    ),
    "broken participants.json": Case(
        _rows("participant_id\tage", f"{GOOD}\t20", description="{'age': }"),
        TableError,
        "participants.json",
    ),
    "table in another encoding": Case(
        _table(lambda p: p.write_bytes("participant_id\tjob\nsub-good\tKöhler\n".encode("cp1252"))),
        TableError,
        "participants.tsv",
    ),
    "table of other people": Case(
        _rows("participant_id\tage", "sub-x\t20", "sub-y\t30"), CohortError, "sub-x"
    ),
    "table that does not exist": Case(
        _table(lambda p: None, participants="nowhere.tsv"), TableError, "nowhere.tsv"
    ),
    "constant column as feature": Case(
        _table(lambda p: _ages(p, "F\tF"), features=["age", "sex"]), TableError, "sex"
    ),
    "feature that is no column": Case(_table(_ages, features=["height"]), TableError, "height"),
    "features without a table": Case(
        lambda s: (write_probseg(s, GOOD), {"features": ["age"]})[1], ConfigError, "table"
    ),
    "row with too many answers": Case(
        _rows("participant_id\tage", f"{GOOD}\t20\t1"), TableError, "line 2"
    ),
    "age in days": Case(_rows("participant_id\tage", f"{GOOD}\t9125"), TableError, "9125"),
    "levels that are a number": Case(
        _rows("participant_id\tage", f"{GOOD}\t20", description='{"age": {"Levels": 3}}'),
        TableError,
        "participants.json",
    ),
    "empty .mgz": Case(_broken_mgz(b""), "unreadable", "aseg.mgz"),
    "text as .mgz": Case(_broken_mgz(b"not an image " * 200), "unreadable", "aseg.mgz"),
    "shares halved": Case(_scaled(0.5), "sum-below-1", BAD),
    "empty source": Case(lambda s: None, CohortError, "source"),
    "source that does not exist": Case(lambda s: {"source": s / "nowhere"}, CohortError, "nowhere"),
    "file as source": Case(lambda s: {"source": write_dseg(s, GOOD)}, CohortError, f"{GOOD}_dseg"),
    "images but no segmentation": Case(_only("sub-1_T1w.nii.gz"), CohortError, "sub-1_T1w"),
    "names of SPM": Case(_only("c1sub-1_T1w.nii"), CohortError, "c1sub-1_T1w"),
    "names of CAT12": Case(_only("mri/mwp1sub-1_T1w.nii"), CohortError, "mwp1sub-1_T1w"),
    "two layouts": Case(_two_layouts, CohortError, "--layout fmriprep or --layout freesurfer"),
    "two definitions of CSF": Case(_mixed_csf, CohortError, "1 maps 'intracranial'"),
    "one participant twice": Case(_twice, CohortError, GOOD),
    "nobody usable": Case(_all_bad, CohortError, BAD),
    "output that exists": Case(_existing_output, CohortError, "out"),
    "another half-finished cohort": Case(_other_half_finished, CohortError, ".out.partial"),
    "unknown grid": Case(_probseg(), ConfigError, "huge", {"grid": "huge"}),
    "unknown layout": Case(_probseg(), ConfigError, "spm", {"layout": "spm"}),
}
