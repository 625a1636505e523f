"""What runs are made from: the corpus as a run reads it, and what runs of one process share of their inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from memgrid.config.names import LABELS, checkpoint_of, homes, owner_of_labels, short_name, step_of, tensors_file
from memgrid.config.schema import CorpusConfig, LLMConfig, RunConfig, SelectConfig
from memgrid.corpus.corpus import Corpus, load_corpus
from memgrid.corpus.published import FORMATS, load_published
from memgrid.corpus.text import prepare_text
from memgrid.errors import DamagedError
from memgrid.io.digests import read_json, write_json
from memgrid.label.labels import read_label_file
from memgrid.label.selection.draw import Draw, draw
from memgrid.lm.load import model_folder
from memgrid.lm.model import ModelIdentity, Tokenizer
from memgrid.lm.weights import kinship, tensor_digests

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
