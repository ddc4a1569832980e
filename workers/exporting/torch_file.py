"""Writes the weights as safetensors, and beside them a module of Python that makes a PyTorch model of them."""

from pathlib import Path

from common.files import write_bytes
from common.nn.model_file import ModelFile
from workers.exporting.network import NUMBERS, SIGMOID, SOFTMAX, Network, network
from workers.exporting.safetensors_file import write_safetensors

ACTIVATIONS = {"relu": "ReLU()", "tanh": "Tanh()", "sigmoid": "Sigmoid()", "gelu": 'GELU(approximate="tanh")'}
AFTER = {
    SOFTMAX: "return torch.softmax(outputs, dim=1)",
    SIGMOID: "return torch.sigmoid(outputs)",
    NUMBERS: "return outputs.double() * self.y_scale + self.y_mean",
}
MEANS = {
    SOFTMAX: "the probability of each of self.labels",
    SIGMOID: "the probability of self.labels[1], or of each of self.targets where a row has several labels",
    NUMBERS: "the target in its own unit",
}
MODULE = '''"""A model trained by rankwise: {shape}. Needs torch and safetensors.

model = load(); model(x) gives {means}. x: (rows, {n_features}), NaN where a feature is
missing; in float64 if its numbers are large.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

WEIGHTS = Path(__file__).with_name({weights!r})


class Model(nn.Module):
    """Rows as they come, scaled as they were in training, through the layers."""

    def __init__(self, facts):
        super().__init__()
        self.layers = nn.Sequential(
{layers}
        )
        self.labels, self.targets = facts["labels"], facts["targets"]
        self.register_buffer("x_kept", torch.tensor(facts["x_kept"]), persistent=False)
        for name in ("x_fill", "x_mean", "x_scale", "y_mean", "y_scale"):
            self.register_buffer(name, torch.tensor(facts[name], dtype=torch.float64), persistent=False)

    def forward(self, x):
        x = x.double()[:, self.x_kept]
        x = torch.where(torch.isnan(x), self.x_fill, x)
        outputs = self.layers(((x - self.x_mean) / self.x_scale).to(self.layers[0].weight.dtype))
        {after}


def load(path=WEIGHTS):
    """Return the trained model, ready to predict."""
    with safe_open(path, framework="pt") as file:
        facts = {{name: json.loads(text) for name, text in file.metadata().items() if name != "format"}}
        state = {{name: file.get_tensor(name) for name in file.keys()}}
    model = Model(facts)
    model.layers.load_state_dict(state)
    return model.eval()
'''


def write_torch(model: ModelFile, path: Path) -> list[str]:
    """Write both files; return them. ``path``: of the module. Raises ConfigError and OSError."""
    layers = network(model, "torch")
    weights = path.with_suffix(".safetensors")
    write_safetensors(model, weights)
    write_bytes(path, _module(model, layers, weights.name).encode())
    return [str(path), str(weights)]


def _module(model: ModelFile, layers: Network, weights: str) -> str:
    lines, dtype = [], model.facts.dtype
    for i, (matrix, _) in enumerate(layers.layers):
        lines += [f"nn.{ACTIVATIONS[layers.activation]}"] if i else []
        lines.append(f"nn.Linear({matrix.shape[0]}, {matrix.shape[1]}, dtype=torch.{dtype})")
    sizes = [len(layers.layers[0][0]), *(len(bias) for _, bias in layers.layers)]
    return MODULE.format(
        shape="-".join(map(str, sizes)), means=MEANS[layers.outputs], n_features=model.n_features,
        weights=weights, layers="\n".join(f"            {line}," for line in lines), after=AFTER[layers.outputs],
    )  # fmt: skip
