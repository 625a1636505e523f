"""Labels: the features of every sequence that the rules of taxonomies read, one parquet file per group, computed when needed.

| group      | columns                                                  | from                                  |
|------------|----------------------------------------------------------|---------------------------------------|
| memorized  | memorized, confidence, prefix_logprob, suffix_logprob    | the LLM, one pass under teacher forcing |
| degrees    | p_extract, shortest_prefix, extraction_strength, min_k, min_k_plus, zlib_ratio | the same pass   |
| duplicates | duplicates                                               | exact 64-gram counts in the documents, or in an index |
| templates  | is_repeating, is_incrementing                            | the text                              |
| rouge      | rouge_l, rouge_3                                         | the token ids of prefix and suffix    |
| code       | is_code, null where nobody needs it yet                  | a detector (`memgrid.label.code`) on the text |
| near       | near, right_share                                        | the LLM's greedy continuations        |
| reference  | reference_memorized and so on, counterfactual            | the first two groups of a reference model |
| onset      | onset                                                    | what the LLM memorizes at earlier steps |

Where the corpus brings the columns of a group itself, those are taken.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.names import LABELS, Owner, claim_home, owner_of_labels
from memgrid.config.schema import LabelConfig
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.counting import counted_in
from memgrid.errors import DamagedError
from memgrid.io.digests import parquet_metadata, read_table, write_parquet
from memgrid.io.files import replace_damaged
from memgrid.io.locks import lock
from memgrid.label.code import detector
from memgrid.label.features import AT_ONCE, Columns, Detokenizer, columns_of_pass, given_columns, label_memorized, label_near
from memgrid.lm.model import LanguageModel, ModelIdentity
from memgrid.lm.scores.places import Sampling
from memgrid.lm.scores.scores import Scores
from memgrid.taxonomy.columns import GROUPS, KNOWN

BLOCK_ROWS = 4096  # that are read between two writes
OF_ONE_PASS = ("memorized", "degrees")
OF_NO_MODEL = ("duplicates", "rouge")


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
        ending: of the names of files that say what the model continues: without the end of text it continues otherwise.
        others: of each group that is made from other models, what it is made from: their names and fingerprints.
    """

    def __init__(
        self,
        root: Path,
        llm: ModelIdentity,
        corpus: Corpus,
        config: LabelConfig | None = None,
        read_file: Callable[[str, int], tuple[pl.DataFrame, str]] = read_label_file,
        ending: str = "",
        others: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.root, self.llm, self.others = root, llm, others or {}
        self.corpus, self.config, self.read_file, self.ending = corpus, config or LabelConfig(), read_file, ending
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
        return self.folder / f"{self.stem(group)}.parquet"

    def stem(self, group: str) -> str:
        """The name of the file of one group."""
        if group == "duplicates" and "index" in self.counted_in:
            return f"duplicates-{self.counted_in['index']}"
        drawn = f"-t{self.config.temperature:g}" + ("" if self.config.top_k is None else f"-k{self.config.top_k}") if self.sampled else ""
        if group == "degrees":
            return f"degrees{self.ending}{drawn}"
        if group == "reference":
            return f"reference{self.ending}-{self.others[group]['reference']}{drawn}"
        return {"code": f"code-{self.config.code}"}.get(group, group + self.ending * (group in ("memorized", "near", "onset")))

    @property
    def sampling(self) -> Sampling:
        """How the continuation of `p_extract` is drawn."""
        return Sampling(self.config.temperature, self.config.top_k)

    @property
    def sampled(self) -> dict[str, float | None]:
        """The same as the file of `degrees` says it; empty where tokens are drawn as the model expects them."""
        return {} if self.sampling.is_plain else {"temperature": self.config.temperature, "top_k": self.config.top_k}

    @cached_property
    def counted_in(self) -> dict[str, str]:
        """As `memgrid.corpus.counting.counted_in`; empty where the corpus brings the counts."""
        return {} if self.given("duplicates") is not None else counted_in(self.corpus, self.config)

    def made_from(self, group: str) -> str:
        """What a group's file has to say of its origin."""
        judge: dict[str, object] = {"code": self.config.code, "code_model": self.config.code_model}
        if self.config.code_text != "tokens":
            judge["code_text"] = self.config.code_text
        asked: dict[str, Mapping[str, Any]] = {"code": judge, "degrees": self.sampled, **self.others}
        if group == "reference":
            asked |= {group: {**self.others[group], **self.sampled}}
        return json.dumps({**self.identity, **(self.counted_in if group == "duplicates" else asked.get(group, {}))})

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
        wanted = {"memorized": "lm", "degrees": "lm", "near": "lm", "templates": "tokenizer", "code": "tokenizer"}.get(group)
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
        elif group in OF_ONE_PASS:
            assert isinstance(model, LanguageModel)
            self.score_in_blocks(model, lambda rows: label_memorized(self.corpus, model, rows))
        elif group == "near":
            assert isinstance(model, LanguageModel)
            memorized = self.read(["memorized"])["memorized"].to_numpy()
            self.write(group, self.in_blocks(group, lambda rows: label_near(self.corpus, model, memorized, rows)))
            self.forget_blocks(group)
        else:
            self.write(group, self.elsewhere(group) or AT_ONCE[group](self.corpus, self.config if group == "duplicates" else model))

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

    def score_in_blocks(self, tokenizer: Detokenizer, score: Callable[[slice], list[Scores]]) -> None:
        """Compute what one pass tells, the groups `memorized` and `degrees`, and keep those of the two that are not there.

        Where the corpus says what is memorized, `degrees` also holds how sure the model is, which no corpus knows.

        Args:
            score: the scores of the sequences in some rows, in their order, as a list of batches.
        """
        made = self.in_blocks("degrees", lambda rows: columns_of_pass(score(rows), self.corpus.tokens[rows], tokenizer))
        beside = KNOWN[1:] if self.given("memorized") is not None else ()
        for group, names in (("degrees", (*beside, *GROUPS["degrees"])), ("memorized", KNOWN)):  # what is asked for first comes last
            if not self.has(group):
                self.write(group, {name: made[name] for name in names})
        self.forget_blocks("degrees")

    def in_blocks(self, group: str, make: Callable[[slice], Columns]) -> dict[str, pl.Series]:
        """Columns of all rows, of which every block is kept as soon as it is made: a process that is killed loses one."""
        tables = []
        for start in range(0, len(self.corpus.tokens), BLOCK_ROWS):
            rows, path = slice(start, start + BLOCK_ROWS), self.blocks(group) / f"{start:012d}.parquet"
            if (table := self.made(path, group)) is None or not set(GROUPS[group]) <= set(table.columns):
                self.put(path, make(rows), rows, group)
                table, _ = read_label_file(str(path))
            tables.append(table)
        return {column.name: column for column in pl.concat(tables)}

    def blocks(self, group: str) -> Path:
        """Where blocks of a group lie until all are there; the groups of one pass share them."""
        return self.folder / f".{self.stem('degrees' if group == 'memorized' else group)}"

    def forget(self, group: str) -> None:
        """Remove a group and its blocks, for all runs: it is computed anew. What a corpus brings is only taken over again."""
        with self.turn(group):
            self.path(group).unlink(missing_ok=True)
            self.forget_blocks(group)

    def forget_blocks(self, group: str) -> None:
        """Remove the blocks, if there are any: what they held is in place."""
        shutil.rmtree(self.blocks(group), ignore_errors=True)

    def sweep(self, group: str) -> None:
        """Remove the blocks of a group that is there: who made it was killed before it did so."""
        sharing = OF_ONE_PASS if group in OF_ONE_PASS else (group,)
        if self.blocks(group).exists() and not self.missing(sharing):
            with ExitStack() as turns:  # of all: whoever makes one of them again works on the same blocks
                if not any(turns.enter_context(self.turn(one)) for one in sharing):
                    self.forget_blocks(group)

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
        """The groups side by side: sequence_id and their columns, a row per sequence in the corpus's order.

        What a later group knows, too, it knows better.
        """
        table = pl.DataFrame({"sequence_id": self.corpus.sequence_id})
        for group in groups:
            table = table.with_columns(self.read_file(str(self.path(group)), self.path(group).stat().st_mtime_ns)[0])
        return table
