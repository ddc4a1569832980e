"""Builds a graph of ONNX: each call adds a node, and returns the name of what it gives."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from common.flat import Array

OPSET, OPSET_ML, IR = 17, 3, 8
"""Versions that ONNX Runtime knows since 1.12, of 2022."""
DOUBLE, FLOAT, INT64, TEXT, BOOL = (
    TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
)  # fmt: skip
TYPES = {"float32": FLOAT, "float64": DOUBLE}


class Graph:
    """Nodes, constants, inputs and outputs so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """Return a name that nothing has yet, as near to this one as there is."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def input(self, name: str, kind: int, width: int) -> str:
        """Add an input, (rows, width)."""
        self.inputs.append(helper.make_tensor_value_info(self.take(name), kind, ["rows", width]))
        return name

    def output(self, name: str, value: str, kind: int, width: int | None) -> None:
        """Name a value as an output, (rows, width) or (rows,)."""
        name = self.take(name)
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind, ["rows", *([] if width is None else [width])]))

    def constant(self, value: Any) -> str:
        """Add numbers, or an array of texts; return their name."""
        array = np.asarray(value)
        array = array.astype(object) if array.dtype.kind == "U" else np.ascontiguousarray(array)
        name = self.take(f"rankwise constant {len(self.constants)}")
        self.constants.append(numpy_helper.from_array(array.reshape(np.shape(value)), name))
        return name

    def node(self, operator: str, *inputs: "str | Array | np.generic", **attributes: Any) -> str:
        """Add a node of one output; numbers and arrays among its inputs become constants."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        made = self.take(f"rankwise value {len(self.nodes)}")
        self.nodes.append(helper.make_node(operator, names, [made], **attributes))
        return made

    def cast(self, value: str, kind: int) -> str:
        """Add a change of type."""
        return self.node("Cast", value, to=kind)

    def model(self, facts: dict[str, str]) -> Any:
        """Return the whole model, checked. ``facts``: what its metadata say."""
        from onnx import checker

        graph = helper.make_graph(self.nodes, "rankwise", self.inputs, self.outputs, self.constants)
        versions = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
        made = helper.make_model(graph, opset_imports=versions, producer_name="rankwise", ir_version=IR)
        helper.set_model_props(made, facts)
        checker.check_model(made, full_check=True)
        return made
