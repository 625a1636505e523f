"""What Hydra and OmegaConf refuse of what was typed, in one sentence that names the word and the mend: they take several lines for it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from shlex import quote
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError, YAMLError

from memgrid.io.commands import COMMANDS, listed, nearest, refusal_of_home
from memgrid.io.paths import CONF

EXPERIMENT = re.compile(r"In 'experiment/(\w+)'")  # in front of what Hydra says of a file of this group
LONGEST_LIST = 190  # characters of choices in a sentence
# Keys of commands that Hydra does not compose, which somebody may give to another → these commands.
ELSEWHERE = {
    **dict.fromkeys(("state", "forget", "watch"), ("status",)),
    **dict.fromkeys(("sort", "flow", "style"), ("report",)),
    **dict.fromkeys(("out", "text"), ("report", "export")),
    **dict.fromkeys(("license", "public"), ("export",)),
    "ids": ("store",),
}
INTERNAL = ("full_key:", "reference_type=", "object_type=", "To append", "See http")


def one_sentence(error: HydraException | OmegaConfBaseException) -> str:
    """An error of a composition in one sentence."""
    cause = error.__cause__
    if (foreign := EXPERIMENT.match(str(error))) and (CONF / "experiment" / f"{foreign[1]}.yaml").is_file():
        where = f"{CONF}/experiment/{foreign[1]}.yaml sets what this one has not"
        return f"experiment={foreign[1]} is for another command ({where}): start memgrid run or memgrid audit, whichever has it"
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        names = ", ".join(error.options)
        if len(names) > LONGEST_LIST:
            names = f"one of the {len(error.options)} that `memgrid {(owners_of(group) or ['run'])[0]} --help` lists"
        return f"{group}={name} is unknown: use {names}, or a file of your own with --config-dir{nearest(name, error.options)}"
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and isinstance(cause.parent_node, DictConfig):
        return unknown_key(str(cause.full_key), cause.parent_node)
    if isinstance(cause, ValidationError) and (sentence := unfit(str(cause.full_key), cause)):
        return sentence
    lines = [line.strip() for link in (error, cause) if link is not None for line in str(link).splitlines()]
    if lines and (sentence := elsewhere(lines[0]) or ambiguous(lines[0]) or no_folder(lines[0])):
        return sentence
    kept = [line for line in lines if line and not line.startswith(INTERNAL)]
    return ": ".join(dict.fromkeys(line.rstrip(".") for line in kept))


def broken_file(error: Exception) -> str | None:
    """For a file that is no YAML, or whose list of defaults Hydra does not take; None for an error that does not come from reading one."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        where = error.problem_mark
        return f"{where.name} is no YAML in line {where.line + 1} ({error.problem}): mend it there"
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    within = [frame.f_locals for frame in frames if frame.f_globals["__name__"].startswith("hydra._internal.config")]
    files = [names["config_path"] for names in within if "config_path" in names]
    if not files:
        return None
    name, said = f"{files[-1].removesuffix('.yaml')}.yaml", " ".join(str(error).split()).rstrip(".").replace(". ", ", ").replace(" :", ":")
    if isinstance(error, UnicodeError | YAMLError):
        return f"{name} is no text in UTF-8 ({said}): write it anew"
    switch = ", and on, off, yes and no in quotes" if ": bool" in said else ""
    return f"{name} cannot be read ({said}): write its defaults as a list of `- group: name`{switch}"


def unreadable(word: str) -> str:
    """For a word that Hydra's grammar does not know."""
    key, equals, value = word.partition("=")
    if not equals:
        if word in COMMANDS:
            return f"{word} is no key=value, but a command of its own: write memgrid {word}"
        mend = "write a list without spaces or in quotes, such as stages=[label,extract]"
        return f"{word} is no key=value: {mend if word.strip('[],') != word else f'write {word}=<value>'}"
    if home := refusal_of_home(key, value):
        return home
    if value[:1] in ("[", "{") and any(value.count(left) != value.count(right) for left, right in ("[]", "{}", "()")):
        return f"{word} cannot be read, a bracket is not closed: write a list without spaces or in quotes, such as {key}=[1,2]"
    mended = f"{key}={quoted(value)}"
    try:
        OverridesParser.create().parse_override(mended)
    except HydraException:
        return f"{word} cannot be read: {key} is no name of a setting, which has letters, digits, dots and _"
    return f"{word} cannot be read: give the value in quotes within quotes, {quote(mended)}"


