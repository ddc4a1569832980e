"""Activations, each with its gradient."""

import numpy as np

from common.flat import Array


class Activation:
    """An elementwise function, tied to the memory of one layer so that no call allocates.

    Made with ``z``, ``a``: pre-activation and activation, which are the same memory unless ``needs_input``, and ``d``:
    gradient by ``a``. All are contiguous, of the same shape. ``tmp``: scratch memory of that shape.
    """

    needs_input = False
    """Whether ``backward`` reads the pre-activation; if not, ``a`` overwrites it."""
    keeps_one = False
    """Whether f(1) = 1: then a column of ones stays one."""

    def __init__(self, z: Array, a: Array, d: Array) -> None:
        self.z, self.a, self.d = z, a, d
        self.tmp = np.empty(z.shape, z.dtype)

    def forward(self) -> None:
        """Write f(z) into ``a``."""

    def backward(self) -> None:
        """Multiply ``d`` by f'(z). ``z`` may be overwritten, ``a`` may not: others may still read it."""


class Relu(Activation):
    """max(z, 0); the gradient at 0 is 0.

    The gradient works on bits: read as an integer, a float above 0 is above 0; its negative, shifted right by all bits
    but one, is a mask of ones, or of zeros where the number is 0. Comparing would make a bool array, and NumPy would
    convert it in a buffer of its own in every call.
    """

    keeps_one = True

    def __init__(self, z: Array, a: Array, d: Array) -> None:
        super().__init__(z, a, d)
        self.zeros = np.zeros(z.shape, z.dtype)  # NumPy compares two arrays 2.5 times as fast as array and number
        whole = np.dtype(f"i{z.itemsize}")
        self.a_bits, self.d_bits, self.mask = a.view(whole), d.view(whole), self.tmp.view(whole)
        self.shift = np.array(8 * z.itemsize - 1, whole)

    def forward(self) -> None:
        """Write max(z, 0)."""
        np.maximum(self.z, self.zeros, out=self.a)

    def backward(self) -> None:
        """Keep d where a > 0."""
        np.negative(self.a_bits, out=self.mask)
        np.right_shift(self.mask, self.shift, out=self.mask)
        np.bitwise_and(self.d_bits, self.mask, out=self.d_bits)


class Tanh(Activation):
    """tanh(z), f' = 1 - a^2."""

    def forward(self) -> None:
        """Write tanh(z)."""
        np.tanh(self.z, out=self.a)

    def backward(self) -> None:
        """Multiply d by 1 - a^2."""
        np.multiply(self.a, self.a, out=self.tmp)
        np.subtract(1, self.tmp, out=self.tmp)
        np.multiply(self.d, self.tmp, out=self.d)


class Sigmoid(Activation):
    """1 / (1 + exp(-z)), computed as (1 + tanh(z/2)) / 2, which cannot overflow; f' = a (1 - a)."""

    def forward(self) -> None:
        """Write the logistic function of z."""
        np.multiply(self.z, 0.5, out=self.a)
        np.tanh(self.a, out=self.a)
        np.multiply(self.a, 0.5, out=self.a)
        np.add(self.a, 0.5, out=self.a)

    def backward(self) -> None:
        """Multiply d by a (1 - a)."""
        np.subtract(1, self.a, out=self.tmp)
        np.multiply(self.tmp, self.a, out=self.tmp)
        np.multiply(self.d, self.tmp, out=self.d)


class Gelu(Activation):
    """z Phi(z) in the tanh form, z/2 (1 + t), t = tanh(c (z + k z^3)), c = sqrt(2/pi), k = 0.044715.

    Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2. NumPy has no erf for the exact form.
    """

    needs_input = True
    C = float(np.sqrt(2 / np.pi))
    K = 0.044715

    def __init__(self, z: Array, a: Array, d: Array) -> None:
        super().__init__(z, a, d)
        self.slope = np.empty(z.shape, z.dtype)

    def _t(self, out: Array) -> None:
        np.multiply(self.z, self.z, out=out)
        np.multiply(out, self.C * self.K, out=out)
        np.add(out, self.C, out=out)
        np.multiply(out, self.z, out=out)
        np.tanh(out, out=out)

    def forward(self) -> None:
        """Write z/2 (1 + t)."""
        self._t(self.a)
        np.add(self.a, 1, out=self.a)
        np.multiply(self.a, self.z, out=self.a)
        np.multiply(self.a, 0.5, out=self.a)

    def backward(self) -> None:
        """Multiply d by (1 + t)/2 + z/2 (1 - t^2) c (1 + 3 k z^2)."""
        z, t, slope = self.z, self.tmp, self.slope
        self._t(t)
        np.multiply(z, z, out=slope)
        np.multiply(slope, 3 * self.K * self.C, out=slope)
        np.add(slope, self.C, out=slope)
        np.multiply(slope, z, out=slope)  # c z (1 + 3 k z^2)
        np.multiply(slope, 0.5, out=slope)
        np.add(t, 1, out=t)  # 1 + t
        np.multiply(slope, t, out=slope)
        np.subtract(2, t, out=z)  # 1 - t, so that slope = z/2 (1 - t^2) c (...) after the next line
        np.multiply(slope, z, out=slope)
        np.multiply(t, 0.5, out=t)
        np.add(slope, t, out=slope)
        np.multiply(self.d, slope, out=self.d)


ACTIVATIONS: dict[str, type[Activation]] = {"relu": Relu, "tanh": Tanh, "sigmoid": Sigmoid, "gelu": Gelu}
