"""What `flow=` is given: two taxonomies, each with thresholds where it is not asked for at the usual ones: `prashanth@delta=5,rasy`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memgrid.config.limits import plain, refuse_value
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.commands import nearest

PAIR = ("prashanth", "rasy")
FORM = "<taxonomy>[@<threshold>=<value>]"
EXAMPLE = "flow=prashanth@delta=5,rasy"
NUMBERS = {"delta": int, "rho": float}  # of the thresholds that every run has; `rouge` is a word
KINDS = {int: "whole number", float: "number"}
Value = int | float | str


@dataclass(frozen=True)
class Asked:
    """A taxonomy by its name, and the thresholds that were given with it; those of the taxonomy's own are numbers."""

    name: str
    given: Mapping[str, Value] = field(default_factory=dict)

    def text(self) -> str:
        """As it is typed."""
        return "@".join([self.name, *(f"{key}={value if isinstance(value, str) else plain(value)}" for key, value in self.given.items())])


def pair_of(word: str) -> tuple[str, str]:
    """Two taxonomies that were typed with a comma.

    Raises:
        UserError: there are not two, or one of them is not what `asked` can read.
    """
    sides = tuple(word.split(","))
    if len(sides) != 2:
        raise UserError(f"flow={word} does not name two taxonomies: write {FORM},{FORM}, such as {EXAMPLE}")
    for side in sides:
        asked(side)
    return sides


def asked(word: str) -> Asked:
    """What `<taxonomy>@<threshold>=<value>@…` says; whether there are such a taxonomy and such thresholds of its own is not looked at.

    Raises:
        UserError: a part is empty, a threshold is given twice, or a value cannot be its value.
    """
    name, *parts = word.split("@")
    if not name:
        raise UserError(f"flow={word} names no taxonomy: write {FORM}, such as {EXAMPLE}")
    given: dict[str, Value] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if not key or not value:
            raise UserError(f"flow={word} has {part!r} where a threshold and its value belong: write {FORM}, such as {EXAMPLE}")
        if key in given:
            raise UserError(f"flow={word} gives {key} twice: give it once")
        given[key] = value_of(word, key, value)
    return Asked(name, given)


def value_of(word: str, key: str, value: str) -> Value:
    """The value of a threshold; raises as `asked`."""
    if key == "rouge":
        found: Value = value
    else:
        kind = NUMBERS.get(key, float)
        try:
            found = kind(value)
        except ValueError:
            raise UserError(f"flow={word} gives {key} the value {value!r}: give it a {KINDS[kind]}, such as {EXAMPLE}") from None
        if found != found:  # NaN compares with nothing
            raise UserError(f"flow={word} gives {key} the value {value!r}: give it a {KINDS[kind]}, such as {EXAMPLE}")
    if key in NUMBERS or key == "rouge":
        try:
            refuse_value(RunConfig, key, found)
        except UserError as error:
            raise UserError(f"flow={word} cannot be: {error}") from None
    return found


def refuse_unread(word: Asked, reads: Mapping[str, bool]) -> None:
    """Raise UserError for a threshold that the taxonomy does not have, or that divides nothing there.

    Args:
        reads: the thresholds that there are → whether the taxonomy depends on each.
    """
    used = [key for key, is_read in reads.items() if is_read]
    use = f"it reads {', '.join(used)}" if used else "it reads none"
    for key in word.given:
        if key not in reads:
            raise UserError(f"flow={word.text()} gives {word.name} the unknown threshold {key}{nearest(key, list(reads))}: {use}")
        if not reads[key]:
            raise UserError(f"flow={word.text()} would change nothing: {word.name} does not read {key}, leave it out ({use})")
