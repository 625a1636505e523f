"""One run's corpus, labels, samples, store and language model, which its stages share; a sweep in one process shares what it can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.config import derive
from memgrid.config.names import called, checkpoint_of, short_name, step_of
from memgrid.config.schema import LLMConfig, RunConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import UserError
from memgrid.intervene.attention.masking import prove_masking
from memgrid.intervene.ranking import refuse_unreachable_units
from memgrid.label.labels import Labels
from memgrid.label.selection.draw import Draw, coins, ranks
from memgrid.label.selection.scarcity import Labelled
from memgrid.label.selection.select import match, quartiles, select, undecided_rows
from memgrid.launch.workspace import Workspace
from memgrid.lm.load import identify, load_language_model, load_tokenizer
from memgrid.lm.model import LanguageModel, ModelIdentity, Tokenizer, after_bos, identity_after_bos
from memgrid.pipeline.inputs import Inputs, kin_of, open_corpus
from memgrid.results.folder import RunFolder
from memgrid.store.extract import open_store
from memgrid.store.store import Store
from memgrid.taxonomy.columns import KNOWN


class RunContext:
    """One run's corpus, labels, samples, store and language model, each made when it is first asked for."""

    def __init__(self, run: RunConfig, workspace: Workspace) -> None:
        self.run, self.workspace, self.console = run, workspace, workspace.console
        self.inputs = workspace.shared(Inputs)
        self.root = Path(run.root)
        self.folder = RunFolder.of(run)
        self.taxonomy = derive.taxonomy(run)

    def say(self, line: str) -> None:
        """Tell the user what is going on."""
        self.console.print(line, highlight=False, soft_wrap=True)

    @cached_property
    def corpus(self) -> Corpus:
        """The sequences.

        Raises:
            UserError: a token is none of the model's.
        """
        return self.checked(open_corpus(self.run, lambda: self.tokenizer, self.inputs.corpus, self.inputs.unsaid))

    def checked(self, corpus: Corpus) -> Corpus:
        """A corpus of which the model knows every token; UserError if it does not."""
        low, high = corpus.token_range
        if low < 0 or high >= self.identity.vocabulary:
            raise UserError(
                f"corpus {corpus.name!r} has token id {high if low >= 0 else low}, but llm {self.identity.name!r} knows only 0 to "
                f"{self.identity.vocabulary - 1}: the corpus was tokenized for another model"
            )
        return corpus

    @cached_property
    def identity(self) -> ModelIdentity:
        """The language model's identity, without loading it; another one where it reads after BOS."""
        identity = identify(self.run.llm)
        return identity if self.bos is None else identity_after_bos(identity, self.bos)

    @cached_property
    def bos(self) -> int | None:
        """The token that the model reads before every sequence, or None.

        Raises:
            UserError: `corpus.bos` asks for it, and the tokenizer has none.
        """
        if not self.run.corpus.bos:
            return None
        if (bos := self.tokenizer.tokenizer.bos_token_id) is None:
            raise UserError(f"corpus.bos=true, but the tokenizer of llm {self.run.llm.name!r} has no BOS token: set it to false")
        return int(bos)

    @cached_property
    def lm(self) -> LanguageModel:
        """The language model, loaded when a stage has something to compute.

        Raises:
            UserError: it cannot be loaded or pooled, or its attention cannot be switched off and a later stage is to do so.
        """
        lm = load_language_model(self.run.llm, self.run.corpus.length + (self.bos is not None))
        if "intervene" in self.run.stages:
            prove_masking(lm)
            refuse_unreachable_units(lm, self.run.intervene)
        lm = lm.without_end() if derive.protocol(self.run).suppresses_end else lm
        lm = replace(lm, sampling=self.labels.sampling)
        return lm if self.bos is None else after_bos(lm, self.identity, self.bos)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, for stages that need no weights."""
        return Tokenizer(load_tokenizer(self.run.llm))

    @cached_property
    def labels(self) -> Labels:
        """The label files; where checkpoints of the model are not what they are called, that is told."""
        ending = "_no_end" if derive.protocol(self.run).suppresses_end else ""
        labels = Labels(self.root, self.identity, self.corpus, self.run.label, self.inputs.label_file, ending, self.made_from_others)
        own = self.identity.checkpoint
        if others := [short_name(other) or "the model without a revision" for other in labels.home[1].used_as if other != own]:
            self.say(
                f"label    {called(asdict(self.run.llm))} has the same weights as {', '.join(others)}: they share labels and attention"
            )
        elif own:
            for sentence in kin_of(self.run.llm, self.identity, self.root, labels.home[0].name):
                self.say(f"label    {sentence}")
        return labels

    @cached_property
    def others(self) -> dict[str, list[OtherModel]]:
        """The models that groups of labels are made from, by group, where a rule reads it: the reference, and steps of the training."""
        reference = derive.reference_of(self.run.llm)
        named = {"reference": [reference] if reference else [], "onset": derive.steps_of(self.run.llm)}
        return {group: [OtherModel(self, llm) for llm in named[group]] for group in self.taxonomy.kept if group in named}

    @property
    def made_from_others(self) -> Mapping[str, Mapping[str, Any]]:
        """What the files of these groups say of their origin."""
        said: dict[str, Mapping[str, Any]] = {}
        for group, models in self.others.items():
            names = {called(asdict(other.run.llm)): other.identity.fingerprint for other in models}
            name, fingerprint = next(iter(names.items()))
            said[group] = {"steps": names} if group == "onset" else {"reference": name, "fingerprint": fingerprint}
        return said

    @cached_property
    def store(self) -> Store:
        """The attention of this LLM and corpus."""
        return open_store(self.root, self.corpus, self.identity, self.run.extract.compress, derive.decoded(self.run))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of labels that the run reads from the disk."""
        matched = ("duplicates",) if self.run.select.non_memorized == "matched" else ()
        # Where the corpus says what is memorized, how sure the model is, stands beside the degrees.
        unsure = self.labels.given("memorized") is not None and ("reference" in self.others or {*KNOWN[1:]} & {*self.taxonomy.compared})
        degrees = ("degrees",) if unsure else ()
        return tuple(dict.fromkeys(("memorized", *degrees, *self.taxonomy.kept, *matched)))

    @cached_property
    def features(self) -> pl.DataFrame:
        """What the taxonomy's rules read, a row per sequence of the corpus.

        Raises:
            UserError: labels are missing.
        """
        missing = self.labels.missing(self.groups)
        if missing:
            raise UserError(f"labels {', '.join(missing)} are not in {self.labels.folder}: add label to stages")
        labels = self.labels.read(self.groups)
        if "coin" in self.taxonomy.needs:
            labels = labels.with_columns(heads=pl.Series(coins(self.corpus.tokens, self.run.seed)))
        if "rank" in self.taxonomy.needs:
            labels = labels.with_columns(rank=pl.Series(ranks(*(labels[name].to_numpy() for name in ("duplicates", "memorized")))))
        return labels.with_columns(self.brought)

    @cached_property
    def brought(self) -> pl.DataFrame:
        """The columns of the user's own that rules compare, a row per sequence; none where they compare none.

        Raises:
            UserError: one is not there, or holds other values than those that it is compared with.
        """
        if not (names := self.taxonomy.own_columns):
            return pl.DataFrame()
        table = self.corpus.own(names)
        for each in self.taxonomy.comparisons:
            if each.column in names and not each.fits(table.schema[each.column]):
                raise UserError(
                    f"taxonomy {self.taxonomy.name!r} has the rule {each.text()}, but column {each.column!r} holds "
                    f"{table.schema[each.column]}: compare it with such a value"
                )
        return table

    def refuse_early(self) -> None:
        """Look at what labels are made from before a model reads for hours: columns of the user's own, and what other models read.

        Raises:
            UserError: as `brought` and `OtherModel.corpus`.
        """
        _ = self.brought
        for other in (other for models in self.others.values() for other in models):
            _ = other.corpus

    @property
    def unseen(self) -> np.ndarray:
        """Ids of the sequences that stand nowhere in the training text and are not memorized, int64; none if duplicates are not known."""
        asked = ("memorized", "duplicates")
        if self.labels.missing(asked):
            return np.zeros(0, np.int64)
        labels = self.labels.read(asked)
        ids: np.ndarray = self.corpus.sequence_id[(labels["duplicates"].to_numpy() == 0) & ~labels["memorized"].to_numpy()]
        return ids

    @property
    def titles(self) -> list[str]:
        """The names of the classes."""
        return list(self.taxonomy.classes)

    @property
    def drawn(self) -> Draw:
        """The order and the sides of the corpus."""
        return self.inputs.draw(self.corpus, self.run.seed, self.run.select.leak_free)

    def classify(self) -> np.ndarray:
        """The class of every sequence, int8."""
        return self.taxonomy.classify(self.features, derive.thresholds(self.run))

    @cached_property
    def samples(self) -> pl.DataFrame:
        """The selected sequences with class and side."""
        titles, classes = self.titles, self.classify()
        if len(undecided_rows(self.drawn, classes, self.taxonomy.decided_by_code, self.run.select)):
            raise UserError(f"of too few sequences {self.labels.folder} knows whether they are code: add label to stages")
        negative, matched = self.taxonomy.non_memorized, None
        if self.run.select.non_memorized == "matched" and negative is not None:
            matched = match(classes, self.features["duplicates"].to_numpy(), negative, len(titles))
        labelled = Labelled(self.taxonomy, derive.thresholds(self.run), lambda: self.features[self.drawn.rows], self.run.select)
        samples = select(self.drawn, self.corpus.sequence_id, classes, titles, self.run.select, matched, labelled.advice)
        counts = [f"{title} {int((classes == index).sum())}" for index, title in enumerate(titles)]
        if undecided := self.taxonomy.undecided(classes):
            counts.append(f"not judged since nobody needs it {undecided}")
        taken = {side: samples.filter(pl.col("side") == side).height // len(titles) for side in ("train", "eval")}
        self.say(f"select   {', '.join(counts)} labelled; {taken['train']} to train and {taken['eval']} to evaluate on from each")
        wanted = {"train": self.run.select.train_per_class, "eval": self.run.select.eval_per_class}
        if taken != wanted:
            self.say(
                f"         fewer than the {wanted['train']} and {wanted['eval']} wanted: every class takes as many as the smallest has"
            )
        if matched is not None:
            self.say(f"         {quartiles(samples, titles, matched, self.corpus.rows_of(samples['sequence_id'].to_numpy()))}")
        return samples


class OtherModel(RunContext):
    """A run's sequences and settings with another language model, for labels that are made from several."""

    def __init__(self, own: RunContext, llm: LLMConfig) -> None:
        # Of its attention nothing is kept: that is the run's own model's.
        extract = replace(own.run.extract, fused=False)
        super().__init__(replace(own.run, llm=llm, stages=["label"], extract=extract), own.workspace)
        self.own = own

    @cached_property
    def corpus(self) -> Corpus:
        """The run's sequences; what their corpus says of memorized ones, it says of another model.

        Raises:
            UserError: the model reads other tokens than the run's.
        """
        mine, other = (context.tokenizer.tokenizer.get_vocab() for context in (self.own, self))
        if mine != other:
            raise UserError(
                f"llm {self.identity.name!r} has another tokenizer than llm {self.own.identity.name!r}, so that it reads other tokens: "
                "choose a model with the same"
            )
        return self.checked(self.inputs.unsaid(self.own.corpus))

    @cached_property
    def others(self) -> dict[str, list[OtherModel]]:
        """None: it is compared with nothing."""
        return {}

    @property
    def step(self) -> float:
        """The step of the training that its name tells, infinite where it tells none."""
        return step_number(self.run.llm)


def step_number(llm: LLMConfig) -> float:
    """The step of the training that the name of a model's checkpoint tells, infinite where it tells none."""
    step = step_of(checkpoint_of(llm.revision, llm.path))
    return float("inf") if step is None else float(step)
