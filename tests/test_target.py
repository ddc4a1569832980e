"""Targets: classes or numbers, and which labels become which classes."""

import re
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from common.config import RunConfig
from common.data.dataset import Dataset, Raw, check
from common.data.target import decide
from common.data.training_features import scale_alone
from common.errors import DataError
from ps.findings.loss_stalled import LossStalled

RNG = np.random.default_rng(4)
X = RNG.standard_normal((90, 3))
LABELS = np.arange(90) % 3


def task(y: Any, **options: Any) -> bool:
    """Say whether a target is taken for classes."""
    return decide(RunConfig(**options), "data", np.asarray(y)).classes


def dataset(y: Any, *test: Any, **options: Any) -> Dataset:
    return check(Raw("data", X[: len(y)], np.asarray(y), (X[: len(test[0])], np.asarray(test[0])) if test else None),
                 RunConfig(**options))  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "uint64", "float16"])
def test_values_decide_and_not_their_type(dtype: str) -> None:
    assert task(LABELS.astype(dtype))
    assert task(LABELS.astype(dtype)[:, None])
    assert task(np.arange(90).astype(dtype) % 2)
    assert not task(np.arange(90).astype(dtype))


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (load_wine().target, True),
        (load_iris().target.astype(float), True),
        (load_breast_cancer().target, True),
        (load_diabetes().target, False),  # 214 different whole numbers in 442 rows
        (np.array([True, False, True]), True),
        (np.array([1, 5, 300] * 4), True),
        (np.array([0.0, 255.0] * 9), True),
        (np.array([-1, 1, 1]), True),
        (np.array([50_000, 443_000, 97_500, 120_000, 61_250] * 1), False),
        (np.arange(20_000) // 50 * 1000 + 50_000, False),  # prices in thousands: 400 different, 50 rows each
        (np.arange(400) % 40, True),  # a face each, ten rows a face
        (np.arange(400) % 40 + 1, True),
        (np.arange(400) % 40 + 18, False),  # ages
        (np.arange(390) % 40, False),
        (np.arange(500) % 100, False),
        (np.array([0.0, 0.5] * 20), False),
        (np.array([0.0, 2.0**60] * 20), False),
        (LABELS[:, None] * [1, 1], False),
    ],
)
def test_few_whole_numbers_are_classes(y: np.ndarray, classes: bool) -> None:
    assert task(y) == classes


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({"loss": "mse"}, False),
        ({"model": "linear"}, False),
        ({"loss": "cross-entropy"}, True),
        ({"model": "softmax"}, True),
        ({"model": "logistic"}, True),
    ],
)
def test_an_option_decides_otherwise_and_is_named(options: dict[str, str], classes: bool) -> None:
    (name, value), *_ = options.items()
    for y in (LABELS, np.arange(90)):
        decision = decide(RunConfig(**options), "data", y)  # type: ignore[arg-type]
        assert decision.classes == classes
        assert decision.note.endswith(f"because of --{name} {value}.")


@pytest.mark.parametrize(
    ("y", "note"),
    [
        (LABELS, "Task: classes, because the target has 3 different whole numbers in 90 rows; --loss mse trains a"),
        (np.arange(90), "Task: regression, because .* 90 different whole numbers .*too many .*; classes need two rows"),
        (np.arange(90) // 2, "Task: regression, because .* 45 .*, too many for labels; --loss cross-entropy trains"),
        (X[:, 0], "Task: regression, because the target has fractions .* in row 0"),
        (LABELS * 2.0**60, "Task: regression, because .* 90 rows, and labels lie within"),
        (X, "Task: regression, because the target has 3 columns"),
        (
            np.eye(3)[LABELS],
            "3 columns; .* look like one-hot classes: to train classes, save the label of each row as y",
        ),
    ],
)
def test_what_was_decided_is_said(y: np.ndarray, note: str) -> None:
    assert re.search(note, dataset(y).notes[0])


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([0, 1, 2], ""),
        ([1, 5, 300], "Labels 1, 5, 300 are the classes 0 to 2 of the model, in this order"),
        ([0, 255], "Labels 0, 255 are the classes 0 to 1"),
        ([1, 2], "Labels 1, 2 are the classes 0 to 1"),
        ([-1, 1], "Labels -1, 1 are the classes 0 to 1"),
        ([0.0, 1.0, 3.0], "No row has the label 2: the model has outputs for the 3 labels that occur."),
        ([*range(30, 40)], r"Labels 30, 31, 32, 33, 34, 35, 36, \.\.\. 39 are the classes 0 to 9"),
    ],
)
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_labels_are_mapped_in_order(labels: list[float], note: str, dtype: str) -> None:
    data = dataset(np.resize(labels, 90).astype(dtype))
    assert data.labels.tolist() == labels
    assert data.n_classes == len(labels)
    np.testing.assert_array_equal(data.labels[data.y], np.resize(labels, 90))
    said = [text for text in data.notes if not text.startswith("Task: ")]
    assert bool(said) == bool(note)
    assert not note or re.search(note, said[-1])


