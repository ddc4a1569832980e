"""Writes the weights as safetensors, named and shaped as the state_dict of a ``torch.nn.Sequential``."""

from pathlib import Path

import numpy as np

from common.files import write_bytes
from common.flat import Array
from common.nn.model_file import ModelFile
from workers.exporting.facts import metadata
from workers.exporting.network import Network, network


def state(layers: Network) -> dict[str, Array]:
    """Return ``0.weight`` (n_out, n_in), ``0.bias``, ``2.weight``, ...: between them are activations, without any."""
    tensors: dict[str, Array] = {}
    for i, (weights, bias) in enumerate(layers.layers):
        # contiguous: safetensors writes the memory of a transposed view in the wrong order
        tensors |= {f"{2 * i}.weight": np.ascontiguousarray(weights.T), f"{2 * i}.bias": np.ascontiguousarray(bias)}
    return tensors


def write_safetensors(model: ModelFile, path: Path) -> list[str]:
    """Write the file; return the files. Raises ConfigError and OSError."""
    from safetensors.numpy import save

    layers = network(model, "safetensors")
    write_bytes(path, save(state(layers), metadata(model, layers)))
    return [str(path)]
