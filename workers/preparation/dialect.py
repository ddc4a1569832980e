"""How a text file of a table is written: what separates cells, where rows begin, which columns have a decimal comma."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workers.preparation import lead
from workers.preparation.blanks import BLANK, BLANKS, collapsed, separates
from workers.preparation.header import Header, find_header
from workers.preparation.options import Options, TableError, names_in

SEPARATORS = ("\t", ";", "|", ",")
"""In the order in which they count if several fit: a comma may be a decimal one."""
WORDS = {";": "semicolons", "|": "bars", BLANK: "blanks"}
LOOKED_AT = 200
"""Records of a head."""
MOST_COLUMNS = 10**6
LISTED = 20
COMMENT = "#"
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
ZIP = b"PK\x03\x04"
DECIMAL_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:[.\u00a0\u202f ']\d{3})+|\d+)?,\d+(?:[eE][+-]?\d+)?")
WHOLE = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)")
THOUSANDS_ONLY = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


@dataclass(frozen=True, slots=True)
class Dialect:
    """``first_row``: the byte where rows begin. ``quoted``: whether cells may stand in double quotes.

    ``separator``: a blank stands for any number of blanks and tabs.
    ``blank_quotes``: whether blanks stand between a separator and quotes.
    ``comment``: what lines begin with that are no rows, if there are any. ``decimal_comma``: such columns, from 0.
    """

    names: tuple[str, ...]
    first_row: int
    separator: str
    quoted: bool
    blank_quotes: bool
    comment: str
    decimal_comma: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def with_comma(self) -> list[str]:
        """The names of columns with a decimal comma."""
        return [self.names[i] for i in self.decimal_comma if i < len(self.names)]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Dialect":
        """Return what ``as_dict`` made plain."""
        values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in plain.items()}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a head: its cells, the line it begins in, the byte behind it."""

    cells: list[str]
    line: int
    end: int


def find_dialect(head: bytes, options: Options, *, whole: bool, name: str = "the file") -> Dialect:
    """Return the dialect of a file that begins with ``head``; ``whole``: which is all of it. ``name``: in what is said.

    Raises TableError for a file that holds no table.
    """
    if head[:2] in UTF16 or head.count(b"\0") > len(head) // 4:
        raise TableError("it is UTF-16; say so with --encoding utf-16")
    if head.startswith(ZIP):
        raise TableError("it is a zip file or a workbook of a spreadsheet; save the sheet as CSV")
    begin = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    if not whole:
        head = head[: head.rfind(b"\n") + 1] or head
    text = _decoded(head[begin:])
    if "\n" not in text and text.count("\r") > 1:
        raise TableError("its lines end with CR alone, as on old Macs; save it with lines that end with LF")
    if not text.strip():
        raise TableError("it is empty; a table has a line of column names and a line for each row")
    separator = ""
    if told := re.match(r"sep=(.)\r?\n", text, re.IGNORECASE):  # as Excel takes it
        separator, begin, text = told[1], begin + told.end(), text[told.end() :]
    comment = _comment(text)
    separator = separator or _separator(text, comment)
    quoted = _is_quoted(text, separator)
    blank_quotes = separator != BLANK and bool(re.search(rf'{re.escape(separator)} +"', text))
    records = _records(text, separator, comment, quoted=quoted)
    if not records:
        raise TableError("it holds comments alone; a table has a line of column names and a line for each row")
    asked = _asked(options)
    n_lead = lead.length([record.cells for record in records], asked)
    before, records = records[:n_lead], records[n_lead:]
    header = find_header([record.cells for record in records], options.header, name, asked)
    names = _named_in_comment(text, separator, records[0]) if not header.named else []
    if names:
        header = Header(names, named=False, notes=(f"The column names of {name} stand in its comment.",))
    body = records[1:] if header.named else records
    if not body:
        raise TableError(f"it has column names ({_listed(header.names)}) and no rows")
    if not options.one_column and len(header.names) == 1 and all(len(record.cells) == 1 for record in body):
        raise TableError(
            f"it has one column, {header.names[0][:80]!r}; a table has two or more, the target and what to learn from, "
            "with commas, semicolons, tabs, bars or blanks between"
        )
    _require_names(header.names)
    comma = _decimal_comma([record.cells for record in body], separator)
    first_row = begin + (records[0].end if header.named else before[-1].end if before else 0)
    said = [*lead.notes([record.cells for record in before], name), *header.notes]
    said += _said(name, separator, [header.names[i] for i in comma if i < len(header.names)])
    return Dialect(
        tuple(header.names), first_row, separator, quoted, blank_quotes, comment, comma, tuple(said),
    )  # fmt: skip


