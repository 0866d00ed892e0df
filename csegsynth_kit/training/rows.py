"""Is a row of a tensor one participant's map, answers or volumes in disguise?"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor

from csegsynth_kit.constants import MEASURED, TISSUES
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.maps import average_pool, dequantize, most_likely
from csegsynth_kit.models.compact import log_shares

#: Correlation, apart from constant and mean, above which a row is a participant's, and above
#: which it resembles one too much.
SAME, ALIKE = 0.999, 0.98
#: Share of a participant's deviation from the mean that all rows together span, at most.
SPANNED = 0.998
#: Largest difference of numbers that are too few for a correlation to prove anything.
_EQUAL = 1e-4
#: Pairs of unrelated rows that may correlate so by chance, expected in one comparison.
_CHANCE = 1e-3
_PEOPLE, _ROWS = 32, 64


@dataclass(frozen=True)
class Reference:
    """One way to write down participants as rows.

    Args:
        kind: What the rows are, in words.
        length: Numbers per row.
        chunks: Gives (n, L) rows of the participants in order, each time it is called.
        is_map: Whether these are maps.
    """

    kind: str
    length: int
    chunks: Callable[[], Iterable[Tensor]]
    is_map: bool = False

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over participants, (L,) each."""
        total, squares, count = 0.0, 0.0, 0
        for chunk in self.chunks():
            total, squares = total + chunk.double().sum(0), squares + (chunk.double() ** 2).sum(0)
            count += len(chunk)
        mean = total / count
        return mean, (squares / count - mean**2).clamp(min=0).sqrt()

    @cached_property
    def basis(self) -> Tensor:
        """(L, 2) orthonormal: constant and mean."""
        mean, _ = self.moments
        return torch.linalg.qr(torch.stack([torch.ones_like(mean), mean], 1))[0]


@dataclass(frozen=True)
class Match:
    """A participant found in a tensor.

    Args:
        kind: Of the reference.
        participant: Its row.
        likeness: Correlation; 1 for equal numbers; or the share that all rows span.
        spanned: Whether it takes all rows of the tensor together.
    """

    kind: str
    participant: int
    likeness: float
    spanned: bool = False


def references(cohort: Cohort, features: Features | None) -> Iterator[Reference]:
    """List the rows that are looked for: maps in several forms, answers, volumes.

    Args:
        cohort: Training participants.
        features: As the model encodes answers; None if it takes none.
    """

    def of_maps(form: Callable[[Tensor], Tensor]) -> Callable[[], Iterator[Tensor]]:
        stored = np.load(cohort.path / "maps.npy", mmap_mode="r")
        parts = np.split(cohort.rows, range(_PEOPLE, len(cohort), _PEOPLE))
        return lambda: (form(dequantize(torch.from_numpy(stored[p]))).flatten(1) for p in parts)

    for kind, form in _forms(cohort.grid.shape).items():
        voxels = int(np.prod(cohort.grid.shape))
        length = form(torch.full((1, len(TISSUES), *cohort.grid.shape), 0.25)).numel()
        if length >= min(voxels, 8):
            yield Reference(kind, length, of_maps(form), is_map=True)
    tables = {"volumes (mL)": cohort.volumes.to_numpy(float)}
    sd = cohort.volumes.std().to_numpy()
    tables["standardized volumes"] = ((cohort.volumes - cohort.volumes.mean()) / sd).to_numpy()
    if features is not None:
        encoded = features.encode(cohort.table)
        filled = features.impute(encoded.values)
        tables["answers given to the model"] = features.inputs(encoded)
        tables["standardized answers"] = filled
        tables["answers"] = filled * features.sd + features.mean
    for kind, table in tables.items():
        rows = torch.from_numpy(np.array(table, np.float32))
        yield Reference(kind, rows.shape[1], lambda rows=rows: rows.split(_PEOPLE))


