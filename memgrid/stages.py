"""The stages of a run over one shared state, in the order of `memgrid.schema.STAGES`. Each computes only what the disk does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from memgrid import config as settings
from memgrid.claims import part_of
from memgrid.config import members
from memgrid.corpus import Corpus, load_corpus
from memgrid.decisions import locate, once, switch_off
from memgrid.extract import extract, open_store, score_and_extract
from memgrid.figures import draw_confusion, draw_maps
from memgrid.job import check_room
from memgrid.judges import code_model
from memgrid.label import Labels
from memgrid.lm import LanguageModel, ModelIdentity, Tokenizer, fetch_model, identify, load_language_model, load_tokenizer
from memgrid.naming import run_folder
from memgrid.plan import Pace, measure, plan, sample_bytes
from memgrid.report import print_result
from memgrid.results import finished, write_json
from memgrid.schema import CorpusConfig, RunConfig, SelectConfig, UserError
from memgrid.select import Draw, draw, match, quartiles, select, to_judge
from memgrid.semantic_filters import fetch_semantic_filters, load_semantic_filters
from memgrid.store import Store
from memgrid.taxonomy import UNDECIDED
from memgrid.text import prepare_text
from memgrid.train import train
from memgrid.twins import Twin


@lru_cache(maxsize=2)
def shared_corpus(config: str) -> Corpus:
    """A corpus that the runs of a sweep in one process share."""
    given = CorpusConfig(**json.loads(config))
    return load_semantic_filters(given) if given.kind == "semantic_filters" else load_corpus(given)


@lru_cache(maxsize=4)
def shared_draw(corpus: Corpus, seed: int, *config: Any) -> Draw:
    """Priorities and sides, which no taxonomy or threshold changes: drawn once for a sweep in one process."""
    return draw(corpus.sequence_id, corpus.tokens, SelectConfig(*config), seed)


class Cell:
    """One run's corpus, labels, samples, store and language model, each made when it is first asked for."""

    def __init__(self, run: RunConfig, console: Console) -> None:
        self.run, self.console = run, console
        self.root = Path(run.root)
        self.folder = run_folder(run)
        self.taxonomy = settings.taxonomy(run)

    def say(self, line: str) -> None:
        """Tell the user what is going on."""
        self.console.print(line, highlight=False, soft_wrap=True)

    @cached_property
    def corpus(self) -> Corpus:
        """The sequences.

        Raises:
            UserError: a token is none of the model's.
        """
        config = self.run.corpus
        if config.kind == "text":
            prepared = prepare_text(config, self.tokenizer.tokenizer, self.root / "corpora" / config.name)
            config = replace(config, kind="tables", path=str(prepared))
        corpus = shared_corpus(json.dumps(asdict(config)))
        low, high = int(corpus.tokens.min()), int(corpus.tokens.max())
        if low < 0 or high >= self.identity.vocabulary:
            raise UserError(
                f"corpus {corpus.name!r} has token id {high if low >= 0 else low}, but llm {self.identity.name!r} knows only 0 to "
                f"{self.identity.vocabulary - 1}: the corpus was tokenized for another model"
            )
        return corpus

    @cached_property
    def identity(self) -> ModelIdentity:
        """The language model's identity, without loading it."""
        return identify(self.run.llm)

    @cached_property
    def lm(self) -> LanguageModel:
        """The language model, loaded when a stage has something to compute."""
        return load_language_model(self.run.llm)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, for stages that need no weights."""
        return Tokenizer(load_tokenizer(self.run.llm))

    @cached_property
    def labels(self) -> Labels:
        """The label files."""
        return Labels(self.root, self.identity, self.corpus, self.run.label)

    @cached_property
    def store(self) -> Store:
        """The attention of this LLM and corpus."""
        return open_store(self.root, self.corpus, self.identity, self.run.extract.compress, self.run.select.decoded)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of labels that the run reads."""
        matched = ("duplicates",) if self.run.select.non_memorized == "matched" else ()
        return tuple(dict.fromkeys(("memorized", *self.taxonomy.needs, *matched)))

    @cached_property
    def features(self) -> pl.DataFrame:
        """What the taxonomy's rules read, a row per sequence of the corpus.

        Raises:
            UserError: labels are missing.
        """
        missing = self.labels.missing(self.groups)
        if missing:
            raise UserError(f"labels {', '.join(missing)} are not in {self.labels.folder}: add label to stages")
        return self.labels.read(self.groups)

    @property
    def unread(self) -> np.ndarray:
        """Ids of the sequences that stand nowhere in the training text and are not memorized, int64; none if duplicates are not known."""
        asked = ("memorized", "duplicates")
        if self.labels.missing(asked):
            return np.zeros(0, np.int64)
        known = self.labels.read(asked)
        ids: np.ndarray = self.corpus.sequence_id[(known["duplicates"].to_numpy() == 0) & ~known["memorized"].to_numpy()]
        return ids

    @property
    def titles(self) -> list[str]:
        """The names of the classes."""
        return list(self.taxonomy.classes)

    @property
    def drawn(self) -> Draw:
        """The order and the sides of the corpus."""
        usual = SelectConfig()  # no draw depends on what makes negatives hard
        config = replace(self.run.select, non_memorized=usual.non_memorized, decoded=usual.decoded)
        return shared_draw(self.corpus, self.run.seed, *astuple(config))

    def classify(self) -> np.ndarray:
        """The class of every sequence, int8."""
        return self.taxonomy.classify(self.features, settings.thresholds(self.run))

    @cached_property
    def samples(self) -> pl.DataFrame:
        """The selected sequences with class and side."""
        titles, classes = self.titles, self.classify()
        if len(to_judge(self.drawn, classes, self.taxonomy.decided_by_code, self.run.select)):
            raise UserError(f"of too few sequences {self.labels.folder} knows whether they are code: add label to stages")
        negative, matched = self.taxonomy.non_memorized, None
        if self.run.select.non_memorized == "matched" and negative is not None:
            matched = match(classes, self.features["duplicates"].to_numpy(), negative, len(titles))
        samples = select(self.drawn, self.corpus.sequence_id, classes, titles, self.run.select, matched)
        counts = [f"{title} {int((classes == index).sum())}" for index, title in enumerate(titles)]
        if undecided := int((classes == UNDECIDED).sum()):
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


