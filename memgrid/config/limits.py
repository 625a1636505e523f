"""What a setting can be: limits beside the field that they limit, and the one checker that refuses what is outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any

from memgrid.errors import UserError
from memgrid.io.commands import nearest

KEY, SECTION = "limits", "section"


@dataclass(frozen=True)
class Limits:
    """Limits of one setting; None and empty: there is none. A value of None, where the field's type has it, is no number and is allowed.

    Of a setting that is a list, every value has these limits.

    Attributes:
        least, most: the lowest and the highest number, both allowed. above: a number that is too low itself.
        choices: the allowed words.
        product: of a field that holds one value or a list of at least one, the type of the values: whatever else it holds is refused.
        sentence: what is said of a value outside, after `key=value `; the usual sentence without.
        form: how the value is written there.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    product: type | None = None
    sentence: str = ""
    form: str = ""

    def allow(self, value: Any) -> bool:
        """Whether one value is within them."""
        if self.product is not None and (not isinstance(value, self.product) or isinstance(value, bool)):
            return False
        if self.choices:
            return value in self.choices
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
        )

    def outside(self, value: Any) -> list[Any]:
        """What is not within them of a setting's value, as it is to be named."""
        listed = list(value) if isinstance(value, list | tuple) else [value]
        if self.product is not None:
            return [] if listed and all(map(self.allow, listed)) else [value]
        return [part for part in listed if part is not None and not self.allow(part)]

    def text(self) -> str:
        """In words, such as `at least 1`, `from 0 to 0.99`, `above 0 and at most 1` or `mean or max`."""
        if self.choices:
            return " or ".join(self.choices)
        if self.least is not None and self.most is not None:
            return f"from {plain(self.least)} to {plain(self.most)}"
        bounds = (("at least", self.least), ("above", self.above), ("at most", self.most))
        return " and ".join(f"{word} {plain(number)}" for word, number in bounds if number is not None)

    def refusal(self, key: str, value: Any) -> str:
        """One sentence: the key, the value, the allowed ones."""
        if self.sentence:
            what = self.sentence
        elif self.product is not None:
            what = f"is not usable: give one value or a list of values, {self.text().removeprefix('from ')}"
        elif self.choices:
            what = f"is unknown: use {self.text()}{nearest(str(value), self.choices)}"
        else:
            what = f"is {'out of range' if self.most is not None else 'too small'}: it must be {self.text()}"
        return f"{key}={value:{self.form}} {what}" if self.form else f"{key}={value} {what}"


def plain(number: float) -> str:
    """A number as people write it: without a fraction where it has none."""
    return str(int(number)) if float(number).is_integer() else str(number)


def limits(**given: Any) -> dict[str, Any]:
    """Limits as the metadata of a field: `count: int = field(default=1, metadata=limits(least=1))`; the arguments are those of `Limits`."""
    return {KEY: Limits(**given)}


def limits_of(setting: Field[Any]) -> Limits | None:
    """The limits of a field, or None."""
    return setting.metadata.get(KEY)


def section(*keys: str) -> dict[str, Any]:
    """As metadata: the field holds settings by these names and no others, since Python keeps one for itself, such as `from`."""
    return {SECTION: keys}


def keys_of(setting: Field[Any]) -> tuple[str, ...]:
    """The keys of a field that is a section; empty of any other."""
    return setting.metadata.get(SECTION, ())


def refuse_value(schema: Any, name: str, value: Any, prefix: str = "") -> None:
    """Raise UserError for a value that the field `name` of a dataclass, or of its type, cannot have; `prefix` stands before its name."""
    refuse_outside(next(setting for setting in fields(schema) if setting.name == name), value, prefix)


def refuse_outside(setting: Field[Any], value: Any, prefix: str = "") -> None:
    """Raise UserError for a value outside the limits of its field, of a list the first one."""
    limited = limits_of(setting)
    outside: Sequence[Any] = () if limited is None else limited.outside(value)
    if limited is not None and outside:
        raise UserError(limited.refusal(f"{prefix}{setting.name}", outside[0]))


def refuse_outside_limits(settings: Any, prefix: str = "") -> None:
    """Raise UserError for the first value outside the limits of its field, in a dataclass and in those that it holds."""
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if is_dataclass(value):
            refuse_outside_limits(value, f"{prefix}{setting.name}.")
        else:
            refuse_outside(setting, value, prefix)
