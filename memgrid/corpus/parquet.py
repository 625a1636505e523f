"""Tables that users bring: read, and refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from memgrid.errors import UserError
from memgrid.io.digests import check_file

# What a column can be asked to hold, and as what it is then read.
KINDS = {
    "integers": pl.Int64(),
    "numbers": pl.Float64(),
    "booleans": pl.Boolean(),
    "strings": pl.String(),
    "lists of integers": pl.List(pl.Int32),
}


PART_ROWS = 1 << 17  # that are read at once where memory has to be bounded
BROUGHT = "make it anew, or copy it again"  # what mends a damaged table, which may be the user's own


def read_table(path: Path, wanted: Mapping[str, str], hint: str = "") -> pl.DataFrame:
    """The columns of a parquet file that are wanted, each as its kind is read (see `KINDS`); nothing else of the file is loaded.

    Raises:
        UserError: the file cannot be read or is damaged, a column is missing or holds something else, or an entry is null or too large.
    """
    table = collect(path, query(path, wanted, hint))
    refuse_nulls(table, path)
    return table


def read_parts(path: Path, wanted: Mapping[str, str], hint: str = "", rows: int = PART_ROWS) -> Iterator[pl.DataFrame]:
    """The same, some rows after others, so that memory is bounded however long the file is; nulls are the caller's to judge.

    Within a row group of the file that is larger than a part, what stands before the part is unpacked again: row groups of at most
    `rows` are read at the price of the whole table.

    Raises:
        UserError: as `read_table`, but for nulls.
    """
    whole = query(path, wanted, hint)
    for start in range(0, count_rows(path), rows):
        yield collect(path, whole.slice(start, rows))


def query(path: Path, wanted: Mapping[str, str], hint: str = "", check: bool = True) -> pl.LazyFrame:
    """What reads the wanted columns of a file; raises as `require_columns`, or, to `check`, if the file is one of memgrid's and damaged."""
    require_columns(path, wanted, hint)
    if check:
        check_file(path, BROUGHT)  # one that memgrid wrote has a digest
    return pl.scan_parquet(path, glob=False).select(pl.col(column).cast(KINDS[kind]) for column, kind in wanted.items())


def count_rows(path: Path) -> int:
    """How many rows a parquet file has."""
    return int(collect(path, pl.scan_parquet(path, glob=False).select(pl.len())).item())


def collect(path: Path, asked: pl.LazyFrame) -> pl.DataFrame:
    """What a query of a file finds.

    Raises:
        UserError: the file cannot be read, or a number is too large.
    """
    try:
        return asked.collect()
    except pl.exceptions.InvalidOperationError as error:
        raise UserError(f"{path} holds a number that is too large: {first_line(error)}") from None
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UserError(f"{path} cannot be read as parquet: {first_line(error)}") from None


def refuse_nulls(table: pl.DataFrame, path: Path) -> None:
    """Raise UserError for a column that has nulls."""
    for column in table:
        if column.null_count():
            raise UserError(f"column {column.name!r} of {path} has {column.null_count()} nulls: every row needs a value")


def require_columns(path: Path, wanted: Mapping[str, str], hint: str = "") -> None:
    """Refuse a parquet file that lacks a column or holds something else in it; the sentence ends with the hint."""
    try:
        schema = pl.scan_parquet(path, glob=False).collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path} cannot be read as parquet: {first_line(error)}") from None
    for column, kind in wanted.items():
        if column not in schema:
            raise UserError(f"{path} lacks the column {column!r} ({kind}); it has {', '.join(schema)}{hint}")
        if not fits(schema[column], kind):
            raise UserError(f"column {column!r} of {path} must hold {kind}, not {schema[column]}{hint}")


def require_own(path: Path, names: tuple[str, ...]) -> None:
    """Raise UserError for a file that lacks a column of the user's own, or holds in it what no rule can compare."""
    try:
        schema = pl.scan_parquet(path, glob=False).collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path} cannot be read as parquet: {first_line(error)}") from None
    for name in names:
        if name not in schema:
            known = ", ".join(schema)
            raise UserError(
                f"{path} lacks the column {name!r}, which a rule of the taxonomy compares; it has {known}: add it, or compare another one"
            )
        if not (schema[name].is_numeric() or schema[name] in (pl.Boolean, pl.String)):
            raise UserError(f"column {name!r} of {path} holds {schema[name]}: a rule can compare truth values, numbers and words")


def fits(dtype: pl.DataType, kind: str) -> bool:
    """Whether a column of that type holds what `kind` says."""
    if kind == "lists of integers":
        return isinstance(dtype, pl.List | pl.Array) and fits(dtype.inner, "integers")  # type: ignore[arg-type]
    if kind in ("integers", "numbers"):
        return dtype.is_integer() or (kind == "numbers" and dtype.is_float())
    return dtype == KINDS[kind]


def first_line(error: Exception) -> str:
    """What an error of another library says, as far as it fits into a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
