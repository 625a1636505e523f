"""Writes docs/settings.md (`make docs`) from the schemas, their limits, and the comments of conf/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from omegaconf import OmegaConf

from memgrid.audit.run import COMMAND as AUDIT
from memgrid.config.describe import LAUNCHERS, Composed, Setting, choices, comments, groups, header, settings, shown
from memgrid.io.commands import COMMANDS, Command, default_of, needed
from memgrid.pipeline.__main__ import COMMAND as TRACE
from memgrid.pipeline.face.__main__ import COMMAND as EXPORT
from memgrid.pretrain.__main__ import COMMAND as PRETRAIN
from memgrid.report.__main__ import COMMAND as REPORT
from memgrid.run import COMMAND as RUN
from memgrid.status import COMMAND as STATUS
from memgrid.store.__main__ import COMMAND as STORE
from memgrid.tracking.__main__ import COMMAND as TRACKING

PAGE = Path(__file__).with_suffix(".md")
COMPOSED, OTHERS = (RUN, AUDIT, PRETRAIN), (STATUS, REPORT, TRACE, EXPORT, STORE, TRACKING)
PREFACE = """\
# Settings

<!-- Written by `make docs` from the schema and from the comments of conf/: change those. -->

Every setting of every command; each command prints its own with `--help`. Keys are typed as `key=value`, groups as `group=choice`; a
choice is a file in `conf/<group>/` (or in a folder of your own, with `--config-dir`) that sets several keys at once. With `-m`, both may
have several values, with commas or as `glob(*)` and `range(0,8)`: a sweep.

A value in which there are other signs than letters, digits and `/._-` is given in quotes within quotes: `'corpus.path="/a=b"'`. What is
empty in the column "may be" is refused only if its type is wrong.
"""


def code(text: str) -> str:
    """A span of code, if there is something in it."""
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Text in which Markdown sees no HTML: what is in angle brackets outside of code is a placeholder."""
    return "`".join(part if n % 2 else part.replace("<", "&lt;") for n, part in enumerate(text.split("`")))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def keys_table(rows: Sequence[Setting]) -> str:
    """The keys of a group."""
    return table(
        ["key", "if nothing is said", "may be", "what it means"],
        [[f"`{one.key}`", f"`{one.default}`", one.allowed, prose(one.meaning)] for one in rows],
    )


def choices_table(group: str, usual: str | None) -> str:
    """The choices of a group."""
    title = f"`{group}={usual}` if nothing is said." if usual else f"No `{group}=` if nothing is said."
    return f"{title}\n\n" + table(["choice", "what it is"], [[f"`{name}`", prose(header(path))] for name, path in choices(group).items()])


def launcher_table(name: str) -> str:
    """The keys of a launcher: its file has them all."""
    path = choices(LAUNCHERS)[name]
    meanings = comments(path)
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(content, dict)
    rows = [
        [f"`hydra.launcher.{key}`", f"`{shown(value)}`", prose(meanings.get(str(key), ""))]
        for key, value in content.items()
        if key != "defaults"
    ]
    return table(["key", "if nothing is said", "what it means"], rows)


def section(composed: Composed, before: Mapping[str, str]) -> str:
    """A command that Hydra composes: a heading for each group, with its choices and its keys.

    Args:
        before: groups whose choices are already on the page → the command whose they are.
    """
    offered = groups(composed.name)
    inside: dict[str, list[Setting]] = {}
    for one in settings(composed):
        group, dot, _ = one.key.partition(".")
        inside.setdefault(group if dot or group in offered else "", []).append(one)
    parts = [
        f"## memgrid {composed.name}\n\n{composed.purpose}\n",
        f"### {composed.name}: keys without a group\n\n{keys_table(inside.pop(''))}",
    ]
    for group in [*offered, *(name for name in inside if name not in offered)]:
        parts.append(f"### {composed.name}: {group}\n")
        if group in offered and group in before:
            anchor = f"{before[group]}-{group.replace('/', '')}"
            parts.append(f"The choices are those of [{before[group]}: {group}](#{anchor}).\n")
        elif group in offered:
            parts.append(choices_table(group, offered[group]))
            parts += [f"Keys of `{group}={name}`:\n\n{launcher_table(name)}" for name in choices(group) if group == LAUNCHERS]
        parts += [keys_table(inside[group])] if group in inside else []
    return "\n".join(parts)


def short_section(command: Command) -> str:
    """A command whose words Hydra does not compose."""
    several = command.keys if isinstance(command.keys, Mapping) else {"": command.keys}
    parts = [f"## memgrid {command.name}\n\n{COMMANDS[command.name].capitalize()}. {command.purpose}\n"]
    for word, keys in several.items():
        rows = [
            [
                f"`{one.name}={one.metadata['shown']}`",
                "must be given" if needed(one) else code(default_of(one)),
                prose(one.metadata["meaning"]),
            ]
            for one in fields(keys)
        ]
        parts.append(
            (f"`memgrid {command.name} {word}`:\n\n" if word else "") + table(["key", "if nothing is said", "what it means"], rows)
        )
    return "\n".join(parts)


def page() -> str:
    """The whole page."""
    parts, seen = [PREFACE], dict[str, str]()
    for composed in COMPOSED:
        parts.append(section(composed, seen))
        seen = dict.fromkeys(groups(composed.name), composed.name) | seen
    return "\n".join([*parts, *map(short_section, OTHERS)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
