"""The version of this code: pyproject.toml takes it from here, so that no other copy's metadata is ever asked."""

import platform

VERSION = "0.1.0"


def version_line() -> str:
    """Return what every command's ``--version`` prints first."""
    return f"rankwise {VERSION} on Python {platform.python_version()}"
