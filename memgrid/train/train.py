"""Training of one run: the panel, its shuffled control and what it is compared with, down to metrics.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from pytorch_lightning.loggers.logger import Logger

from memgrid.config.derive import Member, members, partition, protocol
from memgrid.config.names import settings, training_key, training_seed
from memgrid.config.schema import RunConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import UserError
from memgrid.io.checkpoints import keep_last
from memgrid.io.digests import write_parquet
from memgrid.label.selection.select import SIDES
from memgrid.metrics.intervals import panel_scores
from memgrid.metrics.pairs import pair_scores
from memgrid.metrics.scores import class_scores, confusion_matrix, scores
from memgrid.results.folder import CHECKPOINT, RunFolder
from memgrid.results.result import MemberEpoch, MemberTraining, Origin, Pair, PanelScores, PaperProtocol, ProbeTest, RunResult, SampleCounts
from memgrid.store.store import Store
from memgrid.tracking.log import log_history, summarise, tracked
from memgrid.train.baselines import Probabilities, Side, linear, permuted, scored, without_attention
from memgrid.train.data import AttentionData, Batch
from memgrid.train.networks import LinearProbe, Unpack
from memgrid.train.panel import PAPER_EPOCHS, Panel
from memgrid.train.trainer import ToldEpochs, resumable, trainer_of

PROBE = "linear-"  # before the name of a pooling


def train(
    run: RunConfig,
    corpus: Corpus,
    store: Store,
    samples: pl.DataFrame,
    folder: RunFolder,
    origin: Origin,
    prefix_logprob: np.ndarray,
) -> RunResult:
    """Train what the run asks for and write its files into `folder`, but for the result, which is the caller's to write last of all.

    A training that was cut off goes on from the checkpoint of its last whole epoch.

    Args:
        samples: as `memgrid.label.selection.select.select` gives them.
        origin: fingerprints of corpus and LLM, kept beside the result.
        prefix_logprob: mean log-probability of the samples' prefixes, float (n,), aligned with samples; NaN where unknown.
    """
    write_parquet(samples, folder.samples)
    panel = members(run.cnn, protocol(run))
    pools = tuple(dict.fromkeys(member.reads for member in panel))
    # Networks see the classes in the partition's order, so that equal partitions are one training whatever their classes are called.
    place = np.argsort(partition(run).order)
    in_order = samples.with_columns(label=pl.Series(place.astype(np.int8)[samples["label"].to_numpy()]))
    data = AttentionData(store, corpus, in_order, pools, run.data, run.cnn.batch_size, training_seed(run))
    with tracked(run, folder) as logger:
        history, probabilities = fit(run, panel, data, folder.checkpoints, logger)
        control = shuffled_control(run, panel[: run.control.members], data, folder)
        others, probe_losses, probe_test = references(run, data, prefix_logprob)
        result = summary(run, data, origin, history, probabilities, control, others, probe_test)
        result = replace(result, training=how_far(run, history, probabilities, probe_losses)).in_order(place.tolist())
        folder.write_epochs([epoch.in_order(place.tolist()) for epoch in history])
        write_predictions(samples, probabilities[..., place], result.members, folder.predictions)
        answers = {name: values[..., place] for name, values in others.items() if values is not None}
        write_predictions(samples, np.array(list(answers.values())), list(answers), folder.baselines)
        summarise(logger, result)
    return result


def summary(
    run: RunConfig,
    data: AttentionData,
    origin: Origin,
    history: list[MemberEpoch],
    probabilities: np.ndarray,
    control: PanelScores | None,
    others: Probabilities,
    probe_test: ProbeTest,
) -> RunResult:
    """The result of a training, its scores in the partition's order of classes."""
    labels, classes = data.side("eval")["label"].to_numpy(), len(run.taxonomy.classes)
    predicted = probabilities.argmax(-1)
    confusions = confusion_matrix(labels, predicted, classes)
    groups = data.groups("eval")
    scores_of = scored(others, labels, classes, run.seed, groups)
    train_samples, eval_samples = (data.side(side).height // classes for side in ("train", "eval"))
    return RunResult(
        settings=settings(run),
        classes=list(run.taxonomy.classes),
        order=list(partition(run).order),
        partition=training_key(run),
        same_as=None,
        origin=origin,
        samples=SampleCounts(train_samples, eval_samples),
        members=[member.name for member in members(run.cnn, protocol(run))],
        eval_loss=float(np.mean([row.eval_loss for row in history if row.epoch == run.cnn.epochs - 1])),
        panel=PanelScores.of(panel_scores(labels, predicted, classes, run.seed, groups=groups)),
        members_min_f1=class_scores(confusions)["f1"].min(-1).tolist(),
        paper_protocol=paper_protocol(history, run.cnn.batch_size),
        confusion=confusions.sum(0).tolist(),
        pairs=[Pair(**pair) for pair in pair_scores(labels, probabilities.mean(0), groups)],
        probe_test=probe_test,
        control=control,
        confidence=scores_of["confidence"],
        baselines={name: scores for name, scores in scores_of.items() if not name.startswith(PROBE)},
        probes={name: scores for name, scores in scores_of.items() if name.startswith(PROBE)},
    )


def how_far(run: RunConfig, history: list[MemberEpoch], probabilities: np.ndarray, probe_losses: dict[str, float]) -> list[MemberTraining]:
    """How far each network came, and how far a linear probe of its pooling comes on samples like those that it was trained on."""
    last = {row.member: row.train_loss for row in history if row.epoch == run.cnn.epochs - 1}
    return [
        MemberTraining(last[member.name], probe_losses[member.reads], len(np.unique(own)))
        for member, own in zip(members(run.cnn, protocol(run)), probabilities.argmax(-1), strict=True)
    ]


def references(run: RunConfig, data: AttentionData, prefix_logprob: np.ndarray) -> tuple[Probabilities, dict[str, float], ProbeTest]:
    """Eval probabilities, float64 (n, classes), of all that the panel is compared with: the baselines, and a linear probe per pooling.

    Beside them the loss of each pooling's probe on train samples that it was not fitted on, and a test of the first one against permuted
    labels. A probe's statistics are the same in every epoch: they are computed once, and its weights are those of the optimum.
    """
    classes, sides = len(run.taxonomy.classes), {}
    for side in SIDES:
        mine = (data.samples["side"] == side).to_numpy()
        labels = data.side(side)["label"].to_numpy().astype(np.int64)
        sides[side] = Side.of(data.known[side], prefix_logprob[mine], labels)
    probabilities = without_attention(sides["train"], sides["eval"], data.corpus.k, classes, run.seed)
    read = {side: statistics(data.loader(side, 4 * run.cnn.batch_size, None), run, data) for side in SIDES}
    losses = {}
    for pool in data.pools:
        probabilities[f"{PROBE}{pool}"], losses[pool] = linear([read[side][pool] for side in SIDES], sides["train"].labels, run.seed)
    first = [read[side][data.pools[0]] for side in SIDES]
    return probabilities, losses, permuted(first, [sides[side].labels for side in SIDES], run.seed)


@torch.inference_mode()
def statistics(loader: Iterable[Batch], run: RunConfig, data: AttentionData) -> dict[str, np.ndarray]:
    """What a linear probe sees of one side's samples, float32 (n, 8 * layers), for each pooling."""
    layers, length = data.store.identity.layers, data.store.identity.length
    unpack, probe = Unpack(length, run.cnn.scale), LinearProbe(layers, length, data.corpus.k, 2)
    parts: dict[str, list[np.ndarray]] = {pool: [] for pool in data.pools}
    for pools, _ in loader:
        for pool, packed in pools.items():
            parts[pool].append(probe.statistics(unpack(packed)).numpy())
    return {pool: np.concatenate(part) for pool, part in parts.items()}


def paper_protocol(history: list[MemberEpoch], batch_size: int) -> PaperProtocol:
    """The paper's score: confusion matrices summed over the last three epochs and the panel.

    `mean_eval_loss` is in its convention: the sum of batch means divided by the number of samples, a batch size too small (how-it-works 7).
    """
    last = sorted({row.epoch for row in history})[-PAPER_EPOCHS:]
    rows = [row for row in history if row.epoch in last]
    confusion = np.sum([row.confusion for row in rows], axis=0)
    loss = float(np.mean([row.eval_loss for row in rows])) / batch_size
    return PaperProtocol(**scores(confusion), confusion=confusion.tolist(), mean_eval_loss=loss)


def fit(
    run: RunConfig,
    panel: list[Member],
    data: AttentionData,
    checkpoints: Path,
    logger: Logger | None,
    what: str = "epoch",
) -> tuple[list[MemberEpoch], np.ndarray]:
    """Train a panel, going on from the newest sound checkpoint in the folder `checkpoints` if there is one.

    Args:
        what: its epochs are called.

    Returns:
        The history (a row per epoch and member) and the eval side's probabilities, float32 (members, samples, classes).
    """
    corpus = data.corpus
    module = Panel(
        panel,
        run.cnn,
        data.store.identity.layers,
        corpus.tokens.shape[1],
        corpus.k,
        len(run.taxonomy.classes),
        data.seed,
        run.trainer.channels_last,
    )
    epochs = ToldEpochs(run.cnn.epochs, what, run.trainer.progress, module.epoch_text)
    state = resumable(checkpoints, module, lambda state: "history" in state)
    if logger is not None and state is not None:  # the tracker may have been killed before it wrote the last epochs
        log_history(logger, history_of(state["history"]))
    with trainer_of(run.trainer, run.cnn.epochs, checkpoints, state, logger=logger, epochs=epochs) as (trainer, path):
        trainer.fit(module, data, ckpt_path=path, weights_only=True)
        keep_last(checkpoints / CHECKPOINT)
        batches = trainer.predict(module, data.val_dataloader())
    assert batches is not None
    probabilities = torch.cat(batches, 1).float().cpu().numpy()  # type: ignore[arg-type]
    refuse_what_diverged(probabilities, [member.name for member in panel], run)
    return history_of(module.history), probabilities


def refuse_what_diverged(probabilities: np.ndarray, names: list[str], run: RunConfig) -> None:
    """Raise UserError where a network's answers are no numbers: they would count as answers of the first class."""
    for name, answers in zip(names, probabilities, strict=True):
        if lost := int((~np.isfinite(answers)).any(-1).sum()):
            raise UserError(
                f"the network {name} gives no numbers for {lost} of {len(answers)} eval samples, because its training diverged: use a "
                f"lower cnn.learning_rate than {run.cnn.learning_rate:g}"
                + ("" if run.trainer.precision == "32-true" else f", or trainer.precision=32-true instead of {run.trainer.precision}")
            )


def history_of(rows: list[dict[str, Any]]) -> list[MemberEpoch]:
    """A module's history, typed."""
    return [MemberEpoch(**row) for row in rows]


def shuffled_control(run: RunConfig, panel: list[Member], data: AttentionData, folder: RunFolder) -> PanelScores | None:
    """The same training on permuted labels, scored on the true eval labels; None without members. It must fall to chance."""
    if not panel:
        return None
    _, probabilities = fit(run, panel, data.with_shuffled_labels(), folder.control_checkpoints, None, "epoch on shuffled labels")
    labels = data.side("eval")["label"].to_numpy()
    groups = data.groups("eval")
    return PanelScores.of(panel_scores(labels, probabilities.argmax(-1), len(run.taxonomy.classes), run.seed, groups=groups))


def write_predictions(samples: pl.DataFrame, probabilities: np.ndarray, names: list[str], path: Path) -> None:
    """A row per eval sample: its id and label, and for each member its probabilities, float32, in the order of the classes."""
    columns = {name: pl.Series(values.tolist(), dtype=pl.List(pl.Float32)) for name, values in zip(names, probabilities, strict=True)}
    write_parquet(samples.filter(pl.col("side") == "eval").select("sequence_id", "label").with_columns(**columns), path)
