"""`python -m memgrid trace <run> <sequence_id>`: the training documents in which a sequence of a run stands, and where in them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from memgrid.config.overrides import read_config
from memgrid.config.schema import RunConfig
from memgrid.config.validate import validate_counts
from memgrid.corpus.counting import Index, passages_in_documents
from memgrid.errors import UserError
from memgrid.io.commands import HELP, Command, explained, key, parsed, start
from memgrid.io.display import PlainConsole, visible
from memgrid.results.folder import RunFolder


def number(word: str) -> int:
    """A whole number that was typed; UserError if it is none."""
    if not word.isdecimal():
        raise UserError(f"{word} is no whole number from 0 on: write one, such as 42")
    return int(word)


@dataclass(frozen=True)
class Words:
    """What `memgrid trace` understands."""

    run: Path = key("<folder>", "of a run, <root>/runs/<llm>/<taxonomy>/<name>; `run=` may be left out", read=Path)
    sequence: int = key("<number>", "the sequence_id; `sequence=` may be left out", read=number)
    index: str | None = key("<folder>", "of an index of infini-gram, to look there and not where the run has counted duplicates", None)
    most: int = key("<number>", "how many documents are shown, at most", 10, number)
    around: int = key("<number>", "how many tokens before and after the sequence are shown", 16, number)


COMMAND = Command(
    "trace",
    "Shows the training documents in which a sequence stands, and what stands around it there. All documents of the corpus are read for "
    "it, or an index of infini-gram is asked. The text of the documents is printed and kept nowhere.",
    Words,
    {
        "trace memgrid-runs/runs/toy/rasy/<name> 42": "where sequence 42 of a run stands in the training documents",
        "trace run=<folder> sequence=42 index=/data/v4_pile most=3": "the same in an index of all training text",
    },
)


def named(words: list[str]) -> list[str]:
    """The words with `run=` and `sequence=` before the first and the second that have no key."""
    keys = {declared.name for declared in fields(Words)}
    bare = iter(("run", "sequence"))
    return [word if word.partition("=")[0] in keys or (name := next(bare, None)) is None else f"{name}={word}" for word in words]


def settings_of(folder: Path, index: str | None) -> RunConfig:
    """The settings of the run in a folder, with another index if one is named.

    Raises:
        UserError: there is no run, or the index cannot be read.
    """
    folder = folder.absolute()
    config = RunFolder(folder).config
    if not config.is_file() or folder.parts[-4:-3] != ("runs",):
        raise UserError(f"{folder} holds no run: give the folder of one, <root>/runs/<llm>/<taxonomy>/<name>, which `memgrid status` lists")
    run = read_config(config, folder.parents[3])
    if index is not None:
        run.label = replace(run.label, counts="infini_gram", index=index)
    validate_counts(run.label)
    return run


def trace(words: Words, console: PlainConsole) -> None:
    """Find the sequence and print where it stands.

    Raises:
        UserError: the run has no such sequence, or its corpus no documents.
    """
    run = settings_of(words.run, words.index)
    from memgrid.lm.load import load_tokenizer  # torch and transformers: a refusal does without
    from memgrid.lm.model import Tokenizer
    from memgrid.pipeline.inputs import open_corpus

    tokenizer = Tokenizer(load_tokenizer(run.llm))
    corpus = open_corpus(run, lambda: tokenizer)
    if not (here := np.flatnonzero(corpus.sequence_id == words.sequence)).size:
        raise UserError(f"sequence={words.sequence} is none of corpus {corpus.name!r}: give a sequence_id of its, such as the run's own")
    sequence = corpus.tokens[here[0]]
    if run.label.counts == "infini_gram":
        where, (total, passages) = str(run.label.index), Index.of(run.label).passages(sequence, words.most, words.around)
    else:
        where, (total, passages) = str(corpus.documents_path), passages_in_documents(corpus, sequence, words.most, words.around)
    console.print(visible(f"sequence {words.sequence} occurs {total} times in {where}"), soft_wrap=True, highlight=False)
    for passage in passages:
        copies = f", {passage.copies} copies" if passage.copies > 1 else ""
        console.print(visible(f"\n{passage.document}{copies}".strip()), soft_wrap=True, highlight=False)
        before, text, after = (tokenizer.detokenize(np.array([part], np.int64))[0] for part in (passage.before, sequence, passage.after))
        console.print(visible(f"  {before} [{text}] {after}"), soft_wrap=True, highlight=False)
    if len(passages) == words.most:
        console.print(f"the first {words.most} places are shown: most=<number> shows more", highlight=False)


def main(arguments: list[str]) -> None:
    """Trace one sequence.

    Raises:
        UserError: a word is unknown or missing, or the sequence cannot be looked for.
    """
    if HELP & set(arguments):
        print(explained(COMMAND))
        return
    trace(parsed(COMMAND, named(arguments)), PlainConsole())


if __name__ == "__main__":
    start(main)
