"""Settings that an MPI library lets a program change while it runs: control variables (MPI-4.1, section 15.3.6)."""

import ctypes
import functools
from typing import Any

from mpi4py import MPI

NAME_BYTES = 256


class ControlVariable:
    """One that holds a whole number, or one of several named values. Changed on this rank only."""

    def __init__(self, library: Any, index: int) -> None:
        self._library, self._index = library, index
        self._handle, self._value = ctypes.c_void_p(), ctypes.c_int()
        self._at = ctypes.byref(self._value)
        count = ctypes.c_int()
        _done(library.MPI_T_cvar_handle_alloc(index, None, ctypes.byref(self._handle), ctypes.byref(count)))
        if count.value != 1:
            raise OSError("not one number")

    def read(self) -> int:
        """Return the present value. Raises OSError."""
        self._value.value = 0  # the library may write fewer bytes than these four
        _done(self._library.MPI_T_cvar_read(self._handle, self._at))
        return self._value.value

    def write(self, value: int) -> None:
        """Change the value. Raises OSError if the library does not allow it."""
        self._value.value = value
        _done(self._library.MPI_T_cvar_write(self._handle, self._at))

    def named_values(self) -> dict[str, int]:
        """Return the values that have names, by name; nothing where they are plain numbers. Raises OSError."""
        ignored, kind, scope = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int()
        datatype, values, none = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int(0)
        _done(
            self._library.MPI_T_cvar_get_info(
                self._index, None, ctypes.byref(none), ctypes.byref(ignored), ctypes.byref(datatype),
                ctypes.byref(values), None, ctypes.byref(none), ctypes.byref(kind), ctypes.byref(scope),
            )
        )  # fmt: skip
        if not values.value:
            return {}
        count = ctypes.c_int()
        _done(self._library.MPI_T_enum_get_info(values, ctypes.byref(count), None, ctypes.byref(none)))
        found = {}
        for i in range(count.value):
            value, name, length = ctypes.c_int(), ctypes.create_string_buffer(NAME_BYTES), ctypes.c_int(NAME_BYTES)
            _done(self._library.MPI_T_enum_get_item(values, i, ctypes.byref(value), name, ctypes.byref(length)))
            found[name.value.decode()] = value.value
        return found


def _done(code: int) -> None:
    if code:
        raise OSError(f"MPI_T error {code}")


@functools.cache
def _library() -> Any:
    """Return the MPI library that mpi4py has loaded, ready for these calls. Raises OSError, AttributeError.

    Open MPI takes the thread level that is asked for here for that of all its calls, so MPI's own must be kept.
    """
    library = ctypes.CDLL(MPI.__file__)
    provided = ctypes.c_int()
    _done(library.MPI_T_init_thread(MPI.Query_thread(), ctypes.byref(provided)))
    return library


@functools.cache
def find(name: str) -> ControlVariable | None:
    """Return a control variable of the MPI library, None if it has none of that name."""
    try:
        library, index = _library(), ctypes.c_int()
        _done(library.MPI_T_cvar_get_index(name.encode(), ctypes.byref(index)))
        return ControlVariable(library, index.value)
    except (OSError, AttributeError):
        return None
