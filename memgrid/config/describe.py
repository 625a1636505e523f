"""What there is to set: every group with its choices, and every key with its default, what it may be, and its comment in conf/.

`--help` prints it, and `make docs` writes docs/settings.md of it; both come from the schema, from what validation refuses, and from conf/.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from omegaconf import DictConfig, OmegaConf

from memgrid.errors import UserError
from memgrid.io.commands import COMMANDS, LINE, columns, examples, listed
from memgrid.io.paths import CONF

NOT_SETTINGS = ("defaults", "hydra")
LAUNCHERS = "hydra/launcher"
FAR = 10**12  # no setting is so large, or so small
OPTIONS = {
    "-m": "a sweep: keys may have several values, with commas or as glob(*) and range(0,8), and all combinations are done",
    "--config-dir <folder>": "where files of your own are, such as <folder>/taxonomy/mine.yaml for taxonomy=mine",
    "--cfg job": "print the settings that would be used, and do nothing",
    "--hydra-help": "what else Hydra understands",
}

WITH_GROUPS = ("-m", "--config-dir <folder>")


@dataclass(frozen=True)
class Composed:
    """A command whose settings Hydra composes from conf/<name>.yaml.

    Attributes:
        name: as it is typed after `memgrid`.
        schema: the dataclass of all settings.
        validate: raises UserError for settings that are refused.
        purpose: a sentence or two.
        examples: what is typed after `memgrid` → what it does.
    """

    name: str
    schema: type
    validate: Callable[[Any], None]
    purpose: str
    examples: Mapping[str, str]


@dataclass(frozen=True)
class Setting:
    """A key: how its default is typed, what it may be (empty where nothing is refused but a wrong type), and what it means."""

    key: str
    default: str
    allowed: str
    meaning: str


# The comments of conf/


def header(path: Path) -> str:
    """The comment at the beginning of a file: what it is."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def comments(path: Path) -> dict[str, str]:
    """The comment behind each key of a file, by the key with dots."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = re.match(r"""( *)([\w.-]+):(?: ("[^"]*"|'[^']*'|[^#]*?))?(?:\s+# ?(.*))?$""", line)
        if parts:
            depth, name, comment = len(parts[1]), parts[2], parts[4]
            above = [(other, key) for other, key in above if other < depth] + [(depth, name)]
            if comment:
                found[".".join(key for _, key in above)] = comment.strip()
    return found


# The groups


def groups(name: str) -> dict[str, str | None]:
    """The groups of a command and the choice of each if nothing is said, in the order of its defaults list."""
    own = OmegaConf.load(CONF / f"{name}.yaml")
    found = {str(key): value for entry in own.defaults if isinstance(entry, DictConfig) for key, value in entry.items()}
    chosen = {key: value for key, value in found.items() if not key.startswith("override ")}
    return chosen | ({LAUNCHERS: None} if "sweeper" in own.hydra else {})


def choices(group: str) -> dict[str, Path]:
    """The files of a group, by name."""
    return {path.stem: path for path in sorted((CONF / group).glob("*.yaml"))}


# The keys


def defaults(composed: Composed) -> DictConfig:
    """All settings of a command if nothing is said."""
    config = OmegaConf.structured(composed.schema)
    for group, choice in groups(composed.name).items():
        if choice is not None:
            path = choices(group)[choice]
            content = OmegaConf.load(path)
            config = OmegaConf.merge(config, content if "@package _global_" in path.read_text(encoding="utf-8") else {group: content})
    own = OmegaConf.load(CONF / f"{composed.name}.yaml")
    assert isinstance(own, DictConfig)
    merged = OmegaConf.merge(config, OmegaConf.masked_copy(own, [str(key) for key in own if key not in NOT_SETTINGS]))
    assert isinstance(merged, DictConfig)
    return merged


def settings(composed: Composed) -> list[Setting]:
    """Every key of a command, in the order of the schema."""
    run = OmegaConf.to_object(defaults(composed))
    own = comments(CONF / f"{composed.name}.yaml")
    return [
        Setting(
            key,
            shown(value),
            allowed(composed.validate, run, key, value),
            own.get(key) or meaning_in_group(composed.name, key),
        )
        for key, value in leaves(run)
    ]