def fetch_stage(cell: Cell) -> None:
    """Download what the run needs from the hub: for a login node; all other stages work without a network."""
    run, fetched = cell.run, []
    if fetch_model(run.llm) is not None:
        fetched.append(str(run.llm.path))
    if run.corpus.kind == "semantic_filters" and str(run.corpus.path).startswith("hf://"):
        fetch_semantic_filters(run.corpus)
        fetched.append(str(run.corpus.path))
    if run.label.code == "fasttext" and "code" in cell.taxonomy.needs:
        fetched.append(str(code_model(run.label, offline=False)))
    cell.say(f"fetch    {', '.join(fetched) or 'nothing to download'}")


def label_stage(cell: Cell) -> None:
    """Compute the label groups that the taxonomy needs and the disk lacks."""
    missing = complete(cell, cell.groups)
    judged = judge_code(cell) if "code" in cell.taxonomy.needs else 0
    made = [f"{judged} judged for code" if group == "code" else group for group in missing]
    if judged and "code" not in missing:
        made.append(f"{judged} more judged for code")
    total = len(cell.corpus.sequence_id)
    cell.say(f"label    {total} sequences: {int(cell.features['memorized'].sum())} memorized ({', '.join(made) or 'nothing'} computed)")


def complete(cell: Cell, groups: tuple[str, ...]) -> list[str]:
    """Compute those of some label groups that the disk lacks; returns which."""
    made = []
    for group in cell.labels.missing(groups):
        with cell.labels.turn(group) as still:
            if still:
                make_labels(cell, group)
                made.append(group)
    return made


def make_labels(cell: Cell, group: str) -> None:
    """Compute one label group."""
    asked = cell.labels.asks(group)
    if asked == "lm" and cell.run.extract.fused:
        cell.labels.score_in_blocks(lambda rows: score_and_extract(cell.store, cell.lm, cell.corpus, cell.run.extract, rows))
    elif group == "code":
        cell.labels.judge_code(np.zeros(0, np.int64), cell.tokenizer)
    else:
        cell.labels.compute(group, None if asked is None else cell.lm if asked == "lm" else cell.tokenizer)


def judge_code(cell: Cell) -> int:
    """Judge as many sequences for code as the selection needs; returns how many."""
    judged = 0
    with cell.labels.turn("code"):
        cell.__dict__.pop("features", None)  # another process may have judged since they were read
        while len(rows := to_judge(cell.drawn, cell.classify(), cell.taxonomy.decided_by_code, cell.run.select)):
            cell.labels.judge_code(rows, cell.tokenizer)
            del cell.features
            judged += len(rows)
    return judged


def plan_stage(cell: Cell) -> None:
    """Tell what this run, and the runs before it in the same sweep, will cost."""
    ids = cell.samples["sequence_id"].to_numpy()
    train_samples = cell.samples.filter(pl.col("side") == "train").height
    memorized = cell.features["memorized"].to_numpy()[cell.corpus.rows_of(ids)] | (cell.run.select.decoded == "suffix")
    pace = shared_pace(cell)
    for line in plan(cell.run, cell.store, ids, train_samples, memorized, pace):
        cell.say(f"plan     {line}")


_paces: dict[tuple[str, ...], Pace] = {}


