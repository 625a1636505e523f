"""Labels on disk, for sections that look at sequences: of one model, and of many checkpoints of one model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.names import (
    LABELS,
    called,
    checkpoint_of,
    find_home,
    homes,
    owner_of,
    owner_of_labels,
    short_name,
    step_of,
    tensors_file,
)
from memgrid.errors import DamagedError
from memgrid.io.digests import read_json, read_table
from memgrid.io.display import plural
from memgrid.metrics.onset import AWAY, History
from memgrid.report.rows import NamedRun
from memgrid.taxonomy.taxonomy import Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

Side = tuple[Taxonomy, Thresholds]


@dataclass(frozen=True)
class Series:
    """The checkpoints of one model that have labels of one corpus.

    Attributes:
        history: what is memorized at each step, or None and `notes` say why not.
        taxonomy: by which sequences are classes. notes: sentences on what is left out, and on checkpoints that are not what they say.
        fingerprints: of the weights at each step of the history.
    """

    llm: str
    corpus: str
    history: History | None
    taxonomy: str
    notes: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """The labels of one set of weights, and under which checkpoints they were used."""

    folder: Path
    fingerprint: str
    used_as: tuple[str, ...]

    @property
    def step(self) -> int | None:
        """The last step that they were used as: a branch may hold the weights of a later one."""
        return max((step for name in self.used_as if (step := step_of(name)) is not None), default=None)

    @property
    def name(self) -> str:
        """What it is called, by that step."""
        named = [name for name in self.used_as if step_of(name) == self.step] or self.used_as
        return short_name(named[-1]) if named else self.fingerprint


def by_weights(runs: list[NamedRun]) -> dict[tuple[str, str, str, str | None], list[NamedRun]]:
    """The runs by what the model's weights are called, by its name, corpus and fingerprint (None: not known)."""
    known: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        if run.result.origin is not None:
            known[run.llm, run.settings["corpus"]["name"]].add(run.result.origin.llm)
    groups: dict[tuple[str, str, str, str | None], list[NamedRun]] = defaultdict(list)
    for run in runs:
        name, corpus = run.llm, run.settings["corpus"]["name"]
        prints = known[name, corpus]
        if len(prints) > 1 and run.result.origin is not None:
            groups[called(run.settings["llm"]), name, corpus, run.result.origin.llm].append(run)
        else:
            groups[name, name, corpus, next(iter(prints)) if len(prints) == 1 else None].append(run)
    return groups


def labels_of(root: Path, llm: str, corpus: str, fingerprint: str | None) -> Path:
    """The folder of the labels of some weights; of the name's own, where it is not known whose they are. It may not be there."""
    own = root / LABELS / llm / corpus
    if fingerprint is None or (home := find_home(root / LABELS, llm, corpus, fingerprint, owner_of_labels)) is None:
        # Those of other weights say nothing of these.
        strange = fingerprint is not None and owner_of(own, owner_of_labels) is not None
        return root / LABELS / f"{llm}@{fingerprint}" / corpus if strange else own
    return home[0]


def label_file(folder: Path, group: str) -> Path | None:
    """The file of a group of labels: the plain one, or the first of those that say how they were made; None where there is none.

    Whether a text is code was judged by one of several, duplicates may be those of an index, a reference is one of many.
    """
    return next((path for path in (folder / f"{group}.parquet", *sorted(folder.glob(f"{group}*.parquet"))) if path.is_file()), None)


def read_features(folder: Path, sides: list[Side], also: Sequence[str] = ()) -> tuple[pl.DataFrame | None, str]:
    """What the rules of taxonomies read, a row per sequence of a corpus; or None and why not.

    Args:
        also: groups of labels that are read beside those. Of columns that two groups have, the later group's are taken.
    """
    if null := [taxonomy.name for taxonomy, _ in sides if taxonomy.is_null]:
        return None, f"what {null[0]} splits by is drawn for each run and kept nowhere"
    if own := [taxonomy for taxonomy, _ in sides if taxonomy.own_columns]:
        return None, f"{own[0].name} reads {', '.join(own[0].own_columns)}, which no label file has"
    groups = dict.fromkeys(["memorized", *(group for taxonomy, _ in sides for group in taxonomy.needs), *also])
    files = {group: label_file(folder, group) for group in groups}
    missing = [group for group, path in files.items() if path is None]
    if missing:
        return None, f"{folder} has no labels {', '.join(missing)} (stages=[label] with a taxonomy that reads them makes them)"
    try:
        paths = [path for path in files.values() if path is not None]
        read = [read_table(path) for path in paths]
        tables = [table for table, _ in read]
        origins = {json.dumps(origin_of(metadata), sort_keys=True) for _, metadata in read}
    except (OSError, ValueError, DamagedError):
        return None, f"a label file in {folder} is damaged"
    if len(origins) > 1 or len({table.height for table in tables}) > 1:
        return None, f"the labels in {folder} were not all made from the same corpus and model"
    features = tables[0]
    for table in tables[1:]:
        features = features.with_columns(table.drop("sequence_id"))
    if "is_code" in features.columns and (unknown := features.filter(pl.col("memorized") & pl.col("is_code").is_null()).height):
        return None, f"whether the text is code has not been judged for {plural(unknown, 'memorized sequence')}"
    return features, ""


def origin_of(metadata: dict[str, str]) -> dict[str, Any]:
    """The corpus and the model that a label file was made from."""
    origin = json.loads(metadata.get("memgrid", "{}"))
    return {key: origin.get(key) for key in ("corpus", "k", "llm")}


