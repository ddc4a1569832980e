"""The losses under the path that models written for version 0.1 import; new code imports ``common.nn.functional``."""

from common.nn.functional import LogisticCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy

__all__ = ["LogisticCrossEntropy", "MeanSquaredError", "SoftmaxCrossEntropy"]
