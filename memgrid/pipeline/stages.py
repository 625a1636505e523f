"""The stages of a run over one shared state, in the order of `config.schema.STAGES`. Each computes only what the disk does not have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl

from memgrid.config.derive import forced, members, protocol
from memgrid.config.schema import RunConfig
from memgrid.corpus.splits import fetch_splits, is_on_hub
from memgrid.errors import UserError
from memgrid.io.display import plural, watcher
from memgrid.io.files import check_room
from memgrid.label.code import code_model
from memgrid.label.features import Columns, onset_columns, reference_columns
from memgrid.label.selection.select import undecided_rows
from memgrid.launch.workspace import Workspace
from memgrid.lm.load import fetch_model
from memgrid.pipeline.causes import locate, once, switch_off
from memgrid.pipeline.context import RunContext, step_number
from memgrid.pipeline.inputs import Renewed
from memgrid.pipeline.plan import Ledger, Pace, measure, plan, sample_bytes
from memgrid.pipeline.transfers import carry_over
from memgrid.report.figures.run import draw_confusion, draw_maps
from memgrid.results.findings import print_result
from memgrid.results.folder import RunFolder
from memgrid.results.records import LATER
from memgrid.results.result import Origin
from memgrid.store.extract import extract, score_and_extract
from memgrid.store.sharing import part_of
from memgrid.train.devices import check_gpu
from memgrid.train.reuse import SharedTraining
from memgrid.train.train import train

READ_LAST = ("memorized", "degrees", "near", "reference", "onset")  # groups of labels that models are asked for, in their order


def fetch_stage(context: RunContext) -> None:
    """Download what the run needs from the hub: for a login node; all other stages work without a network."""
    run, fetched = context.run, []
    for llm in (run.llm, *(other.run.llm for models in context.others.values() for other in models)):
        if fetch_model(llm) is not None:
            fetched.append(str(llm.path))
    if is_on_hub(run.corpus):
        fetch_splits(run.corpus)
        fetched.append(str(run.corpus.path))
    if run.label.code == "fasttext" and "code" in context.taxonomy.needs:
        fetched.append(str(code_model(run.label, offline=False)))
    context.say(f"fetch    {', '.join(fetched) or 'nothing to download'}")


def label_stage(context: RunContext) -> None:
    """Compute the label groups that the taxonomy needs and the disk lacks."""
    context.refuse_early()
    again = "label" in forced(context.run) and context.workspace.shared(Renewed).forget(context.labels, context.groups)
    missing = complete(context, context.groups)
    judged = detect_code(context) if "code" in context.taxonomy.needs else 0
    computed = [f"{judged} judged for code" if group == "code" else group for group in missing]
    if judged and "code" not in missing:
        computed.append(f"{judged} more judged for code")
    total, left_out = len(context.corpus.sequence_id), context.corpus.left_out
    nulls = f" ({left_out} rows with a null are left out)" if left_out else ""
    memorized = int(context.features["memorized"].sum())
    anew = " anew, for all runs that share them" if again else ""
    context.say(f"label    {total} sequences{nulls}: {memorized} memorized ({', '.join(computed) or 'nothing'} computed{anew})")


def complete(context: RunContext, groups: tuple[str, ...]) -> list[str]:
    """Compute those of some label groups that the disk lacks; returns which.

    What models say comes last: it takes longest, and what is wrong with the documents is then known before.
    """
    computed, missing = [], context.labels.missing(groups)
    for group in sorted(missing, key=lambda group: READ_LAST.index(group) if group in READ_LAST else -1):
        with context.labels.turn(group) as still:
            if still:
                make_labels(context, group)
                computed.append(group)
    for group in groups:
        context.labels.sweep(group)
    return [group for group in missing if group in computed]


def make_labels(context: RunContext, group: str) -> None:
    """Compute one label group."""
    asked = context.labels.asks(group)
    if group == "memorized" and asked == "lm" and context.run.extract.fused:
        score = partial(score_and_extract, context.store, context.lm, context.corpus, context.run.extract)
        context.labels.score_in_blocks(context.lm, score)
    elif group in context.others:
        context.labels.write(group, columns_of_others(context, group))
    elif group == "code":
        context.labels.detect_code(np.zeros(0, np.int64), context.tokenizer)
    else:
        context.labels.compute(group, None if asked is None else context.lm if asked == "lm" else context.tokenizer)


def columns_of_others(context: RunContext, group: str) -> Columns:
    """The columns of a group that is made from the labels of other models, which are computed where the disk lacks them."""
    read = ("memorized", "degrees") if group == "reference" else ("memorized",)
    tables = []
    for other in context.others[group]:
        complete(other, read)
        tables.append(other.labels.read(read))
        vars(other).pop("lm", None)  # its memory is needed for the next
    own = context.labels.read(read if context.labels.has("degrees") else ("memorized",))
    if group == "reference":
        return reference_columns(own, tables[0])
    steps = [*(other.step for other in context.others[group]), step_number(context.run.llm)]
    return onset_columns(np.stack([table["memorized"].to_numpy() for table in (*tables, own)]), np.array(steps))


def detect_code(context: RunContext) -> int:
    """Judge as many sequences for code as the selection needs; returns how many."""
    judged = 0
    with context.labels.turn("code"):
        context.__dict__.pop("features", None)  # another process may have judged since they were read
        while len(rows := undecided_rows(context.drawn, context.classify(), context.taxonomy.decided_by_code, context.run.select)):
            context.labels.detect_code(rows, context.tokenizer)
            del context.features
            judged += len(rows)
    return judged


def plan_stage(context: RunContext) -> None:
    """Tell what this run, and the runs before it in the same sweep, will cost."""
    ids = context.samples["sequence_id"].to_numpy()
    train_samples = context.samples.filter(pl.col("side") == "train").height
    memorized = context.features["memorized"].to_numpy()[context.corpus.rows_of(ids)] | (context.run.select.decoded == "suffix")
    pace = shared_pace(context)
    bills = context.workspace.shared(Ledger).bills
    context.workspace.summary = [
        f"plan     {line}" for line in plan(bills, context.run, context.store, ids, train_samples, memorized, pace)
    ]
    for line in context.workspace.summary:
        context.say(line)


def shared_pace(context: RunContext) -> Pace:
    """The machine's pace with this model and panel, measured once in a sweep."""
    trainer = context.run.trainer
    key = (
        context.identity.fingerprint,
        trainer.accelerator,
        trainer.precision,
        *(member.name for member in members(context.run.cnn, protocol(context.run))),
    )
    paces = context.workspace.shared(Ledger).paces
    if key not in paces:
        paces[key] = measure(context.run, context.lm, len(context.taxonomy.classes))
    return paces[key]


