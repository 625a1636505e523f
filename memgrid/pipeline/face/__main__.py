"""`python -m memgrid export <run or root> out=<folder>`: finished runs as a data set that others can load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.commands import HELP, Command, explained, key, parsed, start
from memgrid.io.display import plural
from memgrid.pipeline.face.export.export import HUB, LICENCE, export
from memgrid.pipeline.face.run import open_run
from memgrid.pipeline.face.runs import runs
from memgrid.pipeline.face.view import RunData
from memgrid.results.folder import RunFolder


def truth(word: str) -> bool:
    """What true or false says; UserError for another word."""
    if word not in ("true", "false"):
        raise UserError(f"{word} is neither true nor false: write one of the two")
    return word == "true"


@dataclass(frozen=True)
class Words:
    """What `memgrid export` understands."""

    out: str = key(f"<folder | {HUB}owner/name>", "the folder to be written, outside of the root, or a data set on the Hugging Face hub")
    root: Path = key(
        "<folder>", "a root, all of whose finished runs are exported, or one run; `root=` may be left out", Path(RunConfig().root), Path
    )
    format: str = key("<parquet | csv>", "of the tables", "parquet")
    text: bool = key("<true | false>", "true: with the tokens and the text of all samples, which are others'", False, truth)
    license: str = key("<name>", "of the data set, as the hub calls it, such as cc-by-4.0", LICENCE)
    public: bool = key("<true | false>", "true: a data set on the hub that everybody sees", False, truth)


COMMAND = Command(
    "export",
    "Writes labels, samples, predictions of all classifiers, decision maps, settings and scores as a data set with a card, which "
    "datasets.load_dataset reads. Without text=true no token and no text is in it. An earlier export is replaced, whole; nothing else is.",
    Words,
    {
        "export memgrid-runs out=folder": "all finished runs, as parquet",
        "export memgrid-runs/runs/toy/rasy/<name> out=folder format=csv": "one run, for a spreadsheet",
        "export out=hub:me/my-runs": "the runs below memgrid-runs, as a private data set on the hub (after: hf auth login)",
    },
)


def named(words: list[str]) -> list[str]:
    """The words with `root=` before the first that has no key."""
    keys, bare = {declared.name for declared in fields(Words)}, iter(("root",))
    return [word if word.partition("=")[0] in keys or (name := next(bare, None)) is None else f"{name}={word}" for word in words]


def main(arguments: list[str]) -> None:
    """Export runs, and say where they are.

    Raises:
        UserError: a word is unknown or missing, or there is no run, or it cannot be exported.
    """
    if HELP & set(arguments):
        print(explained(COMMAND))
        return
    words = parsed(COMMAND, named(arguments))
    folder = RunFolder(words.root)
    one = folder.is_finished() or folder.config.exists()
    found: Sequence[RunData] = [open_run(words.root)] if one else runs(words.root)
    root = found[0].root if one else words.root
    where = export(found, root, words.out, words.format, words.text, words.license, words.public)
    print(f'{plural(len(found), "finished run")} in {where}: datasets.load_dataset("{words.out.removeprefix(HUB)}", "predictions")')


if __name__ == "__main__":
    start(main)
