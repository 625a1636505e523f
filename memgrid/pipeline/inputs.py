"""What runs are made from: the corpus as a run reads it, and what runs of one process share of their inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from memgrid.config.names import LABELS, checkpoint_of, homes, owner_of_labels, short_name, step_of, tensors_file
from memgrid.config.schema import CorpusConfig, LLMConfig, RunConfig, SelectConfig
from memgrid.corpus.corpus import Corpus, load_corpus
from memgrid.corpus.published import FORMATS, load_published
from memgrid.corpus.text import prepare_text
from memgrid.errors import DamagedError
from memgrid.io.digests import read_json, write_json
from memgrid.label.labels import Labels, read_label_file
from memgrid.label.selection.draw import Draw, draw
from memgrid.lm.load import model_folder
from memgrid.lm.model import ModelIdentity, Tokenizer
from memgrid.lm.weights import kinship, tensor_digests
from memgrid.store.store import Store

MOST_KIN = 3  # sentences on what a checkpoint shares with others: what is frozen in training, all of them share


class Inputs:
    """What the runs of a process share of their inputs: the last few corpora, draws and label files."""

    def __init__(self) -> None:
        self.corpus = lru_cache(maxsize=2)(read_corpus)
        self.unsaid = lru_cache(maxsize=2)(without_memorized)
        self.draw = lru_cache(maxsize=4)(draw_from)
        self.label_file = lru_cache(maxsize=8)(read_label_file)


@dataclass(eq=False)
class Renewed:
    """What `force` has removed in this process: of runs that share it only the first makes it anew, and keeps what it has made.

    Attributes:
        labels: files. samples: ids, by the folder of their store.
    """

    labels: set[Path] = field(default_factory=set)
    samples: dict[Path, set[int]] = field(default_factory=dict)

    def forget(self, labels: Labels, groups: Sequence[str]) -> bool:
        """Remove some groups of labels, but for those that this process has made anew; returns whether there were any."""
        stale = [group for group in groups if labels.path(group) not in self.labels]
        for group in stale:
            labels.forget(group)
        self.labels |= {labels.path(group) for group in stale}
        return bool(stale)

    def stale(self, store: Store, ids: np.ndarray) -> list[int]:
        """Those of some samples whose attention this process has not extracted anew; from now on it has."""
        known = self.samples.setdefault(store.folder, set())
        stale = [sample for sample in ids.tolist() if sample not in known]
        known.update(stale)
        return stale


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
