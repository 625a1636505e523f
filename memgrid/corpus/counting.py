"""How often sequences occur in the training text: in the documents of the corpus, read by several processes, or in an infini-gram index.

An index (Liu et al. 2024, "Infini-gram") is a suffix array of all training text on disk, which answers in milliseconds whatever its size.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from memgrid.config.schema import LabelConfig
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.ngrams import Wanted, count_occurrences
from memgrid.corpus.parquet import count_rows
from memgrid.errors import UserError
from memgrid.io.display import progress_bar

BYTES_PER_PROCESS = 64 << 20  # of documents: below it, starting another process costs more than it saves
SHARES = 8  # of each process: documents are of different lengths
SEEN_BYTES = 1 << 16  # at both ends of a file, which tell it from others
INDEX_FILES = ("tokenized", "table", "offset")
WIDTHS = {1: "u8", 2: "u16", 4: "u32"}  # bytes a token → what infini-gram calls it


def count_duplicates(corpus: Corpus, config: LabelConfig) -> np.ndarray:
    """Exact occurrences of each sequence in the training text, at any offset: int64 (rows,).

    Raises:
        UserError: there are no documents, or they or the index are damaged.
    """
    if config.counts == "infini_gram":
        return Index.of(config).count(corpus.tokens)
    return count_exactly(corpus, config.processes)


def count_exactly(corpus: Corpus, processes: int | None = None) -> np.ndarray:
    """Occurrences in the corpus's own documents; memory grows with the sequences, not with the documents.

    Args:
        processes: that read documents at the same time; None: as many as their size is worth, and not more than there are cores.

    Raises:
        UserError: as `Corpus.documents`.
    """
    path = corpus.documents_path
    if path is not None and processes is None:
        processes = min(len(os.sched_getaffinity(0)), path.stat().st_size // BYTES_PER_PROCESS)
    if path is None or not processes or processes == 1:
        return count_occurrences(corpus.tokens, corpus.documents())
    bounds = np.linspace(0, count_rows(path), SHARES * processes + 1).astype(int).tolist()
    shares = [slice(*pair) for pair in pairwise(bounds)]
    wanted = Wanted(corpus.tokens)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "tokens.npy", corpus.tokens)  # which the processes have in common
        small = replace(corpus, sequence_id=corpus.sequence_id[:0], tokens=corpus.tokens[:0], given={}, texts=None)
        return wanted.counts(sum_of(small, Path(folder) / "tokens.npy", [shares[n::processes] for n in range(processes)]))


def sum_of(corpus: Corpus, tokens: Path, work: list[list[slice]]) -> np.ndarray:
    """What several processes find, each in its rows of the documents, added up; all end with this one, and if one fails.

    Raises:
        UserError: what a process has to say.
    """
    context = multiprocessing.get_context("spawn")
    started: dict[Connection, Any] = {}
    total: Any = 0
    try:
        for shares in work:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=find_in_process, args=(corpus, tokens, shares, there), daemon=True)
            process.start()
            there.close()
            started[here] = process
        left = list(started)
        with progress_bar() as bar:
            task = bar.add_task("counting in documents", total=sum(map(len, work)))
            while left:
                for pipe in wait(left):
                    said = answer_of(pipe, started[pipe])  # type: ignore[arg-type, index]
                    bar.advance(task, said is None)
                    if said is not None:
                        total = total + said
                        left.remove(pipe)  # type: ignore[arg-type]
    finally:
        for process in started.values():
            process.kill()
            process.join()
    return total


def answer_of(pipe: Connection, process: Any) -> np.ndarray | None:
    """What a process says next: its numbers, or None for a share that is done."""
    try:
        said = pipe.recv()
    except EOFError:
        process.join()
        raise UserError(
            f"a process that counted in documents ended with status {process.exitcode}: it may have been short of memory, so set "
            "label.processes lower"
        ) from None
    if isinstance(said, Exception):
        raise said
    return said  # type: ignore[no-any-return]


def find_in_process(corpus: Corpus, tokens: Path, shares: list[slice], there: Connection) -> None:
    """What one process does: it says None after each share, and at last how often it has found each distinct sequence, or why not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal: the first one ends the others
    try:
        wanted = Wanted(np.load(tokens, mmap_mode="r"))
        total = np.zeros(len(wanted.distinct), np.int64)
        for share in shares:
            total += wanted.find(corpus.documents(share))
            there.send(None)
        there.send(total)
    except UserError as error:
        there.send(UserError(str(error)))  # of no other kind, which might need more than its sentence to be made again
    except Exception as error:
        there.send(RuntimeError(f"{type(error).__name__}: {error}"))


def counted_in(corpus: Corpus, config: LabelConfig) -> dict[str, str]:
    """What tells the documents or the index in which duplicates are counted from others; empty where there are none.

    Raises:
        UserError: there is no whole index, where one is named.
    """
    if config.counts == "infini_gram":
        return {"index": Index.of(config).digest()}
    path = corpus.documents_path
    return {} if path is None or not path.is_file() else {"documents": ends_digest([path])}


