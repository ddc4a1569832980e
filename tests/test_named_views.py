"""Views by name: written to in every way, replaced in none."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from common.flat import Flat
from common.named_views import NamedViews


@pytest.fixture
def flat() -> Flat:
    made = Flat({"W": (2, 3), "b": (3,)}, np.dtype(np.float64))
    made.param_vector[:] = np.arange(9)
    return made


def change(views: NamedViews) -> None:
    views |= {"b": np.zeros(3)}


def remove(views: NamedViews) -> None:
    del views["b"]


def assign(name: str, value: Any) -> Callable[[NamedViews], Any]:
    def act(views: NamedViews) -> None:
        views[name] = value

    return act


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (assign("W", np.ones((2, 3))), r"params\['W'\] = ... would replace an array that is sent and updated by one "
         r"that is not, and the values would be lost; write into it: params\['W'\]\[...\] = value$"),
        (assign("b", 0.0), r"params\['b'\] = .*: params\['b'\]\[...\] = value$"),
        (assign("V", 0.0), r"params\['V'\] = ...: there is no 'V'; shapes\(\) names W, b, so name it there too$"),
        (change, r"params \|= ... .*: params\['b'\]\[...\] = value$"),
        (remove, r"del params\['b'\]"),
        (lambda views: views.update({"b": 1}), r"params.update\(...\) .*: params\['b'\]\[...\] = value$"),
        (lambda views: views.update(b=1), r"params.update\(...\) .*: params\['b'\]"),
        (lambda views: views.update(), r"params.update\(...\) .*: params\['W'\]"),
        (lambda views: views.setdefault("V", 1), r"params.setdefault\('V', ...\): there is no 'V'"),
        (lambda views: views.pop("b"), r"params.pop\('b'\)"),
        (lambda views: views.pop("V", None), r"params.pop\('V'\)"),
        (lambda views: views.popitem(), r"params.popitem\(\)"),
        (lambda views: views.clear(), r"params.clear\(\)"),
    ],
)  # fmt: skip
def test_no_way_to_replace_a_view_works(flat: Flat, act: Callable[[NamedViews], Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        act(flat.params)
    assert list(flat.params) == ["W", "b"]
    assert all(np.shares_memory(view, flat.param_vector) for view in flat.params.values())


def test_every_way_to_write_into_one_does(flat: Flat) -> None:
    views = flat.params
    views["W"] += 1
    views["b"] *= 2
    views["W"] = np.add(views["W"], 1, out=views["W"])
    views["b"] = views["b"][:]
    views["b"][...] = -views["b"]
    views["W"].T[0, 0] = 7
    assert views.setdefault("b") is views["b"]
    np.testing.assert_array_equal(flat.param_vector, [7, 3, 4, 5, 6, 7, -12, -14, -16])


def test_another_part_of_the_vector_is_another_array(flat: Flat) -> None:
    for other in (flat.params["W"][0], flat.params["b"][::-1], flat.params["W"].T):
        with pytest.raises(TypeError, match="would replace"):
            flat.params["b"] = other


def test_gradients_are_called_so_and_a_name_that_is_none_is_told(flat: Flat) -> None:
    with pytest.raises(TypeError, match=r"write into it: grads\['W'\]\[...\] = value"):
        flat.grads["W"] = np.zeros((2, 3))
    with pytest.raises(KeyError, match=r"grads has no 'V'; shapes\(\) names W, b"):
        flat.grads["V"]


def test_a_copy_is_an_ordinary_dict(flat: Flat) -> None:
    for made in (copy.copy(flat.params), copy.deepcopy(flat.params), flat.params.copy(), dict(flat.params)):
        made["W"] = made["new"] = np.zeros(1)
        assert type(made) is dict
    assert not np.shares_memory(copy.deepcopy(flat.params)["W"], flat.param_vector)


def test_those_who_only_read_cannot_write(flat: Flat) -> None:
    assert flat.fixed_params["W"][1, 2] == 5
    for act in (lambda: flat.fixed_params["W"].fill(0), lambda: np.add(1, 1, out=flat.fixed_params["b"])):
        with pytest.raises(ValueError, match="read-only"):
            act()
    flat.params["b"][0] = 50
    assert flat.fixed_params["b"][0] == 50
