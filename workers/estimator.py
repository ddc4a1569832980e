"""Estimators for scikit-learn that train on several ranks: ``from workers.estimator import Classifier, Regressor``."""

try:
    import sklearn.utils.validation as _needed
except ImportError as error:
    raise ImportError(
        f"workers.estimator needs scikit-learn ({error}); pip install 'rankwise[sklearn]'", name=error.name
    ) from error
if not hasattr(_needed, "validate_data"):
    raise ImportError("workers.estimator needs scikit-learn 1.6 or newer; pip install --upgrade 'rankwise[sklearn]'")

from workers.estimators.classifier import Classifier
from workers.estimators.loading import load
from workers.estimators.regressor import Regressor

__all__ = ["Classifier", "Regressor", "load"]
