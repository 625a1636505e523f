"""Features of sequences: what the columns of a group of labels are computed by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import polars as pl
from rapidfuzz.distance import Levenshtein

from memgrid.config.schema import LabelConfig
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.counting import count_duplicates
from memgrid.io.display import progress_bar
from memgrid.label.rouge import rouge_scores
from memgrid.label.templates import is_incrementing, is_repeating
from memgrid.lm.model import LanguageModel
from memgrid.lm.scores.scores import Scores, zlib_bytes
from memgrid.metrics.onset import onsets
from memgrid.taxonomy.columns import DEGREES, KNOWN, REFERENCE

Columns = dict[str, np.ndarray]

TEXT_ROWS = 4096  # whose texts are made at once


class Detokenizer(Protocol):
    """What knows the text of tokens: a tokenizer alone, or a whole model."""

    def detokenize(self, tokens: np.ndarray) -> list[str]:
        """The text of each row."""


def label_memorized(corpus: Corpus, lm: LanguageModel, rows: slice = slice(None)) -> list[Scores]:
    """How well the model knows the sequences in some rows, by one pass of teacher forcing; see `lm.scores.scores.Scores`."""
    tokens, size = corpus.tokens[rows], lm.batch_size(corpus.tokens.shape[1])
    scores = []
    with progress_bar() as bar:
        task = bar.add_task("reading sequences", total=len(corpus.tokens), completed=rows.start or 0)
        for start in range(0, len(tokens), size):
            batch = tokens[start : start + size]
            scores.append(lm.score(batch, corpus.k))
            bar.advance(task, len(batch))
    return scores


def columns_of_pass(scores: list[Scores], tokens: np.ndarray, tokenizer: Detokenizer) -> Columns:
    """The columns of the groups `memorized` and `degrees`, from the scores of batches in the order of their tokens.

    Args:
        tokens: integers (rows, length). tokenizer: tells their text, which zlib compresses.
    """

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(score, name) for score in scores])

    shortest = column("shortest_prefix")
    made = {name: column(name) for name in (*KNOWN, *DEGREES) if name not in ("extraction_strength", "zlib_ratio")}
    # Carlini et al. 2021; 0 where no prefix gives the rest.
    made["extraction_strength"] = (1 - shortest / tokens.shape[1]).astype(np.float32)
    texts = [text for start in range(0, len(tokens), TEXT_ROWS) for text in tokenizer.detokenize(tokens[start : start + TEXT_ROWS])]
    made["zlib_ratio"] = (column("total_logprob") / zlib_bytes(texts)).astype(np.float32)
    return made


def label_near(corpus: Corpus, lm: LanguageModel, memorized: np.ndarray, rows: slice) -> Columns:
    """How near the greedy continuation comes to the suffix: `near`, the least number of tokens to be changed, put in or left out, int16;
    `right_share`, the share of tokens that are the suffix's at their place, float32.

    Args:
        memorized: bool (N,), of the corpus: whose continuation is known.
    """
    suffix = corpus.suffix[rows]
    near, right = np.zeros(len(suffix), np.int16), np.ones(len(suffix), np.float32)
    foreign, size = np.flatnonzero(~memorized[rows]), lm.batch_size(corpus.tokens.shape[1])
    with progress_bar() as bar:
        task, done = bar.add_task("continuing sequences", total=len(memorized), completed=rows.start or 0), 0
        for start in range(0, len(foreign), size):
            part = foreign[start : start + size]
            own = lm.continue_greedily(corpus.prefix[rows][part], suffix.shape[1])
            near[part] = [Levenshtein.distance(one, other) for one, other in zip(own.tolist(), suffix[part].tolist(), strict=True)]
            right[part] = (own == suffix[part]).mean(1)
            bar.advance(task, int(part[-1]) + 1 - done)  # with what lies between and is known
            done = int(part[-1]) + 1
    return {"near": near, "right_share": right}


def reference_columns(own: pl.DataFrame, other: pl.DataFrame) -> Columns:
    """The columns of the group `reference`: those of the reference model, and `counterfactual`, how much more probable a token of the
    suffix is to the model than to its reference, in nats, float32 (Zhang et al. 2023).

    Args:
        own, other: the labels of both models, of the same sequences.
    """
    made = {f"{REFERENCE}{name}": other[name].to_numpy() for name in (*KNOWN, *DEGREES)}
    return {**made, "counterfactual": (own["suffix_logprob"] - other["suffix_logprob"]).to_numpy()}


def onset_columns(memorized: np.ndarray, steps: np.ndarray) -> Columns:
    """The group `onset`: the first step from which on a sequence is memorized at every later one, float64; infinite where there is none.

    Args:
        memorized: bool (steps, N), the last row the model itself. steps: float (steps,), the number of each.
    """
    return {"onset": np.append(steps, np.inf)[onsets(memorized)]}


def label_duplicates(corpus: Corpus, config: LabelConfig) -> Columns:
    """Exact occurrences of each sequence in the training text, at any offset, int64."""
    return {"duplicates": count_duplicates(corpus, config)}


def label_templates(corpus: Corpus, tokenizer: Detokenizer) -> Columns:
    """Whether the text repeats itself and whether it counts (Prashanth et al. 2024)."""
    found = []
    for start in range(0, len(corpus.tokens), TEXT_ROWS):
        texts = tokenizer.detokenize(corpus.tokens[start : start + TEXT_ROWS])
        found += [(is_repeating(text), is_incrementing(text)) for text in texts]
    repeating, incrementing = np.array(found, bool).reshape(-1, 2).T
    return {"is_repeating": repeating, "is_incrementing": incrementing}


def label_rouge(corpus: Corpus, _: None) -> Columns:
    """ROUGE-L and ROUGE-3 between prefix and suffix, F-measure, float64 in [0, 1]."""
    rouge_l, rouge_3 = rouge_scores(corpus.prefix, corpus.suffix)
    return {"rouge_l": rouge_l, "rouge_3": rouge_3}


# What is computed for the whole corpus at once; `memorized` and `code` cost more, and are computed bit by bit.
AT_ONCE: dict[str, Callable[[Corpus, Any], Columns]] = {
    "duplicates": label_duplicates,
    "templates": label_templates,
    "rouge": label_rouge,
}


def given_columns(corpus: Corpus, group: str) -> Columns | None:
    """The columns of a group that the corpus brings, or None; how sure the model was, no corpus knows: NaN."""
    wanted = {"memorized": ["memorized"], "duplicates": ["duplicates"], "templates": ["is_repeating", "is_incrementing"]}.get(group, [])
    if not wanted or not all(name in corpus.given for name in wanted):
        return None
    unknown = np.full(len(corpus.tokens), np.nan, np.float32)
    scores = {"confidence": unknown, "prefix_logprob": unknown, "suffix_logprob": unknown} if group == "memorized" else {}
    return {name: corpus.given[name] for name in wanted} | scores