def test_labels_that_only_test_rows_have_are_classes_too() -> None:
    data = dataset(LABELS, [3, 1])
    assert data.labels.tolist() == [0, 1, 2, 3]
    assert data.y[data.test].tolist() == [3, 1]
    assert data.notes[-1].startswith("Warning: no training row has the label 3, which 1 other row has")
    rare = dataset(np.r_[LABELS[:-1], 7], test_fraction=0.6)
    assert rare.notes[-1].startswith("Warning: no training row has the label 7")


def test_a_row_is_named_as_its_array_has_it() -> None:
    fractions = [0.0, 1.5]
    assert "fractions (1.5 in row 1 of y_test)" in dataset(LABELS, fractions).notes[0]
    assert "fractions (1.5 in row 1)" in dataset(fractions * 30, [1.0]).notes[0]
    with pytest.raises(DataError, match=r"label 1\.5 of row 1 of y_test is no class label"):
        dataset(LABELS, fractions, loss="cross-entropy")


def test_splits_are_those_of_labels_that_were_numbered_already() -> None:
    plain, mapped = dataset(LABELS), dataset(np.array([1, 5, 300])[LABELS])
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(plain, split), getattr(mapped, split))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_target_is_standardised_before_it_is_cast(dtype: str) -> None:
    y = 1e8 + 4 * RNG.standard_normal(2000)
    data = check(Raw("data", RNG.standard_normal((2000, 2)), y), RunConfig())
    mean, scale = data.target_scaling()
    data.scale_target(mean, scale, dtype)
    assert len(np.unique(data.y)) == 2000
    training = y[data.train]
    np.testing.assert_allclose([mean[0], scale[0]], [training.mean(), training.std()], rtol=1e-12)
    np.testing.assert_allclose(data.y[:, 0] * scale + mean, y, atol=1e-6)


def test_a_cast_that_loses_digits_is_told() -> None:
    y = 1e8 + 4 * RNG.standard_normal(90)
    for dtype, notes in (("float32", 1), ("float64", 0)):
        data = check(Raw("data", X + 1e9, y), RunConfig())
        data.scale_target(np.zeros(1), np.ones(1), dtype, "--no-standardize-target")
        scale_alone(data, dtype, standardize=False)
        assert sum("leave --no-standardize-target out, or use --dtype float64" in note for note in data.notes) == notes
        assert sum("X, column 0: it varies by" in note for note in data.notes) == notes


def test_a_constant_target_is_not_divided_by_zero() -> None:
    data = dataset(np.column_stack([np.full(90, 7.7), X[:, 0]]), model="linear")
    data.scale_target(*data.target_scaling(), "float32")
    np.testing.assert_array_equal(data.y[:, 0], 0)
    assert data.target_scale[0] == 1
    assert data.notes[-1].startswith("Warning: column 0 of the target is the same in all training rows")


def test_a_target_that_varies_little_is_not_called_constant() -> None:
    data = dataset(1e-200 * X, loss="mse")
    data.scale_target(*data.target_scaling(), "float32")
    assert len(data.notes) == 1


