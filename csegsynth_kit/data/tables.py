"""Tables whose columns and codes are known: what to rename, to distrust and to leave out.

The names come from the published descriptions of each data set. A table that matches none
of them is read by the general rules of :mod:`csegsynth_kit.data.participants`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Kinds = Mapping[str, tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class KnownTable:
    """One published table.

    Args:
        name: Shown in reports.
        signature: Columns that together identify the table (original names, which may be
            written in other case and without signs).
        rename: Original name to the name used here.
        recode: Column (new name) to a mapping of its original answers.
        missing: Column to values that mean "not answered".
        kinds: Column to its kind and, for ordered or named answers, its levels in order.
        units: Column to its unit.
        default_features: The features used unless the user chooses others; empty for all.
        left_out: Column to the reason for leaving it out.
        numbered: Pattern of the ids that names of maps give, if the table has only their number,
            the group.
        repeats: Whether it is known to have several rows of some people.
    """

    name: str
    signature: frozenset[str]
    rename: Mapping[str, str] = field(default_factory=dict)
    recode: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    kinds: Kinds = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    default_features: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    numbered: str = ""
    repeats: bool = False

    def names(self, columns: Iterable[str]) -> dict[str, str]:
        """Map columns that are known, however written, to the names used here."""
        original = {*self.signature, *self.kinds, *self.units, *self.left_out, *self.recode}
        used = {plain(name): name for name in (*original, *self.missing)}
        used |= {plain(old): new for old, new in self.rename.items()}
        found: dict[str, str] = {}
        for name in columns:
            new = used.get(plain(name))
            if new and (new == name or new not in {*columns, *found.values()}):
                found[name] = new
        return found


def plain(name: str) -> str:
    """Return letters and digits alone, in lower case."""
    return re.sub(r"[\W_]", "", str(name).lower())


_SEX = {"sex": ("categorical", ("female", "male"))}
_LOW_TO_HIGH = ("low", "medium", "high")

AOMIC_ID1000 = KnownTable(
    name="AOMIC ID1000",
    signature=frozenset({"participant_id", "IST_fluid", "background_SES", "STAI_T"}),
    missing={"BMI": (0.0,)},
    kinds=_SEX
    | {
        "handedness": ("categorical", ("left", "right")),
        "education_level": ("ordinal", _LOW_TO_HIGH),
        "background_SES": ("continuous", ()),
    },
    units={"age": "years", "BMI": "kg/m^2"},
)

CAMCAN = KnownTable(
    name="CamCAN",
    signature=frozenset({"CCID"}),
    rename={"Age": "age", "Sex": "sex", "Hand": "handedness"},
    recode={"sex": {"MALE": "male", "FEMALE": "female"}},
    kinds=_SEX | {"handedness": ("continuous", ())},
    units={"age": "years", "handedness": "laterality, -100 (left) to 100 (right)"},
    default_features=(
        "age",
        "sex",
        "handedness",
        "education_years",
        "homeint_v74",
        "homeint_mmse_i",
        "homeint_storyrecall_i",
        "homeint_storyrecall_d",
        "additional_acer",
        "additional_memory",
        "additional_fluencies",
        "additional_language",
        "additional_visuospatial",
        "additional_attention_orientation",
        "additional_hads_anxiety",
        "additional_hads_depression",
        "additional_STW_total",
        "epaq_WKDAYSLEEP",
    ),
    left_out={
        "homeint_v24": "sensitive (ethnicity)",
        "homeint_v15": "sensitive (income), and its letters are not in the order of income",
        "Coil": "a setting of the scanner",
        "MT_TR": "a setting of the scanner",
    },
)

_OASIS_SEX = {"sex": {"M": "male", "F": "female"}, "handedness": {"R": "right", "L": "left"}}
_OASIS_LEFT_OUT = dict.fromkeys(
    ("eTIV", "nWBV", "ASF"), "measured on the scan: it would give the answer away"
)
_OASIS_KINDS = _SEX | {
    "socioeconomic_status": ("ordinal", ()),
    "CDR": ("ordinal", ()),
    "MMSE": ("continuous", ()),
}

OASIS1 = KnownTable(
    name="OASIS-1 cross-sectional",
    signature=frozenset({"M/F", "Hand", "Educ", "SES", "MMSE", "CDR"}),
    rename={
        "M/F": "sex",
        "Hand": "handedness",
        "Age": "age",
        "Educ": "education",
        "SES": "socioeconomic_status",
    },
    recode=_OASIS_SEX,
    kinds=_OASIS_KINDS | {"education": ("ordinal", ())},
    units={"age": "years", "MMSE": "points (0 to 30)"},
    left_out=_OASIS_LEFT_OUT
    | {"Delay": "days until the retest scan, not a property of the person"},
)

OASIS2 = KnownTable(
    name="OASIS-2 longitudinal",
    signature=OASIS1.signature | {"Group", "Visit"},
    rename=dict(OASIS1.rename) | {"Educ": "education_years"},
    recode=_OASIS_SEX,
    kinds=_OASIS_KINDS | {"education_years": ("continuous", ())},
    units=dict(OASIS1.units) | {"education_years": "years"},
    left_out=_OASIS_LEFT_OUT
    | {
        "Subject ID": "the name of the person",
        "Visit": "which of the person's scans it is",
        "MR Delay": "days since the person's first scan",
    },
)

IXI = KnownTable(
    name="IXI",
    signature=frozenset({"IXI_ID", "SEX_ID (1=m, 2=f)"}),
    rename={"SEX_ID (1=m, 2=f)": "sex"},
    recode={"sex": {"1": "male", "2": "female"}},
    missing={"HEIGHT": (0.0,), "WEIGHT": (0.0,)},
    kinds=_SEX | {"MARITAL_ID": ("categorical", ()), "OCCUPATION_ID": ("categorical", ())},
    units={"age": "years", "HEIGHT": "cm", "WEIGHT": "kg"},
    left_out={
        "ETHNIC_ID": "sensitive (ethnicity)",
        "DOB": "its year is in the age",
        "DATE_AVAILABLE": "not a property of the person",
        "STUDY_DATE": "not a property of the person",
    },
    # IXI002, and with hospital and number of the scan IXI002-Guys-0828-T1
    numbered=r"sub-IXI0*(\d+)(?:(?:Guys|HH|IOP)\w*)?",
    repeats=True,
)

FCON1000 = KnownTable(
    name="1000 Functional Connectomes (FreeSurfer)",
    signature=frozenset({"sub_id", "age", "sex", "TotalGrayVol", "CerebralWhiteMatterVol"}),
    recode={"sex": {"0": "female", "0.0": "female", "1": "male", "1.0": "male"}},
    kinds=_SEX | {"site": ("categorical", ())},
    units={"age": "years"},
    default_features=("age", "sex", "site"),
)

#: Those that have more columns than another come first.
KNOWN_TABLES = (AOMIC_ID1000, CAMCAN, OASIS2, OASIS1, IXI, FCON1000)

#: Column names, in lower case, that identify a row.
ID_COLUMNS = (
    *("participant_id", "ccid", "observations", "id", "sub_id", "mri id", "subject_id"),
    *("subject id", "subject", "ixi_id", "participant", "subjectid", "participantid"),
)

#: What stands in the names of questions, in capitals, and what it means.
ABBREVIATIONS = {
    "BMI": "body mass index, weight (kg) divided by the square of height (m)",
    "SES": "socioeconomic status, as by education, occupation and income",
    "IST": "Intelligence Structure Test; more points for more tasks solved",
    "NEO": "NEO Five-Factor Inventory, a questionnaire on personality: N neuroticism, "
    "E extraversion, O openness, A agreeableness, C conscientiousness; 12 to 60 points each",
    "STAI": "State-Trait Anxiety Inventory; T is how anxious one is in general (trait), 20 to 80 "
    "points",
    "MMSE": "Mini-Mental State Examination, 0 to 30 points, more for better",
    "CDR": "Clinical Dementia Rating, 0 for no dementia",
}

#: Answers no study should feed to a model without saying so.
SENSITIVE = re.compile(
    r"sexual_attraction|sexual_orientation|gender_identity|religio|ethnic|^race$|income|politic",
    re.IGNORECASE,
)
#: Quantities computed from the very scan whose volumes are to be predicted.
SCAN_DERIVED = re.compile(
    r"thickness|volume|vol$|vol(not|-to-)|icv|nwbv|^asf$|(^|_)e?tiv($|_)|surface_?area"
    r"|_(wm|gm|csf)_ml$|^(wm|gm|csf|lv)_ml$|_mm3$|hypointens|^(left|right|lh|rh)-|^[lr]h_"
    r"|^(wm|gm|csf|wmv|gmv|csfv|tbv|tgmv|lvv)$|^total_?(gr[ae]y|white|brain)"
    r"|ventricle|^brain[-_]?stem$|^optic-chiasm$|surfaceholes|^cc_(anterior|posterior|central|mid)",
    re.IGNORECASE,
)
#: Settings of the acquisition.
ACQUISITION = re.compile(r"^dwi_tr|^coil$|^mt_tr$|scanner|acq_time", re.IGNORECASE)

#: Words that order the answers of a question, each from least to most.
ORDERED_WORDS = (
    ("low", "medium", "high"),
    ("never", "former", "current"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("none", "mild", "moderate", "severe"),
    ("poor", "fair", "good", "very good", "excellent"),
)


def table_named(name: str) -> KnownTable | None:
    """Return the known table of that name, or None."""
    return next((table for table in KNOWN_TABLES if table.name == name), None)


def identify(columns: set[str]) -> KnownTable | None:
    """Return the known table with these columns, or None."""
    written = set(map(plain, columns))
    return next(
        (table for table in KNOWN_TABLES if set(map(plain, table.signature)) <= written), None
    )


def is_sensitive(column: str) -> bool:
    """Tell whether a column (original or new name) holds answers no cohort should copy unasked."""
    reasons = (table.left_out.get(column, "") for table in KNOWN_TABLES)
    return bool(SENSITIVE.search(column)) or any(r.startswith("sensitive") for r in reasons)
