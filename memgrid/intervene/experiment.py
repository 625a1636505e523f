"""Causal interventions: switch off where a class's decision comes from, and measure whether the model still reproduces its text.

For a class and a dose q, the most decisive q % of the positions of its decision map (Δ) are masked while the model decodes the class's
samples, and beside them controls that take as much attention from each layer (see `memgrid.intervene.positions.Regions`). Every mask is a
row of the table:

    class, q (percent; 0 for the row `none`), masked (see `memgrid.intervene.positions.Trial`), seed (of random masks)
    positions, overlap, decisive, removed: what the mask takes away (see `Regions.describe`)
    samples: how many sequences were read: extractable ones only, so that a class of non-memorized sequences has no rows
    extractable, extractable_low, extractable_high: the share that is still extractable, with a 95 % bootstrap interval over samples
    suffix_logprob: mean log-probability of the suffix, nats per token; null for all but a few random masks
    damage: by how much the mask raises the loss on the suffix of held-out text, nats per token; null without held-out
        text, for masks of a single layer, and for all but a few random ones
    kept: for each sample, in the order of its id, whether it is still extractable: what `memgrid.intervene.statistics` pairs

Random masks come many times, with different seeds: their spread is that of the draw. Of a class whose target is one of the crowd after the
first of them, the rest is left out (`memgrid.intervene.statistics.settled`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from memgrid.config.limits import refuse_outside_limits
from memgrid.config.schema import InterveneConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import DamagedError, UserError
from memgrid.intervene.masking import MaskedReader, PositionMask, prove_masking
from memgrid.intervene.positions import Regions, Trial, candidates
from memgrid.intervene.statistics import LOOKS, RANDOM, draws_wanted, settled, share_interval, shares_of
from memgrid.io.digests import KEY, UNSEALED, is_sound, read_table, sealed, write_parquet
from memgrid.io.display import progress_bar
from memgrid.io.files import replace_damaged, write_bytes
from memgrid.lm.model import LanguageModel
from memgrid.lm.triangle import Triangle

FORMAT = 2  # raised when what is measured changes: older files are measured again
CHOICE_SEED = 0xC401CE
MEASURED = 3  # random masks of a dose of which more than the samples that survive is measured: its mean is enough, no test asks for more


def intervene(
    lm: LanguageModel,
    corpus: Corpus,
    maps: Float[np.ndarray, "classes layers length length"],
    classes: list[str],
    samples: Mapping[int, np.ndarray],
    held_out_ids: np.ndarray,
    config: InterveneConfig,
    table_file: Path,
    journal_file: Path,
) -> pl.DataFrame:
    """The table of all interventions, which is also written into a file, whole or not at all.

    An equal experiment that is finished there is not computed again; a killed one goes on after the last mask in its journal.

    Args:
        maps: the classes' decision maps (Δ), lower triangles.
        samples: sequence ids by index of the class; of these, extractable ones are read. A class with none (such as Non-Memo) has nothing
            to lose and is skipped; its map still serves as a control for the others.
        held_out_ids: sequences that are not extractable, on which damage is measured; extractable ones among them are left out.

    Raises:
        UserError: a setting is out of its range, the model's attention cannot be switched off, or no class has an extractable sample.
        ValueError: the Δ maps do not have the shape of the model's attention.
    """
    experiment = Experiment(lm, corpus, maps, classes, config)
    key = experiment.key(samples, held_out_ids)
    if (finished := finished_table(table_file, key)) is not None:
        return finished
    prove_masking(lm)
    held_out = experiment.sequences(held_out_ids, False, config.ordinary)
    wanted = {label: ids for label, given in sorted(samples.items()) if len(ids := experiment.sequences(given, True, config.samples))}
    if not wanted:
        raise UserError(f"no sample of {', '.join(classes)} is extractable from llm {lm.identity.name!r}: there is nothing to switch off")
    journal = Journal(journal_file, f"{key} {drawn_digest(held_out, *wanted.values())}")
    trials = experiment.run(wanted, held_out, journal)
    table = experiment.rows(trials, journal)
    write_table(table, table_file, {"key": key, "settings": asdict(config), "ids": {classes[c]: ids.tolist() for c, ids in wanted.items()}})
    journal.path.unlink(missing_ok=True)
    return table


SCHEMA: dict[str, Any] = {
    "class": pl.String,
    "q": pl.Float64,
    "masked": pl.String,
    "seed": pl.Int64,
    "positions": pl.Int64,
    "overlap": pl.Float64,
    "decisive": pl.Float64,
    "removed": pl.Float64,
    "samples": pl.Int64,
    "extractable": pl.Float64,
    "extractable_low": pl.Float64,
    "extractable_high": pl.Float64,
    "suffix_logprob": pl.Float64,
    "damage": pl.Float64,
    "kept": pl.List(pl.Boolean),
}


def trials_of(label: int, classes: list[str], layers: int, config: InterveneConfig) -> list[Trial]:
    """The masks of one class that are no draws, in the order in which they are measured."""
    trials = [Trial(label, 0.0, "none")]
    others = [f"other:{name}" for number, name in enumerate(classes) if number != label]
    for percent in sorted(set(config.percent)):
        trials += [Trial(label, percent, masked) for masked in ("target", *others, "least", "attended")]
    if (at := config.layers_at) is not None:
        for layer in range(1, layers + 1):
            trials += [Trial(label, at, f"layer:{layer}"), Trial(label, at, f"random-layer:{layer}", 0)]
    return trials


def draws_of(label: int, percents: list[float], seeds: int) -> list[list[Trial]]:
    """The random masks of one class, up to each look at them and from there on."""
    ends = [*(draws for draws in LOOKS if draws < seeds), seeds]
    return [
        [Trial(label, percent, RANDOM, seed) for seed in range(start, end) for percent in sorted(set(percents))]
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def finished_table(path: Path, key: str) -> pl.DataFrame | None:
    """The table of an equal experiment, or None; a damaged file is none."""
    try:
        table, metadata = read_table(path)
        return table if json.loads(metadata["memgrid"])["key"] == key else None
    except DamagedError as error:
        replace_damaged(error)
        return None
    except (OSError, KeyError, ValueError):
        return None


def drawn_digest(*ids: np.ndarray) -> str:
    """A digest of the sequences that were drawn."""
    return hashlib.sha256(b"".join(part.tobytes() + b"|" for part in ids)).hexdigest()


def write_table(table: pl.DataFrame, path: Path, noted: dict[str, Any]) -> None:
    """Write the table, and in its metadata what it was made of: `key`, `settings` and the `ids` of every class's samples."""
    write_parquet(table, path, metadata={"memgrid": json.dumps(noted)})


