"""The commands: their names, how each starts and ends, and the words of those that Hydra does not compose (a declaration of them).

Nothing heavy is imported here: a refusal, `--help` and `--version` cost no more than Python's own start.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from memgrid.errors import UserError

COMMANDS = {
    "run": "label, extract, train, and what comes after, of one setting or of a sweep",
    "status": "which runs and audits are done, running, failed (and why), stopped or missing",
    "report": "tables, figures and one page for all finished runs",
    "audit": "which samples of a data set a classifier memorizes",
    "trace": "the training documents in which a sequence stands",
    "export": "labels, samples, predictions and decision maps as a data set that others can load",
    "store": "check, describe or carry home stored attention",
    "tracking": "push offline wandb runs, or save the dashboard",
    "pretrain": "make the embedded model again",
}
MODULES = {"trace": "pipeline", "export": "pipeline.face"}  # commands whose module has another name
HELP = {"-h", "--help"}
READER_GONE = 141  # as a shell tells that a process wrote to a pipe that nobody reads any more
LINE, WIDEST_CELL = 118, 44  # characters of what `--help` prints
OVERVIEW = """\
memgrid: does a language model guess the training text it reproduces, or does it recall it?

Usage: memgrid <command> [key=value ...]
       memgrid [key=value ...]              the same as memgrid run

Commands:
{commands}

Examples:
  memgrid                                                      the whole experiment on the embedded model
  memgrid taxonomy=rasy rho=0.5                                one setting
  memgrid -m taxonomy=rasy,guess_recite delta=40,60            a sweep
  memgrid status                                               what is done
  memgrid report                                               what came out

