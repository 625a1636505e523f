"""Whether what a run reads is where its settings say, looked at before anything heavy is imported, loaded or submitted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from memgrid.config.derive import reference_of, steps_of, taxonomy
from memgrid.config.schema import LLMConfig, RunConfig
from memgrid.corpus.corpus import sequences_file
from memgrid.corpus.counting import Index
from memgrid.corpus.documents import text_files
from memgrid.corpus.splits import files_of_splits, is_on_hub
from memgrid.errors import UserError
from memgrid.results.folder import RunFolder
from memgrid.results.transfers.sources import find_sources

ON_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")  # what can be the name of a model on the hub


def refuse_lost(run: RunConfig, hub: bool = True) -> None:
    """Refuse a run that could not read its model, its corpus, an index or another run.

    Args:
        hub: look into the hub's cache, too; otherwise only at what is a file or a folder of the user's own.

    Raises:
        UserError: something is not there.
    """
    if "fetch" in run.stages:
        return  # which is about to get it
    refuse_lost_corpus(run, hub)
    if run.label.index is not None:
        Index.of(run.label)
    for key, llm in models(run):
        refuse_lost_model(key, llm, hub)
    if hub and "transfer" in run.stages:  # in a sweep others may have to finish first
        find_sources(run, RunFolder.of(run).path)


def refuse_lost_corpus(run: RunConfig, hub: bool) -> None:
    """Raise UserError where the corpus is not there."""
    config = run.corpus
    if is_on_hub(config) and not hub:
        return
    if config.kind == "text":
        text_files(config, Path(run.root) / "corpora" / config.name)
    elif config.kind == "tables":
        sequences_file(config)
    else:
        files_of_splits(config)


def models(run: RunConfig) -> Iterator[tuple[str, LLMConfig]]:
    """The models that are read, each by the setting that names it as it was typed."""
    yield f"llm.path={run.llm.path}", run.llm
    needs = taxonomy(run).needs
    reference = reference_of(run.llm)
    if "reference" in needs and reference is not None:
        yield f"llm.reference={run.llm.reference}", reference
    if "onset" in needs:
        for step, llm in zip(run.llm.steps, steps_of(run.llm), strict=True):
            yield f"llm.steps=[{','.join(run.llm.steps)}]: {step}", llm


def refuse_lost_model(key: str, llm: LLMConfig, hub: bool) -> None:
    """Raise UserError for a path that is no folder, and, if that is to be looked at, no model that the hub's cache holds.

    Args:
        key: how it was typed.
    """
    if llm.path is None or llm.random or Path(llm.path).is_dir():
        return
    if ON_HUB.fullmatch(llm.path):
        if not hub:
            return
        from memgrid.io.hub import absent, kept  # half a second, which a folder can do without

        if kept(llm.path):
            return
    else:
        from memgrid.io.hub import absent
    raise UserError(f"{key} is neither a folder nor a model {absent()}")
