"""The stages of a run over one shared state, in the order of `config.schema.STAGES`. Each computes only what the disk does not have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from rich.console import Console

from memgrid.config.derive import members
from memgrid.config.schema import RunConfig
from memgrid.corpus.semantic_filters import fetch_semantic_filters
from memgrid.errors import UserError
from memgrid.io.files import check_room
from memgrid.label.code import code_model
from memgrid.label.select import to_judge
from memgrid.lm.load import fetch_model
from memgrid.pipeline.context import Cell
from memgrid.pipeline.intervene import switch_off
from memgrid.pipeline.localize import locate, once
from memgrid.pipeline.plan import Pace, measure, plan, sample_bytes
from memgrid.report.figures.run import draw_confusion, draw_maps
from memgrid.results.findings import print_result
from memgrid.results.result import Origin
from memgrid.store.extract import extract, score_and_extract
from memgrid.store.sharing import part_of
from memgrid.train.devices import check_gpu
from memgrid.train.reuse import SharedTraining
from memgrid.train.train import train


def fetch_stage(cell: Cell) -> None:
    """Download what the run needs from the hub: for a login node; all other stages work without a network."""
    run, fetched = cell.run, []
    if fetch_model(run.llm) is not None:
        fetched.append(str(run.llm.path))
    if run.corpus.kind == "semantic_filters" and str(run.corpus.path).startswith("hf://"):
        fetch_semantic_filters(run.corpus)
        fetched.append(str(run.corpus.path))
    if run.label.code == "fasttext" and "code" in cell.taxonomy.needs:
        fetched.append(str(code_model(run.label, offline=False)))
    cell.say(f"fetch    {', '.join(fetched) or 'nothing to download'}")


def label_stage(cell: Cell) -> None:
    """Compute the label groups that the taxonomy needs and the disk lacks."""
    missing = complete(cell, cell.groups)
    judged = judge_code(cell) if "code" in cell.taxonomy.needs else 0
    computed = [f"{judged} judged for code" if group == "code" else group for group in missing]
    if judged and "code" not in missing:
        computed.append(f"{judged} more judged for code")
    total = len(cell.corpus.sequence_id)
    cell.say(f"label    {total} sequences: {int(cell.features['memorized'].sum())} memorized ({', '.join(computed) or 'nothing'} computed)")


def complete(cell: Cell, groups: tuple[str, ...]) -> list[str]:
    """Compute those of some label groups that the disk lacks; returns which."""
    computed = []
    for group in cell.labels.missing(groups):
        with cell.labels.turn(group) as still:
            if still:
                make_labels(cell, group)
                computed.append(group)
    return computed


def make_labels(cell: Cell, group: str) -> None:
    """Compute one label group."""
    asked = cell.labels.asks(group)
    if asked == "lm" and cell.run.extract.fused:
        cell.labels.score_in_blocks(lambda rows: score_and_extract(cell.store, cell.lm, cell.corpus, cell.run.extract, rows))
    elif group == "code":
        cell.labels.judge_code(np.zeros(0, np.int64), cell.tokenizer)
    else:
        cell.labels.compute(group, None if asked is None else cell.lm if asked == "lm" else cell.tokenizer)


def judge_code(cell: Cell) -> int:
    """Judge as many sequences for code as the selection needs; returns how many."""
    judged = 0
    with cell.labels.turn("code"):
        cell.__dict__.pop("features", None)  # another process may have judged since they were read
        while len(rows := to_judge(cell.drawn, cell.classify(), cell.taxonomy.decided_by_code, cell.run.select)):
            cell.labels.judge_code(rows, cell.tokenizer)
            del cell.features
            judged += len(rows)
    return judged


def plan_stage(cell: Cell) -> None:
    """Tell what this run, and the runs before it in the same sweep, will cost."""
    ids = cell.samples["sequence_id"].to_numpy()
    train_samples = cell.samples.filter(pl.col("side") == "train").height
    memorized = cell.features["memorized"].to_numpy()[cell.corpus.rows_of(ids)] | (cell.run.select.decoded == "suffix")
    pace = shared_pace(cell)
    for line in plan(cell.run, cell.store, ids, train_samples, memorized, pace):
        cell.say(f"plan     {line}")


_paces: dict[tuple[str, ...], Pace] = {}


def shared_pace(cell: Cell) -> Pace:
    """The machine's pace with this model and panel, measured once in a sweep."""
    trainer = cell.run.trainer
    key = (
        cell.identity.fingerprint,
        trainer.accelerator,
        trainer.precision,
        *(member.name for member in members(cell.run.cnn, cell.run.compat)),
    )
    if key not in _paces:
        _paces[key] = measure(cell.run, cell.lm, len(cell.taxonomy.classes))
    return _paces[key]