def _forms(shape: tuple[int, int, int]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the forms in which (n, T, X, Y, Z) maps may be hidden."""
    forms = {
        "map": lambda m: m,
        "map without background": lambda m: m[:, : len(MEASURED)],
        "log shares": log_shares,
        "tissue labels": lambda m: most_likely(m).float(),
    }
    forms |= {f"{t} map": lambda m, i=i: m[:, i] for i, t in enumerate(TISSUES)}
    for factor in (2, 4):
        if not any(n % factor for n in shape):
            forms |= {
                f"map pooled by {factor}": lambda m, f=factor: average_pool(m, f),
                f"log shares pooled by {factor}": lambda m, f=factor: log_shares(
                    average_pool(m, f)
                ),
            }
    return forms


def rows_of_length(tensor: Tensor, length: int) -> Iterator[Tensor]:
    """Yield the (R, L) matrices that a tensor is, read by its last or by its first axes.

    A tensor with one axis may hold several rows, one after another.
    """
    if tensor.dtype == torch.bool or not tensor.numel() or tensor.numel() % length:
        return
    tensor = tensor if tensor.is_floating_point() else tensor.float()  # Maps are kept in bytes.
    sizes = np.cumprod([1, *tensor.shape])
    if tensor.ndim == 1 or length in tensor.numel() // sizes:
        yield tensor.reshape(-1, length)
    if tensor.ndim > 1 and length in sizes[:-1]:
        yield tensor.reshape(length, -1).T


@dataclass(frozen=True)
class _Rows:
    """Rows of one tensor, ready for correlations.

    Args:
        name: Of the tensor.
        left: (R, L) beside constant and mean, of length 1.
        span: (L, R) orthonormal, where they are enough to span everybody; else None.
        alike: Smallest correlation that tells something.
    """

    name: str
    left: Tensor
    span: Tensor | None
    alike: float


def find(
    matrices: Iterable[tuple[str, Tensor]], reference: Reference, *, people: int
) -> Iterator[tuple[str, Match]]:
    """Look for participants among the rows of matrices.

    Scale, shift and the training mean do not matter where rows are long enough: both sides
    are compared by what is left beside constant and mean, as deviations and in units of each
    entry's standard deviation. Where so few numbers correlate by chance, they must be equal.
    Averages over many participants, such as means and principal components, pass; as many
    components as people do not, because then the components hold everybody's map exactly.

    Args:
        matrices: Names of tensors, and (R, L) of their rows.
        reference: Participants as rows of the same length.
        people: Number of participants.

    Yields:
        Names, and who was found there.
    """
    ready = []
    for name, rows in matrices:
        pairs = len(rows) * people
        if not _tells(SAME, reference.length, pairs):
            yield from ((name, match) for match in _equal(rows, reference))
            continue
        alike = ALIKE if _tells(ALIKE, reference.length, pairs) else SAME
        ready.append(_prepared(name, rows, reference, alike, people))
    ready = [rows for rows in ready if len(rows.left)]
    if not ready:
        return
    start, (mean, sd) = 0, reference.moments
    for chunk in reference.chunks():
        away = chunk.double() - mean
        forms = (away, torch.where(sd > 1e-6, away / sd.clamp(min=1e-6), 0.0))
        own = [_beside(form, reference.basis) for form in forms]
        for rows in ready:
            yield from ((rows.name, match) for match in _alike(rows, own, start, reference.kind))
        start += len(chunk)


def _prepared(name: str, rows: Tensor, reference: Reference, alike: float, people: int) -> _Rows:
    parts = [_beside(part.double(), reference.basis) for part in rows.split(_ROWS)]
    left = torch.cat(parts)
    left = left[left.abs().amax(1) > 0]
    spans = reference.is_map and max(2, people - 2) <= len(left) <= reference.length // 2
    return _Rows(name, left, torch.linalg.qr(left.T)[0] if spans else None, alike)


def _alike(rows: _Rows, own: Sequence[Tensor], start: int, kind: str) -> Iterator[Match]:
    """Compare rows with a few participants, given as deviations and as z-scores."""
    best = torch.stack([(form @ rows.left.T).abs().amax(1) for form in own]).amax(0)
    shares = torch.zeros_like(best)
    if rows.span is not None:
        shares = ((own[0] @ rows.span) ** 2).sum(1)
    for i, (likeness, share) in enumerate(zip(best.tolist(), shares.tolist(), strict=True)):
        if likeness > rows.alike:
            yield Match(kind, start + i, likeness)
        elif share > SPANNED:
            yield Match(kind, start + i, share, spanned=True)


def _tells(likeness: float, length: int, pairs: int) -> bool:
    """Whether unrelated rows of this length would hardly ever correlate so highly."""
    free = length - 3  # beside constant and mean
    return free > 1 and beta.sf(likeness**2, 0.5, (free - 1) / 2) * pairs < _CHANCE


def _equal(rows: Tensor, reference: Reference) -> Iterator[Match]:
    """Find rows with the same few numbers; all near 0 does not count."""
    rows = rows[rows[:, 0].argsort()]
    first, start = rows[:, 0].contiguous(), 0
    for chunk in reference.chunks():
        for i, row in enumerate(chunk):
            size = float(row.abs().max())
            limit = _EQUAL * max(1.0, size)
            ends = torch.searchsorted(first, torch.stack([row[0] - limit, row[0] + limit]))
            near = (rows[ends[0] : ends[1]] - row).abs().amax(1) <= limit
            if size > 100 * _EQUAL and bool(near.any()):
                yield Match(reference.kind, start + i, 1.0)
        start += len(chunk)


def _beside(rows: Tensor, basis: Tensor) -> Tensor:
    """Return float32 rows of length 1 without their part in ``basis``; 0 if nothing is left."""
    left = rows - (rows @ basis) @ basis.T
    size = left.norm(dim=1, keepdim=True)
    negligible = size <= 1e-6 * rows.norm(dim=1, keepdim=True)
    return torch.where(negligible, 0.0, left / size.clamp(min=1e-30)).float()
