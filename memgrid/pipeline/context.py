"""One run's corpus, labels, samples, store and language model, which its stages share; a sweep in one process shares what it can."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from memgrid.config import derive
from memgrid.config.names import LABELS, called, checkpoint_of, homes, owner_of_labels, short_name, step_of, tensors_file
from memgrid.config.schema import CorpusConfig, LLMConfig, RunConfig, SelectConfig
from memgrid.corpus.corpus import Corpus, load_corpus
from memgrid.corpus.published import FORMATS, load_published
from memgrid.corpus.text import prepare_text
from memgrid.errors import DamagedError, UserError
from memgrid.intervene.masking import prove_masking
from memgrid.io.digests import read_json, write_json
from memgrid.label.labels import Labels, read_label_file
from memgrid.label.selection.draw import Draw, coins, draw, ranks
from memgrid.label.selection.scarcity import Labelled
from memgrid.label.selection.select import match, quartiles, select, undecided_rows
from memgrid.launch.workspace import Workspace
from memgrid.lm.load import identify, load_language_model, load_tokenizer, model_folder
from memgrid.lm.model import LanguageModel, ModelIdentity, Tokenizer, after_bos, identity_after_bos
from memgrid.lm.weights import kinship, tensor_digests
from memgrid.results.folder import RunFolder
from memgrid.store.extract import open_store
from memgrid.store.store import Store

MOST_KIN = 3  # sentences on what a checkpoint shares with others: what is frozen in training, all of them share


class Inputs:
    """What the runs of a process share of their inputs: the last few corpora, draws and label files."""

    def __init__(self) -> None:
        self.corpus = lru_cache(maxsize=2)(read_corpus)
        self.unsaid = lru_cache(maxsize=2)(without_memorized)
        self.draw = lru_cache(maxsize=4)(draw_from)
        self.label_file = lru_cache(maxsize=8)(read_label_file)


def read_corpus(config: str) -> Corpus:
    """A corpus.

    Args:
        config: a `CorpusConfig` as JSON.
    """
    given = CorpusConfig(**json.loads(config))
    return load_published(given) if given.kind in FORMATS else load_corpus(given)


def is_of_another_step(run: RunConfig) -> bool:
    """Whether what a published corpus says of memorized sequences is of the trained model, and the run's is a step of its training.

    The name of a split ends with the step that it is of. In memorized_evals the first split alone says what the model itself memorized.
    """
    step = step_of(checkpoint_of(run.llm.revision, run.llm.path))
    asked = run.corpus.splits[:1] if run.corpus.kind == "memorized_evals" else run.corpus.splits
    return step is not None and not (asked and all(re.search(rf"(?<!\d){step}$", split) for split in asked))


def without_memorized(corpus: Corpus) -> Corpus:
    """A corpus that does not say which sequences are memorized, so that the model is asked."""
    if "memorized" not in corpus.given:
        return corpus
    return replace(corpus, given={name: column for name, column in corpus.given.items() if name != "memorized"})


def open_corpus(
    run: RunConfig,
    tokenizer: Callable[[], Tokenizer],
    read: Callable[[str], Corpus] = read_corpus,
    unsaid: Callable[[Corpus], Corpus] = without_memorized,
) -> Corpus:
    """The sequences of a run.

    Args:
        tokenizer: is asked for where text has to be cut into them.
        read, unsaid: as `read_corpus` and `without_memorized`; they may remember what they have read and made.
    """
    config = run.corpus
    if config.kind == "text":
        prepared = prepare_text(config, tokenizer().tokenizer, Path(run.root) / "corpora" / config.name)
        config = replace(config, kind="tables", path=str(prepared))
    corpus = read(json.dumps(asdict(config)))
    return unsaid(corpus) if is_of_another_step(run) else corpus


def draw_from(corpus: Corpus, seed: int, leak_free: bool) -> Draw:
    """Priorities and lots, which no taxonomy, threshold or number of samples changes."""
    return draw(corpus.sequence_id, corpus.tokens, SelectConfig(leak_free=leak_free), seed, corpus.together)


def kin_of(config: LLMConfig, own: ModelIdentity, root: Path, corpus: str) -> list[str]:
    """What a checkpoint has in common, tensor by tensor, with others of its name that have labels of a corpus; kept for the report."""
    path = tensors_file(root, own.fingerprint)
    folder = model_folder(config)
    if folder is None:
        return []
    try:
        known: list[str] = read_json(path)["kin"]
        return known
    except (FileNotFoundError, DamagedError, KeyError):
        digests, sentences = tensor_digests(folder), list[str]()
    for _, owner in homes(root / LABELS, own.name, corpus, owner_of_labels):
        try:
            others = read_json(tensors_file(root, owner.fingerprint))["tensors"]
        except (FileNotFoundError, DamagedError, KeyError):
            continue
        both = (own.checkpoint, owner.used_as[-1] if owner.used_as else owner.fingerprint)
        if both[0] != both[1]:  # the same checkpoint in another precision has the same weights
            names = [short_name(checkpoint) for checkpoint in both]
            # Two paths that end alike are named in full.
            sentences += kinship(dict(zip(names if names[0] != names[1] else both, (digests, others), strict=True)))
    told = sentences[:MOST_KIN]
    write_json({"llm": own.name, "checkpoint": own.checkpoint, "tensors": digests, "kin": told}, path)
    return told


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
        corpus = open_corpus(self.run, lambda: self.tokenizer, self.inputs.corpus, self.inputs.unsaid)
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
        lm = lm.without_end() if derive.protocol(self.run).suppresses_end else lm
        return lm if self.bos is None else after_bos(lm, self.identity, self.bos)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, for stages that need no weights."""
        return Tokenizer(load_tokenizer(self.run.llm))

    @cached_property
    def labels(self) -> Labels:
        """The label files; where checkpoints of the model are not what they are called, that is told."""
        memorized = "memorized_no_end" if derive.protocol(self.run).suppresses_end else "memorized"
        labels = Labels(self.root, self.identity, self.corpus, self.run.label, self.inputs.label_file, memorized)
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
    def store(self) -> Store:
        """The attention of this LLM and corpus."""
        return open_store(self.root, self.corpus, self.identity, self.run.extract.compress, derive.decoded(self.run))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of labels that the run reads from the disk."""
        matched = ("duplicates",) if self.run.select.non_memorized == "matched" else ()
        return tuple(dict.fromkeys(("memorized", *self.taxonomy.kept, *matched)))

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
        return labels

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
