"""Which options of a run say what the columns of a table are, and so what is written into a prepared folder."""

from typing import Any

from common.config import RunConfig
from common.data.dataset import BY_ROW
from common.data.sources import OF_TABLES

OF_COLUMNS = (*OF_TABLES, *BY_ROW)


def of_columns(config: RunConfig) -> dict[str, Any]:
    """Return these options of a run."""
    return {name: getattr(config, name) for name in OF_COLUMNS}