def quoted(text: str) -> str:
    """A text in quotes that Hydra reads to the letter: a backslash counts before a quote, an interpolation and the end alone."""
    mark = "'" if '"' in text and "'" not in text else '"'
    body = re.sub(rf"(\\*)({mark}|$)", lambda found: found[1] * 2 + (f"\\{mark}" if found[2] else ""), text)
    return mark + re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", body) + mark


def unknown_key(key: str, parent: DictConfig) -> str:
    """For a key that is in no schema; `parent` is the configuration that should have it."""
    root: Any = parent._get_root()
    schema = getattr(OmegaConf.get_type(root), "__name__", "")
    prefix, _, last = key.rpartition(".")
    groups = [path.name for path in CONF.iterdir() if path.is_dir()] + ["hydra/launcher"]
    keys = list(leaves(root))
    same = [name for name in keys if name.rpartition(".")[2] == last]
    beside = [".".join(filter(None, (prefix, str(name)))) for name in parent]
    near = f" (did you mean {listed(same, 'or')}?)" if same else nearest(key, [*beside, *([] if prefix else groups)]) or nearest(key, keys)
    name = schema.removesuffix("Config").lower()
    owners = [*ELSEWHERE[key]] if key in ELSEWHERE else [] if same or prefix else keeping(key)
    if owners and name not in owners:
        return f"{key} is no setting of memgrid {name if name in COMMANDS else 'run'}: it belongs to memgrid {listed(owners, 'and')}"
    return f"{key} is no setting of memgrid{near}: `memgrid {name if name in COMMANDS else 'run'} --help` lists them"


def leaves(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """The keys of a configuration that have a value and not more keys, with dots."""
    for key in map(str, config):
        node: Any = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() and OmegaConf.get_type(node) is not dict:
            yield from leaves(node, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def unfit(key: str, error: ValidationError) -> str | None:
    """For a value of another type than the schema's, where more can be said than which type that is."""
    value, message = error.value, str(error)
    if "is not a ListConfig" in message:
        return f"{key}={value} is one word, and a list is wanted: write {key}=[{value}]"
    if "is not a valid bool" in message:
        return f"{key}={value} is neither true nor false: write {key}=true or {key}=false"
    if wanted := re.search(r"could not be converted to (Integer|Float)", message):
        number = "whole number" if wanted[1] == "Integer" else "number"
        return f"{key}={value} is no {number}, and one is wanted: write {key}=<{number}>"
    if "is not Optional" in message:
        return f"{key}=null leaves {key} without a value, and it needs one: leave {key} out for its default"
    if "is not a subclass of" in message:
        return f"{key}={value} is one value, and {key} is a group of keys: write {key}.<key>=<value>"
    return None


def elsewhere(line: str) -> str | None:
    """For a group of another command."""
    match = re.match(r"Could not override '([\w/]+)'. No match in the defaults list", line)
    if not match:
        return None
    owners = owners_of(match[1])
    belongs = f": it belongs to memgrid {listed(owners, 'and')}" if owners else ""
    return f"{match[1]} is no group of this command{belongs}"


def owners_of(group: str) -> list[str]:
    """The commands that have a group of files."""
    return [name for name in COMMANDS if re.search(rf"^ +- (override )?{group}:", text_of(name), re.M)]


def keeping(key: str) -> list[str]:
    """The commands of which a word is a key."""
    return [name for name in COMMANDS if re.search(rf"^{re.escape(key)}:", text_of(name), re.M)]


def text_of(name: str) -> str:
    """The configuration file of a command; nothing where it has none."""
    path = CONF / f"{name}.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def ambiguous(line: str) -> str | None:
    """For several values outside of a sweep."""
    match = re.match(r"Ambiguous value for argument '(([^=]+)=(.*))'$", line)
    if not match:
        return None
    word, key, value = match.groups()
    mended = quote(f"{key}={quoted(value)}")
    point = f"{value.replace(',', '.')} for a fraction, " if re.fullmatch(r"\d+,\d+", value) else ""
    return f"{word} has several values, as a sweep has them: add -m, or write {point}{key}=[{value}] for a list, {mended} for a text"


def no_folder(line: str) -> str | None:
    """For a folder of files of one's own that is not there."""
    match = re.match(r"Additional config directory '(.*)' not found", line)
    return f"--config-dir {match[1]} is no folder: name the one in which <group>/<choice>.yaml is" if match else None
