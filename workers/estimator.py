"""Estimators for scikit-learn that train on several ranks: ``from workers.estimator import Classifier, Regressor``."""

from workers.estimators.classifier import Classifier
from workers.estimators.loading import load
from workers.estimators.regressor import Regressor

__all__ = ["Classifier", "Regressor", "load"]