memgrid <command> --help says what its keys mean; memgrid --version tells the version. python -m memgrid is the same command."""


@dataclass(frozen=True)
class Command:
    """A command whose words are read here.

    Attributes:
        name: as it is typed after `memgrid`.
        purpose: a sentence or two for `--help`.
        keys: a dataclass of `key`s; or several, by the word that is typed before them, such as `verify`.
        examples: what is typed after `memgrid` → what it does.
        subject: what refusals call it; the name if nothing is said.
    """

    name: str
    purpose: str
    keys: type | Mapping[str, type]
    examples: Mapping[str, str]
    subject: str = ""


def key(shown: str, meaning: str, default: Any = MISSING, read: Callable[[str], Any] = str, several: bool = False) -> Any:
    """A field of a command's dataclass.

    Args:
        shown: what is to be typed as its value, such as `<folder>`. meaning: for `--help`.
        default: without one, the key must be given.
        read: makes the value of what was typed, which is taken as it is: a path may hold whatever it likes.
        several: whether it may be given more than once; then its value is a list.
    """
    metadata = {"shown": shown, "meaning": meaning, "read": read, "several": several}
    return field(default_factory=list, metadata=metadata) if several else field(default=default, metadata=metadata)


def parsed(command: Command, words: Sequence[str]) -> Any:
    """What was typed after a command's name, as an instance of its dataclass.

    Raises:
        UserError: a word is unknown, has no value, is given twice or is missing.
    """
    if not isinstance(command.keys, Mapping):
        return filled(command.keys, words, command.subject or command.name, command)
    first = words[0] if words else ""
    if first not in command.keys:
        near = nearest(first, command.keys)
        known, example = ", ".join(command.keys), f"such as `python -m memgrid.{command.name} {next(iter(command.keys))}`"
        raise UserError(f"{first!r} is no command: use {known}, {example}{near}")
    return filled(command.keys[first], words[1:], f"{command.name} {first}", command)


def filled(keys: type, words: Sequence[str], subject: str, command: Command) -> Any:
    """An instance of one dataclass; see `parsed`."""
    declared = {declaration.name: declaration for declaration in fields(keys)}
    given: dict[str, list[Any]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in declared or not equals:
            usable = [f"{declaration.name}={declaration.metadata['shown']}" for declaration in declared.values()]
            raise UserError(f"{subject} knows only {listed(usable, 'and')}, not {word}{nearest(name, declared, '=')}")
        if not value:
            raise UserError(f"{word} gives {subject} no value: write {name}={declared[name].metadata['shown']}, or leave it out")
        if declared[name].metadata["read"] is Path and (home := refusal_of_home(name, value)):
            raise UserError(home)
        given.setdefault(name, []).append(declared[name].metadata["read"](value))
    for name, values in given.items():
        if len(values) > 1 and not declared[name].metadata["several"]:
            raise UserError(f"{name}= is given {len(values)} times to {subject}: give it once")
    for name, declaration in declared.items():
        if needed(declaration) and name not in given:
            example = next((typed for typed in command.examples if typed.startswith(subject)), subject)
            raise UserError(f"{subject} needs {name}=...: such as `memgrid {example}`")
    return keys(**{name: values if declared[name].metadata["several"] else values[0] for name, values in given.items()})


def refusal_of_home(key: str, value: str) -> str | None:
    """The sentence for a path that begins with ~, which would be a folder of that name; None for any other text."""
    if not re.match(r"~[\w.-]*(/|$)", value):
        return None
    mend = f"$HOME{value[1:]}" if value[1:2] in ("", "/") else f"<folder>{value[value.find('/') :] if '/' in value else ''}"
    return f"{key}={value} cannot be read: no shell replaces ~ there, so write {key}={mend}"


def needed(declaration: Field[Any]) -> bool:
    """Whether a key must be given."""
    return declaration.default is MISSING and declaration.default_factory is MISSING


def nearest(word: str, known: Sequence[str] | Mapping[str, Any], ending: str = "") -> str:
    """` (did you mean delta?)`, or nothing if no known word is like it."""
    near = get_close_matches(word.lower(), list(known), 1, 0.7)
    return f" (did you mean {near[0]}{ending}?)" if near else ""


def listed(words: Sequence[str], last: str) -> str:
    """`a, b and c`."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def explained(command: Command) -> str:
    """What `memgrid <command> --help` prints."""
    several = command.keys if isinstance(command.keys, Mapping) else {"": command.keys}
    usage, keys = [], list[str]()
    for word, of in several.items():
        shown = {
            f"{declaration.name}={declaration.metadata['shown']}" + " ..." * declaration.metadata["several"]: declaration
            for declaration in fields(of)
        }
        optional = [text if needed(declaration) else f"[{text}]" for text, declaration in shown.items()]
        usage.append(" ".join(filter(None, ("memgrid", command.name, word, *optional))))
        keys += ["", f"Keys of {word}:" if word else "Keys:"]
        usual = {text: f" ({default_of(one)} if nothing is said)" if default_of(one) else "" for text, one in shown.items()}
        keys += columns({text: one.metadata["meaning"] + usual[text] for text, one in shown.items()})
    lines = [f"memgrid {command.name}: {COMMANDS[command.name]}", "", fill(command.purpose, LINE), ""]
    lines += [fill(line, LINE, initial_indent="       " if n else "Usage: ", subsequent_indent=" " * 15) for n, line in enumerate(usage)]
    typed = f"python -m memgrid{' ' if command.name in MODULES else '.'}{command.name}"
    lines += [f"       ({typed} is the same)", *keys, "", *examples(command.examples)]
    return "\n".join(lines)


def examples(typed: Mapping[str, str]) -> list[str]:
    """The lines of `--help` that show what is typed, and what it does."""
    return ["Examples:", *columns({f"memgrid {words}": does for words, does in typed.items()})]


def default_of(declaration: Field[Any]) -> str:
    """The default of a key as it would be typed; empty where it has none."""
    default = ",".join(declaration.default) if isinstance(declaration.default, tuple) else declaration.default
    return "" if default is MISSING or default is None else str(default).lower() if isinstance(default, bool) else str(default)


