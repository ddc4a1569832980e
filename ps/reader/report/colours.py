"""The colours of lines and bars: the same for the same meaning in every chart, for a white page and for a dark one."""

from typing import Any

ON_DARK = {
    "#0072b2": "#56b4e9",
    "#c2410c": "#fb923c",
    "#00795c": "#34d399",
    "#a3478a": "#e79ac9",
    "#8a6d00": "#e0b93b",
    "#6a5bd3": "#a99bff",
    "#c93434": "#ff7b72",
    "#0e7490": "#22d3ee",
    "#4d7c0f": "#a3e635",
    "#93602f": "#d6a57a",
    "#4f7196": "#93b4d8",
    "#6b7280": "#9aa4b2",
}
"""Each colour of a white page, and the one that takes its place on a dark page."""

*PALETTE, GREY = ON_DARK
"""Of what has no colour by its meaning: ranks, runs, classes, parameters, in their order. Grey is to compare with."""
DASHES = ("solid", "dash", "dot", "dashdot")
PATTERNS = ("", "/", "x", ".")

BLUE, ORANGE, GREEN, PINK, AMBER, INDIGO, RED, CYAN, LIME, BROWN, SLATE = range(len(PALETTE))
SHARED_TRANSFER = "transfer and waiting for a core"
"""What transfer is where ranks take turns on cores: one that does not run does not receive."""
MEANINGS = {
    "training": BLUE,
    "validation": ORANGE,
    "start-up": SLATE,
    "input": CYAN,
    "compute": GREEN,
    "summing": BROWN,
    "wait": AMBER,
    "transfer": INDIGO,
    SHARED_TRANSFER: INDIGO,
    "sampling": PINK,
    "evaluation": LIME,
    "checkpoint": RED,
}

Style = int | str
"""A place in the palette, or a meaning; what has neither is grey."""


def colour(style: Style) -> str:
    """Return the colour of a line or bar; after the whole palette the first colour comes again."""
    place = MEANINGS.get(style) if isinstance(style, str) else style
    return GREY if place is None else PALETTE[place % len(PALETTE)]


def faded(shade: str) -> str:
    """Return a colour for an area, through which lines can be seen."""
    red, green, blue = (int(shade[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.25)"


def exchanged() -> dict[str, str]:
    """Return what a dark page takes in place of each colour, of lines and of areas."""
    return ON_DARK | {faded(light): faded(dark) for light, dark in ON_DARK.items()}


def dash(style: Style) -> str:
    """Return a line's dashes: other ones each time the palette begins again."""
    return DASHES[style // len(PALETTE) % len(DASHES)] if isinstance(style, int) else DASHES[0]


def marker(style: Style) -> dict[str, Any]:
    """Return a bar's colour, with another pattern each time the palette begins again."""
    shape = PATTERNS[style // len(PALETTE) % len(PATTERNS)] if isinstance(style, int) else PATTERNS[0]
    pattern = {"shape": shape, "fillmode": "overlay", "fgopacity": 0.5, "size": 6}
    return {"color": colour(style), "pattern": pattern, "line": {"width": 0}}