def _asked(options: Options) -> set[str]:
    """Return names that the user gives columns."""
    lists = (options.target, options.features, options.drop, options.categorical, options.weight, options.group)
    return {name for text in (*lists, options.time) for name in (text.strip(), *names_in(text))} - {""}


def _is_quoted(text: str, separator: str) -> bool:
    before = BLANKS if separator == BLANK else re.escape(separator)
    return bool(re.search(rf'(?:^|{before}) *"', text, re.MULTILINE))


def _decoded(head: bytes) -> str:
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        if error.end == len(head) and error.reason == "unexpected end of data" and len(head) > 1 << 18:
            return head[: error.start].decode()
        raise not_utf8(head, error) from error


def not_utf8(data: bytes, error: UnicodeDecodeError) -> TableError:
    """Return what is wrong with bytes that are not UTF-8."""
    byte = f"byte 0x{data[error.start]:02x}"
    before = data[: error.start].rpartition(b"\n")[2][-20:].decode(errors="replace")
    shown = f" after {before!r}" if before else ""
    return TableError(
        f"{byte}{shown} is not UTF-8; if it is a letter with an accent, --encoding latin-1 or cp1252 reads it",
        line=data.count(b"\n", 0, error.start),
    )


def _comment(text: str) -> str:
    """Return what begins comments, if lines begin with it that are not cells of a table."""
    lines = text.split("\n", LOOKED_AT)[:LOOKED_AT]
    marked = [line for line in lines if line.startswith(COMMENT)]
    if not marked:
        return ""
    others = Counter(
        max(line.count(mark) for mark in SEPARATORS) for line in lines if line.strip() and line not in marked
    )
    usual = others.most_common(1)[0][0] if others else 0
    of_rows = [line for line in marked if max(line.count(mark) for mark in SEPARATORS) == usual]
    if (
        usual
        and len(of_rows) == len(marked)
        and (lines[0] not in marked or len(marked) > 1 or _first_is_name(lines[0]))
    ):
        return ""
    return COMMENT


def _first_is_name(line: str) -> bool:
    """Say whether # is a column's name, as in #,Name or #id,name; a comment of names has a blank behind it."""
    return not line.startswith(f"{COMMENT} ")


def _named_in_comment(text: str, separator: str, first: Record) -> list[str]:
    """Return column names that stand in a comment right before the rows, as numpy.savetxt writes them."""
    before = [line for line in text.split("\n")[: first.line] if line.strip()]
    if not before or not before[-1].startswith(COMMENT):
        return []
    names = [name.strip() for name in next(csv.reader([before[-1].lstrip(f"{COMMENT} ")], delimiter=separator), [])]
    wordy = len(names) == len(first.cells) > 1 and not any(re.fullmatch(r"[+-]?[\d.]+", name) for name in names)
    return names if wordy else []


def _records(text: str, separator: str, comment: str, *, quoted: bool) -> list[Record]:
    """Return the first records, without comments and empty lines."""
    found: list[Record] = []
    lines, n_bytes, at = text.split("\n"), 0, 0
    while at < len(lines) and len(found) < LOOKED_AT:
        begin, inside = at, quoted and not (comment and lines[at].startswith(comment)) and lines[at].count('"') % 2
        at += 1
        while inside and at < len(lines):
            inside ^= lines[at].count('"') % 2
            at += 1
        record = "\n".join(lines[begin:at])
        n_bytes += len(record.encode()) + 1
        if not record.strip() or (comment and record.startswith(comment)):
            continue
        found.append(Record(split(record, separator, quoted=quoted), begin, n_bytes))
    return found


