"""So much of PyTorch as the exported module calls, in NumPy, for environments without it; if it is there, itself."""

import contextlib
import importlib.util
import sys
import types
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open


class Tensor(np.ndarray):
    """An array with the methods of a tensor that are called."""

    def double(self) -> Any:
        return self.astype(np.float64)

    def to(self, dtype: Any) -> Any:
        return self.astype(dtype)


INSTALLED = importlib.util.find_spec("torch") is not None


def tensor(values: Any, dtype: Any = None) -> Any:
    """Return a tensor."""
    if INSTALLED:
        import torch  # type: ignore[import-not-found]

        return torch.tensor(values, dtype=dtype)
    return np.asarray(values, dtype).view(Tensor)


def array(values: Any) -> np.ndarray:
    """Return a tensor's values."""
    return np.asarray(values.detach() if INSTALLED else values)


class Module:
    """A part of a model."""

    def __call__(self, x: Any) -> Any:
        return self.forward(x)

    def forward(self, x: Any) -> Any:
        raise NotImplementedError

    def register_buffer(self, name: str, values: Any, *, persistent: bool) -> None:
        assert not persistent, "it would be part of the state"
        setattr(self, name, values)

    def eval(self) -> "Module":
        return self


class Linear(Module):
    """x W^T + b."""

    def __init__(self, n_in: int, n_out: int, dtype: Any) -> None:
        self.weight, self.bias = np.zeros((n_out, n_in), dtype), np.zeros(n_out, dtype)

    def forward(self, x: Any) -> Any:
        assert x.dtype == self.weight.dtype, "PyTorch does not multiply tensors of two types"
        return x @ self.weight.T + self.bias


class Sequential(Module):
    """Parts one after the other."""

    def __init__(self, *parts: Module) -> None:
        self.parts = parts

    def __getitem__(self, i: int) -> Module:
        return self.parts[i]

    def forward(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x

    def load_state_dict(self, state: dict[str, Any]) -> None:
        expected = {f"{i}.{name}": value for i, part in enumerate(self.parts) for name, value in vars(part).items()}
        assert state.keys() == expected.keys()
        for name, value in expected.items():
            assert (state[name].shape, state[name].dtype) == (value.shape, value.dtype)
            value[...] = state[name]


def activation(function: Any) -> Any:
    """Return the class of a part that has no parameters."""

    class Part(Module):
        def __init__(self, **_: str) -> None:
            pass

        def forward(self, x: Any) -> Any:
            return function(x)

    return Part


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def gelu(x: Any) -> Any:
    return x / 2 * (1 + np.tanh(float(np.sqrt(2 / np.pi)) * (x + 0.044715 * x**3)))


def softmax(x: Any, dim: int) -> Any:
    e = np.exp(x - x.max(axis=dim, keepdims=True))
    return e / e.sum(axis=dim, keepdims=True)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``import torch`` give this, unless PyTorch is installed."""
    if INSTALLED:
        return
    torch: Any = types.ModuleType("torch")
    torch.nn = types.SimpleNamespace(
        Module=Module, Sequential=Sequential, Linear=Linear, ReLU=activation(lambda x: np.maximum(x, 0)),
        Tanh=activation(np.tanh), Sigmoid=activation(sigmoid), GELU=activation(gelu),
    )  # fmt: skip
    torch.float32, torch.float64 = np.dtype("float32"), np.dtype("float64")
    torch.tensor, torch.isnan = tensor, np.isnan
    torch.softmax, torch.sigmoid, torch.no_grad = softmax, sigmoid, contextlib.nullcontext
    torch.where = lambda condition, a, b: np.asarray(np.where(condition, a, b)).view(Tensor)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr("safetensors.safe_open", lambda path, framework: safe_open(path, "np" if framework else ""))
