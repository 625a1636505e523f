"""Which finished runs belong together, and what they are called.

A *row* is one of the ranking: all runs that differ only in LLM and seed, equal partitions counted once. Runs with other settings of
the network, the trainer, the selection or the corpus are never mixed into one row: `variant` says in what they differ.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from memgrid.config.derive import PROTOCOLS, thresholds
from memgrid.config.schema import RunConfig
from memgrid.report.read import FinishedRun
from memgrid.report.settings.variants import variants
from memgrid.taxonomy.rules import NULL, RULES, names_read, rule_of
from memgrid.taxonomy.taxonomy import Partition, Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

USUAL = RunConfig()
OWN_NAMES = ("rasy", "prashanth")  # of taxonomies that are equal, these are named first


@dataclass(frozen=True)
class NamedRun(FinishedRun):
    """A finished run with the names under which it appears, and how it divides sequences."""

    setting: str
    identity: str
    family: str
    divided: Partition
    variant: str

    @property
    def llm(self) -> str:
        """Its language model."""
        return self.settings["llm"]["name"]

    @property
    def place(self) -> tuple[str, str, str]:
        """Runs at different places are never in one row: corpus, compat and variant."""
        return self.settings["corpus"]["name"], self.settings["compat"], self.variant

    @property
    def thresholds_said(self) -> str:
        """Its taxonomy's name and the thresholds that decide anything there, such as `taxonomy rasy, ρ=0.5`."""
        return ", ".join(filter(None, (f"taxonomy {self.settings['taxonomy']['name']}", self.divided.thresholds.phrase())))

    @property
    def row_key(self) -> tuple[str, ...]:
        """Which row it belongs to. The paper trained equal partitions separately: so does compat=paper."""
        return (*self.place, self.divided.key if PROTOCOLS[self.settings["compat"]].shares_trainings else self.identity)

    @property
    def training(self) -> tuple[Any, ...]:
        """Equal for runs of one row that are the same training."""
        settings = self.settings
        given = () if PROTOCOLS[settings["compat"]].shares_trainings else (Thresholds.of(settings),)
        return self.llm, settings["seed"], given


@dataclass(frozen=True)
class Row:
    """A row of the ranking: its names and its runs, one per LLM and seed."""

    label: str
    setting: str
    also: tuple[str, ...]
    runs: tuple[NamedRun, ...]

    @property
    def first(self) -> NamedRun:
        """A run of the taxonomy that the row is named after."""
        return self.runs[0]

    def of(self, llm: str | None) -> tuple[NamedRun, ...]:
        """The runs of one LLM, or all."""
        return tuple(run for run in self.runs if llm in (None, run.llm))

    def confusion(self, runs: Sequence[NamedRun], paper: bool = False) -> np.ndarray:
        """The runs' confusion matrices summed, classes in the order of the row's taxonomy; `paper`: the last three epochs."""
        classes = len(self.first.result.classes)
        total = np.zeros((classes, classes), int)
        for run in runs:
            counts = np.array(run.result.paper_protocol.confusion if paper else run.result.confusion)
            place = np.array(run.divided.order)[np.argsort(self.first.divided.order)]
            total += counts[np.ix_(place, place)]
        return total


def named(runs: Sequence[FinishedRun]) -> list[NamedRun]:
    """Finished runs with their names; two taxonomies with the same class titles but other rules get different names."""
    settings = [run.settings for run in runs]
    partitions = partitions_of(settings)
    identities = [identity_of(given, divided) for given, divided in zip(settings, partitions, strict=True)]
    names = {identity: setting_name(given, divided) for given, divided, identity in zip(settings, partitions, identities, strict=True)}
    taxonomies = {identity: given["taxonomy"]["name"] for given, identity in zip(settings, identities, strict=True)}
    for suffix in (taxonomies, {identity: f"rules {json.loads(identity)[1]}" for identity in names}):
        shared = {name for name, number in Counter(names.values()).items() if number > 1}
        names = {identity: f"{name} ({suffix[identity]})" if name in shared else name for identity, name in names.items()}
    return [
        NamedRun(run.folder, run.result, names[identity], identity, family(run.settings["taxonomy"]["classes"]), divided, variant)
        for run, identity, divided, variant in zip(runs, identities, partitions, variants(settings)[0], strict=True)
    ]


def models_of(runs: Iterable[NamedRun]) -> list[str]:
    """The language models, by the numbers in their names: pythia-2.8b, pythia-6.9b, pythia-12b."""
    return sorted({run.llm for run in runs}, key=lambda name: ([float(part) for part in re.findall(r"\d+(?:\.\d+)?", name)], name))


def partitions_of(settings: Iterable[dict[str, Any]]) -> list[Partition]:
    """How each run divides sequences: thousands of runs share few partitions, and each of these is computed once."""
    computed: dict[str, Partition] = {}
    partitions = []
    for given in settings:
        key = json.dumps([given["taxonomy"], asdict(Thresholds.of(given))])
        if key not in computed:
            computed[key] = partition_of(given)
        partitions.append(computed[key])
    return partitions