def split(record: str, separator: str, *, quoted: bool) -> list[str]:
    """Return the cells of a record."""
    quoting: dict[str, Any] = {"skipinitialspace": True} if quoted else {"quoting": csv.QUOTE_NONE}
    record = record.replace("\r", " ")
    if separator == BLANK:
        record = collapsed(record.encode(), quoted=quoted).decode()
    csv.field_size_limit(1 << 30)
    lines = io.StringIO(record.rstrip("\n"), newline="")
    cells = next(csv.reader(lines, delimiter=separator, **quoting), [])
    if len(cells) > MOST_COLUMNS:
        raise TableError(f"a row of more than {MOST_COLUMNS:,} columns; give a table of fewer")
    return [cell.strip() for cell in cells]


def _separator(text: str, comment: str) -> str:
    """Return what separates cells: that by which most records have as many as the others."""
    best, best_share = "", 0.0
    for mark in SEPARATORS:
        if mark not in text:
            continue
        widths = [len(cells) for cells in _cells(text, mark, comment)]
        usual, n = Counter(widths).most_common(1)[0]
        share = n / len(widths) if usual > 1 else 0.0
        if share > best_share + 0.1:
            best, best_share = mark, share
    if best in ("", "\t") and separates(_cells(text, BLANK, comment), _cells(text, best, comment) if best else []):
        return BLANK
    return best or ","


def _cells(text: str, separator: str, comment: str) -> list[list[str]]:
    """Return the cells of the first records, as a separator divides them."""
    records = _records(text, separator, comment, quoted=_is_quoted(text, separator))
    return [record.cells for record in records]


def _decimal_comma(rows: Sequence[Sequence[str]], separator: str) -> tuple[int, ...]:
    """Return columns of numbers with a decimal comma.

    1,234 may be a thousand: it is not where commas separate nothing, or another number shows what a comma is.
    """
    width = min(map(len, rows), default=0)
    certain: list[int] = []
    perhaps: list[int] = []
    for i in range(width):
        cells = [row[i] for row in rows if row[i]]
        with_comma = [cell for cell in cells if DECIMAL_COMMA.fullmatch(cell)]
        numeric = len(with_comma) + sum(bool(WHOLE.fullmatch(cell)) for cell in cells)
        if not with_comma or 2 * numeric < len(cells):
            continue
        (perhaps if all(THOUSANDS_ONLY.fullmatch(cell) for cell in with_comma) else certain).append(i)
    # with a point as decimal mark anywhere, a comma before three digits is a thousand
    pointed = any(re.fullmatch(r"[+-]?(?:[\d,]*\d)?\.(?:\d{1,2}|\d{4,})", cell) for row in rows for cell in row)
    if separator != "," and not pointed:
        certain += perhaps
    if certain and not pointed:  # where others have a decimal comma, points stand for thousands
        certain += [
            i
            for i in range(width)
            if i not in certain
            and any("." in row[i] for row in rows)
            and all(WHOLE.fullmatch(row[i]) for row in rows if row[i])
        ]
    return tuple(sorted(certain))


def _said(name: str, separator: str, comma: Sequence[str]) -> list[str]:
    """Return what was found out and is not plain: what separates cells, which columns have a decimal comma."""
    notes = []
    if separator not in ",\t":
        notes.append(f"Cells of {name} are separated by {WORDS.get(separator, repr(separator))}.")
    if comma:
        notes.append(f"Numbers in {_listed([repr(one) for one in comma])} of {name} have a decimal comma.")
    return notes


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:80] for name in names[:LISTED])
    return f"{shown}, ..." if len(names) > LISTED else shown


def _require_names(names: Sequence[str]) -> None:
    for name, n in Counter(names).items():
        if n > 1:
            places = [str(i) for i, other in enumerate(names, 1) if other == name][:LISTED]
            raise TableError(
                f"columns {', '.join(places[:-1])} and {places[-1]} have the same name, {name[:80]!r}; "
                "give each a name of its own"
            )
