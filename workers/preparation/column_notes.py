"""Sentences on what was decided about columns; of many alike a few, so that a wide table says no more than others."""

FEW = 3
"""Sentences of a kind; of more, the names of as many columns stand in one."""


class ColumnNotes:
    """Collects sentences, each of a kind and on a column."""

    def __init__(self) -> None:
        self._of_kinds: dict[str, list[tuple[str, str]]] = {}

    def add(self, kind: str, name: str, sentence: str) -> None:
        """Add a sentence on the column ``name``."""
        self._of_kinds.setdefault(kind, []).append((name, sentence))

    def sentences(self) -> list[str]:
        """Return what is to be said, kind by kind."""
        said = []
        for notes in self._of_kinds.values():
            shown = len(notes) if len(notes) <= FEW + 1 else FEW
            said += [sentence for _, sentence in notes[:shown]]
            if others := [repr(name) for name, _ in notes[shown:]]:
                more = " and others" if len(others) > FEW else ""
                said.append(f"The same goes for {len(others):,} more columns: {', '.join(others[:FEW])}{more}.")
        return said
