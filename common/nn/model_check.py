"""Tries a model on a few rows before training: what it writes, what it returns, and whether its gradient is right.

All of it happens in memory of the check's own, so that training begins as it would without.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import ConfigError
from common.flat import Flat
from common.nn import gradient_check
from common.nn.mlp import Mlp
from common.nn.model_trial import ModelTrial, TrialRows, place
from common.nn.models import Model

LASTS_S = 0.7
"""No further derivative is taken after so long."""
SLOW_S = 0.1
"""A step that takes longer is not taken again to see whether it comes out the same."""
FEW_ROWS, MANY_ROWS_S = 2, 0.25
"""Derivatives are of so few rows where the step and its loss took longer: they take some three times as long again."""
MOST_PARAMETERS = 1 << 22
"""Of larger models only the step is tried: copies and derivatives would take too long."""
FLOAT64_PARAMETERS = 1 << 21
"""Up to so many, derivatives are taken in float64, in which small mistakes are seen."""
SAME = {"float32": 1e-3, "float64": 1e-5}
"""Relative difference allowed between two ways to add up a loss, by the dtype of training."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``derivatives``: how many agreed with the gradient; ``seconds``: what the check took."""

    derivatives: int
    seconds: float


class _OtherDtypeError(Exception):
    """The model computes in the dtype of training only."""


