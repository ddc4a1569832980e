"""Which options of a run say what the columns of a table are, and so what is written into a prepared folder."""

from typing import Any

from common.config import OPTIONS, RunConfig

OF_COLUMNS = tuple(
    name
    for name in (
        "target", "header", "index_column", "features", "drop", "categorical", "missing", "encoding", "weight", "group",
        "time",
    )
    if name in OPTIONS
)  # fmt: skip


def of_columns(config: RunConfig) -> dict[str, Any]:
    """Return these options of a run."""
    return {name: getattr(config, name) for name in OF_COLUMNS}