def extract_stage(cell: Cell) -> None:
    """Extract the attention of the samples that the store lacks; with `parts`, of one part of them.

    Raises:
        UserError: the disk cannot hold it.
    """
    run = cell.run
    every = cell.samples["sequence_id"].to_numpy()
    wanted = part_of(every, run.part, run.parts)
    missing, extracted = cell.store.missing(wanted), 0
    if len(missing):
        lacking = len(cell.store.missing(every))  # other jobs fill the same disk with the other parts
        check_room(cell.root, lacking * sample_bytes(run.corpus.length, cell.identity.layers), f"the attention of {lacking:,} samples")
        memorized, sure = (cell.features[name].to_numpy() for name in ("memorized", "confidence"))
        extracted = extract(cell.store, cell.lm, cell.corpus, missing, memorized, sure, run.extract, run.select.decoded)
    share = f" (part {run.part} of {run.parts})" if run.parts > 1 else ""
    cell.say(f"extract  {len(wanted)} samples{share}: {extracted} extracted, {len(wanted) - extracted} already in {cell.store.folder}")


def train_stage(cell: Cell) -> None:
    """Train the panel and its controls, draw the figures, and print the result.

    Raises:
        UserError: attention is missing.
    """
    if cell.folder.is_finished():
        cell.say("train    nothing: it is finished")  # a stage after it is not
        return
    lacking = len(cell.store.missing(cell.samples["sequence_id"].to_numpy()))
    if lacking:
        raise UserError(f"attention of {lacking} samples is not in {cell.store.folder}: add extract to stages")
    shared = SharedTraining(cell.run)
    with shared.turn():
        origin = Origin(cell.corpus.fingerprint, cell.identity.fingerprint)
        if (equal := shared.equal_run(cell.folder, origin)) is not None:
            cell.say(f"train    nothing: the same partition was trained in {equal.path}")
            result = shared.adopt(equal, cell.samples, cell.folder)
        else:
            panel = members(cell.run.cnn, cell.run.compat)
            cell.say(f"train    {len(panel)} networks, {cell.run.cnn.epochs} epochs, and {cell.run.control.members} on shuffled labels")
            prefix_logprob = cell.features["prefix_logprob"].to_numpy()[cell.corpus.rows_of(cell.samples["sequence_id"].to_numpy())]
            result = train(cell.run, cell.corpus, cell.store, cell.samples, cell.folder, origin, prefix_logprob)
            shared.remember(cell.folder)
        caption = f"{cell.taxonomy.name}: {len(result.members)} CNNs, min-F1 {result.panel.min_f1.mean:.1f}"
        draw_confusion(np.array(result.confusion), result.classes, caption, cell.folder.figures / "confusion")
        draw_examples(cell)
        cell.folder.write_result(result)  # the mark of a finished run
    print_result(result, cell.folder, cell.console)


def draw_examples(cell: Cell) -> None:
    """Draw one eval sample of each class, the one in the middle of its ids."""
    first = (
        cell.samples.filter(pl.col("side") == "eval")
        .group_by("label", "title")
        .agg(pl.col("sequence_id").sort().get(pl.len() // 2))
        .sort("label")
    )
    pool = members(cell.run.cnn, cell.run.compat)[0].reads
    maps = cell.store.read(first["sequence_id"].to_numpy(), (pool,)).pools[pool]
    draw_maps(
        dict(zip(first["title"], maps, strict=True)), cell.run.corpus.length, cell.run.corpus.k, pool, cell.folder.figures / "attention"
    )


def localize_stage(cell: Cell) -> None:
    """Find where the networks decide, draw it, and tell."""
    once(cell.run, "localize", cell.folder, cell.say, lambda: locate(cell.run, cell.corpus, cell.store, cell.folder, cell.tokenizer))


def intervene_stage(cell: Cell) -> None:
    """Switch off where the networks decide while the model decodes, draw what that does, and tell."""

    def do() -> None:
        if cell.run.intervene.ordinary:
            complete(cell, ("memorized", "duplicates"))
        switch_off(cell.run, lambda: cell.lm, cell.corpus, cell.unread, cell.folder)

    once(cell.run, "intervene", cell.folder, cell.say, do)


STAGES: dict[str, Callable[[Cell], None]] = {
    "fetch": fetch_stage,
    "label": label_stage,
    "plan": plan_stage,
    "extract": extract_stage,
    "train": train_stage,
    "localize": localize_stage,
    "intervene": intervene_stage,
}


def do_stages(run: RunConfig, console: Console) -> None:
    """Go through the stages that the run asks for, in their order.

    Raises:
        UserError: a GPU is asked for that is not there, or a stage cannot be done.
    """
    check_gpu(run)
    cell = Cell(run, console)
    for stage, work in STAGES.items():
        if stage in run.stages:
            work(cell)
