"""What there is to set: every group with its choices, and every key with its default, what it may be, and its comment in conf/.

`--help` prints it, and `make docs` writes docs/settings.md of it; both come from the schema, its limits, and conf/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from omegaconf import DictConfig, OmegaConf

from memgrid.config.limits import keys_of, limits_of
from memgrid.io.commands import COMMANDS, LINE, columns, examples, listed
from memgrid.io.paths import CONF

NOT_SETTINGS = ("defaults", "hydra")
LAUNCHERS = "hydra/launcher"
OPTIONS = {
    "-m": "a sweep: keys may have several values, with commas or as glob(*) and range(0,8), and all combinations are done",
    "--config-dir <folder>": "where files of your own are, such as <folder>/<group>/mine.yaml for <group>=mine",
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
        purpose: a sentence or two.
        examples: what is typed after `memgrid` → what it does.
    """

    name: str
    schema: type
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
    by_key: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = re.match(r"""( *)([\w.-]+):(?: ("[^"]*"|'[^']*'|[^#]*?))?(?:\s+# ?(.*))?$""", line)
        if parts:
            depth, name, comment = len(parts[1]), parts[2], parts[4]
            above = [(other, key) for other, key in above if other < depth] + [(depth, name)]
            if comment:
                by_key[".".join(key for _, key in above)] = comment.strip()
    return by_key


# The groups


def groups(name: str) -> dict[str, str | None]:
    """The groups of a command and the choice of each if nothing is said, in the order of its defaults list."""
    own = OmegaConf.load(CONF / f"{name}.yaml")
    listed = {str(key): value for entry in own.defaults if isinstance(entry, DictConfig) for key, value in entry.items()}
    chosen = {key: value for key, value in listed.items() if not key.startswith("override ")}
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
    offered, run = groups(composed.name), OmegaConf.to_object(defaults(composed))
    own = comments(CONF / f"{composed.name}.yaml")
    return [
        Setting(key, shown(value), allowed(setting, value), own.get(key) or meaning_in_group(offered, key))
        for key, setting, value in leaves(run)
    ]


def leaves(run: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """The keys of settings, with dots, their fields and their values."""
    for setting in fields(run):
        value = getattr(run, setting.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{setting.name}.")
        elif keys := keys_of(setting):
            yield from ((f"{prefix}{setting.name}.{key}", setting, value[key]) for key in keys)
        else:
            yield f"{prefix}{setting.name}", setting, value


def meaning_in_group(offered: Mapping[str, str | None], key: str) -> str:
    """What the files of a key's group say of it, first the file that is chosen if nothing is said. `offered`: see `groups`."""
    group, _, below = key.partition(".")
    if group not in offered:
        return ""
    files = choices(group)
    chosen = [files[choice]] if (choice := offered[group]) else []
    meanings = (comments(path).get(below or group) for path in [*chosen, *files.values()])
    return next(filter(None, meanings), "")


def shown(value: Any) -> str:
    """A value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(entry)}" for key, entry in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def allowed(setting: Field[Any], value: Any) -> str:
    """What a key may be; empty where nothing is refused but a wrong type."""
    if isinstance(value, bool):
        return "true or false"
    limited = limits_of(setting)
    if limited is None:
        return ""
    text = listed(limited.choices, "or") if limited.choices else limited.text()
    return text if limited.product is None else f"one value or a list of values, {text.removeprefix('from ')}"


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
        lines += ["", f"{group}=<choice>{usual}:", *columns({name: sentence(path) for name, path in choices(group).items()})]
    rows = {f"{setting.key}={setting.default}": explanation(setting) for setting in settings(composed)}
    return "\n".join([*lines, "", "Keys, with what they are if nothing is said:", *columns(rows)])


def explanation(setting: Setting) -> str:
    """A key's meaning, and what it may be, in one line."""
    is_said = all(word in setting.meaning for word in re.findall(r"[\w-]+", setting.allowed))
    return setting.meaning if is_said else f"{setting.meaning} [{setting.allowed}]"
