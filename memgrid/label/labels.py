"""Labels: the features of every sequence that the rules of taxonomies read, one parquet file per group, computed when needed.

| group      | columns                                                  | from                                  |
|------------|----------------------------------------------------------|---------------------------------------|
| memorized  | memorized, confidence, prefix_logprob, suffix_logprob    | the LLM, one pass under teacher forcing |
| duplicates | duplicates                                               | exact 64-gram counts in the documents, or in an index |
| templates  | is_repeating, is_incrementing                            | the text                              |
| rouge      | rouge_l, rouge_3                                         | the token ids of prefix and suffix    |
| code       | is_code, null where nobody needs it yet                  | a detector (`memgrid.label.code`) on the text |

Where the corpus brings the columns of a group itself, those are taken.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from memgrid.config.names import LABELS, Owner, claim_home, owner_of_labels
from memgrid.config.schema import LabelConfig
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.counting import count_duplicates, counted_in
from memgrid.errors import DamagedError
from memgrid.io.digests import parquet_metadata, read_table, write_parquet
from memgrid.io.display import progress_bar
from memgrid.io.files import replace_damaged
from memgrid.io.locks import lock
from memgrid.label.code import detector
from memgrid.label.rouge import rouge_scores
from memgrid.label.templates import is_incrementing, is_repeating
from memgrid.lm.model import LanguageModel, ModelIdentity, Scores

Columns = dict[str, np.ndarray]

BLOCK_ROWS = 4096  # that are scored between two writes


class Detokenizer(Protocol):
    """What knows the text of tokens: a tokenizer alone, or a whole model."""

    def detokenize(self, tokens: np.ndarray) -> list[str]:
        """The text of each row."""


def label_memorized(corpus: Corpus, lm: LanguageModel, rows: slice = slice(None)) -> list[Scores]:
    """Whether the continuation equals the suffix, and how sure the model was, of the sequences in some rows; see `lm.model.Scores`."""
    tokens, size = corpus.tokens[rows], lm.batch_size(corpus.tokens.shape[1])
    batches = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    with progress_bar() as bar:
        return [lm.score(batch, corpus.k) for batch in bar.track(batches, description="reading sequences")]


def memorized_columns(scores: list[Scores]) -> Columns:
    """The columns of the group `memorized`, from the scores of batches in the corpus's order."""
    names = ("memorized", "confidence", "prefix_logprob", "suffix_logprob")
    return {name: np.concatenate([getattr(score, name) for score in scores]) for name in names}


def label_duplicates(corpus: Corpus, config: LabelConfig) -> Columns:
    """Exact occurrences of each sequence in the training text, at any offset, int64."""
    return {"duplicates": count_duplicates(corpus, config)}


def label_templates(corpus: Corpus, tokenizer: Detokenizer) -> Columns:
    """Whether the text repeats itself and whether it counts (Prashanth et al. 2024)."""
    found = []
    for start in range(0, len(corpus.tokens), BLOCK_ROWS):
        texts = tokenizer.detokenize(corpus.tokens[start : start + BLOCK_ROWS])
        found += [(is_repeating(text), is_incrementing(text)) for text in texts]
    repeating, incrementing = np.array(found, bool).reshape(-1, 2).T
    return {"is_repeating": repeating, "is_incrementing": incrementing}


def label_rouge(corpus: Corpus, _: None) -> Columns:
    """ROUGE-L and ROUGE-3 between prefix and suffix, F-measure, float64 in [0, 1]."""
    rouge_l, rouge_3 = rouge_scores(corpus.prefix, corpus.suffix)
    return {"rouge_l": rouge_l, "rouge_3": rouge_3}


# What is computed for the whole corpus at once; `memorized` and `code` cost more, and are computed bit by bit.
GROUPS: dict[str, Callable[[Corpus, Any], Columns]] = {
    "duplicates": label_duplicates,
    "templates": label_templates,
    "rouge": label_rouge,
}

OF_NO_MODEL = ("duplicates", "rouge")


def given_columns(corpus: Corpus, group: str) -> Columns | None:
    """The columns of a group that the corpus brings, or None; how sure the model was, no corpus knows: NaN."""
    wanted = {"memorized": ["memorized"], "duplicates": ["duplicates"], "templates": ["is_repeating", "is_incrementing"]}.get(group, [])
    if not wanted or not all(name in corpus.given for name in wanted):
        return None
    unknown = np.full(len(corpus.tokens), np.nan, np.float32)
    scores = {"confidence": unknown, "prefix_logprob": unknown, "suffix_logprob": unknown} if group == "memorized" else {}
    return {name: corpus.given[name] for name in wanted} | scores


