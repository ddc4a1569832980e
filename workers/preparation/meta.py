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


def sources(
    files: tuple[tuple[str, str], ...],
    tables: list[dict[str, Any]],
    sha256: list[str],
    parts: list[Piece],
    rows: list[int],
) -> list[dict[str, Any]]:
    """Return what is said of each file. ``rows``: of each of ``parts``; the others: of each file."""
    of_file = [sum(n for part, n in zip(parts, rows, strict=True) if part.table == i) for i in range(len(tables))]
    return [
        {
            "path": table["source"], "role": role, "rows": n, "size": table["size"], "mtime_ns": table["mtime_ns"],
            "sha256": digest,
        }
        for table, (_, role), n, digest in zip(tables, files, of_file, sha256, strict=True)
    ]  # fmt: skip


def describe(
    files: list[dict[str, Any]],
    options: dict[str, Any],
    plan: dict[str, Any],
    arrays: dict[str, Any],
    written: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return all of it as plain values.

    ``plan``: what the columns become; ``arrays``: shape of a row and dtype; ``written``: what was found of each piece.
    """
    rows = sum(file["rows"] for file in files)
    preprocessing = Preprocessing.from_dict(plan["preprocessing"])
    merged: Moments | None = None
    for piece in written:
        if piece["moments"] is not None:
            here = Moments.from_list(piece["moments"])
            merged = here if merged is None else merged.merge(here)
    parts, first = [], 0
    for role in ROLES:
        n = sum(file["rows"] for file in files if file["role"] == role)
        parts.append({"role": role, "first": first, "rows": n})
        first += n
    about = {
        name: {
            "file": f"{name}.npy", "shape": [rows, *shape], "dtype": np.dtype(dtype).name,
            "sha256": byte_pieces.merged([piece["digests"][name] for piece in written]),
        }
        for name, (shape, dtype) in arrays.items()
    }  # fmt: skip
    return {
        "format": FORMAT,
        "version": VERSION,
        "rankwise": RANKWISE,
        "rows": rows,
        "parts": [part for part in parts if part["rows"] or part["role"] == ROLES[0]],
        "sha256": _whole(about),
        "arrays": about,
        "preprocessing": plan["preprocessing"],
        "features": preprocessing.features(),
        "standardized": preprocessing.standardized().tolist(),
        "columns": plan["columns"],
        **({"handed": plan["handed"]} if plan["handed"] else {}),
        "target": plan["target"],
        "statistics": {} if merged is None else merged.facts(),
        "files": files,
        "options": options,
        "notes": plan["notes"],
    }


def _whole(arrays: dict[str, dict[str, Any]]) -> str:
    """Return one SHA-256 for all arrays, in order."""
    digest = hashlib.sha256()
    for name, about in arrays.items():
        digest.update(f"{name} {about['shape']} {about['dtype']} {about['sha256']}\n".encode())
    return digest.hexdigest()
