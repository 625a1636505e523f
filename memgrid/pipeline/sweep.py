"""What `python -m memgrid.run` sweeps over: when a run is done, which runs share a job, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from memgrid.config.derive import forced, taxonomy
from memgrid.config.names import called, training_key, work_folder
from memgrid.config.overrides import command_of
from memgrid.config.schema import OWN_STAGES, RunConfig
from memgrid.config.validate import typed, validate
from memgrid.corpus.corpus import load_corpus
from memgrid.errors import UserError
from memgrid.io.digests import write_yaml
from memgrid.launch.tasks import SweepTarget
from memgrid.launch.workspace import Workspace
from memgrid.pipeline.places import refuse_lost
from memgrid.results.folder import RunFolder
from memgrid.results.records import refuse_rivals
from memgrid.results.result import RunResult


class Runs(SweepTarget):
    """Runs of memgrid.run; see `memgrid.launch.tasks.SweepTarget` for what each method is for."""

    numbered = ("part", "delta", "rho", "seed")

    def typed(self, config: DictConfig) -> RunConfig:
        """As `memgrid.config.validate.typed`."""
        return typed(config)

    def validate(self, run: RunConfig) -> None:
        """As `memgrid.config.validate.validate`."""
        validate(run)

    def together(self, runs: Sequence[RunConfig]) -> None:
        """As `memgrid.results.records.refuse_rivals`; and a path that is wrong is told before anything is submitted."""
        seen: list[Any] = []
        for run in runs:
            what = (run.stages, run.llm, run.corpus, run.label, run.taxonomy.name)
            if what not in seen and not RunFolder.of(run).is_finished():
                seen.append(what)
                refuse_lost(run, hub=False)
        refuse_rivals(runs, lambda run, stage: RunFolder.of(run).record_path(run, stage))

    def same(self, run: RunConfig) -> tuple[Any, ...] | None:
        """Downloads of the same files."""
        if set(run.stages) != {"fetch"}:
            return None
        judge = (run.label.code_model,) if run.label.code == "fasttext" and "code" in taxonomy(run).needs else ()
        return (run.llm.path, run.llm.revision, run.corpus.path, *run.corpus.splits, *judge)

    def late(self, run: RunConfig) -> bool:
        """It tries the networks of others."""
        return "transfer" in run.stages

    def plan(self, run: RunConfig) -> None:
        """Leave the configuration of a training in its folder: what has this alone is missing."""
        config = RunFolder.of(run).config
        if "train" in run.stages and not config.exists():
            write_yaml(OmegaConf.structured(run), config)

    def folder(self, run: RunConfig) -> Path:
        """As `memgrid.config.names.work_folder`."""
        return work_folder(run)

    def result(self, run: RunConfig) -> RunResult | None:
        """As `result_of`."""
        return result_of(run)

    def done(self, run: RunConfig) -> bool:
        """It is finished, and so is every later stage that it asks for."""
        return owns(run) and RunFolder.of(run).result() is not None and not RunFolder.of(run).undone(run)

    def busy(self, run: RunConfig) -> bool:
        """Somebody holds the lock of its folder."""
        return owns(run) and RunFolder.of(run).is_locked()

    def shared(self, run: RunConfig) -> tuple[Any, ...]:
        """Equal trainings, or, without training, the same part of one checkpoint of a model and one corpus.

        Where `force` has labels or attention made anew, all that read them: none must lose them to another.
        """
        anew = {"label", "extract"} & set(forced(run))
        if owns(run) and not anew:
            return run.root, training_key(run)
        part = () if "label" in anew else (run.part, run.parts)
        return run.root, run.llm.name, run.llm.revision, run.llm.path, run.llm.dtype, run.corpus.name, *part

    def name(self, run: RunConfig) -> str:
        """Its folder, or what it does, such as `extract for toy/rasy, part 3 of 8`."""
        if owns(run):
            return "/".join(RunFolder.of(run).path.parts[-3:])
        part = f", part {run.part} of {run.parts}" if run.parts > 1 else ""
        return f"{' and '.join(run.stages)} for {called(asdict(run.llm))}/{run.taxonomy.name}{part}"

    def ending(self, run: RunConfig) -> str:
        """With the score of its training."""
        result = RunFolder.of(run).result() if owns(run) else None
        if result is None:
            return "done"
        return f"done, min-F1 {result.panel.min_f1.mean:.1f}" + (f" ({result.doubt})" if result.doubt else "")

    def score(self, run: RunConfig) -> str:
        """Its min-F1."""
        result = RunFolder.of(run).result() if owns(run) else None
        return "" if result is None else f"{result.panel.min_f1.mean:.1f}"

    def keeps_result(self, run: RunConfig) -> bool:
        """As `owns`."""
        return owns(run)

    def ways_on(self, runs: Iterable[RunConfig]) -> list[str]:
        """The report of each root in which a run has its result."""
        roots = sorted({run.root for run in runs if owns(run) and RunFolder.of(run).is_finished()})
        return [f"The report on all runs there: {command_of('report', root)}" for root in roots]

    def needs_internet(self, run: RunConfig) -> bool:
        """To fetch."""
        return "fetch" in run.stages


def owns(run: RunConfig) -> bool:
    """Whether the run's results lie in a folder of its own."""
    return bool(set(OWN_STAGES) & set(run.stages))


def result_of(run: RunConfig) -> RunResult | None:
    """The result of a run that need not be done again, or None: it is finished, and so is every later stage that it asks for.

    Raises:
        UserError: a user's tables hold other sequences, or a user's folder other weights, than when the run was finished: its name tells
            their places alone.
    """
    if forced(run) or not owns(run):
        return None
    folder = RunFolder.of(run)
    result = folder.result()
    origin = None if result is None else result.origin
    from_tables = run.corpus.kind == "tables" and run.corpus.path
    if origin is not None and from_tables and load_corpus(run.corpus).origin(taxonomy(run).own_columns) != origin.corpus:
        raise UserError(
            f"corpus.path={run.corpus.path} holds other sequences than when this run was finished: give them another corpus.name, "
            "or put the old ones back"
        )
    if origin is not None and holds_other_weights(run, origin.llm):
        raise UserError(
            f"llm.path={run.llm.path} holds other weights than when this run was finished: give them another llm.name, put the old ones "
            "back, or make the run anew with force=true"
        )
    return None if folder.undone(run) else result


def stay_offline(run: RunConfig) -> None:
    """No library asks the hub, unless the run is to fetch. This is read when the hub's library is imported, with what computes."""
    if "fetch" not in run.stages:
        os.environ["HF_HUB_OFFLINE"] = "1"


def holds_other_weights(run: RunConfig, fingerprint: str) -> bool:
    """Whether the model lies in a user's own folder, and is none of that fingerprint. Weights that are gone or broken are none."""
    if run.llm.path is None or not Path(run.llm.path).is_dir():
        return False  # a name on the hub, whose snapshots stay as they are
    stay_offline(run)
    from memgrid.pipeline.context import RunContext  # imports torch, which a finished run does without where it can

    try:
        return RunContext(run, Workspace()).identity.fingerprint != fingerprint
    except UserError:
        return False