def partition_of(settings: dict[str, Any]) -> Partition:
    """How a run divides sequences; thresholds that it does not depend on are None in its settings, or any number with compat=paper."""
    given = {key: value for key, value in asdict(Thresholds.of(settings)).items() if value is not None}
    return Taxonomy.written(settings["taxonomy"]).partition(replace(thresholds(USUAL), **given))


def identity_of(settings: dict[str, Any], divided: Partition) -> str:
    """Equal for runs of one taxonomy at the same thresholds, of those that it depends on."""
    taxonomy, own = settings["taxonomy"], settings["taxonomy"].get("thresholds", {})
    beside = [own] if own else []
    return json.dumps([taxonomy["name"], json.dumps(taxonomy["classes"]), divided.delta, divided.rho, divided.rouge, *beside])


def setting_name(settings: dict[str, Any], divided: Partition, rho: bool = True) -> str:
    """Such as `Non-Memo, Recollect[5], Code, Others`: the classes, with [δ] where a rule reads it and ρ where it is not the usual one.

    Thresholds of the taxonomy's own follow, such as `(p=0.01)`.

    Args:
        settings: of a run.
        divided: how it divides sequences.
        rho: False leaves ρ out.
    """
    titles = [title_with_delta(title, rules, divided.delta) for title, rules in settings["taxonomy"]["classes"].items()]
    usual = divided.rho is None or (divided.rho, divided.rouge) == (USUAL.rho, USUAL.rouge)
    own = [f"{name}={value:g}" for name, value in settings["taxonomy"].get("thresholds", {}).items()]
    said = [*own, *([] if usual or not rho else [replace(divided.thresholds, delta=None).phrase()])]
    return ", ".join(titles) + (f" ({', '.join(said)})" if said else "")


def title_with_delta(title: str, rules: Any, delta: int | None) -> str:
    """Such as `Recite[1k]-or-Code`: [δ] after every part of the title whose rule reads it, or after the title."""
    names = rules if isinstance(rules, list) else [rules]
    reads = [reads_delta(name) for name in names]
    if delta is None or not any(reads):
        return title
    mark = Thresholds(delta, None, None).bracket()
    parts = title.split("-or-")
    if len(parts) != len(names):
        return title + mark
    return "-or-".join(part + mark if read else part for part, read in zip(parts, reads, strict=True))


def reads_delta(rule: Any) -> bool:
    """Whether δ decides a rule, whatever the values of its own thresholds are."""
    return "delta" in rule_of(rule, dict.fromkeys(names_read(rule), 0.0)).reads


def family(classes: Mapping[str, Any]) -> str:
    """The paper's family: Non-Memo, then nodes, then others.

    `4A`: a node on duplicates, one on how the text can be completed; `4B`: the other way round; `3A`: one node; `3B`: one node or another;
    `null`: split for no reason; `other`: anything else.
    """
    rules = [list(value) if isinstance(value, list) else [value] for value in classes.values()]
    if not all(isinstance(name, str) for names in rules for name in names):
        return "other"
    if any(group in NULL for names in rules for name in names for group in RULES[name].needs):
        return "null"
    if len(rules) < 3 or rules[0] != ["non_memorized"] or rules[-1] != ["memorized"]:
        return "other"
    nodes = [[reads_delta(name) for name in names] for names in rules[1:-1]]
    families: dict[tuple[tuple[bool, ...], ...], str] = {
        ((True,), (False,)): "4A",
        ((False,), (True,)): "4B",
        ((True,),): "3A",
        ((False,),): "3A",
    }
    if len(nodes) == 1 and len(nodes[0]) == 2:
        return "3B"
    return families.get(tuple(tuple(node) for node in nodes), "other")


def ranking_rows(runs: Sequence[NamedRun]) -> list[Row]:
    """The rows of the ranking, in no particular order."""
    groups: dict[tuple[str, ...], list[NamedRun]] = defaultdict(list)
    for run in runs:
        groups[run.row_key].append(run)
    several = [len({run.place[part] for run in runs}) > 1 for part in range(3)]
    rows = []
    for group in groups.values():
        number = Counter(run.setting for run in group)
        own = {run.setting: run.settings["taxonomy"]["name"] in OWN_NAMES for run in group}
        first, *also = sorted(number, key=lambda name: (-number[name], not own[name], name))
        # A run that took over another's result comes after one that was trained; one with controls before one without.
        ranked = sorted(group, key=lambda run: (run.setting != first, run.result.same_as is not None, run.result.control is None, run.llm))
        chosen = {run.training: run for run in reversed(ranked)}
        kept = tuple(sorted(chosen.values(), key=lambda run: (run.setting != first, run.llm, run.settings["seed"])))
        corpus, compat, variant = kept[0].place
        shown = [corpus * several[0], f"compat={compat}" if several[1] and compat != "none" else "", variant]
        rows.append(Row(" · ".join(filter(None, (first, *shown))), first, tuple(also), kept))
    return rows