class Experiment:
    """Reads samples and held-out text under one mask after the other; the arguments are those of `intervene`."""

    def __init__(self, lm: LanguageModel, corpus: Corpus, maps: np.ndarray, classes: list[str], config: InterveneConfig) -> None:
        self.lm, self.corpus, self.maps, self.classes, self.config = lm, corpus, maps, classes, config
        refuse_outside_limits(config, "intervene.")
        self.among = candidates(lm.identity.layers, corpus.tokens.shape[1], corpus.k, config.queries)
        if maps.shape != (len(classes), *self.among.shape):
            raise ValueError(f"{len(classes)} Δ maps of {self.among.shape} are needed, not {maps.shape}")
        self.nothing = PositionMask(np.zeros_like(self.among))

    def key(self, samples: Mapping[int, np.ndarray], held_out_ids: np.ndarray) -> str:
        """A digest of everything that decides the table."""
        settings = {**asdict(self.config), "format": FORMAT, "classes": self.classes, "labels": sorted(samples), "k": self.corpus.k}
        origin = [self.lm.identity.fingerprint, self.corpus.fingerprint, self.maps.shape, *self.lm.suppressed]
        digest = hashlib.sha256(json.dumps([settings, origin], sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.maps, np.float32).data)
        for ids in (held_out_ids, *(samples[label] for label in sorted(samples))):
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

    def run(self, wanted: dict[int, np.ndarray], held_out: np.ndarray, journal: Journal) -> list[Trial]:
        """Measure what the journal lacks; returns all trials."""
        damaged = self.reader(held_out) if len(held_out) else None
        seeds = self.config.seeds or draws_wanted(len(wanted))
        planned = {label: self.planned(label, seeds) for label in wanted}
        every: list[Trial] = []
        with progress_bar() as progress:
            task = progress.add_task("switching off attention", total=sum(len(trials) for parts in planned.values() for trials in parts))
            for label, ids in wanted.items():
                reader, regions = self.reader(ids), Regions(self.maps, label, self.classes, self.attention(ids), self.among)
                mine: list[Trial] = []
                for number, trials in enumerate(planned[label]):
                    if number < 2 or not settled(shares_of(self.rows(mine, journal))):
                        for trial in trials:
                            if trial not in journal.done:
                                journal.add(trial, self.measure(trial, regions, reader, damaged))
                        mine += trials
                    progress.advance(task, len(trials))
                every += mine
        return every

    def planned(self, label: int, seeds: int) -> list[list[Trial]]:
        """The masks of a class: those that are no draws, and then the draws from look to look."""
        return [trials_of(label, self.classes, len(self.among), self.config), *draws_of(label, self.config.percent, seeds)]

    def rows(self, trials: Iterable[Trial], journal: Journal) -> pl.DataFrame:
        """The rows of trials that were measured."""
        return pl.DataFrame([row_of(self.classes[trial.label], trial, journal.done[trial]) for trial in trials], schema=SCHEMA)

    def attention(self, ids: np.ndarray) -> Float[np.ndarray, "layers length length"]:
        """Where the model looks in some sequences, see `mean_attention`."""
        return mean_attention(self.lm, self.tokens(ids))

    def measure(self, trial: Trial, regions: Regions, reader: MaskedReader, held_out: MaskedReader | None) -> dict[str, Any]:
        """What a mask takes away, and what it does to the samples of its class and to held-out text."""
        positions = regions.mask(trial)
        mask = PositionMask(positions, self.config.heads)
        outcome: dict[str, Any] = {"suffix_logprob": None, "damage": None}
        if (trial.seed or 0) < MEASURED:
            kept, logprob = reader.read(mask)
            outcome["suffix_logprob"] = float(logprob.mean(dtype=np.float64))
            if held_out is not None and trial.layer is None:  # of single layers, only what they do to the class is asked
                outcome["damage"] = float((held_out.read(self.nothing)[1] - held_out.read(mask)[1]).mean(dtype=np.float64))
        else:
            kept = reader.extractable(mask)
        return {**regions.describe(trial, positions), **outcome, "kept": kept.tolist()}


