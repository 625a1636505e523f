"""The two sides of a flow: taxonomies by their names, as runs had them or as conf/ has them, at the thresholds that are asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from memgrid.errors import UserError
from memgrid.io.commands import nearest
from memgrid.io.paths import CONF
from memgrid.report.flows.word import EXAMPLE, asked, refuse_unread
from memgrid.report.rows import USUAL, NamedRun
from memgrid.report.sections.labelled import Side
from memgrid.taxonomy.taxonomy import Taxonomy
from memgrid.taxonomy.thresholds import Thresholds


def side_of(word: str, runs: list[NamedRun], own_runs: list[NamedRun] | None = None) -> Side:
    """A taxonomy and its thresholds, as `word.asked` reads them: those that are not given are the usual ones of the runs.

    Args:
        own_runs: those of the runs whose usual thresholds count; all if nothing is said.

    Raises:
        UserError: the word cannot be read, nobody knows the taxonomy, or it does not read a threshold that is given.
    """
    wanted = asked(word)
    taxonomy = taxonomy_named(wanted.name, runs)
    usual = usual_of(taxonomy, runs if own_runs is None else own_runs)
    own = {key: value for key, value in wanted.given.items() if key in taxonomy.own_thresholds}
    divided = taxonomy.partition(usual)
    shared = {name: getattr(divided, name) is not None for name in ("delta", "rho", "rouge")}
    refuse_unread(wanted, {**shared, **dict.fromkeys(taxonomy.own_thresholds, True)})
    given: dict[str, Any] = {key: value for key, value in wanted.given.items() if key not in own}
    return taxonomy.at(**{key: float(value) for key, value in own.items()}) if own else taxonomy, replace(usual, **given)


def taxonomy_named(name: str, runs: list[NamedRun]) -> Taxonomy:
    """The taxonomy as the runs had it, or else as conf/ has it.

    Raises:
        UserError: neither knows it.
    """
    for run in runs:
        if run.settings["taxonomy"]["name"] == name:
            return Taxonomy.written(run.settings["taxonomy"])
    files = {file.stem: file for file in (CONF / "taxonomy").glob("*.yaml")}
    if name not in files:
        names = sorted({run.settings["taxonomy"]["name"] for run in runs} | set(files))
        raise UserError(f"flow={name} is no known taxonomy{nearest(name, names)}: use two of {', '.join(names)}, such as {EXAMPLE}")
    written: Any = OmegaConf.to_container(OmegaConf.load(files[name]))
    return Taxonomy.written(written)


def usual_of(taxonomy: Taxonomy, runs: list[NamedRun]) -> Thresholds:
    """The thresholds that most runs have: those of this taxonomy first, then any."""
    own = sorted(runs, key=lambda run: run.settings["taxonomy"]["name"] != taxonomy.name)
    deltas = [run.divided.delta for run in own if run.divided.delta is not None]
    rhos = [(run.divided.rho, run.divided.rouge) for run in own if run.divided.rho is not None and run.divided.rouge is not None]
    delta = USUAL.delta if USUAL.delta in deltas or not deltas else Counter(deltas).most_common(1)[0][0]
    usual = (USUAL.rho, USUAL.rouge)
    rho, rouge = usual if usual in rhos or not rhos else Counter(rhos).most_common(1)[0][0]
    return Thresholds(delta, rho or USUAL.rho, rouge)


def head_of(side: Side) -> str:
    """A side's name with the thresholds that matter to it, such as `prashanth (δ=50)`, its own after them."""
    taxonomy, thresholds = side
    own = [f"{name}={value:g}" for name, value in taxonomy.own_thresholds.items()]
    said = [*filter(None, [taxonomy.partition(thresholds).thresholds.phrase()]), *own]
    return f"{taxonomy.name} ({', '.join(said)})" if said else taxonomy.name