def extract_stage(context: RunContext) -> None:
    """Extract the attention of the samples that the store lacks; with `parts`, of one part of them.

    Raises:
        UserError: the disk cannot hold it.
    """
    run = context.run
    every = context.samples["sequence_id"].to_numpy()
    wanted = part_of(every, run.part, run.parts)
    if "extract" in forced(run) and (stale := context.workspace.shared(Renewed).stale(context.store, wanted)):
        others = context.store.remove(stale)
        rest = f", and {plural(len(others), 'sample')} of other runs, which they extract again" if len(others) else ""
        context.say(f"extract  removed the attention of these samples{rest}")
    missing, extracted = context.store.missing(wanted), 0
    if len(missing):
        lacking = len(context.store.missing(every))  # other jobs fill the same disk with the other parts
        check_room(
            context.root, lacking * sample_bytes(run.corpus.length, context.identity.layers), f"the attention of {lacking:,} samples"
        )
        memorized, sure = (context.features[name].to_numpy() for name in ("memorized", "confidence"))
        extracted = extract(context.store, context.lm, context.corpus, missing, memorized, sure, run.extract, run.select.decoded)
        if gone := len(context.store.missing(wanted)):
            raise UserError(f"attention of {gone} samples vanished from {context.store.folder} meanwhile: start again")
    share = f" (part {run.part} of {run.parts})" if run.parts > 1 else ""
    context.say(
        f"extract  {len(wanted)} samples{share}: {extracted} extracted, {len(wanted) - extracted} already in {context.store.folder}"
    )


