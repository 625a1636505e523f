"""Where what a run leaves in JSON becomes dataclasses, and comes back: one way for its result and for the records of its stages.

What an older version wrote is read as long as it has what a file of that version had: what came later has a default. Anything else is
refused in a sentence. The sentences have no subject: they follow on the name of a file or a folder.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from memgrid.errors import UserError
from memgrid.io.digests import json_object
from memgrid.io.paths import VERSION

if TYPE_CHECKING:
    from dataclasses import Field
    from typing import ClassVar

    from pydantic import TypeAdapter

    class Versioned(Protocol):
        """A dataclass that says which version of memgrid wrote it; empty before versions were noted."""

        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

        @property
        def memgrid(self) -> str:
            """The version."""

    Content = TypeVar("Content", bound=Versioned)


@cache
def adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """What checks and converts a dataclass; imported late, since a refusal can do without it."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def encode(content: Versioned) -> dict[str, Any]:
    """The content of a file, with the version that writes it."""
    plain: dict[str, Any] = adapter(type(content)).dump_python(replace(content, memgrid=VERSION), mode="json", by_alias=True)
    return plain


def parse(text: bytes | str, name: str, again: str) -> dict[str, Any]:
    """The object that a file of JSON holds.

    Args:
        name: of the file. again: what to do about it, both for the sentence.

    Raises:
        UserError: the file is damaged.
    """
    plain = json_object(text)
    if plain is None:
        raise UserError(f"its {name} is damaged: {again}")
    return plain


def decode(kind: type[Content], plain: dict[str, Any], name: str, again: str) -> Content:
    """The dataclass that an object stands for.

    Raises:
        UserError: another version wrote what this one cannot read.
    """
    from pydantic import ValidationError

    try:
        content: Content = adapter(kind).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        lack = f"has no {place}" if first["type"] == "missing" else f"holds something else under {place}"
        raise UserError(f"{writer(plain)} wrote it (its {name} {lack}): {again}") from None
    return content


def writer(plain: dict[str, Any]) -> str:
    """Which version wrote an object, as the subject of a sentence."""
    return f"version {plain['memgrid']} of memgrid" if plain.get("memgrid") else "another version of memgrid"