def test_a_loss_of_several_scales_does_not_stall() -> None:
    """It is the loss of the largest target almost alone; the others may still be learned."""
    for scales, told in (([1.0, 1e6], False), ([2.0, 2.0], True), (None, True)):
        detector = LossStalled({"world": 1, "config": {}, "data": {"target_scale": scales}})
        found = [detector.add({"epoch": epoch, "loss": 1.0}) for epoch in range(1, 30)]
        assert any(found) == told


def test_warnings_of_numpy_are_not_ours() -> None:
    """Numbers at the ends of float64 decide, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not task(np.array([1e300, -1e300, 5.5]))
        assert not task(np.array([2**63 - 1, -(2**63), 7]))
        with pytest.raises(DataError, match="no class label"):
            dataset(np.array([2**63 - 1, -(2**63), 7] * 5), loss="cross-entropy")


TEXTS = ["Adelie", "Chinstrap", "Gentoo"]


def of_texts(codes: Any, texts: list[str] = TEXTS, **options: Any) -> Dataset:
    return check(Raw("data", X, np.asarray(codes), label_names=texts), RunConfig(**options))


def test_texts_are_classes_however_many() -> None:
    data = of_texts(LABELS)
    assert data.n_classes == 3
    assert data.notes[0] == "Task: classes, because the target has 3 different texts in 90 rows."
    many = of_texts(np.arange(90) % 44, [f"city {i}" for i in range(44)])
    assert many.n_classes == 44
    with pytest.raises(DataError, match=r"--loss mse trains a regression, but the target is texts \('Adelie', 'Chin"):
        of_texts(LABELS, loss="mse")


def test_texts_are_named_where_labels_are() -> None:
    only_test = np.where(np.arange(90) < 60, LABELS % 2, 2)
    raw = Raw("data", X[:60], only_test[:60], (X[60:], only_test[60:]), label_names=TEXTS)
    assert "no training row has the label 'Gentoo', which 30 other rows have" in check(raw, RunConfig()).notes[-1]
    with pytest.raises(DataError, match="training rows have the label Adelie"):
        check(Raw("data", X, np.zeros(90, int), (X[:9], np.ones(9, int)), label_names=TEXTS), RunConfig())
    notes = of_texts(LABELS, class_weight="balanced").notes
    assert any("(Adelie: 1, Chinstrap: 1, Gentoo: 1)" in note for note in notes)


SEVERAL = np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 2] > -0.5], axis=1)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float32", "float64"])
def test_columns_of_0_and_1_are_labels_of_their_own(dtype: str) -> None:
    data = dataset(SEVERAL.astype(dtype))
    assert (data.task, data.n_classes, data.n_targets) == ("labels", 0, 3)
    assert data.target_names == ("label 0", "label 1", "label 2")
    assert re.match("Task: 3 labels, each on or off, because .* --loss mse trains a regression", data.notes[0])
    assert dataset(SEVERAL.astype(dtype), loss="mse").task == "regression"
    for options in ({"loss": "cross-entropy"}, {"model": "logistic"}):
        assert dataset(SEVERAL.astype(dtype), **options).task == "labels"
        assert dataset(np.eye(3)[LABELS].astype(dtype), **options).task == "labels"
    with pytest.raises(DataError, match="labels of classes take one column, and several labels take columns of 0 and"):
        dataset(SEVERAL.astype(dtype), model="softmax")


def test_other_columns_are_numbers() -> None:
    for y in (SEVERAL * 2, SEVERAL - 1.0, SEVERAL * 0.5, np.where(SEVERAL, 1, 2)):
        assert dataset(y).task == "regression"
    with pytest.raises(DataError, match="the target's 2 columns are the same in all 90 rows"):
        dataset(np.ones((90, 2)))


def test_labels_that_do_not_vary_are_told() -> None:
    data = dataset(np.column_stack([SEVERAL, np.zeros(90)]))
    data.keep_target("float32")
    assert data.notes[-1].startswith("Warning: column 3 of the target is the same in all training rows")
    assert data.y.dtype == np.float32
