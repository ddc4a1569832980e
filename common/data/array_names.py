"""Which files hold features, their target, a validation set and a test set: by the names that people give them.

``X.npy`` goes with ``y.npy``, ``X_train.npy`` with ``y_train.npy``, ``X_test.npy`` and ``y_test.npy``, ``X-000.npy``
with ``y-000.npy``, ``train_features.npy`` with ``train_labels.npy``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

WORD = re.compile(r"[A-Za-z]+|[0-9]+")
TARGETS = {
    "x": ("y", "Y"),
    "features": ("labels", "label", "target", "targets"),
    "images": ("labels", "label"),
    "inputs": ("targets", "target", "outputs", "labels"),
    "data": ("target", "targets", "labels"),
}
"""By the word for features in the name of a file: those for its target."""
TRAIN, VALIDATION, TEST = "train", "validation", "test"
ROLES = {
    "train": TRAIN, "training": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST,
    "testing": TEST,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """What the name of a file of features says: of which set it is, and its number among the files of that set."""

    path: Path
    role: str
    number: int
    numbered: bool
    word: str

    @property
    def target_names(self) -> list[str]:
        """Return the names that the file of its target may have."""
        return [self._named(other) for other in TARGETS[self.word]]

    def _named(self, other: str) -> str:
        stem = WORD.sub(lambda match: other if match[0].lower() == self.word else match[0], self.path.stem)
        return stem + self.path.suffix


def part(path: Path) -> Part | None:
    """Return what the name of a file says; None if it is none of features."""
    words = [word.lower() for word in WORD.findall(path.stem)]
    of_features = [word for word in words if word in TARGETS]
    roles = [word for word in words if word in ROLES]
    numbers = [word for word in words if word.isdigit()]
    if len(of_features) != 1 or len(roles) > 1 or len(numbers) > 1 or len(words) != 1 + len(roles) + len(numbers):
        return None
    number = int(numbers[0]) if numbers else 0
    return Part(path, ROLES[roles[0]] if roles else TRAIN, number, bool(numbers), of_features[0])


def parts(paths: Iterable[Path]) -> dict[str, list[Part]]:
    """Return the files of features of each set, in the order of their numbers."""
    found: dict[str, list[Part]] = {}
    for path in paths:
        if (one := part(path)) is not None:
            found.setdefault(one.role, []).append(one)
    return {role: sorted(some, key=lambda one: (one.number, one.path.name)) for role, some in found.items()}
