"""What people see: consoles, progress bars, and tables for them and their programs, in which text is only text, whoever wrote it.

Names of classes, models and folders come from users, and errors from files that others may write in a shared root: none of them may be a
formula, a link, HTML or a command to a terminal. Progress bars appear on a terminal only: a log file gets whole lines.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import length_hint
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from memgrid.io.commands import end_without_reader

if TYPE_CHECKING:
    import polars as pl

# What a spreadsheet takes for the beginning of a formula, in its own width and in that of East Asian letters.
FORMULA = r"^\s*[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]|^[\t\r\n]"
# Signs that Markdown would read; the underscore within a word is none of them.
SIGNS = re.compile(r"[\\|\[\]`*~$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=\bwww)\.", re.I)
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
Item = TypeVar("Item")
# What moves a cursor, ends a line, or turns the order of the letters after it.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class PlainConsole(Console):
    """A console on which every text is only text, whoever wrote it: no markup, no emoji codes."""

    def __init__(self, width: int | None = None) -> None:
        super().__init__(width=width, markup=False, emoji=False)

    def on_broken_pipe(self) -> NoReturn:
        """Rich calls this when nobody reads any more."""
        end_without_reader()


def probability(p: float) -> str:
    """A p as sentences give it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def on_terminal() -> bool:
    """Whether somebody watches."""
    return sys.stdout.isatty()


class Watcher:
    """Who wants to know how far work is, whether or not a bar is shown; this one does not."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def step(self, what: str, done: float, total: float | None, ordinal: bool = False) -> None:
        """So much of something is done; an `ordinal` something, such as an epoch, is told as `epoch 3 of 15`, the third being at work."""


WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Inside, whoever does something tells this one how far it is."""
    token = WATCHER.set(watcher)
    try:
        yield
    finally:
        WATCHER.reset(token)


def watcher() -> Watcher:
    """Who is to be told."""
    return WATCHER.get() or Watcher()


class Bar(Progress):
    """A progress bar that tells the watcher, too. rich calls `advance`, from a thread of its own perhaps, which knows no ContextVar."""

    def __init__(self, *columns: Any, **options: Any) -> None:
        super().__init__(*columns, **options)
        self.told = watcher()

    def add_task(  # type: ignore[override]
        self, description: str, total: float | None = None, completed: int = 0
    ) -> TaskID:
        """Something to be done, of which some may be done already."""
        self.told.step(description, completed, total)
        return super().add_task(description, total=total, completed=completed)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """So much more is done."""
        super().advance(task_id, advance)
        task = self._tasks[task_id]
        self.told.step(task.description, task.completed, task.total)

    def track(  # type: ignore[override]
        self, sequence: Iterable[Item], description: str, total: float | None = None
    ) -> Iterator[Item]:
        """The elements of a sequence, each of which is done when the next is asked for."""
        task = self.add_task(description, total or length_hint(sequence) or None)
        for element in sequence:
            yield element
            self.advance(task)


def progress_bar(wanted: bool = True, telling: bool = True) -> Bar:
    """A bar, if wanted, that says what is done, how much of it, and how long it takes; gone when it is finished.

    Args:
        telling: tell the watcher the same; otherwise whoever is inside tells it better.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Bar(*columns, transient=True, disable=not (wanted and on_terminal()))
    bar.told = bar.told if telling else Watcher()
    return bar


def duration(seconds: float) -> str:
    """Such as `about 40 s`, `about 12 min` or `about 30 h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {seconds:.0f} s"


def csv_text(table: pl.DataFrame) -> str:
    """A table as CSV: numbers bare, all text in quotes; text that begins like a formula has an apostrophe before it."""
    import polars as pl

    texts = [pl.col(name) for name, kind in table.schema.items() if kind == pl.String]
    defended = table.with_columns(pl.when(text.str.contains(FORMULA)).then("'" + text).otherwise(text).name.keep() for text in texts)
    headings = {name: f"'{name}" for name in table.columns if re.match(r"\s*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]", name)}
    return defended.rename(headings).write_csv(quote_style="non_numeric")


def markdown_text(table: pl.DataFrame, shown: Callable[[str, Any], str]) -> str:
    """A table as Markdown, in which every cell is plain text.

    Args:
        shown: the text of a value in a column.
    """
    lines = ["| " + " | ".join(map(escaped, table.columns)) + " |", "|" + "---|" * table.width]
    for row in table.iter_rows(named=True):
        lines.append("| " + " | ".join(escaped(shown(name, value)) for name, value in row.items()) + " |")
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that stays in its cell of a Markdown table and is read as it stands."""
    for sign, entity in ENTITIES.items():
        text = text.replace(sign, entity)
    return SIGNS.sub(r"\\\g<0>", CONTROL.sub(" ", text))


def visible(text: str) -> str:
    """Text without characters that would move a terminal's cursor or change its colours: they are shown as escapes."""
    return CONTROL.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


@contextmanager
def sentences_for_warnings() -> Iterator[None]:
    """Inside, our own warnings are told as a sentence."""
    with warnings.catch_warnings():
        warnings.showwarning = show_warning  # type: ignore[assignment]
        yield


def show_warning(message: Warning | str, category: type[Warning], *where: object) -> None:
    """Our own warnings as a sentence, without the line of code that Python adds; the others as ever."""
    own = category.__module__.startswith("memgrid.")
    print(f"memgrid: {message}" if own else warnings.formatwarning(message, category, *where[:2]), file=sys.stderr)  # type: ignore[arg-type]


def plural(number: int, word: str) -> str:
    """Such as `3 runs`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
