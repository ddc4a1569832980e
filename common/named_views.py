"""Arrays by name that can be written to, but not replaced."""

from collections.abc import Mapping
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class NamedViews(dict[str, Array]):
    """Arrays by name that are views of a vector: they are written to, but never replaced, which would lose what comes.

    ``called``: the name that a model knows it by, ``params`` or ``grads``. A dict, whose look-ups take no time.
    ``views["W"] += x`` works: what it assigns at last is the view itself. A copy is an ordinary dict.
    """

    __slots__ = ("called",)

    def __init__(self, called: str, arrays: Mapping[str, Array]) -> None:
        super().__init__(arrays)
        self.called = called

    def __setitem__(self, name: str, value: Array) -> None:
        """Raise TypeError, unless ``value`` is the view that is there."""
        if not (name in self and _same_place(self[name], value)):
            self._refuse(f"{self.called}[{name!r}] = ...", name)

    def __delitem__(self, name: str) -> None:
        """Raise TypeError."""
        self._refuse(f"del {self.called}[{name!r}]", name)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]
        """Raise TypeError."""
        self._refuse(f"{self.called} |= ...", next(iter(dict(other)), None))

    def update(self, *others: Any, **named: Any) -> None:
        """Raise TypeError."""
        self._refuse(f"{self.called}.update(...)", next(iter(dict(*others, **named)), None))

    def setdefault(self, name: str, default: Any = None) -> Array:  # noqa: ARG002
        """Return the view of that name. Raises TypeError if there is none."""
        return self[name] if name in self else self._refuse(f"{self.called}.setdefault({name!r}, ...)", name)

    def pop(self, name: str, *default: Any) -> Any:  # noqa: ARG002
        """Raise TypeError."""
        self._refuse(f"{self.called}.pop({name!r})", name)

    def popitem(self) -> Any:
        """Raise TypeError."""
        self._refuse(f"{self.called}.popitem()", None)

    def clear(self) -> None:
        """Raise TypeError."""
        self._refuse(f"{self.called}.clear()", None)

    def __missing__(self, name: str) -> Array:
        """Raise KeyError that says which names there are."""
        raise KeyError(f"{self.called} has no {name!r}; shapes() names {', '.join(self)}")

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return what makes an ordinary dict of a copy."""
        return dict, (dict(self),)

    def _refuse(self, line: str, name: Any) -> NoReturn:
        if name is not None and name not in self:
            raise TypeError(f"{line}: there is no {name!r}; shapes() names {', '.join(self)}, so name it there too")
        right = f"{self.called}[{next(iter(self), 'W') if name is None else name!r}][...] = value"
        raise TypeError(
            f"{line} would replace an array that is sent and updated by one that is not, and the values would be lost; "
            f"write into it: {right}"
        )


def _same_place(view: Array, value: Any) -> bool:
    """Say whether an array is a view, or another view of just the same memory."""
    return value is view or (isinstance(value, np.ndarray) and value.__array_interface__ == view.__array_interface__)


def read_only(array: Array) -> Array:
    """Return a view that NumPy refuses to write to."""
    view = array.view()
    view.flags.writeable = False
    return view
