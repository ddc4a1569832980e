"""Ranks and hosts as short texts: ``ranks 0-3, 7``, ``n[01-16,20]`` as Slurm writes it, also of thousands.

Standard library only, without anything else of ours: what starts, watches and reads a job names ranks.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

PIECES = 12
"""Numbers and ranges that a list may have; of more the first ones and the last stay."""
STRIDED = 8
"""A list of more pieces may have steps in it, ``0-960:64``, as Slurm writes the tasks of a job array."""
FEW = 4
"""So many ranks or hosts are named one by one."""
SMALL = 16
"""So many ranks of a table are listed one by one."""

_NUMBERED = re.compile(r"(.*?)(\d{1,18})(\D*)", re.ASCII)


def ranges(numbers: Sequence[int], most: int = PIECES, *, strided: bool = True) -> str:
    """Return rising numbers as ``2``, ``0-3, 7``, ``0-960:64``, and how many there are of lists that are longer still.

    ``most``: how many pieces the list may have; at least 2. ``strided``: whether steps may be in it.
    """
    pieces = _pieces(numbers, strided=strided)
    if len(pieces) <= most:
        return ", ".join(pieces)
    return f"{', '.join(pieces[: most - 1])}, ... and {pieces[-1]} ({len(numbers):,} in all)"


def named_ranks(numbers: Sequence[int]) -> str:
    """Return ``rank 2``, ``ranks 0-3, 7``; the ranks in rising order."""
    return f"{'rank' if len(numbers) == 1 else 'ranks'} {ranges(numbers)}"


def listed_ranks(numbers: Iterable[int]) -> str:
    """Return ``0, 1, 7``, or of more than 16 ranks their ranges."""
    several = sorted(numbers)
    return ranges(several) if len(several) > SMALL else ", ".join(map(str, several))


def ranks_on(numbers: Sequence[int], hosts: Sequence[str]) -> str:
    """Return ``rank 3 on n1, 5 on n2``, or of more than four ``ranks 3-18 on n[1-2]``; ``hosts``: of each of these."""
    if len(numbers) <= FEW:
        return "rank " + ", ".join(f"{rank} on {name}" for rank, name in zip(numbers, hosts, strict=True))
    return f"{named_ranks(sorted(numbers))} on {node_ranges(hosts)}"


def first_of(texts: Iterable[str]) -> str:
    """Return texts about ranks, ``rank 0: W1; rank 3: b2``; of more than four the first ones and how many others."""
    several = list(texts)
    more = len(several) - FEW
    return "; ".join(several[:FEW]) + (f"; and {more:,} more" if more > 0 else "")


def signals(of_ranks: Mapping[str, str]) -> str:
    """Return ``SIGTERM on rank 0, SIGINT on rank 2``, or of many ranks ``SIGUSR1 on ranks 0-1023``.

    ``of_ranks``: the signal's name, by the rank's number as a text.
    """
    if len(of_ranks) <= FEW or not all(rank.isdecimal() for rank in of_ranks):
        return ", ".join(f"{name} on rank {rank}" for rank, name in itertools.islice(of_ranks.items(), PIECES))
    by_name: dict[str, list[int]] = {}
    for rank, name in of_ranks.items():
        by_name.setdefault(name, []).append(int(rank))
    return ", ".join(f"{name} on {named_ranks(sorted(numbers))}" for name, numbers in by_name.items())


def named_hosts(names: Iterable[str]) -> str:
    """Return the names of up to four hosts, or the ranges of more, each once."""
    several = list(dict.fromkeys(names))
    return ", ".join(several) if len(several) <= FEW else node_ranges(several)


def node_ranges(names: Iterable[str], most: int = PIECES) -> str:
    """Return hosts as Slurm does, each once: ``n[01-16,20]``, ``login1, gpu[3-5].cluster``, ``10.0.0.[1-4]``.

    ``most``: how many numbers and ranges there may be; of more it is said how many hosts they are.
    """
    groups: dict[tuple[str, str, int], list[int]] = {}
    several = list(dict.fromkeys(names))
    found = [m for name in several if (m := _NUMBERED.fullmatch(_label(name)))]
    padded = {(m[1], m[3], len(m[2])) for m in found if m[2][0] == "0" and m[2] != "0"}
    for name in several:
        label = _label(name)
        match = _NUMBERED.fullmatch(label)
        if match is None:
            groups[name, "", -1] = []
            continue
        before, digits, after = match.groups()
        width = len(digits) if (before, after, len(digits)) in padded else 0
        groups.setdefault((before, after + name[len(label) :], width), []).append(int(digits))
    texts, left, shown = [], most, 0
    for (before, after, width), numbers in groups.items():
        if left <= 0:
            break
        pieces = _pieces(sorted(numbers), max(width, 0), strided=False)
        kept = pieces[:left]
        inner = ",".join(kept)
        texts.append(before + (f"[{inner}]" if len(numbers) > 1 else inner) + after)
        left -= max(1, len(kept))
        shown += sum(_size(piece) for piece in kept) or 1
    more = len(several) - shown
    return ", ".join(texts) + (f" and {more:,} more" if more else "")


def _label(name: str) -> str:
    """Return the part of a host's name that its number is in: not the domain, unless only that has one."""
    label = name.partition(".")[0]
    return label if any(map(str.isdecimal, label)) and not label.isdecimal() else name


def _size(piece: str) -> int:
    """Return how many hosts a piece of a group stands for."""
    first, _, last = piece.partition("-")
    return int(last) - int(first) + 1 if last else 1


def _pieces(numbers: Sequence[int], width: int = 0, *, strided: bool = True) -> list[str]:
    """Return rising numbers as texts of at least so many digits, each of one or of a range."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    if strided and len(runs) > STRIDED and len(runs) == len(numbers):
        return _with_steps(numbers)
    return ["-".join(f"{number:0{width}d}" for number in run) for run in runs]


def _with_steps(numbers: Sequence[int]) -> list[str]:
    """Return single numbers, those of equal distance together."""
    pieces, start = [], 0
    while start < len(numbers):
        end = start + 1
        step = numbers[end] - numbers[start] if end < len(numbers) else 0
        while end + 1 < len(numbers) and numbers[end + 1] - numbers[end] == step:
            end += 1
        if end - start >= 2 and end < len(numbers):
            pieces.append(f"{numbers[start]}-{numbers[end]}:{step}")
            start = end + 1
        else:
            pieces.append(str(numbers[start]))
            start += 1
    return pieces
