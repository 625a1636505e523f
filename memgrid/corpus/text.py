"""A corpus from the user's own text: documents tokenized by the LLM's tokenizer, and the sequences cut out of them.

The tables are kept in a folder named by what they were made from, so that the same text is prepared once.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.schema import CorpusConfig
from memgrid.corpus.documents import read_documents, text_files
from memgrid.corpus.ngrams import sequence_hashes
from memgrid.errors import UserError
from memgrid.io.digests import is_usable, write_parquet
from memgrid.io.display import progress_bar

VERSION = "2"  # to be raised when the same text shall be prepared anew
BATCH_CHARACTERS = 1 << 20
PIECE_CHARACTERS = 1 << 14
SEAM_CHARACTERS = 1 << 9  # on either side of a seam, on which it is proven
SEAMS_AT_ONCE = 64
GROUP_TOKENS = 1 << 20  # in a row group of documents.parquet: what has to be unpacked to read a part of it
# Where a long document can be taken apart without changing its tokens in common byte-level tokenizers: at single spaces and line breaks.
SEAM = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")


@dataclass(frozen=True)
class Documents:
    """Distinct documents as tokens, end to end.

    Attributes:
        tokens: int32 (all tokens,).
        ends: int64 (documents,); where each document ends in `tokens`.
        copies: int64 (documents,); how often each occurs.
    """

    tokens: np.ndarray
    ends: np.ndarray
    copies: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each document, int64 (documents,)."""
        return np.diff(self.ends, prepend=0)

    def table(self) -> pl.DataFrame:
        """A row per document that has tokens: tokens list<int32>, copies int64."""
        parts = [self.tokens[start:end] for start, end in pairwise([0, *self.ends.tolist()]) if end > start]
        lists = pl.Series(parts, dtype=pl.List(pl.Int32)).cast(pl.List(pl.Int32))  # polars takes arrays of one length for pl.Array
        return pl.DataFrame({"tokens": lists, "copies": self.copies[self.lengths > 0]})

    def sequences(self, length: int) -> pl.DataFrame:
        """Each document from its start on in steps of `length` tokens, without exact copies: sequence_id int64, tokens list<int32>.

        One document at least must be that long.
        """
        counts = self.lengths // length
        before = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # sequences of the same document
        starts = np.repeat(self.ends - self.lengths, counts) + before * length
        tokens = np.lib.stride_tricks.sliding_window_view(self.tokens, length)[starts]
        first = pl.Series(sequence_hashes(tokens)).is_first_distinct()
        lists = pl.Series(tokens).cast(pl.List(pl.Int32)).filter(first)
        return pl.DataFrame({"sequence_id": np.arange(len(lists)), "tokens": lists})


def prepare_text(config: CorpusConfig, tokenizer: Any, folder: Path) -> Path:
    """Tokenize the documents below `config.path` and cut them into sequences, unless that was done before.

    Args:
        tokenizer: one of transformers.
        folder: where prepared text is kept.

    Returns:
        `<folder>/<digest>` with documents.parquet (tokens, copies) and sequences.parquet (sequence_id, tokens): a corpus of kind `tables`.

    Raises:
        UserError: there is no text, a file cannot be read, or no document fills a sequence.
    """
    files = text_files(config, folder)
    place = folder / digest(files, tokenizer, config)
    if all(is_usable(place / name) for name in ("documents.parquet", "sequences.parquet")):
        return place
    with progress_bar() as bar:
        documents = tokenize(read_documents(bar.track(files, description="reading text"), config.column, config.copies), tokenizer)
    if not (documents.lengths >= config.length).any():
        raise UserError(f"corpus.path={config.path} has no document of corpus.length={config.length} tokens: add longer ones, or lower it")
    place.mkdir(parents=True, exist_ok=True)
    table = documents.table()
    rows = max(len(table) * GROUP_TOKENS // max(len(documents.tokens), 1), 1)
    write_parquet(table, place / "documents.parquet", row_group_size=rows)
    write_parquet(documents.sequences(config.length), place / "sequences.parquet")  # the last: it says that the other one is complete
    return place


def digest(files: list[Path], tokenizer: Any, config: CorpusConfig) -> str:
    """The name of what is made from these files' contents with this tokenizer, length and column.

    Raises:
        UserError: a file cannot be read.
    """
    whole = hashlib.sha256(json.dumps([VERSION, vocabulary(tokenizer), config.length, config.column, config.copies]).encode())
    for path in files:
        try:
            with path.open("rb") as file:
                whole.update(path.suffix.lower().encode() + hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): mend it, or move it out of corpus.path") from None
    return whole.hexdigest()[:16]


def vocabulary(tokenizer: Any) -> Any:
    """What decides a tokenizer's answers; padding and truncation, which calls change, are left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return sorted(tokenizer.get_vocab().items())
    return {key: value for key, value in json.loads(backend.to_str()).items() if key not in ("padding", "truncation")}


def tokenize(texts: Iterable[tuple[str, int]], tokenizer: Any) -> Documents:
    """The distinct texts as tokens, without special tokens around them; the copies of equal texts add up."""
    copies: dict[bytes, int] = {}  # by a digest of the text, in the order of first appearance
    tokens, ends = array("i"), array("q")

    def new_pieces() -> Iterator[tuple[int, str]]:
        for text, count in texts:
            key = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if key not in copies:
                yield from ((len(copies), piece) for piece in pieces(text, tokenizer))
            copies[key] = copies.get(key, 0) + count

    for batch in batches(new_pieces()):
        numbers, parts = zip(*batch, strict=True)
        for number, ids in zip(numbers, token_ids(list(parts), tokenizer), strict=True):
            tokens.extend(ids)
            ends[number:] = array("q", [len(tokens)])  # a new document's end, or the last one's after a further piece
    return Documents(np.asarray(tokens), np.asarray(ends), np.array(list(copies.values()), np.int64))


def token_ids(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """The tokens of each text, without special tokens."""
    answer = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False)
    return answer["input_ids"]  # type: ignore[no-any-return]


def pieces(text: str, tokenizer: Any) -> Iterator[str]:
    """A text in pieces that can be tokenized for themselves: the tokenizer needs a hundred times the memory of what it reads at once.

    Where a seam changes tokens, as in tokenizers that put a sign before every text or see no words in it, the text is one piece.
    """
    cuts, start = [0], 0
    while seam := SEAM.search(text, start + PIECE_CHARACTERS):
        cuts.append(start := seam.start())
    if not all(are_seams(text, cuts[1:], tokenizer)):
        cuts = [0]
    yield from (text[start:end] for start, end in pairwise([*cuts, None]))


def are_seams(text: str, cuts: list[int], tokenizer: Any) -> Iterator[bool]:
    """Whether what stands on both sides of each cut has the same tokens together as apart; stops at the first that has not."""
    for some in range(0, len(cuts), SEAMS_AT_ONCE):
        sides = [
            (text[max(cut - SEAM_CHARACTERS, 0) : cut], text[cut : cut + SEAM_CHARACTERS]) for cut in cuts[some : some + SEAMS_AT_ONCE]
        ]
        answers = token_ids([part for left, right in sides for part in (left, right, left + right)], tokenizer)
        yield from (left + right == both for left, right, both in zip(answers[::3], answers[1::3], answers[2::3], strict=True))


def batches(numbered: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Pieces in lists of about `BATCH_CHARACTERS`."""
    batch, size = list[tuple[int, str]](), 0
    for number, piece in numbered:
        batch.append((number, piece))
        size += len(piece)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
