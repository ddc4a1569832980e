"""What formats that hold texts say of a model beside its weights: how rows are scaled, and what outputs mean."""

import json

from common.nn.model_file import ModelFile
from workers.exporting.network import Network


def metadata(model: ModelFile, layers: Network) -> dict[str, str]:
    """Return texts by name, all JSON but for ``format``.

    ``x_kept``: places of the features that are used; where one is missing ``x_fill`` stands for it; then
    (x - x_mean) / x_scale. ``outputs``: softmax, sigmoid, or numbers, which are times y_scale plus y_mean.
    """
    facts = model.facts
    values = {
        "rankwise": dict(facts.versions), "task": facts.task, "activation": layers.activation,
        "outputs": layers.outputs, "targets": model.target_names, "features": list(facts.features),
        "preprocessing": facts.preprocessing.as_dict() if facts.preprocessing is not None else None,
        "n_features": model.n_features, "x_kept": model.x_kept.tolist(), "x_fill": model.x_fill.tolist(),
        "x_mean": model.x_mean.tolist(), "x_scale": model.x_scale.tolist(), "labels": model.labels.tolist(),
        "y_mean": model.y_mean.tolist(), "y_scale": model.y_scale.tolist(),
    }  # fmt: skip
    return {"format": "pt", **{name: json.dumps(value) for name, value in values.items()}}
