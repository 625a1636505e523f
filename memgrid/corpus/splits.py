"""The files of a data set's splits: in a folder, in the local cache of the Hugging Face hub, or downloaded into it."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from memgrid.config.schema import CorpusConfig
from memgrid.errors import UserError
from memgrid.io.hub import absent, cached, download

HUB = re.compile(r"hf://datasets/([^/@\s]+/[^/@\s]+)(?:@(\S+))?")
# Where the files of a split lie below the dataset's folder.
LAYOUTS = tuple(f"{folder}{files}" for folder in ("", "data/") for files in ("{}-*-of-*.parquet", "{}.parquet", "{}/*.parquet"))
NAMED_FILES = 6
STEP = re.compile(r"\.step(\d+)$")


def fetch_splits(config: CorpusConfig) -> Path:
    """Download the files of `config.splits` into the hub cache, where the network allows it; returns their folder.

    Files that are already there are not downloaded again. A local `config.path` is only checked.

    Raises:
        UserError: the hub cannot be reached, or does not have the dataset, revision or a split.
    """
    folder = on_hub(config, offline=False) if is_on_hub(config) else local_folder(config)
    split_files(folder, config, "set corpus.splits to some that the dataset has")
    return folder


def files_of_splits(config: CorpusConfig) -> list[list[Path]]:
    """The parquet files of each split, in the order of the splits; nothing is downloaded.

    Raises:
        UserError: there is no such folder, or a split is missing or not whole.
    """
    mend = "fetch it with stages=[fetch]" if is_on_hub(config) else "set corpus.splits or corpus.path"
    return split_files(local_folder(config), config, mend)


def local_folder(config: CorpusConfig) -> Path:
    """The folder of the dataset's files on this machine.

    Raises:
        UserError: there is none.
    """
    if is_on_hub(config):
        return on_hub(config)
    if config.path is None or not Path(config.path).is_dir():
        raise UserError(f"corpus.path={config.path} is no folder: set it to one with parquet files, or to hf://datasets/<owner>/<name>")
    return Path(config.path)


def is_on_hub(config: CorpusConfig) -> bool:
    """Whether the path names a dataset on the Hugging Face hub."""
    return config.path is not None and config.path.startswith("hf://")


def on_hub(config: CorpusConfig, offline: bool = True) -> Path:
    """The hub cache's folder with the files of the wanted splits; not `offline`, they are downloaded.

    Raises:
        UserError: the path is malformed, or there is no such folder and none can be made.
    """
    named = HUB.fullmatch(config.path or "")
    if named is None:
        raise UserError(
            f"corpus.path={config.path} names no dataset: write hf://datasets/<owner>/<name>, and @<revision> after it if you like"
        )
    wanted = [layout.format(split) for split in split_names(config) for layout in LAYOUTS]
    if not offline:
        return download(f"corpus.path={config.path}", named[1], "dataset", named[2], allow_patterns=wanted)
    folder = cached(named[1], "dataset", named[2], allow_patterns=wanted)
    if folder is None:
        raise UserError(f"corpus.path={config.path} is not {absent()}")
    return folder


def split_names(config: CorpusConfig) -> list[str]:
    """The wanted splits, as the dataset calls them: the step of a training is a number there, where a revision is called step63000.

    Raises:
        UserError: there is none, or the language model has none in the dataset, or none without a revision.
    """
    if not config.splits:
        raise UserError("corpus.splits is empty: list the splits to read, such as [memories_deduped_12b,pile_deduped_12b]")
    names = []
    for split in config.splits:
        # In memorized_evals what semantic_filters calls memories_deduped_12b is called deduped.12b.
        name = split.removeprefix("memories_").replace("_", ".", 1) if config.kind == "memorized_evals" else split
        if name.startswith("None") or "_None" in name:  # the null of llm.semantic_filters, interpolated
            raise UserError(
                f"corpus.splits has {split!r}, since this llm has no split in semantic-filters: choose a Pythia model, or set "
                "llm.semantic_filters to what the dataset calls the model, such as deduped_12b"
            )
        if name.endswith(".None"):  # that of llm.revision
            raise UserError(f"corpus.splits has {split!r}, which is of a step of the training: set llm.revision=step63000, or another step")
        names.append(STEP.sub(r".\1", name))
    return names


def split_files(folder: Path, config: CorpusConfig, mend: str) -> list[list[Path]]:
    """The parquet files of each split, in the order of the splits; `mend` says what to do where some are missing.

    Raises:
        UserError: a split has no file, or only some of its numbered ones.
    """
    files = []
    for split in split_names(config):
        patterns = [layout.format(glob.escape(split)) for layout in LAYOUTS]
        of_split = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
        promised = max((int(number) for path in of_split for number in re.findall(r"-of-(\d+)", path.name)), default=0)
        if not of_split:
            raise UserError(f"{folder} has no file of the split {split!r}, but {named_files(folder)}: {mend}")
        if len(of_split) < promised:
            raise UserError(f"{folder} has {len(of_split)} of the {promised} files of the split {split!r}: get the others, or {mend}")
        files.append(of_split)
    return files


def named_files(folder: Path) -> str:
    """Which parquet files lie below a folder, in words."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
    return ", ".join(names[:NAMED_FILES]) + more or "no parquet file at all"
