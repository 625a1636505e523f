"""The words of the commands that Hydra does not compose: read from a declaration, and explained from it."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import refusal

from memgrid.errors import UserError
from memgrid.io.commands import Command, explained, key, nearest, parsed, start
from memgrid.report.__main__ import COMMAND as REPORT
from memgrid.status import COMMAND as STATUS
from memgrid.store.__main__ import COMMAND as STORE
from memgrid.store.__main__ import Export, Info, Verify
from memgrid.tracking.__main__ import COMMAND as TRACKING
from memgrid.tracking.__main__ import Dashboard, Sync

DECLARED = [STATUS, REPORT, STORE, TRACKING]


def test_what_is_typed_becomes_typed_values():
    assert parsed(STATUS, ["state=failed", "root=a=b"]) == type(parsed(STATUS, []))(Path("a=b"), "failed")
    assert parsed(STATUS, []).root == Path("memgrid-runs")
    assert parsed(REPORT, ["flow=rasy,recite"]).flow == ("rasy", "recite")
    assert parsed(REPORT, []).flow == ("prashanth", "rasy")
    assert parsed(STORE, ["verify", "folder=a", "folder=b"]) == Verify([Path("a"), Path("b")], None)
    assert parsed(STORE, ["info", "root=./~/[x](1), y"]) == Info([], Path("~/[x](1), y"))  # a path as it stands: nothing is unquoted
    assert parsed(STORE, ["export", "out=c.h5", "ids=1,2", "folder=a"]) == Export(Path("a"), "1,2", Path("c.h5"))
    assert parsed(TRACKING, ["sync"]) == Sync(Path("memgrid-runs"))
    assert parsed(TRACKING, ["dashboard", "entity=007"]) == Dashboard("007", "memgrid")


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        (
            STATUS,
            ["rot=x"],
            "status knows only root=<folder>, state=<state>, forget=<state> and watch=<seconds>, not rot=x (did you mean root=?)",
        ),
        (
            STATUS,
            ["root"],
            "status knows only root=<folder>, state=<state>, forget=<state> and watch=<seconds>, not root (did you mean root=?)",
        ),
        (
            STATUS,
            ["root=a", "elephant"],
            "status knows only root=<folder>, state=<state>, forget=<state> and watch=<seconds>, not elephant",
        ),
        (STATUS, ["root=~/a"], "root=~/a cannot be read: no shell replaces ~ there, so write root=$HOME/a"),
        (STORE, ["export", "out=~"], "out=~ cannot be read: no shell replaces ~ there, so write out=$HOME"),
        (STATUS, ["root="], "root= gives status no value: write root=<folder>, or leave it out"),
        (STATUS, ["root=a", "root=b"], "root= is given 2 times to status: give it once"),
        (STATUS, ["state=lost"], "state=lost is unknown: use done, running, queued, failed, stopped, missing"),
        (
            REPORT,
            ["owt=x"],
            "the report knows only root=<folder>, out=<folder>, sort=min_f1|worst_pair, flow=<taxonomy>,<taxonomy>, style=ours|paper and "
            "text=true|false, not owt=x",
        ),
        (REPORT, ["flow=rasy"], "flow=rasy does not name two taxonomies: write <taxonomy>[@<threshold>=<value>],<taxonomy>"),
        (STORE, [], "'' is no command: use verify, info, export, such as `python -m memgrid.store verify`"),
        (
            STORE,
            ["verfy"],
            "'verfy' is no command: use verify, info, export, such as `python -m memgrid.store verify` (did you mean verify?)",
        ),
        (STORE, ["export", "ids=1"], "store export needs folder=...: such as `memgrid store export folder="),
        (TRACKING, ["sync", "rot=a"], "tracking sync knows only root=<folder>, not rot=a (did you mean root=?)"),
        (TRACKING, ["root=x"], "'root=x' is no command: use sync, dashboard"),
    ],
)
def test_mistakes_are_one_sentence_that_names_the_mend(command, words, told):
    assert refusal(parsed, command, words).startswith(told)


@pytest.mark.parametrize("command", DECLARED, ids=lambda command: command.name)
def test_help_has_usage_keys_and_examples_that_are_understood(command):
    shown = explained(command)
    assert "\nUsage: memgrid " in shown
    assert all(len(line) <= 140 for line in shown.splitlines())
    for example in command.examples:
        name, *words = example.split()
        assert name == command.name
        parsed(command, words)
        assert f"memgrid {example}" in shown


def test_defaults_are_told_as_they_would_be_typed():
    @dataclass
    class Words:
        several: list[str] = key("<word>", "many", several=True)
        pair: tuple[str, str] = key("<a>,<b>", "two", ("a", "b"))
        none: str | None = key("<word>", "one", None)

    lines = explained(Command("status", "Nothing.", Words, {}))
    assert "two (a,b if nothing is said)" in lines
    assert "[several=<word> ...] [pair=<a>,<b>] [none=<word>]" in lines


def test_only_what_is_like_a_known_word_is_suggested():
    assert nearest("taxonmy", ["taxonomy", "cnn"]) == " (did you mean taxonomy?)"
    assert nearest("elephant", ["taxonomy", "cnn"]) == ""
    assert nearest("", ["taxonomy"]) == ""


@pytest.mark.parametrize(("outcome", "code"), [(None, None), (1, 1), (UserError("told"), "memgrid: told"), (KeyboardInterrupt(), 130)])
def test_a_command_ends_with_a_status_or_a_sentence(outcome, code, monkeypatch):
    def main(words):
        assert words == ["root=a"]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(sys, "argv", ["x", "root=a"])
    with pytest.raises(SystemExit) as end:
        start(main)
    assert end.value.code == code