class ModelCheck:
    """A model's first step, from all sides.

    ``make``: makes the model, which is not the one that is trained: what it keeps from here, that one must not have.
    ``fill``: writes starting parameters into a Flat, and says whether random numbers were drawn.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Model | Mlp],
        fill: Callable[[Model | Mlp, Flat], bool],
        rows: TrialRows,
        dtype: str,
    ) -> None:
        """``dtype``: of training. Raises what ``make`` raises."""
        self.make, self.fill, self.rows, self.dtype = make, fill, rows, np.dtype(dtype)
        self._random = np.random.get_state(), random.getstate()  # of models that draw from them
        self.trial = ModelTrial(name, make())
        self._earlier = (math.nan, math.nan)
        """The two losses compared last, of other parameters."""

    def run(self, n_outputs: int, *, none_too: bool) -> CheckResult:
        """Check. Raises ConfigError. ``n_outputs``: see BatchLoader. ``none_too``: in some steps a rank has no rows."""
        began, trial = time.perf_counter(), self.trial
        try:
            with np.errstate(all="ignore"):
                flat = Flat(trial.model.shapes(), self.dtype)
                rows = self.rows.of_dtype(self.dtype)
                self._start(flat)
                trial.encode(flat, rows, n_outputs)
                self._step(flat, rows)
                if rows.weight is not None:
                    self._weights(flat, rows)
                if none_too:
                    self._no_rows(flat, rows)
                if time.perf_counter() - began > MANY_ROWS_S:
                    self.rows = self.rows.first(FEW_ROWS)
                count = self._derivatives(flat, began + LASTS_S) if flat.n <= MOST_PARAMETERS else 0
        finally:
            np.random.set_state(self._random[0])
            random.setstate(self._random[1])
        return CheckResult(count, time.perf_counter() - began)

    def _start(self, flat: Flat) -> None:
        """Fill the parameters and look at them."""
        drawn = self.trial.attempt("init()", lambda: self.fill(self.trial.model, flat))
        for name, view in flat.params.items():
            if (wrong := ~np.isfinite(view)).any():
                raise self.trial.error(
                    f"init() leaves {place(name, wrong)} = {view[wrong][0]}; training starts from finite numbers"
                )
        if drawn and not flat.param_vector.any():
            raise self.trial.error(
                "init() drew random numbers, but every parameter is 0 after it; write them into the arrays that it "
                f"gets: params[{flat.names[0]!r}][...] = value"
            )

    def _step(self, flat: Flat, rows: TrialRows) -> None:
        """Take the step that training begins with, twice."""
        began = time.perf_counter()
        value = self._first_step(flat, rows)
        again = time.perf_counter() - began < SLOW_S
        if again:
            self._again(flat, rows, value)
        self._compare_loss(rows, value, self.trial.loss(flat, rows))
        matrices = {name: view for name, view in flat.params.items() if view.ndim > 1}
        zeros = [name for name, view in matrices.items() if not view.any()]
        moved = any(flat.grads[name].any() for name in matrices)
        if zeros and not moved and value and rows.x.any():
            raise self.trial.error(
                f"init() leaves {', '.join(zeros)} at 0, where the gradient of every matrix is 0 too, so that training "
                f"cannot begin; write random numbers: params[{zeros[0]!r}][...] = 0.1 * rng.standard_normal(...)",
                meant=True,
            )

    def _first_step(self, flat: Flat, rows: TrialRows) -> float:
        """Compute a gradient in memory that holds none yet; return the loss."""
        flat.grad_vector.fill(np.nan)
        value = self.trial.loss_grad(flat, rows)
        for name, view in flat.grads.items():
            if not np.isfinite(view).all():
                raise self._unwritten(flat, rows, name)
        if not math.isfinite(value):
            raise self.trial.error(f"loss_grad() returns {value} on {len(rows.x)} rows at the start")
        return value

    def _unwritten(self, flat: Flat, rows: TrialRows, name: str) -> ConfigError:
        """Return what is wrong with a gradient that is NaN where NaN was before."""
        found = []
        for before in (0.0, 1.0):
            flat.grad_vector.fill(before)
            self.trial.loss_grad(flat, rows)
            found.append(flat.grads[name].copy())
        zero, one = found
        called, right = f"grads[{name!r}]", f"write all of it in each call: grads[{name!r}][...] = value"
        if (wrong := ~np.isfinite(zero)).any():
            return self.trial.error(f"loss_grad() writes {zero[wrong][0]} to {place(called, wrong)} at the start")
        kept = (zero == 0) & (one == 1)
        if kept.all():
            return self.trial.error(
                f"loss_grad() does not write {called}, or writes it into another array, such as one that it keeps from "
                f"an earlier call; {right}"
            )
        if (zero == one).any():
            return self.trial.error(
                f"loss_grad() does not write {place(called, kept)}, where the last step's number would stay; {right}"
            )
        return self.trial.error(f"loss_grad() adds to {called}, which holds the last step's gradient; {right}")

    def _compare_loss(self, rows: TrialRows, value: float, other: float) -> None:
        """Compare the loss that ``loss_grad`` returned with ``other``, that of what ``predict`` returned."""
        n, allowed = len(rows.x), SAME[self.dtype.name]
        earlier, self._earlier = self._earlier, (value, other)
        rounding = 8 * n * float(np.finfo(self.dtype).eps) * max(1.0, self.trial.largest)
        if math.isclose(value, other, rel_tol=allowed, abs_tol=rounding):
            return
        hint = (
            "both are the sum of the rows' losses and nothing else: no L2 penalty (for that there is --weight-decay), "
            "no random numbers, no averages of earlier calls"
        )
        for method, now, then in (("loss_grad()", value, earlier[0]), ("predict()", other, earlier[1])):
            if math.isclose(now, then, rel_tol=allowed):  # though the parameters are others
                hint = f"does {method} take params as they are given, and not from an array kept from an earlier call?"
        if math.isclose(value * n, other, rel_tol=1e-2):
            hint = f"the first is 1/{n} of it: let loss_grad() return the sum over the rows, not their mean"
        elif math.isclose(value, other * n, rel_tol=1e-2):
            hint = f"that is 1/{n} of the first: let loss.sum() return the sum over the rows, not their mean"
        raise self.trial.error(
            f"loss_grad() returns {value:.6g} for {n} rows, and loss.sum(predict(params, x), y) {other:.6g}; {hint}",
            meant=True,
        )

    def _again(self, flat: Flat, rows: TrialRows, value: float) -> None:
        """Take the same step again: it must come out the same."""
        gradient = flat.grad_vector.copy()
        allowed, again = SAME[self.dtype.name], self.trial.loss_grad(flat, rows)
        hint = "a step depends on params, x and y alone: keep nothing from call to call, and draw nothing at random"
        if not abs(again - value) <= allowed * max(abs(value), abs(again)):
            raise self.trial.error(
                f"loss_grad() returns {value:.6g}, and {again:.6g} when it is called again alike; {hint}",
                meant=True,
            )
        most = allowed * float(np.abs(gradient).max())
        for name, view in flat.grads.items():
            before = gradient[flat.slices[name]].reshape(view.shape)
            if (off := ~(np.abs(view - before) <= most)).any():
                raise self.trial.error(
                    f"loss_grad() writes {before[off][0]:.6g} to {place(f'grads[{name!r}]', off)}, and "
                    f"{view[off][0]:.6g} when it is called again alike; {hint}",
                    meant=True,
                )

    def _weights(self, flat: Flat, rows: TrialRows) -> None:
        """Look whether rows of other weights have another loss."""
        weighted, plain = (self.trial.loss(flat, some) for some in (rows, rows.unweighted))
        if plain and math.isclose(weighted, plain, rel_tol=SAME[self.dtype.name]):
            raise self.trial.error(
                f"loss.sum() is {plain:.6g} with weights and without; a row of weight 2 counts as two rows"
            )

    def _no_rows(self, flat: Flat, rows: TrialRows) -> None:
        """Take a step without rows."""
        flat.grad_vector.fill(np.nan)
        value = self.trial.loss_grad(flat, rows.first(0))
        wrong = [f"grads[{name!r}] is not 0" for name, view in flat.grads.items() if view.any()]
        if value != 0:
            wrong = [f"it returns {value:.6g}"]
        if wrong:
            raise self.trial.error(
                f"loss_grad() of no rows: {wrong[0]}; with this batch size a rank may have none in a step; then its "
                "loss is 0, and 0 must be written to all of its gradient"
            )

    def _derivatives(self, start: Flat, until: float) -> int:
        """Compare the gradient with numeric derivatives; return how many agreed."""
        wide = np.dtype(np.float64) if start.n <= FLOAT64_PARAMETERS else start.dtype
        try:
            return self._derivatives_in(wide, start, until)
        except _OtherDtypeError:
            return self._derivatives_in(start.dtype, start, until)

    def _derivatives_in(self, dtype: np.dtype[Any], start: Flat, until: float) -> int:
        """Do so in a dtype, next to the starting point, and in other memory, which a model that keeps arrays misses."""
        trial = self.trial
        if isinstance(trial.model, Mlp):
            trial.model = self.make()  # the scratch memory of its ``predict`` has the dtype of the first call
        flat, rows = Flat(start.shapes, dtype), self.rows.of_dtype(dtype)
        rng = np.random.default_rng(0)
        flat.param_vector[...] = start.param_vector
        gradient_check.leave_start(flat, rng)
        flat.grad_vector.fill(np.nan)
        try:
            value, other = trial.loss_grad(flat, rows), trial.loss(flat, rows)
        except ConfigError:
            if dtype == start.dtype:
                raise
            raise _OtherDtypeError from None
        if not (np.isfinite([value, other]).all() and np.isfinite(flat.grad_vector).all()):
            flat.param_vector[...] = start.param_vector  # the model is made for numbers like those it starts from
            value, other = self._first_step(flat, rows), trial.loss(flat, rows)
        self._compare_loss(rows, value, other)
        return gradient_check.compare(trial, flat, rows, rng, other, until)
