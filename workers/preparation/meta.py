"""What meta.json of a prepared folder says."""

import hashlib
from typing import Any

import numpy as np

from common.data.prepared_file import FORMAT, ROLES, VERSION
from common.data.preprocessing import Preprocessing
from common.version import VERSION as RANKWISE
from workers.preparation import byte_pieces
from workers.preparation.moments import Moments
from workers.preparation.pieces import Piece


def describe(
    files: tuple[tuple[str, str], ...],
    options: dict[str, Any],
    tables: list[dict[str, Any]],
    parts: list[Piece],
    rows: list[int],
    plan: dict[str, Any],
    sha256: list[str],
    written: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return it as plain values.

    ``files``: path and role of each; ``tables``: the same files as TableFile, ``sha256`` theirs. ``parts``: the pieces,
    with ``rows`` of each and what was ``written`` of it. ``plan``: what the columns become.
    """
    of_file = [sum(n for part, n in zip(parts, rows, strict=True) if part.table == i) for i in range(len(tables))]
    preprocessing = Preprocessing.from_dict(plan["preprocessing"])
    arrays = {
        name: {
            "file": f"{name}.npy", "shape": [sum(rows), *shape], "dtype": np.dtype(dtype).name,
            "sha256": byte_pieces.merged([piece["digests"][name] for piece in written]),
        }
        for name, (shape, dtype) in plan["arrays"].items()
    }  # fmt: skip
    merged: Moments | None = None
    for piece in written:
        if piece["moments"] is not None:
            here = Moments.from_list(piece["moments"])
            merged = here if merged is None else merged.merge(here)
    roles, first = [], 0
    for role in ROLES:
        n = sum(n for n, (_, own) in zip(of_file, files, strict=True) if own == role)
        roles.append({"role": role, "first": first, "rows": n})
        first += n
    return {
        "format": FORMAT,
        "version": VERSION,
        "rankwise": RANKWISE,
        "rows": sum(rows),
        "parts": [part for part in roles if part["rows"] or part["role"] == ROLES[0]],
        "sha256": _whole(arrays),
        "arrays": arrays,
        "preprocessing": plan["preprocessing"],
        "features": preprocessing.features(),
        "standardized": preprocessing.standardized().tolist(),
        "columns": plan["columns"],
        "target": plan["target"],
        "statistics": {} if merged is None else merged.facts(),
        "files": [
            {
                "path": table["path"], "role": role, "rows": n, "size": table["size"], "mtime_ns": table["mtime_ns"],
                "sha256": digest,
            }
            for table, (_, role), n, digest in zip(tables, files, of_file, sha256, strict=True)
        ],
        "options": options,
        "notes": plan["notes"],
    }  # fmt: skip


def _whole(arrays: dict[str, dict[str, Any]]) -> str:
    """Return one SHA-256 for all arrays, in order."""
    digest = hashlib.sha256()
    for name, about in arrays.items():
        digest.update(f"{name} {about['shape']} {about['dtype']} {about['sha256']}\n".encode())
    return digest.hexdigest()
