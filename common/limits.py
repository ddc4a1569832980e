"""How much a reader of a log takes into memory, whatever the log holds, and how much of it fits a table.

A log may be of a year's training, of ten thousand ranks, damaged, or made to do harm. So readers keep evenly spread
items of what may be long, and the first or the last of what is rare; what they print says how many there were.
"""

RECORD_BYTES = 64 << 20
"""One record of a log: an epoch of 10,000 ranks and 100 parameters has 45 MB."""
TEXT_BYTES = 1 << 20
"""One text in a record."""
ITEMS = 10_000
"""Items with a few numbers each: epochs of which one line of figures is kept, trials of a comparison, and records that
the writer holds back while the disk is full."""
EPOCHS_BY_RANK = 200
"""Epochs of which figures of every rank are kept."""
NUMBERS = 4_000_000
"""Numbers by rank, over all the epochs that are kept: of very many ranks, fewer epochs are."""
FINDINGS = 200
"""Verdicts, and kinds of events: there are a dozen of either, but a foreign log may hold any number."""
EVENTS = 20
"""Events of one kind, the last ones."""
VALUES = 1_000_000
"""Values in all the records of one kind that are kept whole (verdicts, events, trials): each may be as large as any."""
SESSIONS = 1_000
"""Jobs of a run, and parts of them between changes of their ranks: the first one, and the last ones."""
PLACES = 100_000
"""Places in training of which only numbers are kept: where another job continued, steps that were left out."""
DAMAGES, DAMAGES_NAMED = 10_000, 20
"""Damaged places of a log that are skipped before the rest is given up: no accident leaves more; those that are named.
"""

TABLE_ROWS, TABLE_RANKS, TABLE_PARAMETERS = 40, 16, 8
"""Of a table in a terminal: epochs, jobs or points of a curve; ranks or hosts, all of them; the first parameters."""
TABLE_STAND_OUT = 8
"""Of more ranks or hosts than that, those that stand out."""
DRAWN_EPOCHS, DRAWN_RANKS, DRAWN_SESSIONS = 2000, 64, 20
"""Of a picture or a series in a file: epochs; the first ranks; the last jobs, of those that continued the run."""
DRAWN_FILES, DRAWN_ROWS = 16, 512
"""Pictures of a run; ranks in one of them, of which more share a row."""
PAGE_RANKS, PAGE_PARAMETERS, PAGE_ROWS, PAGE_FINDINGS = 32, 12, 12, 50
"""Of the report's page: ranks as bars, parameters one by one, rows of a chart's table, verdicts."""
PAGE_CELLS, PAGE_TEXT, PAGE_LABEL = 25_000, 2000, 80
"""Of the report's page: coloured cells of a map, characters of a text, characters of a label."""
SLICES = 200_000
"""Of a trace: phases of steps, over all ranks."""
