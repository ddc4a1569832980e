"""What is said of a table that cannot be trained on: file, line, column, what was found and what to do."""

from pathlib import Path

import pytest

from common.errors import DataError
from tests.small_table import prepare_table

FILLED = "".join(f"{i}.5,{i * i % 7},{'pq'[i % 2]}\n" for i in range(30))
GOOD = f"a,b,y\n{FILLED}"

BAD = {
    "text among numbers": (GOOD.replace("\n7.5,", "\nseven,"), {}, (
        "line 9, column 'a': got 'seven', where the other 29 cells are numbers", "--missing", "--categorical 'a'")),
    "text among few whole numbers": ("n,y\n" + "".join(f"{i % 3},{i}\n" for i in range(199)) + "many,5\n", {}, (
        "line 201, column 'n': got 'many', where the other 199 cells are numbers", "--missing 'many'")),
    "text among few classes": ("n,y\n" + "".join(f"{i % 3},{i}\n" for i in range(199)) + "x,5\n", {"target": "n"}, (
        "line 201, target column 'n': got 'x'", "labels with --categorical 'n'")),
    "text among five": ("n,y\n1,p\n1,q\nx,p\n1,q\n2,q\n", {}, ("line 4, column 'n': got 'x'",)),
    "text behind a quoted line break": ('a,b,y\n"1\n",2,p\n3,4,q\n"5\n",6,p\nx,8,q\n9,10,p\n', {}, (
        "line 7, column 'a': got 'x'",)),
    "several texts": (GOOD.replace("\n7.5,", "\nseven,").replace("\n9.5,", "\nnine,"), {}, (
        "line 9, column 'a': got 'seven' (and 1 more such cell)",)),
    "text behind empty lines and comments": ("# about\n\na,b,y\n1,2,p\n# within\n\n2,3,q\n4,5,p\n5,b,q\n7,9,q\n", {}, (
        "line 9, column 'b': got 'b'",)),
    "short": (GOOD.replace("\n7.5,0,q", "\n7.5,0"), {}, ("line 9, got 2 cells ('7.5,0'), where the table has 3",)),
    "long": (GOOD.replace("\n7.5,0,q", "\n7.5,0,q,1"), {}, ("line 9, got 4 cells ('7.5,0,q,1')",)),
    "fewer names than columns": ("a,b,y\n1,2,3,4,5\n2,3,4,5,6\n4,5,6,7,8\n", {}, ("line 2, got 5 cells",)),
    "short and long": (GOOD.replace("\n7.5,0,q", "\n7.5,q").replace("\n9.5,", "\n9.5,,"), {}, ("line 9, got 2 cells",)),
    "a comma too many in quotes": (GOOD.replace("\n7.5,0,q", '\n7.5,"0,1",q,q'), {}, ("line 9, got 4 cells",)),
    "empty": ("", {}, ("is empty",)),
    "blank": (" \n\r\n\n", {}, ("is empty",)),
    "header alone": ("a,b,y\n", {}, ("column names (a, b, y) and no rows",)),
    "comments alone": ("# a\n# b\n", {}, ("comments alone",)),
    "two of one name": ("a,b,a,y\n1,2,3,p\n3,4,5,q\n", {}, ("columns 1 and 3 have the same name, 'a'")),
    "latin-1": (GOOD.replace("\n7.5,0,q", "\n7.5,0,\xe9").encode("latin-1"), {}, (
        "line 9, byte 0xe9 after '7.5,0,' is not UTF-8", "--encoding latin-1")),
    "UTF-16": (GOOD.encode("utf-16"), {}, ("UTF-16", "--encoding utf-16")),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), {}, ("UTF-16", "--encoding utf-16")),
    "infinity": (GOOD.replace("\n7.5,", "\n-inf,"), {}, ("line 9, column 'a': got '-inf'; a number is finite",)),
    "overflow": (GOOD.replace("\n7.5,", "\n1e999,"), {}, ("line 9, column 'a': got '1e999'; a number is finite",)),
    "beyond float32": (GOOD.replace("\n7.5,", "\n1e39,"), {}, ("line 9, column 'a': got '1e39'", "3.4e+38")),
    "one label": ("a,y\n1,p\n2,p\n", {}, ("the target is 'p' in all 2 rows, so there is nothing to learn",)),
    "no target": (GOOD, {"target": ""}, ("--target: a, b, y",)),
    "no such target": (GOOD.replace("a,b,y", "a,b,price"), {"target": "Price"}, (
        "target: no column 'Price' (did you mean 'price'?); it has a, b, price",)),
    "no such feature": (GOOD, {"features": "a,q"}, ("features: no column 'q'; it has a, b, y",)),
    "feature and dropped": (GOOD, {"features": "a", "drop": "a"}, ("'a' is in --features and in --drop",)),
    "target and dropped": (GOOD, {"drop": "y"}, ("'y' is the target and cannot be in --drop",)),
    "nothing left": (GOOD, {"drop": "a,b"}, ("no column is left to learn from",)),
    "target of dates": ("a,y\n1,2020-01-01\n2,2020-01-02\n3,2020-03-04\n", {}, ("target column 'y': got dates",)),
    "target of amounts": ("a,y\n1,$5\n2,$6.50\n3,$7\n4,$5\n", {}, ("line 2, target column 'y': got '$5'",)),
    "target with a text": (GOOD, {"target": "y,a"}, (
        "line 2, target column 'y': got 'p'; several targets",)),
    "texts for each row": ("a,y\n" + "".join(f"{i},n{i}\n" for i in range(30)), {}, ("30 different texts in 30 rows",)),
    "numbers and a text in the target": (GOOD.replace("\n7.5,", "\n7.5x,"), {"target": "a"}, (
        "line 9, target column 'a': got '7.5x'",)),
    "missing weight": ("w,a,y\n1,1,p\n,2,q\n", {"weight": "w"}, ("line 3, column 'w'", "--weight takes a value")),
    "negative weight": ("w,a,y\n1,1,p\n2,1,p\n-0.5,2,q\n", {"weight": "w"}, (
        "line 4, column 'w': got '-0.5'; --weight takes a value from 0 to 1e+100 in each row",)),
    "text among weights": ("w,a,y\n1,1,p\n2,1,p\nx,2,q\n", {"weight": "w"}, ("line 4, column 'w': got 'x'",)),
    "missing group": ("g,a,y\nu,1,p\nNA,2,q\n", {"group": "g"}, (
        "line 3, column 'g': got 'NA'; --group takes a value in each row",)),
    "missing time": ("t,a,y\n2024-01-01,1,p\n,2,q\n", {"time": "t"}, ("line 3, column 't'", "--time takes a value")),
    "no date": ("d,y\n" + "".join(f"2024-01-{i:02},{i}\n" for i in range(1, 32)) + "soon,5\n", {}, (
        "line 33, column 'd': got 'soon', where the other 31 cells are dates such as '2024-01-01'",)),
    "another kind of date": ("d,y\n01/13/2024,2\n" + "".join(f"2024-01-{i:02},{i}\n" for i in range(1, 32)), {}, (
        "line 2, column 'd': got '01/13/2024'",)),
    "one column": ("a b\nred fox\nblue bird\n", {}, ("one column, 'a b'", "commas, semicolons, tabs")),
    "CR alone": ("a,y\r1,2\r3,4\r", {}, ("CR alone",)),
    "unclosed quote": (GOOD.replace("\n7.5,0,q", '\n7.5,0,"q'), {}, ("line 9, a double quote is not closed",)),
    "NUL": (GOOD.replace("\n7.5,", "\n7\0.5,"), {}, ("line 9, got NUL",)),
    "workbook": (b"PK\x03\x04\x14\x00abc", {}, ("save the sheet as CSV",)),
    "all of the target missing": ("a,y\n1,\n2,NA\n", {}, ("target column 'y': all its cells are missing",)),
}  # fmt: skip


@pytest.mark.parametrize("block_bytes", [40, 1 << 20])
@pytest.mark.parametrize(("text", "options", "said"), BAD.values(), ids=BAD)
def test_bad_tables(
    tmp_path: Path, text: str | bytes, options: dict[str, str], said: tuple[str, ...], block_bytes: int
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as error:
        prepare_table(path, {"target": "y", **options}, block_bytes)
    assert str(error.value).startswith(f"{path}: ")
    for part in said:
        assert part in str(error.value)
    assert len(str(error.value)) < 400 + len(str(path))