def every_series(root: Path, runs: Sequence[NamedRun], side: Side) -> list[Series]:
    """Of every model and corpus below a root that have labels at two steps or more."""
    above = root / LABELS
    names: dict[tuple[str, str], None] = {}
    for folder in sorted(above.glob("*/*")) if above.is_dir() else []:
        if folder.is_dir() and not folder.name.startswith("."):
            names.setdefault((folder.parent.name.partition("@")[0], folder.name))
    found = ((llm, corpus, checkpoints_of(root, llm, corpus, runs)) for llm, corpus in names)
    return [
        series_of(root, llm, corpus, every, side)
        for llm, corpus, every in found
        if len({each.step for each in every if each.step is not None}) > 1
    ]


def checkpoints_of(root: Path, llm: str, corpus: str, runs: Iterable[NamedRun]) -> list[Checkpoint]:
    """The weights of one name that have labels of a corpus. Finished runs say what earlier versions did not note beside the labels."""
    used: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if run.result.origin is not None and (run.llm, run.settings["corpus"]["name"]) == (llm, corpus):
            used[run.result.origin.llm].append(checkpoint_of(run.settings["llm"].get("revision"), run.settings["llm"].get("path")))
    return [
        Checkpoint(folder, owner.fingerprint, tuple(dict.fromkeys((*owner.used_as, *used[owner.fingerprint]))))
        for folder, owner in homes(root / LABELS, llm, corpus, owner_of_labels)
    ]


def series_of(root: Path, llm: str, corpus: str, every: list[Checkpoint], side: Side) -> Series:
    """Read the labels of some checkpoints, and put them in the order of their steps."""
    known, notes = told_apart(root, every)
    tables: dict[int, np.ndarray] = {}
    ids: pl.Series | None = None
    kept: list[Checkpoint] = []
    for checkpoint in reversed(known):  # the last step's sequences are those that the others must have
        features, why = read_features(checkpoint.folder, [side])
        if features is None:
            notes.append(f"{checkpoint.name} is left out: {why}.")
        elif ids is not None and not ids.equals(features["sequence_id"]):
            notes.append(f"{checkpoint.name} is left out: its labels are of other sequences than those of {kept[0].name}.")
        else:
            ids = features["sequence_id"] if ids is None else ids
            tables[len(kept)] = classes_of(features, side)
            kept.append(checkpoint)
    titles = tuple(title for place, title in enumerate(side[0].classes) if place not in side[0].never_memorized)
    if len(kept) < 2:
        return Series(llm, corpus, None, side[0].name, tuple(notes))
    table = np.stack([tables[place] for place in reversed(range(len(kept)))])
    if (table == len(titles)).any():
        titles = (*titles, "no class")
    kept.reverse()
    history = History(tuple(each.step or 0 for each in kept), tuple(each.name for each in kept), table, titles)
    return Series(llm, corpus, history, side[0].name, tuple(notes), tuple(each.fingerprint for each in kept))


def classes_of(features: pl.DataFrame, side: Side) -> np.ndarray:
    """The class of every sequence that is memorized, int8: its place among those classes; one more where no rule holds; else `AWAY`."""
    taxonomy, thresholds = side
    places = [place for place in range(len(taxonomy.classes)) if place not in taxonomy.never_memorized]
    table = np.full(len(taxonomy.classes) + 2, len(places), np.int8)  # the last ones are what `classify` says where it knows no class
    table[places] = np.arange(len(places))
    return np.where(features["memorized"].to_numpy(), table[taxonomy.classify(features, thresholds)], np.int8(AWAY))


def told_apart(root: Path, every: list[Checkpoint]) -> tuple[list[Checkpoint], list[str]]:
    """Checkpoints in the order of their steps, each set of weights and each step once; and what there is to say of the others."""
    notes, kept, weights = [], dict[int, Checkpoint](), dict[str, Checkpoint]()
    for checkpoint in sorted(every, key=lambda each: (-(each.step or -1), each.fingerprint)):
        if checkpoint.step is None:
            notes.append(f"{checkpoint.name} is left out: its name tells no step.")
            continue
        others = [short_name(name) for name in checkpoint.used_as if step_of(name) not in (None, checkpoint.step)]
        if others:
            verbs = ("has", "counts") if len(others) == 1 else ("have", "count")
            notes.append(
                f"{', '.join(others)} {verbs[0]} the same weights as {checkpoint.name}, and {verbs[1]} once, as {checkpoint.name}."
            )
        digests, kin = tensors_of(root, checkpoint.fingerprint)
        notes += [f"{sentence}." for sentence in kin if " share " in sentence]
        same = weights.setdefault(digests, checkpoint) if digests else checkpoint
        if checkpoint.step in kept:
            name = kept[checkpoint.step].folder.parent.name
            notes.append(f"{checkpoint.folder.parent.name} is left out: {name} is the same step (other weights, or another precision).")
        elif same is not checkpoint:
            notes.append(f"{checkpoint.name} is left out: it has the same weights as {same.name}, tensor by tensor.")
        else:
            kept[checkpoint.step] = checkpoint
    return [kept[step] for step in sorted(kept)], notes


def tensors_of(root: Path, fingerprint: str) -> tuple[str, list[str]]:
    """The digests of the tensors of some weights as one text, empty if not known; and what they share with others, in sentences."""
    try:
        plain = read_json(tensors_file(root, fingerprint))
        return json.dumps(plain["tensors"], sort_keys=True) if plain["tensors"] else "", list(map(str, plain["kin"]))
    except (OSError, DamagedError, KeyError, TypeError):
        return "", []