def shared_pace(cell: Cell) -> Pace:
    """The machine's pace with this model and panel, measured once in a sweep."""
    key = (cell.identity.fingerprint, *(member.name for member in members(cell.run.cnn, cell.run.compat)))
    if key not in _paces:
        _paces[key] = measure(cell.run, cell.lm, len(cell.taxonomy.classes))
    return _paces[key]


def extract_stage(cell: Cell) -> None:
    """Extract the attention of the samples that the store lacks; with `parts`, of one part of them.

    Raises:
        UserError: the disk cannot hold it.
    """
    run = cell.run
    every = cell.samples["sequence_id"].to_numpy()
    wanted = part_of(every, run.part, run.parts)
    missing, made = cell.store.missing(wanted), 0
    if len(missing):
        lacking = len(cell.store.missing(every))  # other jobs fill the same disk with the other parts
        check_room(cell.root, lacking * sample_bytes(run.corpus.length, cell.identity.layers), f"the attention of {lacking:,} samples")
        memorized, sure = (cell.features[name].to_numpy() for name in ("memorized", "confidence"))
        made = extract(cell.store, cell.lm, cell.corpus, missing, memorized, sure, run.extract, run.select.decoded)
    share = f" (part {run.part} of {run.parts})" if run.parts > 1 else ""
    cell.say(f"extract  {len(wanted)} samples{share}: {made} extracted, {len(wanted) - made} already in {cell.store.folder}")


def train_stage(cell: Cell) -> None:
    """Train the panel and its controls, draw the figures, and print the result.

    Raises:
        UserError: attention is missing.
    """
    if finished(cell.folder) is not None:
        cell.say("train    nothing: it is finished")  # a stage after it is not
        return
    lacking = len(cell.store.missing(cell.samples["sequence_id"].to_numpy()))
    if lacking:
        raise UserError(f"attention of {lacking} samples is not in {cell.store.folder}: add extract to stages")
    twin = Twin(cell.run)
    with twin.turn():
        origin = {"corpus": cell.corpus.fingerprint, "llm": cell.identity.fingerprint}
        if (done := twin.found(cell.folder, origin)) is not None:
            cell.say(f"train    nothing: the same partition was trained in {done}")
            metrics = twin.adopt(done, cell.samples, cell.folder)
        else:
            panel = members(cell.run.cnn, cell.run.compat)
            cell.say(f"train    {len(panel)} networks, {cell.run.cnn.epochs} epochs, and {cell.run.control.members} on shuffled labels")
            known = cell.features["prefix_logprob"].to_numpy()[cell.corpus.rows_of(cell.samples["sequence_id"].to_numpy())]
            metrics = train(cell.run, cell.corpus, cell.store, cell.samples, cell.folder, origin, known)
            twin.remember(cell.folder)
        caption = f"{cell.taxonomy.name}: {len(metrics['members'])} CNNs, min-F1 {metrics['panel']['min_f1']['mean']:.1f}"
        draw_confusion(np.array(metrics["confusion"]), metrics["classes"], caption, cell.folder / "figures" / "confusion")
        draw_examples(cell)
        write_json(metrics, cell.folder / "metrics.json")  # the mark of a finished run
    print_result(metrics, cell.folder, cell.console)


def draw_examples(cell: Cell) -> None:
    """Draw one eval sample of each class, the one in the middle of its ids."""
    first = (
        cell.samples.filter(pl.col("side") == "eval")
        .group_by("label", "title")
        .agg(pl.col("sequence_id").sort().get(pl.len() // 2))
        .sort("label")
    )
    pool = members(cell.run.cnn, cell.run.compat)[0].reads
    maps = cell.store.read(first["sequence_id"].to_numpy(), (pool,)).pools[pool]
    draw_maps(
        dict(zip(first["title"], maps, strict=True)), cell.run.corpus.length, cell.run.corpus.k, pool, cell.folder / "figures" / "attention"
    )


def localize_stage(cell: Cell) -> None:
    """Find where the networks decide, draw it, and tell."""
    once(cell.run, "localize", cell.folder, cell.say, lambda: locate(cell.run, cell.corpus, cell.store, cell.folder, cell.tokenizer))


def intervene_stage(cell: Cell) -> None:
    """Switch off where the networks decide while the model decodes, draw what that does, and tell."""

    def do() -> None:
        if cell.run.intervene.ordinary:
            complete(cell, ("memorized", "duplicates"))
        switch_off(cell.run, lambda: cell.lm, cell.corpus, cell.unread, cell.folder)

    once(cell.run, "intervene", cell.folder, cell.say, do)


STAGES: dict[str, Callable[[Cell], None]] = {
    "fetch": fetch_stage,
    "label": label_stage,
    "plan": plan_stage,
    "extract": extract_stage,
    "train": train_stage,
    "localize": localize_stage,
    "intervene": intervene_stage,
}