def read_label_file(path: str, modified: int = 0) -> tuple[pl.DataFrame, str]:
    """A label file without the ids, which every group has and the corpus knows, and what it was made from.

    Raises as `io.digests.read_bytes`.

    Args:
        modified: nanoseconds; it makes a new file another one to whoever keeps the last few for the next run of a sweep.
    """
    table, metadata = read_table(Path(path))
    return table.drop("sequence_id"), metadata.get("memgrid", "")


class Labels:
    """The label files of one LLM and corpus: `<root>/labels/<llm>/<corpus>/<group>.parquet`, in a folder that belongs to its weights.

    Args:
        read_file: as `read_label_file`, if it may remember what it has read.
        memorized: the name of the file of that group: what is memorized without the end of text has one of its own.
    """

    def __init__(
        self,
        root: Path,
        llm: ModelIdentity,
        corpus: Corpus,
        config: LabelConfig | None = None,
        read_file: Callable[[str, int], tuple[pl.DataFrame, str]] = read_label_file,
        memorized: str = "memorized",
    ) -> None:
        self.root, self.llm = root, llm
        self.corpus, self.config, self.read_file, self.memorized = corpus, config or LabelConfig(), read_file, memorized
        # What the files were made from; a file made from something else is computed again.
        self.identity = {"corpus": corpus.fingerprint, "k": corpus.k, "llm": llm.fingerprint}

    @cached_property
    def home(self) -> tuple[Path, Owner]:
        """The folder, as `config.names.claim_home` finds or claims it, and under which checkpoints its weights were used."""
        return claim_home(self.root, LABELS, self.corpus.name, self.llm, owner_of_labels)

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.home[0]

    def path(self, group: str) -> Path:
        """The file of one group."""
        names = {"code": f"code-{self.config.code}", "memorized": self.memorized}
        if group == "duplicates" and "index" in self.counted_in:
            names[group] = f"duplicates-{self.counted_in['index']}"
        return self.folder / f"{names.get(group, group)}.parquet"

    @cached_property
    def counted_in(self) -> dict[str, str]:
        """As `memgrid.corpus.counting.counted_in`; empty where the corpus brings the counts."""
        return {} if self.given("duplicates") is not None else counted_in(self.corpus, self.config)

    def made_from(self, group: str) -> str:
        """What a group's file has to say of its origin."""
        judge: dict[str, object] = {"code": self.config.code, "code_model": self.config.code_model}
        if self.config.code_text != "tokens":
            judge["code_text"] = self.config.code_text
        asked = judge if group == "code" else self.counted_in if group == "duplicates" else {}
        return json.dumps({**self.identity, **asked})

    def is_made_from(self, origin: str, group: str) -> bool:
        """Whether a file's origin is what it has to be; earlier versions did not say in which documents they had counted."""
        earlier = group == "duplicates" and "documents" in self.counted_in and origin == json.dumps(self.identity)
        return earlier or origin == self.made_from(group)

    def has(self, group: str) -> bool:
        """Whether the group's file is there, sound and made from this corpus and LLM."""
        return self.made(self.path(group), group) is not None

    def made(self, path: Path, group: str) -> pl.DataFrame | None:
        """A file of a group, or of some of its rows, if it was made from this corpus and LLM; a damaged one is set aside."""
        try:
            table, origin = self.read_file(str(path), path.stat().st_mtime_ns)
        except DamagedError as error:
            replace_damaged(error)
            return None
        except FileNotFoundError:
            return None
        return table if self.is_made_from(origin, group) else None

    def missing(self, groups: Iterable[str]) -> list[str]:
        """The groups that have to be computed."""
        return [group for group in groups if not self.has(group)]

    def asks(self, group: str) -> str | None:
        """What has to be there to compute a group: the `lm`, its `tokenizer`, or nothing."""
        wanted = {"memorized": "lm", "templates": "tokenizer", "code": "tokenizer"}.get(group)
        return None if self.given(group) is not None else wanted

    def given(self, group: str) -> Columns | None:
        """As `given_columns`; but whoever names an index wants its counts."""
        return None if group == "duplicates" and self.config.counts != "exact" else given_columns(self.corpus, group)

    @contextmanager
    def turn(self, group: str) -> Iterator[bool]:
        """One process at a time computes a group; yields whether it is still missing when the turn comes."""
        with lock(self.folder / f".{group}.turn.lock"):
            yield not self.has(group)

    def compute(self, group: str, model: LanguageModel | Detokenizer | None) -> None:
        """Compute one group, or take it from the corpus, and keep it; of `code`, every row."""
        if group == "code":
            assert model is not None
            self.detect_code(np.arange(len(self.corpus.tokens)), model)
        elif (given := self.given(group)) is not None:
            self.write(group, given)
        elif group == "memorized":
            assert isinstance(model, LanguageModel)
            self.score_in_blocks(lambda rows: label_memorized(self.corpus, model, rows))
        else:
            self.write(group, self.elsewhere(group) or GROUPS[group](self.corpus, self.config if group == "duplicates" else model))

    def elsewhere(self, group: str) -> Columns | None:
        """The columns of a group that depends on no model, where those of another model or checkpoint were made from the same; or None."""
        if group not in OF_NO_MODEL:
            return None
        for path in sorted((self.root / LABELS).glob(f"*/{self.corpus.name}/{self.path(group).name}")):
            with suppress(ValueError, KeyError, TypeError, OSError, DamagedError):
                origin = json.loads((parquet_metadata(path) or {})["memgrid"])
                if origin | {"llm": self.llm.fingerprint} == json.loads(self.made_from(group)):
                    return {column.name: column.to_numpy() for column in read_label_file(str(path))[0]}
        return None

    def score_in_blocks(self, score: Callable[[slice], list[Scores]]) -> None:
        """Compute the group `memorized` and keep every block of rows as soon as it is read: a process that is killed loses one.

        Args:
            score: the scores of the sequences in some rows, in their order, as a list of batches.
        """
        blocks, tables = self.folder / f".{self.memorized}", []
        for start in range(0, len(self.corpus.tokens), BLOCK_ROWS):
            rows, path = slice(start, start + BLOCK_ROWS), blocks / f"{start:012d}.parquet"
            if (table := self.made(path, "memorized")) is None:
                self.put(path, memorized_columns(score(rows)), rows, "memorized")
                table, _ = read_label_file(str(path))
            tables.append(table)
        whole = pl.concat(tables)
        self.write("memorized", {column.name: column for column in whole})
        shutil.rmtree(blocks)

    def detect_code(self, rows: np.ndarray, tokenizer: Detokenizer) -> None:
        """Detect code in some rows of the corpus, beside those that were looked at before: milliseconds a row, and a run needs few."""
        answers = detector(self.config)(self.texts(rows, tokenizer)) if len(rows) else []
        with lock(self.folder / ".code.lock"):  # other processes add their answers
            self.write("code", {"is_code": self.code().scatter(rows, pl.Series(answers, dtype=pl.Boolean))})

    def texts(self, rows: np.ndarray, tokenizer: Detokenizer) -> list[str]:
        """What the judge of code reads of some rows: what the tokens say, or, with `label.code_text=corpus`, what the corpus brings."""
        if self.config.code_text == "tokens" or self.corpus.texts is None:
            return tokenizer.detokenize(self.corpus.tokens[rows])
        texts = self.corpus.texts.of(rows)
        without = np.array([place for place, text in enumerate(texts) if text is None], np.int64)
        for place, text in zip(without.tolist(), tokenizer.detokenize(self.corpus.tokens[rows[without]]), strict=True):
            texts[place] = text
        return [text or "" for text in texts]

    def code(self) -> pl.Series:
        """Boolean per row of the corpus, null where nobody has looked yet."""
        if self.has("code"):
            return self.read(["code"])["is_code"].clone()
        return pl.Series("is_code", [None], dtype=pl.Boolean).new_from_index(0, len(self.corpus.tokens))

    def write(self, group: str, columns: Mapping[str, np.ndarray | pl.Series]) -> None:
        """Put a group's file in place at once, whole."""
        self.put(self.path(group), columns, slice(None), group)

    def put(self, path: Path, columns: Mapping[str, np.ndarray | pl.Series], rows: slice, group: str) -> None:
        """Write columns of some rows, whole or not at all, with what they were made from."""
        table = pl.DataFrame({"sequence_id": self.corpus.sequence_id[rows], **columns})
        write_parquet(table, path, metadata={"memgrid": self.made_from(group)})

    def read(self, groups: Iterable[str]) -> pl.DataFrame:
        """The groups side by side: sequence_id and their columns, a row per sequence in the corpus's order."""
        ids = pl.DataFrame({"sequence_id": self.corpus.sequence_id})
        tables = [self.read_file(str(self.path(group)), self.path(group).stat().st_mtime_ns)[0] for group in groups]
        return pl.concat([ids, *tables], how="horizontal")