def columns(rows: Mapping[str, str], indent: str = "  ") -> list[str]:
    """Two columns as lines, the second wrapped; a first cell that is too long for its column has a line of its own."""
    width = min(max(map(len, rows), default=0), WIDEST_CELL)
    lines: list[str] = []
    for first, second in rows.items():
        start = f"{indent}{first:{width}}  "
        if len(first) > width:
            lines, start = [*lines, f"{indent}{first}"], f"{indent}{'':{width}}  "
        wrapped = fill(second, LINE, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False).splitlines()
        lines += wrapped or [start.rstrip()]
    return lines


def overview() -> str:
    """What `memgrid --help` prints."""
    return OVERVIEW.format(commands="\n".join(columns(COMMANDS)))


def start(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Do what `main` does with the words that were typed, and end: with 0, or with one sentence and 1."""
    with any_terminal():
        try:
            refuse_unreadable(sys.argv[1:])
            sys.exit(main(sys.argv[1:]))
        except UserError as error:
            sys.exit(f"memgrid: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as error:
            from memgrid.io.files import disk_trouble  # imports what a refusal can do without

            if reader_has_gone(error) or (trouble := disk_trouble(error)) is None:
                raise
            sys.exit(f"memgrid: {trouble}")


@contextmanager
def any_terminal() -> Iterator[None]:
    """Inside, everything can be printed, whatever stdout and stderr are; a process whose reader has gone ends, and says nothing.

    A character that a stream cannot show is shown as an escape. A stream that is closed swallows what is printed: its number must not
    become that of a file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    with (
        redirect_stdout(sys.stdout or os.fdopen(1, "w", closefd=False)) as out,
        redirect_stderr(sys.stderr or os.fdopen(2, "w", closefd=False)) as err,
    ):
        for stream in (out, err):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            try:
                yield
            finally:
                out.flush()
                err.flush()
        except BrokenPipeError as error:
            if not reader_has_gone(error):
                raise
            end_without_reader()


def reader_has_gone(error: BaseException) -> bool:
    """Whether an error is that nobody reads any more what this process prints, such as in `memgrid status | head`."""
    if not isinstance(error, BrokenPipeError):
        return False
    streams = select.poll()
    for number in (1, 2):
        streams.register(number, 0)
    return any(event & select.POLLERR for _, event in streams.poll(0))


def end_without_reader() -> NoReturn:
    """End as other programs do when their reader has gone; what is still to be printed goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    sys.exit(READER_GONE)


def refuse_unreadable(words: Sequence[str]) -> None:
    """Raise UserError for a word with a character that the encoding of this environment does not know: no file could be named by it."""
    for word in words:
        if any("\udc80" <= sign <= "\udcff" for sign in word):
            raise UserError(
                f"{ascii(word)[1:-1]} is not in the encoding of this environment, {sys.getfilesystemencoding()}: set PYTHONUTF8=1 where it "
                "is UTF-8, or use another name"
            )


def unknown_command(word: str) -> str:
    """The sentence for a word that is no command."""
    return f"{word} is no command: use {listed(list(COMMANDS), 'or')}, or key=value for a run{nearest(word, COMMANDS)}"


def refuse_other_modules(module: str) -> None:
    """End with 2 if `python -m <module>` would do nothing: of memgrid's modules the commands alone do something.

    Args:
        module: as it was typed after -m.
    """
    module = module.removeprefix("-m").strip()
    if module != "memgrid" and not module.startswith("memgrid."):
        return  # another package, which imports this one
    name = module.removeprefix("memgrid").removeprefix(".").removesuffix("__main__").removesuffix(".")
    if name and (name not in COMMANDS or name in MODULES):
        near = nearest(name, COMMANDS) or nearest(name.partition(".")[0], COMMANDS)
        known = f"python -m memgrid.<command> knows {', '.join(command for command in COMMANDS if command not in MODULES)}{near}"
        known = f"python -m memgrid {name} is" if name in MODULES else known
        print(f"memgrid: memgrid.{name} is no command: {known}", file=sys.stderr)
        sys.exit(2)
