"""Causal interventions: switch off where a class's decision comes from, and measure whether the model still reproduces its text.

For a class and a dose q, the first q % of units are masked while the model decodes the class's samples: the most decisive positions of its
decision map (Δ), and beside them controls that take as much attention from each layer (see `memgrid.intervene.positions.Regions`); heads or
layers by several ways to rank them, and random ones that are alike (see `memgrid.intervene.units.Units`). Every mask is a row of the table:

    class, unit, q (percent; 0 for the row `none`), masked (see `memgrid.intervene.trials.Trial`), seed (of random masks)
    units, choices, overlap, decisive, removed: what the mask takes away (see `Regions.describe`)
    samples: how many sequences were read: extractable ones only, so that a class of non-memorized sequences has no rows
    extractable, extractable_low, extractable_high: the share that is still extractable, with a 95 % bootstrap interval over samples
    others: the share of the other memorized classes' samples that is; null where there is no other, and for masks of a single layer
    suffix_logprob: mean log-probability of the suffix, nats per token; null for all but a few random masks
    damage: by how much the mask raises the loss on the suffix of held-out text, nats per token; null without held-out
        text, for masks of a single layer's positions, and for all but a few random ones
    kept, others_kept: for each sample, in the order of its id, whether it is still extractable; damages: for each held-out sequence

Random masks come many times, with different seeds: their spread is that of the draw. Of a class whose target is one of the crowd after the
first of them, the rest is left out (`memgrid.intervene.statistics.settled`). Heads and layers are ranked on other samples than those that
are read under the masks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from memgrid.config.limits import refuse_outside_limits
from memgrid.config.schema import InterveneConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import UserError
from memgrid.intervene.attention.masking import PositionMask, prove_masking
from memgrid.intervene.attention.observation import mean_attention
from memgrid.intervene.attention.reader import MaskedReader
from memgrid.intervene.positions import Regions, candidates
from memgrid.intervene.ranking import Ranking, refuse_unreachable_units
from memgrid.intervene.statistics import draws_wanted, enough, tested
from memgrid.intervene.trials import (
    EVERYTHING,
    MEASURED,
    NOTHING,
    UNITS,
    Journal,
    Trial,
    draws_of,
    finished_table,
    rows,
    trials_of,
    write_table,
)
from memgrid.intervene.units import Units
from memgrid.io.display import progress_bar
from memgrid.lm.model import LanguageModel
from memgrid.results.records import POSITIONS, WAYS

FORMAT = 3  # raised when what is measured changes: older files are measured again
CHOICE_SEED = 0xC401CE


@dataclass(frozen=True)
class Texts:
    """What is read under the masks, as ids of sequences.

    Attributes:
        samples: by index of the class; of these, extractable ones are read. A class with none (such as Non-Memo) has nothing to lose and is
            skipped; its map still serves as a control for the others.
        ranked_on: likewise, other ones, on which heads and layers are ranked.
        held_out: sequences that are not extractable, on which damage is measured; extractable ones among them are left out.
    """

    samples: Mapping[int, np.ndarray]
    ranked_on: Mapping[int, np.ndarray]
    held_out: np.ndarray


def intervene(
    lm: LanguageModel,
    corpus: Corpus,
    maps: Float[np.ndarray, "classes layers length length"],
    classes: list[str],
    texts: Texts,
    config: InterveneConfig,
    files: Files,
) -> pl.DataFrame:
    """The table of all interventions, which is also written into a file, whole or not at all.

    An equal experiment that is finished there is not computed again; a killed one goes on after the last mask in its journal.

    Args:
        maps: the classes' decision maps (Δ), lower triangles.

    Raises:
        UserError: a setting is out of its range, the model's attention cannot be switched off, its heads cannot be reached, or no class has
            an extractable sample.
        ValueError: the Δ maps do not have the shape of the model's attention.
    """
    experiment = Experiment(lm, corpus, maps, classes, config)
    key = experiment.key(texts)
    if (finished := finished_table(files.table, key)) is not None and finished_table(files.units, key) is not None:
        files.journal.unlink(missing_ok=True)  # who wrote the tables may have been killed before it did so
        return finished
    prove_masking(lm)
    refuse_unreachable_units(lm, config)
    wanted = {label: ids for label, given in sorted(texts.samples.items()) if len(ids := experiment.sequences(given, True, config.samples))}
    if not wanted:
        raise UserError(f"no sample of {', '.join(classes)} is extractable from llm {lm.identity.name!r}: there is nothing to switch off")
    held_out = experiment.sequences(texts.held_out, False, config.ordinary)
    journal = Journal(files.journal, f"{key} {drawn_digest(held_out, *wanted.values())}")
    trials, units = experiment.run(wanted, texts.ranked_on, held_out, journal)
    table = rows(trials, classes, journal)
    noted = {"key": key, "settings": asdict(config), "ids": {classes[c]: ids.tolist() for c, ids in wanted.items()}}
    write_table(pl.DataFrame(units, schema=UNITS), files.units, noted)
    write_table(table, files.table, noted)
    journal.path.unlink(missing_ok=True)
    return table


@dataclass(frozen=True)
class Files:
    """Where an experiment is written: its table, what was found of every head and layer, and while it goes on what is measured so far."""

    table: Path
    units: Path
    journal: Path


def drawn_digest(*ids: np.ndarray) -> str:
    """A digest of the sequences that were drawn."""
    return hashlib.sha256(b"".join(part.tobytes() + b"|" for part in ids)).hexdigest()


class Experiment:
    """Reads samples and held-out text under one mask after the other; the arguments are those of `intervene`."""

    def __init__(self, lm: LanguageModel, corpus: Corpus, maps: np.ndarray, classes: list[str], config: InterveneConfig) -> None:
        self.lm, self.corpus, self.maps, self.classes, self.config = lm, corpus, maps, classes, config
        refuse_outside_limits(config, "intervene.")
        self.among = candidates(lm.identity.layers, corpus.tokens.shape[1], corpus.k, config.queries)
        if maps.shape != (len(classes), *self.among.shape):
            raise ValueError(f"{len(classes)} Δ maps of {self.among.shape} are needed, not {maps.shape}")
        self.nothing = PositionMask(np.zeros_like(self.among))

    @cached_property
    def ranking(self) -> Ranking:
        """Of heads and layers."""
        return Ranking(self.lm, self.corpus.k, self.among, self.config)

    def key(self, texts: Texts) -> str:
        """A digest of everything that decides the table."""
        settings = {**asdict(self.config), "format": FORMAT, "classes": self.classes, "labels": sorted(texts.samples), "k": self.corpus.k}
        origin = [self.lm.identity.fingerprint, self.corpus.fingerprint, self.maps.shape, *self.lm.suppressed]
        digest = hashlib.sha256(json.dumps([settings, origin], sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.maps, np.float32).data)
        every = (part[label] for part in (texts.samples, texts.ranked_on) for label in sorted(part))
        for ids in (texts.held_out, *every):
            digest.update(np.sort(np.asarray(ids, np.int64)).tobytes() + b"|")
        return digest.hexdigest()

    def tokens(self, ids: np.ndarray) -> np.ndarray:
        """The tokens of sequences, int32 (n, length)."""
        return self.corpus.tokens[self.corpus.rows_of(ids)]

    def reader(self, ids: np.ndarray) -> MaskedReader:
        """A reader of sequences."""
        return MaskedReader(self.lm, self.tokens(ids), self.corpus.k, self.config.queries == "suffix")

    def sequences(self, ids: np.ndarray, extractable: bool, count: int) -> np.ndarray:
        """At most `count` of the ids that are extractable, or are not, while nothing is masked: drawn by a fixed seed, sorted, int64."""
        ids = np.unique(np.asarray(ids, np.int64))
        if not len(ids) or not count:
            return ids[:0]
        ids = ids[self.reader(ids).read(self.nothing)[0] == extractable]
        return np.sort(np.random.default_rng(CHOICE_SEED).permutation(ids)[:count])

    def run(
        self, wanted: dict[int, np.ndarray], ranked_on: Mapping[int, np.ndarray], held_out: np.ndarray, journal: Journal
    ) -> tuple[list[Trial], list[dict[str, Any]]]:
        """Measure what the journal lacks; returns all trials of the table, and what was found of every head and layer."""
        readers = {label: self.reader(ids) for label, ids in wanted.items()}
        damaged = self.reader(held_out) if len(held_out) else None
        self.ranking.look_at(self.tokens(held_out))
        seeds = self.config.seeds or draws_wanted(len(wanted))
        every: list[Trial] = []
        found: list[dict[str, Any]] = []
        with progress_bar() as progress:
            task = progress.add_task("switching off attention")
            for label, ids in wanted.items():
                read = Read(readers[label], [other for key, other in readers.items() if key != label], damaged, self.nothing)
                tokens = self.ranked_on(ids, ranked_on.get(label, ids))
                for unit in self.ranking.kinds:
                    progress.reset(task, description=f"switching off {unit} for {self.classes[label]}", total=None)
                    regions, percents = self.regions(unit, label, ids, tokens, journal)
                    if isinstance(regions, Units):
                        found += [{"class": self.classes[label], **row} for row in regions.rows()]
                    planned, draws = self.planned(unit, label, percents, regions), draws_of(label, percents, seeds, unit)
                    progress.update(task, total=len(planned) + sum(map(len, draws)))
                    measure = partial(self.measure, regions=regions, read=read, journal=journal, advance=partial(progress.advance, task))
                    every += self.measured(planned, draws, measure, journal)
        return every, found

    def ranked_on(self, ids: np.ndarray, others: np.ndarray) -> Int[np.ndarray, "n length"]:
        """The tokens of other sequences of a class that are extractable, or of its samples where none is; nothing is read for positions."""
        if self.ranking.kinds == [POSITIONS]:
            return self.tokens(ids)
        found = self.sequences(others, True, self.config.samples)
        return self.tokens(found if len(found) else ids)

    def regions(
        self, unit: str, label: int, ids: np.ndarray, ranked_on: Int[np.ndarray, "n length"], journal: Journal
    ) -> tuple[Regions | Units, list[float]]:
        """The masks of one class on one unit, and their doses.

        Args:
            ids: of the samples that are read under them. ranked_on: the tokens of those on which heads and layers are ranked.
        """
        if unit == POSITIONS:
            attention = mean_attention(self.lm, self.tokens(ids))
            return Regions(self.maps, label, self.classes, attention, self.among), sorted(set(self.config.percent))
        units = self.ranking.units(unit, label, ranked_on, self.maps[label], journal)
        return units, self.ranking.percents(units)

    def planned(self, unit: str, label: int, percents: list[float], regions: Regions | Units) -> list[Trial]:
        """The trials of one class on one unit that are no draws."""
        if isinstance(regions, Regions):
            return trials_of(label, self.classes, len(self.among), percents, self.config.layers_at)
        by_way = [Trial(label, percent, way, None, unit) for percent in percents for way in WAYS[unit] if way in regions.orders]
        return [Trial(label, 0.0, NOTHING, None, unit), *by_way, Trial(label, 100.0, EVERYTHING, None, unit)]

    def measured(self, planned: list[Trial], draws: list[list[Trial]], measure: Callable[[Trial], None], journal: Journal) -> list[Trial]:
        """Those of the trials that are made: draws go on from look to look until the class is enough, at the doses that are tested."""
        for trial in planned:
            measure(trial)
        made, way = list(planned), WAYS[planned[-1].unit][0]
        doses = set(tested(rows(made, self.classes, journal), way)["q"])
        for number, trials in enumerate(draws):
            if not number or not enough(rows(made, self.classes, journal), way):
                for trial in trials:
                    if trial.percent in doses or (trial.seed or 0) < MEASURED:
                        measure(trial)
                        made.append(trial)
        return made

    def measure(self, trial: Trial, regions: Regions | Units, read: Read, journal: Journal, advance: Callable[[], None]) -> None:
        """Read what is read under a trial's mask, unless the journal has it."""
        if trial not in journal.done:
            positions = regions.mask(trial)
            mask = self.ranking.mask(positions, self.config.heads if trial.unit == POSITIONS else None)
            journal.add(trial, {**regions.describe(trial, positions), **read.under(mask, trial)})
        advance()


@dataclass(frozen=True)
class Read:
    """What is read under a class's masks: its samples, those of other memorized classes, and held-out text."""

    own: MaskedReader
    others: list[MaskedReader]
    held_out: MaskedReader | None
    nothing: PositionMask

    def under(self, mask: PositionMask, trial: Trial) -> dict[str, Any]:
        """What a mask does to each of them; of single layers, only what they do to the class is asked."""
        outcome: dict[str, Any] = {"suffix_logprob": None, "damages": None, "others_kept": None}
        if trial.layer is None and self.others:
            outcome["others_kept"] = [kept for other in self.others for kept in other.extractable(mask).tolist()]
        if (trial.seed or 0) >= MEASURED:
            return {**outcome, "kept": self.own.extractable(mask).tolist()}
        kept, logprob = self.own.read(mask)
        outcome["suffix_logprob"] = float(logprob.mean(dtype=np.float64))
        if self.held_out is not None and trial.layer is None:
            outcome["damages"] = (self.held_out.read(self.nothing)[1] - self.held_out.read(mask)[1]).astype(np.float64).tolist()
        return {**outcome, "kept": kept.tolist()}
