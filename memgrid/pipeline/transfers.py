"""The stage transfer: what the networks of other finished runs, their probes and baselines say of this run's eval samples.

Everything is read from the disk: the language models themselves need not be at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from memgrid.config.derive import partition, protocol
from memgrid.config.names import called
from memgrid.config.schema import RunConfig
from memgrid.errors import DamagedError, UserError
from memgrid.io.digests import read_parquet
from memgrid.label.selection.select import SIDES
from memgrid.pipeline.face.view import RunData
from memgrid.pipeline.inputs import Inputs
from memgrid.report.sections.labelled import labels_of
from memgrid.results.findings import describe
from memgrid.results.folder import RunFolder, runs_below
from memgrid.results.records import stage_settings
from memgrid.results.result import RunResult
from memgrid.results.transfers.record import PANEL, SourceRun, Transfer, TransferRecord
from memgrid.results.transfers.sources import find_sources, inputs_of
from memgrid.train.transfer.answers import Finished, answers
from memgrid.train.transfer.comparison import PERMUTATIONS, Asked, corrected, transfer_of
from memgrid.train.transfer.familiar import known_samples

BY_TOKEN = ("tokens", "together")  # baselines that know tokens by their ids
UNLIKE = "the two tokenizers are not known to be the same"


def carry_over(run: RunConfig, folder: RunFolder, inputs: Inputs, say: Callable[[str], None]) -> None:
    """Try the networks of the runs that `transfer.from` names on the samples of the finished run in `folder`, and write the record.

    Raises:
        UserError: a run is not there, not finished or does not fit, attention or networks are missing, or too few samples of a class are
            left that a source was not trained on.
    """
    found = find_sources(run, folder.path)
    passed = {str(path): why for path, why in found.passed_over.items()}
    own = RunData(folder, inputs)
    here = opened(own, run, ("eval",))
    transfers = []
    for path, result in found.folders.items():
        say(f"transfer from {describe(result.settings)}: {path}")
        data = RunData(RunFolder(path), inputs)
        try:
            transfers.append(one_transfer(data, own, here))
        except TooFewError as error:
            if path in found.by_name:
                raise
            passed[str(path)] = str(error)
    if not transfers:
        raise UserError(f"of the runs that transfer.from={run.transfer['from']} names none could be tried: {next(iter(passed.values()))}")
    record = TransferRecord(
        settings=stage_settings(run, "transfer"),
        inputs=inputs_of(list(found.folders), folder.path),
        classes=list(run.taxonomy.classes),
        layers=here.store.identity.layers,
        permutations=PERMUTATIONS,
        transfers=corrected(transfers),
        passed_over=passed,
    )
    folder.write_record(record)


class TooFewError(UserError):
    """Too few samples of a class are left that the source was not trained on."""


def one_transfer(data: RunData, own: RunData, here: Finished) -> Transfer:
    """What came of one source.

    Args:
        data, own: the source and the run itself, from the disk. here: the run itself, opened.
    """
    itself = data.folder.path.samefile(own.folder.path)
    source = opened(data, data.settings, ("train",))
    asked = Asked(here.side("eval")["label"].to_numpy().astype(np.int64), here.groups, np.argsort(partition(here.run).order), here.run.seed)
    same = same_tokens(data, own, source, here)
    # Its own sides are what its own score is of, whatever split made them.
    known = np.zeros(len(asked.labels), bool)
    if same and not itself:
        known = known_samples(source.corpus, source.side("train"), here.corpus, here.side("eval"))
    left = asked.some(~known)
    refuse_few(left.counts(), here.run, describe(data.metrics.settings))
    theirs, own_answers = answers(source, here), own_of(own)
    without = lacking(theirs, own_answers, same)
    kept = {name: said[..., ~known, :] for name, said in theirs.items() if name not in without and said is not None}
    return transfer_of(
        named(data, source, own.root),
        left,
        asked.some(known).counts(),
        kept,
        {name: said[..., ~known, :] for name, said in own_answers.items()},
        without,
        remark(data.metrics, own.metrics, same),
    )


def refuse_few(left: list[int], run: RunConfig, source: str) -> None:
    """Raise TooFewError where a class has fewer samples left than a run is evaluated on at least."""
    fewest, least = min(left), run.select.min_eval_per_class
    if fewest < least:
        title = list(run.taxonomy.classes)[left.index(fewest)]
        raise TooFewError(
            f"transfer.from: only {fewest} eval samples of class {title!r} are left that {source} was not trained on, fewer than "
            f"select.min_eval_per_class={least}: name a run with the same seed, which keeps the same sequences apart"
        )


def opened(data: RunData, run: RunConfig, sides: tuple[str, ...]) -> Finished:
    """A finished run with what its samples are read from.

    Args:
        run: its settings. sides: whose attention has to be there.

    Raises:
        UserError: it is not.
    """
    samples, store = data.samples, data.store
    ids = samples.filter(pl.col("side").is_in(sides))["sequence_id"].to_numpy()
    if lacks := len(store.missing(ids)):
        raise data.lacks(f"attention of {lacks} of its samples in {store.folder}", "stages=[extract]")
    assert set(samples["side"].unique()) <= set(SIDES)
    return Finished(replace(run, root=str(data.root)), data.folder, data.corpus, store, samples, prefix_logprob(data))


def prefix_logprob(data: RunData) -> np.ndarray:
    """The mean log-probability of the prefix of each of a run's samples, float64 (n,); NaN where its labels do not tell."""
    ids, run, origin = data.samples.select("sequence_id"), data.settings, data.metrics.origin
    folder = labels_of(data.root, run.llm.name, run.corpus.name, None if origin is None else origin.llm)
    ending = "_no_end" if protocol(run).suppresses_end else ""
    try:
        labels = read_parquet(folder / f"memorized{ending}.parquet")
    except (OSError, DamagedError):
        labels = pl.DataFrame({"sequence_id": []}, schema={"sequence_id": pl.Int64})
    if "prefix_logprob" not in labels.columns or labels["sequence_id"].is_duplicated().any():
        return np.full(len(ids), np.nan)
    found = ids.join(labels.select("sequence_id", "prefix_logprob"), on="sequence_id", how="left", maintain_order="left")
    return found["prefix_logprob"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def same_tokens(data: RunData, own: RunData, source: Finished, here: Finished) -> bool:
    """Whether a token is known to be the same in both runs: they read one corpus, or their tokenizers have one vocabulary."""
    if source.corpus is here.corpus or source.corpus.fingerprint == here.corpus.fingerprint:
        return True
    try:
        return bool(data.tokenizer.tokenizer.get_vocab() == own.tokenizer.tokenizer.get_vocab())
    except (UserError, OSError):
        return False


def own_of(data: RunData) -> dict[str, np.ndarray]:
    """What the run's own networks, probes and baselines said of its eval samples when it was trained, as `answers` has it."""
    classes, result = len(data.classes), data.metrics
    panel = data.read(data.folder.predictions, "predictions", "force=true")
    found = {PANEL: np.stack([panel[name].list.to_array(classes).to_numpy() for name in result.members])}
    if data.folder.baselines.exists():  # an older run has none
        table = data.read(data.folder.baselines, "predictions of baselines", "force=true")
        found |= {name: table[name].list.to_array(classes).to_numpy() for name in table.columns[2:]}
    return found


def lacking(theirs: dict[str, np.ndarray | None], own: dict[str, np.ndarray], same: bool) -> dict[str, str]:
    """What of the source's cannot be compared → why, in words."""
    found = {name: UNLIKE for name in BY_TOKEN if name in theirs and not same}
    unknown = [name for name, said in theirs.items() if said is None or name not in own]
    return {**dict.fromkeys(unknown, "what it sees is not known in both runs"), **found}


def named(data: RunData, source: Finished, root: Path) -> SourceRun:
    """The source in words."""
    settings, runs = data.metrics.settings, runs_below(root).resolve()
    path = data.folder.path.resolve()
    return SourceRun(
        folder=path.relative_to(runs).as_posix() if path.is_relative_to(runs) else str(path),
        name=describe(settings),
        llm=called(settings["llm"]),
        revision=settings["llm"].get("revision") or "",
        corpus=settings["corpus"]["name"],
        taxonomy=settings["taxonomy"]["name"],
        seed=settings["seed"],
        layers=source.store.identity.layers,
    )


def remark(theirs: RunResult, own: RunResult, same: bool) -> str:
    """What else is other than in the source, in words; empty where nothing is."""

    def division(result: RunResult) -> list[object]:
        """What divides a run's sequences into classes."""
        settings = result.settings
        return [
            settings["taxonomy"]["classes"],
            settings["taxonomy"].get("thresholds"),
            *(settings[key] for key in ("delta", "rho", "rouge")),
        ]

    parts = ["its classes are defined otherwise"] if division(theirs) != division(own) else []
    parts += [f"its networks are {theirs.doubt}"] if theirs.doubt else []
    parts += [] if same else ["whether it read these texts in its training is not known, since it may read other tokens"]
    return ", and ".join(parts)
