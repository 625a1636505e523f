"""Training of one run: the panel, its shuffled control and the confidence baseline, down to metrics.json."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from memgrid.baselines import confidence_baseline
from memgrid.classifier import Panel
from memgrid.config import Member, members, partition
from memgrid.corpus import Corpus
from memgrid.data import AttentionData
from memgrid.metrics import class_scores, confusion_matrix, panel_scores, reordered, scores
from memgrid.naming import settings, training_key, training_seed
from memgrid.progress import on_terminal
from memgrid.schema import RunConfig
from memgrid.store import Store
from memgrid.tracking import summarise, tracked

PAPER_EPOCHS = 3  # the paper sums the confusion matrices of the last three epochs


def train(run: RunConfig, corpus: Corpus, store: Store, samples: pl.DataFrame, folder: Path, origin: dict[str, str]) -> dict[str, Any]:
    """Train what the run asks for and write its results into `folder`, but for metrics.json, which is the caller's to write last of all.

    A training that was cut off goes on from the checkpoint of its last whole epoch.

    Args:
        samples: as `memgrid.select.select` gives them.
        origin: fingerprints of corpus and LLM, kept beside the result.

    Returns:
        The content of metrics.json.
    """
    torch.set_num_threads(run.trainer.threads or len(os.sched_getaffinity(0)))
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    titles = list(run.taxonomy.classes)
    samples.write_parquet(folder / "samples.parquet")
    panel = members(run.cnn, run.compat)
    pools = tuple(dict.fromkeys(member.reads for member in panel))
    # Networks see the classes in the partition's order, so that equal partitions are one training whatever their classes are called.
    order = partition(run).order
    place = np.argsort(order)
    in_order = samples.with_columns(label=pl.Series(place.astype(np.int8)[samples["label"].to_numpy()]))
    data = AttentionData(store, corpus, in_order, pools, run.data, run.cnn.batch_size, training_seed(run))
    with tracked(run, folder) as logger:
        history, probabilities = fit(run, panel, data, folder, logger)
        control = shuffled_control(run, panel[: run.control.members], data, folder)
        sides = {side: (data.confidence[side], data.side(side)["label"].to_numpy()) for side in ("train", "eval")}
        labels, predicted = sides["eval"][1], probabilities.argmax(-1)
        confusions = confusion_matrix(labels, predicted, len(titles))
        found = {
            "panel": panel_scores(labels, predicted, len(titles), run.seed),
            "members_min_f1": class_scores(confusions)["f1"].min(-1).tolist(),
            "paper_protocol": paper_protocol(history, run.cnn.batch_size),
            "confusion": confusions.sum(0).tolist(),
            "control": control,
            "confidence": confidence_baseline(sides["train"], sides["eval"], len(titles), run.seed),
        }
        metrics = {
            "settings": settings(run),
            "classes": titles,
            "order": list(order),
            "partition": training_key(run),
            "same_as": None,
            "origin": origin,
            "samples": {side: data.side(side).height // len(titles) for side in ("train", "eval")},
            "members": [member.name for member in panel],
            "eval_loss": float(np.mean([row["eval_loss"] for row in history if row["epoch"] == run.cnn.epochs - 1])),
            **reordered(found, place),
        }
        pl.DataFrame(reordered(history, place)).write_parquet(folder / "epochs.parquet")
        write_predictions(samples, probabilities[..., place], metrics["members"], folder / "predictions.parquet")
        summarise(logger, metrics)
    return metrics


def paper_protocol(history: list[dict[str, Any]], batch_size: int) -> dict[str, Any]:
    """The paper's score: confusion matrices summed over the last three epochs and the panel.

    `mean_eval_loss` is in its convention: the sum of batch means divided by the number of samples, so a batch size too small (DESIGN 7).
    """
    last = sorted({row["epoch"] for row in history})[-PAPER_EPOCHS:]
    rows = [row for row in history if row["epoch"] in last]
    confusion = np.sum([row["confusion"] for row in rows], axis=0)
    loss = float(np.mean([row["eval_loss"] for row in rows])) / batch_size
    return {**scores(confusion), "confusion": confusion.tolist(), "mean_eval_loss": loss}


def fit(
    run: RunConfig, panel: list[Member], data: AttentionData, folder: Path, logger: WandbLogger | None
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Train a panel, going on from `folder/checkpoints` if there is one.

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
    checkpoint = ModelCheckpoint(
        folder / "checkpoints", filename="last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    watched = run.trainer.progress and on_terminal()
    trainer = lightning.Trainer(
        accelerator=run.trainer.accelerator,
        devices=1,
        precision=run.trainer.precision,  # type: ignore[arg-type]
        max_epochs=run.cnn.epochs,
        logger=logger or False,
        callbacks=[checkpoint, *([RichProgressBar()] if watched else [])],
        enable_progress_bar=watched,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        deterministic=True,
        default_root_dir=folder,
        plugins=[LightningEnvironment()],
    )
    resumable = folder / "checkpoints" / "last.ckpt"
    with warnings.catch_warnings():
        # Batches come out of memory: worker processes would only copy them.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        trainer.fit(module, data, ckpt_path=resumable if resumable.exists() else None, weights_only=False)
        batches = trainer.predict(module, data.val_dataloader())
    assert batches is not None
    return module.history, torch.cat(batches, 1).float().cpu().numpy()  # type: ignore[arg-type]


def shuffled_control(run: RunConfig, panel: list[Member], data: AttentionData, folder: Path) -> dict[str, Any]:
    """The same training on permuted labels, scored on the true eval labels; empty without members. It must fall to chance."""
    if not panel:
        return {}
    _, probabilities = fit(run, panel, data.with_shuffled_labels(), folder / "control", None)
    labels = data.side("eval")["label"].to_numpy()
    return panel_scores(labels, probabilities.argmax(-1), len(run.taxonomy.classes), run.seed)


def write_predictions(samples: pl.DataFrame, probabilities: np.ndarray, names: list[str], path: Path) -> None:
    """A row per eval sample: its id and label, and for each member its probabilities, float32, in the order of the classes."""
    columns = {name: pl.Series(values.tolist(), dtype=pl.List(pl.Float32)) for name, values in zip(names, probabilities, strict=True)}
    samples.filter(pl.col("side") == "eval").select("sequence_id", "label").with_columns(**columns).write_parquet(path)
