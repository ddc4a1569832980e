"""A built-in model as other programs know it: layers, what stands between them, and what the last outputs mean."""

from dataclasses import dataclass

from common.data.target import CLASSES, LABELS
from common.errors import ConfigError
from common.flat import Array
from common.nn.functional import LogisticCrossEntropy
from common.nn.mlp import Mlp
from common.nn.model_file import ModelFile

SIGMOID, SOFTMAX, NUMBERS = "sigmoid", "softmax", "numbers"
"""What becomes of outputs: each a probability; of all one; numbers that are brought to the target's unit."""


@dataclass(frozen=True, slots=True)
class Network:
    """``layers``: weights (n_in, n_out) and bias (n_out,) of each; ``activation``: between them."""

    layers: list[tuple[Array, Array]]
    activation: str
    outputs: str

    @property
    def hidden(self) -> tuple[int, ...]:
        """Sizes of the hidden layers."""
        return tuple(len(bias) for _, bias in self.layers[:-1])


def network(model: ModelFile, what: str) -> Network:
    """Return the layers of a model. Raises ConfigError for a class of one's own. ``what``: the format, for that."""
    if not isinstance(model.model, Mlp):
        raise ConfigError(
            f"{what}: {model.facts.model['name']} is a class of your own, whose layers are not known here; its "
            f"parameters are arrays of {model.path}, by their names"
        )
    layers = [(model.parameters[w], model.parameters[b]) for w, b in model.model.layers]
    if model.facts.task == LABELS or isinstance(model.model.loss, LogisticCrossEntropy):
        outputs = SIGMOID
    else:
        outputs = SOFTMAX if model.facts.task == CLASSES else NUMBERS
    return Network(layers, model.model.activation_name, outputs)