def mean_attention(lm: LanguageModel, tokens: np.ndarray) -> Float[np.ndarray, "layers length length"]:
    """The attention while the model reads sequences, mean over heads and sequences, float64."""
    length, size = tokens.shape[1], lm.batch_size(tokens.shape[1])
    parts = [lm.pooled_maps(tokens[start : start + size])["mean"].sum(0, dtype=np.float64) for start in range(0, len(tokens), size)]
    return Triangle(length).unpack((np.sum(parts, axis=0) / len(tokens)).T)


def row_of(name: str, trial: Trial, record: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, from what the journal holds of a mask."""
    kept = np.array(record["kept"])
    low, high = share_interval(kept)
    shares = {"samples": len(kept), "extractable": float(kept.mean()), "extractable_low": low, "extractable_high": high}
    return {"class": name, "q": trial.percent, "masked": trial.masked, "seed": trial.seed, **record, **shares}


class Journal:
    """What has been measured: a line of JSON per mask with its digest, appended as soon as it is known.

    What follows on a damaged line, or a torn one, is measured again.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.done: dict[Trial, dict[str, Any]] = {}
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        if lines and lines[0] == key.encode():
            for line in lines[1:]:
                if not is_sound(line, old=False):
                    break
                *trial, record, _ = json.loads(line)
                self.done[Trial(*trial)] = record
        whole = [key.encode(), *lines[1 : len(self.done) + 1]] if self.done else [key.encode()]
        write_bytes(b"\n".join(whole) + b"\n", path)

    def add(self, trial: Trial, record: dict[str, Any]) -> None:
        """Keep what was measured of a mask."""
        self.done[trial] = record
        with self.path.open("ab") as file:
            line = json.dumps([trial.label, trial.percent, trial.masked, trial.seed, record, {KEY: UNSEALED}])
            file.write(bytes(sealed(line.encode())) + b"\n")
