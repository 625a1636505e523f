"""A corpus from the user's own text: documents tokenized by the LLM's tokenizer, and the sequences cut out of them.

Each .txt file, line of a .jsonl file and row of a .parquet file is one document. The tables are kept in a folder named by what they were
made from, so that the same text is prepared once.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.schema import CorpusConfig
from memgrid.corpus.ngrams import sequence_hashes
from memgrid.corpus.parquet import read_table
from memgrid.errors import UserError
from memgrid.io.digests import is_usable, write_parquet
from memgrid.io.display import progress_bar

SUFFIXES = (".txt", ".jsonl", ".parquet")
VERSION = "1"  # to be raised when the same text shall be prepared anew
BATCH_CHARACTERS = 1 << 20
PIECE_CHARACTERS = 1 << 14
# Where a long document can be taken apart without changing its tokens in common byte-level tokenizers: at single spaces and line breaks.
SEAM = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
SURROGATE = re.compile("[\ud800-\udfff]")


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
        documents = tokenize(read_documents(bar.track(files, description="reading text"), config.column), tokenizer)
    if not (documents.lengths >= config.length).any():
        raise UserError(f"corpus.path={config.path} has no document of corpus.length={config.length} tokens: add longer ones, or lower it")
    place.mkdir(parents=True, exist_ok=True)
    write_parquet(documents.table(), place / "documents.parquet")
    write_parquet(documents.sequences(config.length), place / "sequences.parquet")  # the last: it says that the other one is complete
    return place


def text_files(config: CorpusConfig, folder: Path) -> list[Path]:
    """The file `config.path`, or the .txt, .jsonl and .parquet files below it, sorted; hidden ones and those in `folder` are left out.

    Raises:
        UserError: nothing is there, or nothing of the three kinds.
    """
    path = Path(config.path or "")
    if config.path is None or not path.exists():
        raise UserError(f"corpus.path={config.path} does not exist: set it to a text file, or to a folder with {', '.join(SUFFIXES)} files")
    below = sorted(entry for entry in path.rglob("*") if not any(part.startswith(".") for part in entry.relative_to(path).parts))
    files = [path] if path.is_file() else [entry for entry in below if entry.is_file() and folder.resolve() not in entry.resolve().parents]
    texts = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not texts:
        kinds = Counter(file.suffix or file.name for file in files).most_common(5)
        there = ", ".join(f"{count} {kind}" for kind, count in kinds) or "nothing"
        raise UserError(f"corpus.path={config.path} has no file in {', '.join(SUFFIXES)}, but {there}: convert the text to one of them")
    return texts


def digest(files: list[Path], tokenizer: Any, config: CorpusConfig) -> str:
    """The name of what is made from these files' contents with this tokenizer, length and column.

    Raises:
        UserError: a file cannot be read.
    """
    whole = hashlib.sha256(json.dumps([VERSION, vocabulary(tokenizer), config.length, config.column]).encode())
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


def read_documents(files: Iterable[Path], column: str) -> Iterator[str]:
    """The documents of all files in their order.

    Raises:
        UserError: a file is not UTF-8, a line is no JSON object with the column, or a table lacks it.
    """
    for path in files:
        if path.suffix.lower() == ".jsonl":
            yield from read_lines(path, column)
        elif path.suffix.lower() == ".parquet":
            yield from read_table(path, {column: "strings"}, hint=": set corpus.column to the one with the text")[column]
        else:
            yield decode(path.read_bytes(), path)


def read_lines(path: Path, column: str) -> Iterator[str]:
    """The text in each line of a .jsonl file that is not blank."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = decode(line, path, offset)
            offset += len(line)
            if text.strip():
                yield text_of(text, column, f"line {number} of {path}")


def text_of(line: str, column: str, where: str) -> str:
    """The text in a line of JSON; a `UserError` says `where` that line is."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({str(error).partition(': line')[0]}): mend the line, or take it out") from None
    if not isinstance(fields, dict):
        raise UserError(f"{where} holds no JSON object: write {json.dumps({column: '...'})}")
    text = fields.get(column)
    if not isinstance(text, str):
        there = ", ".join(f"{key} ({type(value).__name__})" for key, value in fields.items()) or "no key"
        raise UserError(f"{where} has no string in {column!r}, but {there}: set corpus.column to the one with the text")
    if SURROGATE.search(text):
        raise UserError(f"{where} has half a character (a lone \\ud… escape) in {column!r}: mend the line, or take it out")
    return text


def decode(data: bytes, path: Path, offset: int = 0) -> str:
    """UTF-8 as text, without a byte order mark.

    Raises:
        UserError: it is something else; the sentence names the first wrong byte of the file, in which `data` begins at `offset`.
    """
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = offset + error.start
        raise UserError(f"{path} is not UTF-8 text (byte {at} is wrong): convert it to UTF-8, or move it out of corpus.path") from None


def tokenize(texts: Iterable[str], tokenizer: Any) -> Documents:
    """The distinct texts as tokens, without special tokens around them; equal texts count as copies of one document."""
    copies: dict[bytes, int] = {}  # by a digest of the text, in the order of first appearance
    tokens, ends = array("i"), array("q")

    def new_pieces() -> Iterator[tuple[int, str]]:
        for text in texts:
            key = hashlib.blake2b(text.encode(), digest_size=16).digest()
            copies[key] = copies.get(key, 0) + 1
            if copies[key] == 1:
                yield from ((len(copies) - 1, piece) for piece in pieces(text))

    for batch in batches(new_pieces()):
        numbers, parts = zip(*batch, strict=True)
        answer = tokenizer(list(parts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False)
        for number, ids in zip(numbers, answer["input_ids"], strict=True):
            tokens.extend(ids)
            ends[number:] = array("q", [len(tokens)])  # a new document's end, or the last one's after a further piece
    return Documents(np.asarray(tokens), np.asarray(ends), np.array(list(copies.values()), np.int64))


def pieces(text: str) -> Iterator[str]:
    """A text in pieces that are tokenized for themselves: the tokenizer needs a hundred times the memory of what it reads at once."""
    start = 0
    while seam := SEAM.search(text, start + PIECE_CHARACTERS):
        yield text[start : seam.start()]
        start = seam.start()
    yield text[start:]


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
