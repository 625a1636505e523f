"""In what settings runs differ from what conf/ ships: what sets a row of the ranking apart from another of the same classes."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from memgrid.config.names import CAME_LATER, settings
from memgrid.config.overrides import experiments, shipped

# What a row's name and its columns say anyway.
NAMES_A_ROW = {"llm.name", "taxonomy.name", "taxonomy.classes", "delta", "rho", "rouge", "seed", "compat", "corpus.name"}
NAMES_A_MODEL = ("llm.", "corpus.splits", "corpus.path", "corpus.column")  # these differ between LLMs by nature
CHECKPOINT = ("llm.revision", "llm.path")  # of several checkpoints none is the usual one: each is named
CONTROLS_ONLY = "control."  # decides nothing about the panel's own scores
# Settings that older runs do not have: theirs is the default.
LATER = {f"{group}.{key}": value for group, defaults in CAME_LATER.items() for key, value in defaults.items()}
OPTIONAL = ("label.", "llm.reference", "llm.steps")  # only in the settings of taxonomies that read it


def variants(given: Sequence[dict[str, Any]]) -> tuple[list[str], dict[str, str]]:
    """In what settings each run differs from the base of its corpus and compat, such as `cnn.epochs=3`; empty for most.

    The base is what conf/ ships, or, where an experiment that it ships comes closer to a run than that, the experiment: never what most
    runs have. What an LLM has to itself (its path, its precision) counts only where it differs between runs of that LLM; of several
    checkpoints of one LLM, every one is named. A setting that all runs share is not named.

    Args:
        given: the settings of every run, as `config.names.settings` gives them.

    Returns:
        A text per run, and the base's value of every setting that occurs in one; `experiment` is its name where it is one, or those of
        several that are the same.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    flat = [flattened(each) for each in given]
    for index, each in enumerate(given):
        groups[each["corpus"]["name"], each["compat"]].append(index)
    differs: list[list[str]] = [[] for _ in given]
    usual: dict[str, str] = {}
    for (corpus, compat), group in groups.items():
        parts = differing(given, flat, group)
        if not parts:
            continue
        experiment, bases = base_of(compat, corpus, [(given[index]["llm"]["name"], flat[index]) for index in group])
        for key, part in parts:
            values = [flat[index].get(key, later(key)) for index in part]
            for index, value, short in zip(part, values, shortened(key, values), strict=True):
                base = bases[given[index]["llm"]["name"]].get(key, later(key))
                if key in CHECKPOINT:
                    differs[index].append(f"{key}={short}")
                elif value != base:
                    differs[index].append(f"{key}={value}")
                    usual[key] = base
        usual |= {"experiment": experiment} if experiment and any(differs[index] for index in group) else {}
    return [", ".join(texts) for texts in differs], usual


def differing(given: Sequence[dict[str, Any]], flat: Sequence[dict[str, str]], group: Sequence[int]) -> list[tuple[str, list[int]]]:
    """The settings that are not the same for all runs of a group that may be compared in them, and these runs."""
    found = []
    for key in sorted({key for index in group for key in flat[index]}):
        parts: dict[str, list[int]] = defaultdict(list)
        for index in group:
            if key in flat[index] or not key.startswith(OPTIONAL):
                parts[given[index]["llm"]["name"] if key.startswith(NAMES_A_MODEL) else ""].append(index)
        # Runs that do not name what came later have its default: where any names it, some may differ.
        found += [(key, part) for part in parts.values() if key in LATER or len({flat[index].get(key, "unset") for index in part}) > 1]
    return found


def base_of(compat: str, corpus: str, runs: Sequence[tuple[str, dict[str, str]]]) -> tuple[str, dict[str, Mapping[str, str]]]:
    """The experiments of conf/ that come closest to one of some runs, such as `smoke`, and their settings by LLM.

    What conf/ ships without an experiment, whose name is empty, goes first where several are as close; of experiments with the same
    settings all are named.

    Args:
        runs: the LLM and the flat settings of each.
    """
    models = list(dict.fromkeys(llm for llm, _ in runs))
    kinds = list({(llm, tuple(sorted(flat.items()))) for llm, flat in runs})  # thousands of runs have few of them

    def tried(experiment: str) -> tuple[int, dict[str, Mapping[str, str]]]:
        bases = {llm: whole(compat, llm, corpus, experiment) for llm in models}
        return min(sum(away(bases[llm], key, value) for key, value in flat) for llm, flat in kinds), bases

    least, best = tried("")
    if least == 0:
        return "", best
    names = [""]
    for experiment in experiments():
        apart, bases = tried(experiment)
        if apart < least:
            least, best, names = apart, bases, [experiment]
        elif apart == least and bases == best and names != [""]:
            names.append(experiment)
    return " or ".join(names), best


def away(base: Mapping[str, str], key: str, value: str) -> bool:
    """Whether a setting of a run, but for those that are its model's, is another than in a base."""
    return not key.startswith(NAMES_A_MODEL) and value != base.get(key, later(key))


@cache
def whole(compat: str, llm: str, corpus: str, experiment: str) -> Mapping[str, str]:
    """What conf/ ships, flat, with those settings that only some taxonomies read; composed once, since conf/ does not change."""
    run = shipped(compat, llm, corpus, experiment)
    plain = settings(run)
    return flattened({**plain, "label": asdict(run.label), "llm": {**plain["llm"], "reference": run.llm.reference, "steps": run.llm.steps}})


def later(key: str) -> str:
    """The value of a setting that a run's settings do not name."""
    return as_typed(LATER[key]) if key in LATER else "unset"


def shortened(key: str, values: list[str]) -> list[str]:
    """The paths of several checkpoints by their last parts, if these tell them apart; all else as it is."""
    last = [f"…/{value.rstrip('/').rpartition('/')[2]}" if "/" in value else value for value in values]
    several = key == "llm.path" and len(set(values)) > 1
    return last if several and len(set(last)) == len(set(values)) else values


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The settings that a row must share, as `group.key` → text."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if name in NAMES_A_ROW or f"{name}.".startswith((CONTROLS_ONLY, "taxonomy.thresholds.")):
            continue
        if isinstance(value, dict):
            flat |= flattened(value, f"{name}.")
        else:
            flat[name] = panel_text(value) if name == "cnn.members" else as_typed(value)
    return flat


def as_typed(value: Any) -> str:
    """A setting's value as it is given on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"[{','.join(map(as_typed, value))}]" if isinstance(value, list) else str(value)


def panel_text(members: list[str]) -> str:
    """A panel in short, such as `k6,8-f10,16-mean`, where it is a product; else all its names."""
    parsed = [match.groups() for name in members if (match := re.fullmatch(r"k(\d+)-f(\d+)-(\w+)", name))]
    sides = [list(dict.fromkeys(column)) for column in zip(*parsed, strict=True)]
    if len(parsed) < len(members) or list(itertools.product(*sides)) != parsed:
        return "+".join(members)
    return "-".join(head + ",".join(side) for head, side in zip(("k", "f", ""), sides, strict=True))