def train_stage(context: RunContext) -> None:
    """Train the panel and its controls, draw the figures, and print the result.

    Raises:
        UserError: attention is missing.
    """
    if context.folder.is_finished():
        context.say("train    nothing: it is finished")  # a stage after it is not, or one before it was done again
        if not (set(LATER) & set(context.run.stages)) and (result := context.folder.result()) is not None:
            print_result(result, context.folder, context.console)
        return
    lacking = len(context.store.missing(context.samples["sequence_id"].to_numpy()))
    if lacking:
        raise UserError(f"attention of {lacking} samples is not in {context.store.folder}: add extract to stages")
    shared = SharedTraining(context.run)
    with shared.turn():
        origin = Origin(context.corpus.origin(context.taxonomy.own_columns), context.identity.fingerprint)
        if (equal := shared.equal_run(context.folder, origin)) is not None:
            context.say(f"train    nothing: the same partition was trained in {equal.path}")
            result = shared.adopt(equal, context.samples, context.folder)
        else:
            panel = members(context.run.cnn, protocol(context.run))
            sizes = f"{plural(len(panel), 'network')}, {plural(context.run.cnn.epochs, 'epoch')}"
            context.say(f"train    {sizes}, and {context.run.control.members} on shuffled labels")
            prefix_logprob = context.features["prefix_logprob"].to_numpy()[
                context.corpus.rows_of(context.samples["sequence_id"].to_numpy())
            ]
            result = train(context.run, context.corpus, context.store, context.samples, context.folder, origin, prefix_logprob)
            shared.remember(context.folder)
        caption = f"{context.taxonomy.name}: {len(result.members)} CNNs, min-F1 {result.panel.min_f1.mean:.1f}"
        draw_confusion(np.array(result.confusion), result.classes, caption, context.folder.figures / "confusion")
        draw_examples(context)
        stop_if_vanished(context.folder)
        context.folder.write_result(result)  # the mark of a finished run
    print_result(result, context.folder, context.console)


def stop_if_vanished(folder: RunFolder) -> None:
    """Leave no mark of a finished run where its files are gone; UserError."""
    files = (folder.config, folder.samples, folder.epochs, folder.predictions)
    if gone := [path for path in files if not path.exists()]:
        raise UserError(f"{gone[0]} vanished while the run went on: start again")


def draw_examples(context: RunContext) -> None:
    """Draw one eval sample of each class, the one in the middle of its ids."""
    first = (
        context.samples.filter(pl.col("side") == "eval")
        .group_by("label", "title")
        .agg(pl.col("sequence_id").sort().get(pl.len() // 2))
        .sort("label")
    )
    pool = members(context.run.cnn, protocol(context.run))[0].reads
    maps = context.store.read(first["sequence_id"].to_numpy(), (pool,)).pools[pool]
    draw_maps(
        dict(zip(first["title"], maps, strict=True)),
        context.run.corpus.length,
        context.run.corpus.k,
        pool,
        context.folder.figures / "attention",
    )


def localize_stage(context: RunContext) -> None:
    """Find where the networks decide, draw it, and tell."""
    once(
        context.run,
        "localize",
        context.folder,
        context.say,
        lambda: locate(context.run, context.corpus, context.store, context.folder, context.tokenizer),
    )


def intervene_stage(context: RunContext) -> None:
    """Switch off where the networks decide while the model decodes, draw what that does, and tell."""

    def do() -> None:
        if context.run.intervene.ordinary:
            complete(context, ("memorized", "duplicates"))
        switch_off(context.run, lambda: context.lm, context.corpus, context.unseen, context.folder)

    once(context.run, "intervene", context.folder, context.say, do)


def transfer_stage(context: RunContext) -> None:
    """Try the networks of other runs on this one's samples, and tell."""
    run, folder = context.run, context.folder
    once(run, "transfer", folder, context.say, lambda: carry_over(run, folder, context.inputs, context.say))


STAGES: dict[str, Callable[[RunContext], None]] = {
    "fetch": fetch_stage,
    "label": label_stage,
    "plan": plan_stage,
    "extract": extract_stage,
    "train": train_stage,
    "localize": localize_stage,
    "intervene": intervene_stage,
    "transfer": transfer_stage,
}


def do_stages(run: RunConfig, workspace: Workspace) -> None:
    """Go through the stages that the run asks for, in their order.

    Raises:
        UserError: a GPU is asked for that is not there, or a stage cannot be done.
    """
    check_gpu(run)
    context = RunContext(run, workspace)
    for stage, work in STAGES.items():
        if stage in run.stages:
            watcher().stage(stage)
            work(context)