def ends_digest(paths: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits from the names and sizes of files and from both their ends: reading all could take hours.

    At its end a parquet file says where each of its parts stands and what it holds.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            digest.update(file.read(SEEN_BYTES))
            file.seek(max(path.stat().st_size - SEEN_BYTES, 0))
            digest.update(file.read(SEEN_BYTES))
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Passage:
    """A place in a document at which a sequence stands.

    Attributes:
        document: what the document is called, in words. copies: how often the model has read it.
        before, after: tokens around the sequence, of the same document.
    """

    document: str
    copies: int
    before: list[int]
    after: list[int]


def passages_in_documents(corpus: Corpus, sequence: np.ndarray, most: int, around: int) -> tuple[int, list[Passage]]:
    """How often a sequence occurs in the corpus's own documents, and the first places at which it stands: all documents are read.

    Args:
        most: how many places are told. around: tokens before and after the sequence, at most.

    Raises:
        UserError: as `Corpus.documents`.
    """
    total, told = 0, list[Passage]()
    for table in corpus.document_tables():
        tokens, ends = table["tokens"].explode().to_numpy(), table["tokens"].list.len().cum_sum().to_numpy()
        starts = np.arange(len(tokens) - len(sequence) + 1)
        for place, token in enumerate(sequence):
            starts = starts[tokens[starts + place] == token]
        owners = np.searchsorted(ends, starts, side="right")
        inside = starts + len(sequence) <= ends[owners]
        for start, owner in zip(starts[inside].tolist(), owners[inside].tolist(), strict=True):
            end, begin = start + len(sequence), int(ends[owner - 1]) if owner else 0
            total += (copies := table["copies"][owner])
            if len(told) < most:
                name = f"{corpus.name_of(table['row'][owner])}, token {start - begin} of {ends[owner] - begin}"
                around_it = tokens[max(start - around, begin) : start], tokens[end : min(end + around, ends[owner])]
                told.append(Passage(name, copies, *(part.tolist() for part in around_it)))
    return total, told


@dataclass(frozen=True)
class Index:
    """The folder of an index of the versions 4 of infini-gram, the one that its documentation tells how to build and to download.

    Attributes:
        shards: how many there are. width: bytes a token.
    """

    folder: Path
    shards: int
    width: int

    @staticmethod
    def of(config: LabelConfig) -> Index:
        """The index that is named in a configuration.

        Raises:
            UserError: there is none, or it lacks a part.
        """
        folder = Path(str(config.index))
        numbers = sorted(int(path.suffix[1:]) for path in folder.glob("tokenized.*") if path.suffix[1:].isdigit())
        wanted = [folder / f"{name}.{number}" for number in range(len(numbers) or 1) for name in INDEX_FILES]
        if missing := [path.name for path in wanted if not path.is_file()]:
            raise UserError(f"label.index={config.index} is no whole index of infini-gram, it lacks {missing[0]}: name the folder of one")
        widths = {Index.width_of(folder, number) for number in numbers}
        if len(widths) != 1 or not widths <= set(WIDTHS):
            raise UserError(f"label.index={config.index} is damaged, the sizes of its files do not fit each other: copy it again")
        return Index(folder, len(numbers), widths.pop())

    @staticmethod
    def width_of(folder: Path, number: int) -> int:
        """Bytes a token of a shard, 0 if its sizes do not fit: the table has an entry a token, of as many bytes as the text's end needs."""
        text, table = ((folder / f"{name}.{number}").stat().st_size for name in ("tokenized", "table"))
        entries, rest = divmod(table, max(int(np.ceil(np.log2(max(text, 2)) / 8)), 1))
        return text // entries if entries and not rest and not text % entries else 0

    def digest(self) -> str:
        """As `ends_digest`, of all its files."""
        return ends_digest(self.folder / f"{name}.{number}" for number in range(self.shards) for name in INDEX_FILES)

    def engine(self) -> Any:
        """What answers, of the package infini-gram; nothing of the index is read into memory."""
        from infini_gram.engine import InfiniGramEngine  # an extra

        last = 256**self.width - 1  # what stands between documents; the end-of-text token plays no part in counting
        depths = {"ds_prefetch_depth": 0, "sa_prefetch_depth": 0, "od_prefetch_depth": 0}  # threads of its own: dearer than what they save
        return InfiniGramEngine(str(self.folder), eos_token_id=0, vocab_size=last, version=4, token_dtype=WIDTHS[self.width], **depths)

    def count(self, sequences: np.ndarray) -> np.ndarray:
        """How often each sequence occurs: int64 (rows,).

        Raises:
            UserError: the index cannot hold a token, or holds none of the sequences.
        """
        self.refuse_token(int(sequences.max()))
        engine, wanted = self.engine(), Wanted(sequences)
        totals = np.zeros(len(wanted.distinct), np.int64)
        with progress_bar() as bar:
            for place, row in enumerate(bar.track(wanted.distinct, description="counting in the index")):
                totals[place] = engine.count(input_ids=sequences[row].tolist())["count"]
        if not totals.any():
            raise UserError(
                f"label.index={self.folder} has none of the {len(totals)} sequences: it must have been built of the training text, with "
                "the tokenizer of the model"
            )
        return wanted.counts(totals)

    def refuse_token(self, token: int) -> None:
        """Raise UserError for a token that the index cannot hold."""
        if token >= 256**self.width - 1:
            raise UserError(f"label.index={self.folder} has tokens of {self.width} bytes, which token {token} does not fit: name another")

    def passages(self, sequence: np.ndarray, most: int, around: int) -> tuple[int, list[Passage]]:
        """How often a sequence occurs in the index, and the first places at which it stands; see `passages_in_documents`."""
        self.refuse_token(int(sequence.max()))
        engine, length, told = self.engine(), len(sequence), list[Passage]()
        found = engine.find(input_ids=sequence.tolist())
        for shard, (first, end) in enumerate(found["segment_by_shard"]):
            for rank in range(first, min(end, first + most - len(told))):
                one = engine.get_doc_by_rank_2(s=shard, rank=rank, needle_len=length, max_ctx_len=around)
                tokens, at = one["token_ids"], one["needle_offset"]
                name = f"document {one['doc_ix']} of the index, of {one['doc_len']} tokens {one['metadata']}".strip()
                told.append(Passage(name, 1, tokens[:at], tokens[at + length :]))
        return found["cnt"], told
