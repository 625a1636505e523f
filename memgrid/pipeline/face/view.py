"""One finished run, to be looked at in Python: what it found as polars tables and numpy arrays. Computes nothing anew."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from memgrid.config.derive import decoded, taxonomy
from memgrid.config.overrides import command, read_config
from memgrid.config.schema import RunConfig
from memgrid.errors import DamagedError, UserError
from memgrid.io.digests import read_parquet
from memgrid.lm.triangle import Triangle
from memgrid.pipeline.face.content import ClassMaps, SequenceText
from memgrid.results import findings
from memgrid.results.folder import RunFolder
from memgrid.results.records import readable
from memgrid.results.result import Estimate, PanelScores, RunResult

if TYPE_CHECKING:
    from memgrid.corpus.corpus import Corpus
    from memgrid.lm.model import Tokenizer
    from memgrid.pipeline.inputs import Inputs
    from memgrid.store.store import Store

OWN_COLUMNS = ("sequence_id", "label", "predicted", "correct")  # of a table of predictions, beside a column per class


class RunData:
    """What a finished run found, read when it is first asked for; what it lacks is told with the command that makes it."""

    def __init__(self, folder: RunFolder, inputs: Inputs | None = None) -> None:
        """`inputs`: what other runs of the process have read, and is not read again."""
        self.folder, self.inputs = folder, inputs

    def __repr__(self) -> str:
        return f"{findings.describe(self.metrics.settings)}: min-F1 {self.metrics.panel.min_f1.mean:.1f} ({self.folder.path})"

    @property
    def root(self) -> Path:
        """The folder below which labels, attention and runs are kept."""
        path = self.folder.path
        return path.parents[3] if len(path.parts) > 4 and ".." not in path.parts[-4:] else Path(os.path.abspath(path)).parents[3]

    @cached_property
    def settings(self) -> RunConfig:
        """All settings of the last start; `metrics.settings` are those that decided the result."""
        return read_config(self.folder.config, self.root)

    @cached_property
    def metrics(self) -> RunResult:
        """The result, as `metrics.json` has it: scores in percent, in the order of the classes."""
        result = self.folder.result()
        assert result is not None, "opened only when it is finished"
        return result

    @property
    def classes(self) -> list[str]:
        """The titles of the classes."""
        return self.metrics.classes

    @cached_property
    def samples(self) -> pl.DataFrame:
        """A row per selected sequence: sequence_id, label (place of its class), title (of its class), side (train or eval)."""
        return self.read(self.folder.samples, "samples", "force=true")

    @property
    def predictions(self) -> pl.DataFrame:
        """A row per eval sequence: what the panel says of it, the mean over its networks. See `predictions_of`."""
        return self.predictions_of()

    def predictions_of(self, network: str | None = None) -> pl.DataFrame:
        """A row per eval sequence: sequence_id, label (its class), a probability for each class, predicted (the class with most), correct.

        Args:
            network: one of the panel (`metrics.members`), or what it is compared with (`metrics.baselines`, `metrics.probes`); the panel's
                mean without it.
        """
        own = network is None or network in self.metrics.members
        file, name = (self.folder.predictions, "predictions") if own else (self.folder.baselines, "predictions of baselines")
        table = self.read(file, name, "force=true")
        networks = self.metrics.members if network is None else [network]
        choices = [*self.metrics.members, *(column for column in table.columns[2:] if not own)]
        if not set(networks) <= set(table.columns):
            raise UserError(f"{self.folder.path} has no predictions of {network!r}: use {', '.join(choices)}")
        every = [table[column].list.to_array(len(self.classes)).to_numpy() for column in networks]
        probabilities, titles = np.mean(every, axis=0), np.array(self.classes)
        labels, predicted = titles[table["label"].to_numpy()], titles[probabilities.argmax(1)]
        columns = {(f"P({title})" if title in OWN_COLUMNS else title): probabilities[:, at] for at, title in enumerate(self.classes)}
        answers = {"predicted": predicted, "correct": labels == predicted}
        return pl.DataFrame({"sequence_id": table["sequence_id"], "label": labels, **columns, **answers})

    @cached_property
    def history(self) -> pl.DataFrame:
        """A row per epoch and network: epoch, member, train_loss, eval_loss (nats per sample), confusion (rows are true classes)."""
        return self.read(self.folder.epochs, "scores of single epochs", "force=true")

    @property
    def trials(self) -> pl.DataFrame:
        """A row per trial of the intervention: class, unit, q, what was masked, and what stays extractable."""
        return self.read(self.folder.intervention, "intervention", "stages=[localize,intervene]")

    @property
    def units(self) -> pl.DataFrame:
        """A row per class and head, and per class and layer: class, unit, layer and head (from 1 on), and what the class owes it.

        attribution, ablation: the fall of the suffix's log-probability, nats per token, by the gradient and when it is switched off alone;
        delta: how much of Δ lies where it looks; norm: the length of a head's output.
        """
        return self.read(self.folder.intervention_units, "intervention on heads or layers", "stages=[localize,intervene]")

    @property
    def transfers(self) -> pl.DataFrame:
        """A row per run whose networks were tried on this one's samples, and per classifier: scores here, and what the run's own reach."""
        from memgrid.report.transfers.table import classifiers_table

        if (record := self.folder.transfer_record()) is None:
            raise self.lacks("transfer", "stages=[transfer]", "transfer.from=<run>")
        return classifiers_table(record)

    def table(self) -> pl.DataFrame:
        """The printed table: a row per class, and last min-F1.

        Columns, in percent: f1 (the panel's mean), std (over its networks), low and high (the 95 % interval), and the means of two
        controls, shuffled and confidence, null where they were not run.
        """
        panel, *controls = (self.metrics.panel, self.metrics.control, self.metrics.confidence)
        rows = []
        for name, of in zip([*self.classes, "min-F1"], zip(*map(self.f1_of, (panel, *controls)), strict=True), strict=True):
            whole, *means = of
            assert whole is not None, "every run has a panel"
            shuffled, confidence = (entry.mean if entry else None for entry in means)
            scores = {"f1": whole.mean, "std": whole.std, "low": whole.low, "high": whole.high}
            rows.append({"class": name, **scores, "shuffled": shuffled, "confidence": confidence})
        return pl.DataFrame(rows, schema_overrides=dict.fromkeys(("shuffled", "confidence"), pl.Float64))

    def f1_of(self, scores: PanelScores | None) -> list[Estimate] | list[None]:
        """The F1 of every class, and the least of them; nothing as often where it is not known."""
        return [None] * (len(self.classes) + 1) if scores is None else [*scores.f1, scores.min_f1]

    def confusion(self) -> pl.DataFrame:
        """Counts of the last epoch, summed over the panel: a row per true class, and a column per predicted one."""
        counts = np.array(self.metrics.confusion)
        return pl.DataFrame({"true": self.classes, **{f"as {title}": counts[:, at] for at, title in enumerate(self.classes)}})

    def findings(self) -> list[str]:
        """What it found, in sentences: the classes, and where they are decided and whether that is causal, if that was asked."""
        return [*findings.verdicts(self.metrics), *findings.of_later_stages(self.folder)]

    def print(self) -> None:
        """Print the table and the sentences below it, as the run did when it ended."""
        from rich.console import Console

        findings.print_result(self.metrics, self.folder, Console())

    def attention(self, sequence_id: int, pool: str = "mean") -> np.ndarray:
        """The attention while the model decoded one of the run's samples, float32 (layers, query, key), zero above the diagonal.

        Args:
            pool: over heads, mean or max.
        """
        return self.attention_of([sequence_id], pool)[0]  # type: ignore[no-any-return]

    def attention_of(self, ids: list[int] | np.ndarray | pl.Series, pool: str = "mean") -> np.ndarray:
        """The same of several, float32 (sequences, layers, query, key)."""
        asked, store = np.array(ids, np.int64), self.store
        if len(unknown := asked[~np.isin(asked, self.samples["sequence_id"].to_numpy())]):
            raise UserError(f"sequence {unknown[0]} is none of the samples of {self.folder.path}: choose a sequence_id of run.samples")
        if len(missing := store.missing(asked)):
            raise self.lacks(f"attention of sequence {missing[0]}", "stages=[extract]")
        packed = store.read(asked, (pool,)).pools[pool].astype(np.float32)
        return Triangle(store.identity.length).unpack(packed.transpose(0, 2, 1))

    def text(self, sequence_id: int) -> SequenceText:
        """A sequence of the corpus as text; needs the corpus and the model's tokenizer, and loads no weights."""
        corpus = self.corpus
        if sequence_id not in corpus.sequence_id:
            raise UserError(f"sequence {sequence_id} is none of corpus {corpus.name!r}: choose a sequence_id of run.samples")
        tokens = corpus.tokens[corpus.rows_of(np.array([sequence_id]))]
        (prefix,), (suffix,) = (self.tokenizer.detokenize(part) for part in (tokens[:, : corpus.k], tokens[:, corpus.k :]))
        return SequenceText(prefix, suffix, tuple(self.tokenizer.detokenize(tokens[0][:, None])))

    def decision_maps(self, method: str | None = None) -> ClassMaps:
        """Where the networks' decision for each class comes from.

        Args:
            method: of attribution; the one that there is, guided first, without it.
        """
        from memgrid.localize.maps import read_decision_maps

        usual = self.methods[0] if self.methods else self.settings.localize.method
        path = self.folder.decision_maps(method or usual)
        if not path.exists():
            words = [f"localize.method={method}"] if method else []
            raise self.lacks(f"decision maps{f' by {method}' if method else ''}", *words, "stages=[localize]")
        content = read_decision_maps(path)
        return ClassMaps(content.values, content.classes, content.samples, content.k, content.method)

    def has(self, stage: str) -> bool:
        """Whether localize, intervene or transfer was done, with whatever settings."""
        if stage == "transfer":
            return readable(self.folder.transfer_record) is not None
        if stage == "localize":
            return bool(self.folder.localize_records())
        return stage != "intervene" or (self.folder.intervention.exists() and readable(self.folder.intervene_record) is not None)

    @property
    def methods(self) -> list[str]:
        """The methods of attribution of which there are decision maps, guided first."""
        return sorted(self.folder.methods(), key=lambda name: (name != "guided", name))

    @cached_property
    def store(self) -> Store:
        """The attention of the run's model on its corpus; the model itself need not be at hand."""
        from memgrid.store.archive import open_store
        from memgrid.store.store import store_folder

        run = self.settings
        origin = self.metrics.origin
        folder = store_folder(self.root, run.llm.name, run.corpus.name, decoded(run), None if origin is None else origin.llm)
        store = open_store(folder)
        if store is None:
            raise self.lacks(f"attention (there is none in {folder})", "stages=[extract]")
        if self.metrics.origin is not None and store.identity.fingerprint != self.metrics.origin.llm:
            raise UserError(
                f"{folder} holds the attention of another model than the run's: make the run anew with {self.command('force=true')}"
            )
        return store

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus that the run's sequences are from."""
        from memgrid.pipeline.inputs import open_corpus

        shared = () if self.inputs is None else (self.inputs.corpus, self.inputs.unsaid)
        corpus = open_corpus(self.settings, lambda: self.tokenizer, *shared)
        if self.metrics.origin is not None and corpus.origin(taxonomy(self.settings).own_columns) != self.metrics.origin.corpus:
            raise UserError(f"corpus {corpus.name!r} is not as it was for the run: make the run anew with {self.command('force=true')}")
        return corpus

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run's model."""
        from memgrid.lm.load import load_tokenizer
        from memgrid.lm.model import Tokenizer

        return Tokenizer(load_tokenizer(self.settings.llm))

    def read(self, path: Path, what: str, word: str) -> pl.DataFrame:
        """A table of the run's folder; where it is missing or damaged, a sentence with the command that makes it."""
        try:
            return read_parquet(path)
        except FileNotFoundError:
            raise self.lacks(what, word) from None
        except DamagedError as error:
            raise DamagedError(path, error.fault, f"remove it and make it anew with {self.command(word)}") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): set that right") from None

    def lacks(self, what: str, *words: str) -> UserError:
        """The sentence for something that the run does not have, with the command that makes it."""
        return UserError(f"{self.folder.path} has no {what}: run {self.command(*words)}")

    def command(self, *words: str) -> str:
        """The command that starts this run again, in backticks."""
        return f"`{command(self.settings, *words)}`"