def leaves(run: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of settings, with dots, and their values."""
    for one in fields(run):
        value = getattr(run, one.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{one.name}.")
        else:
            yield f"{prefix}{one.name}", value


def meaning_in_group(name: str, key: str) -> str:
    """What the files of a key's group say of it, first the file that is chosen if nothing is said."""
    group, _, below = key.partition(".")
    found = groups(name)
    if group not in found:
        return ""
    files = choices(group)
    chosen = [files[choice]] if (choice := found[group]) else []
    said = [comments(path).get(below or group) for path in [*chosen, *files.values()]]
    return next(filter(None, said), "")


def shown(value: Any) -> str:
    """A value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(one)}" for key, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def allowed(validate: Callable[[Any], None], run: Any, key: str, value: Any) -> str:
    """What a key may be: validation is given something that nothing can be, and says what it wants instead."""
    if isinstance(value, bool):
        return "true or false"
    *groups_of_key, name = key.split(".")
    for wrong in impossible(value):
        changed = copy.deepcopy(run)
        holder = changed
        for group in groups_of_key:
            holder = getattr(holder, group)
        setattr(holder, name, wrong)
        try:
            validate(changed)
        except UserError as error:
            if str(error).startswith(f"{key}=") and (told := wanted(str(error))):
                return told
        except (TypeError, ValueError, ArithmeticError):  # not a value that could be typed: the schema refuses its type before
            continue
    return ""


def impossible(value: Any) -> list[Any]:
    """Values that no key can have, of the type of one that it has, or of every type where that cannot be told."""
    if isinstance(value, dict):
        return []
    if isinstance(value, list):
        return [[impossible(value[0])[0]] if value else [-FAR], ["?"], []]
    return [type(value)(-FAR), type(value)(FAR)] if isinstance(value, int | float) else ["?"] if isinstance(value, str) else [-FAR, "?"]


def wanted(sentence: str) -> str:
    """The part of a refusal that says what would be right."""
    found = re.search(r"(?:: use|: give|must be|must have|choose from|divided into) (.*)", sentence)
    if not found:
        return ""
    told = re.split(r", such as|, or leave|, and no slash", found[1])[0]
    told = re.sub(r"(?<=\d)\.0$", "", told)
    words = re.split(r" or |, ", told)
    plain = all(re.fullmatch(r"[\w-]+", word) for word in words)
    return listed(words, "or") if plain and len(words) > 1 else told


# What is printed


def sentence(path: Path) -> str:
    """The first sentence of what a file says it is."""
    return re.split(r"(?<! al)\. ", header(path))[0].rstrip(".")


def helped(composed: Composed) -> str:
    """What `memgrid <command> --help` prints."""
    name, offered = composed.name, groups(composed.name)
    lines = [f"memgrid {name}: {COMMANDS[name]}", "", fill(composed.purpose, LINE), ""]
    lines += [f"Usage: memgrid {name} [key=value ...]" + " [group=choice ...] [-m]" * bool(offered)]
    lines += [f"       (python -m memgrid.{name} is the same)", "", *examples(composed.examples)]
    lines += ["", "Options:", *columns({option: does for option, does in OPTIONS.items() if offered or option not in WITH_GROUPS})]
    for group, choice in offered.items():
        usual = f" ({choice} if nothing is said)" if choice else ""
        lines += ["", f"{group}=<choice>{usual}:", *columns({one: sentence(path) for one, path in choices(group).items()})]
    rows = {f"{one.key}={one.default}": told(one) for one in settings(composed)}
    return "\n".join([*lines, "", "Keys, with what they are if nothing is said:", *columns(rows)])


def told(one: Setting) -> str:
    """A key's meaning, and what it may be, in one line."""
    said = all(word in one.meaning for word in re.findall(r"[\w-]+", one.allowed))
    return one.meaning if said else f"{one.meaning} [{one.allowed}]"
