"""How features are scaled, which of them are used, and what stands for a missing number: fitted to training rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.data.moments import Of
from common.data.scaling import check_deviation, digits_note, is_constant, loses_digits
from common.errors import DataError
from common.flat import Array
from common.wording import count

FEWEST_OTHER = 0.01
"""A column counts as if at least this share of the training rows differed from its usual value, so that rows that do
are some 10 scales away from it at most. Tried on MNIST and on columns with heavy tails: docs/data.md."""
FEWEST_BYTES = 64
"""Columns of bytes that are taken for a picture or the like, and so have one scale; it is 8 x 8."""
ABOVE_COUNTS = 16
"""The largest number of bytes goes beyond this; else they may be counts or grades, which are scaled each by itself."""
MODERATE = 1e15
"""Differences and quotients of such numbers are in the range of float32."""
LISTED = 8


@dataclass(frozen=True, slots=True)
class Scaling:
    """From features as read to those that a model takes: ``kept``, then ``fill``, then (x - mean) / scale.

    ``mean``, ``scale``: (used features,) in float64. ``fill``: the same, what stands for a missing number; None where
    none may be missing. ``kept``: (used features,) int64, their places in the data; None: all are used.
    ``n_features``: of the data.
    """

    n_features: int
    mean: Array
    scale: Array
    fill: Array | None = None
    kept: Array | None = None

    @classmethod
    def plain(cls, n: int) -> "Scaling":
        """Return one that leaves ``n`` features as they are."""
        return cls(n, np.zeros(n), np.ones(n))

    def arrays(self) -> dict[str, Array]:
        """Return it as ``model.npz`` and checkpoints have it."""
        found = {"x_mean": self.mean, "x_scale": self.scale, "x_fill": self.fill, "x_kept": self.kept}
        return {name: array for name, array in found.items() if array is not None}

    @classmethod
    def given(cls, name: str, arrays: Mapping[str, Array], n: int) -> "Scaling":
        """Return what ``arrays`` said, for data of ``n`` features. Raises DataError if it cannot be of such data.

        Files of earlier versions have no ``x_fill``: the mean stands for a missing number then.
        """
        kept = arrays.get("x_kept")
        if kept is None:
            used = n
        else:
            kept, used = np.asarray(kept, np.int64), len(kept)
            if kept.ndim != 1 or (np.diff(kept) <= 0).any() or (used and not (kept[0] >= 0 and kept[-1] < n)):
                raise DataError(
                    f"{name}: {count(n, 'feature')}, but the parameters to start from were trained on data of more"
                )
        mean = np.asarray(arrays.get("x_mean", np.zeros(used)), np.float64)
        scale = np.asarray(arrays.get("x_scale", np.ones(used)), np.float64)
        fill = np.asarray(arrays.get("x_fill", mean), np.float64)
        if not mean.shape == scale.shape == fill.shape == (used,):
            raise DataError(
                f"{name}: {count(used, 'feature')}, but the parameters to start from were trained on {mean.size}"
            )
        if not (np.isfinite([mean, scale, fill]).all() and scale.all()):
            raise DataError(f"{name}: the parameters to start from come with a scaling that is not finite, or 0")
        return cls(n, mean, scale, fill if "x_fill" in arrays else None, kept)


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of the columns of features before they are scaled.

    ``moments``: see ``common.data.moments.Of``. ``names``: of the columns, or nothing. ``is_table``: whether they came
    from the columns of a table, and ``standardized``: which of them are scaled then. ``is_uint8``: how they are stored.
    """

    where: str
    moments: Array
    names: list[str]
    standardized: Array | None = None
    is_uint8: bool = False

    @property
    def is_table(self) -> bool:
        """Whether features may be left out; not those of an array, whose places a model of one's own may know."""
        return self.standardized is not None

    def deviation(self) -> Array:
        """Return the deviation of each column."""
        with np.errstate(all="ignore"):
            deviation = np.sqrt(
                self.moments[Of.SQUARES] / np.where(self.moments[Of.COUNT] > 0, self.moments[Of.COUNT], 1)
            )
        return np.asarray(deviation)

    def fit(self, usual: Array, *, standardize: bool) -> tuple[Scaling, list[str]]:
        """Return the scaling, and sentences on what is not plain about it. Raises DataError.

        ``usual``: the value of each column that most training rows have, if most have one.
        """
        moments, deviation = self.moments, self.deviation()
        if standardize:
            check_deviation(self.where, deviation)
        mean, n = moments[Of.MEAN], len(deviation)
        constant = is_constant(deviation, mean) | (moments[Of.HIGH] <= moments[Of.LOW]) | (moments[Of.COUNT] == 0)
        notes, scale = [], np.ones(n)
        chosen = np.full(n, standardize) if self.standardized is None else self.standardized & standardize
        if standardize and self._are_bytes():
            mean, deviation = self._of_all()
            scale, whole = np.where(is_constant(deviation, mean), 1.0, deviation), moments[Of.BYTES].all()
            range_ = "whole numbers from 0 to 255" if whole else "from 0 to 1 by 255ths"
            notes.append(
                f"Features: {n} columns of bytes ({range_}) are scaled as one, by mean {mean[0]:.6g} and deviation "
                f"{deviation[0]:.6g}."
            )
        else:
            scale = np.where(constant, 1.0, np.maximum(deviation, self._least_scale(usual)))
        scaling = Scaling(n, np.where(chosen, mean, 0.0), np.where(chosen, scale, 1.0))
        if not self.is_table:
            return scaling, notes
        scaling = replace(scaling, fill=np.where(moments[Of.COUNT] > 0, moments[Of.MEAN], 0.0))
        return self._without(scaling, constant, notes)

    def _without(self, scaling: Scaling, constant: Array, notes: list[str]) -> tuple[Scaling, list[str]]:
        """Return the scaling of what varies, and what is to be said of the rest."""
        if not constant.any():
            return scaling, notes
        kept = np.flatnonzero(~constant)
        if not len(kept):
            raise DataError(
                f"{self.where}: every feature is the same in all training rows, so there is nothing to learn from; "
                "give other columns, or lower --test-fraction and --validation-fraction"
            )
        out = np.flatnonzero(constant)
        named = [repr(self.names[i]) if self.names else str(i) for i in out[:LISTED]] + ["..."] * (len(out) > LISTED)
        notes.append(
            f"{count(len(out), 'feature')} {'is' if len(out) == 1 else 'are'} left out, the same in all training rows: "
            f"{', '.join(named)}."
        )
        fill = None if scaling.fill is None else scaling.fill[kept]
        return Scaling(scaling.n_features, scaling.mean[kept], scaling.scale[kept], fill, kept), notes

    def _are_bytes(self) -> bool:
        """Say whether the columns are bytes that have one scale, as the points of a picture."""
        moments = self.moments
        if moments[Of.PARTS].all() and not moments[Of.BYTES].all() and moments.shape[1] >= FEWEST_BYTES:
            return self.standardized is None or bool(self.standardized.all())
        if not moments[Of.BYTES].all() or (self.standardized is not None and not self.standardized.all()):
            return False
        beyond = moments[Of.HIGH] > ABOVE_COUNTS
        if moments.shape[1] >= FEWEST_BYTES:
            return bool(beyond.any())
        varies = moments[Of.HIGH] > moments[Of.LOW]
        return self.is_uint8 and not self.is_table and bool(varies.any()) and bool(beyond[varies].all())

    def _of_all(self) -> tuple[Array, Array]:
        """Return mean and deviation over the numbers of all columns, for each column."""
        moments, n = self.moments, self.moments.shape[1]
        weight = moments[Of.COUNT] / moments[Of.COUNT].sum()
        mean = float((weight * moments[Of.MEAN]).sum())
        between = float((weight * np.square(moments[Of.MEAN] - mean)).sum())
        within = float(moments[Of.SQUARES].sum() / moments[Of.COUNT].sum())
        return np.full(n, mean), np.full(n, np.sqrt(within + between))

    def _least_scale(self, usual: Array) -> Array:
        """Return the scale that a column has at least: its deviation if FEWEST_OTHER of the rows were unusual."""
        moments = self.moments
        other = moments[Of.COUNT] - moments[Of.USUAL]
        with np.errstate(all="ignore"):
            about_usual = moments[Of.SQUARES] + moments[Of.COUNT] * np.square(moments[Of.MEAN] - usual)
            of_other = np.sqrt(about_usual / np.where(other > 0, other, 1))
            least = of_other * np.sqrt(FEWEST_OTHER * (1 - FEWEST_OTHER))
        rare = (other > 0) & (other < FEWEST_OTHER * moments[Of.COUNT])
        return np.where(rare & np.isfinite(least), least, 0.0)

    def check(self, scaling: Scaling, dtype: np.dtype[Any]) -> None:
        """Raise DataError if a number of any split, once scaled, is too large for ``dtype``."""
        extremes = self.moments[[Of.LOWEST, Of.HIGHEST]]
        extremes = extremes if scaling.kept is None else extremes[:, scaling.kept]
        known = extremes[0] <= extremes[1]  # a column without any number has none
        with np.errstate(all="ignore"):
            scaled = ((extremes - scaling.mean) / scaling.scale).astype(dtype)
        if not np.isfinite(scaled[:, known]).all():
            remedy = "use --dtype float64 or scale them" if dtype == np.float32 else "scale them"
            raise DataError(f"{self.where} holds numbers too large for {dtype}; {remedy}")

    def are_moderate(self, scaling: Scaling) -> bool:
        """Say whether all numbers, means and scales are far from the limits of float32."""
        extremes = np.abs(self.moments[[Of.LOWEST, Of.HIGHEST]])
        largest = max(float(extremes[np.isfinite(extremes)].max(initial=0)), float(np.abs(scaling.mean).max()))
        return largest < MODERATE and bool(((scaling.scale > 1 / MODERATE) & (scaling.scale < MODERATE)).all())

    def note_on_digits(self, stored: np.dtype[Any], dtype: np.dtype[Any]) -> list[str]:
        """Warn of the first column whose values run together when it is cast to ``dtype`` as it is, if there is one."""
        if not loses_digits(stored, dtype):
            return []
        return digits_note(self.where, (self.moments[Of.MEAN], self.deviation()), "--no-standardize")
