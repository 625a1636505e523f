"""Finished runs that nobody trained: plausible predictions, and everything else through the real functions.

Settings and folders come from the composed configuration, scores from `memgrid.metrics` on made-up predictions, and the result passes the
same boundary as a real one, so every number in a made `metrics.json` agrees with every other. Fast enough for thousands: configurations and
predictions are made once and used again.
"""

import dataclasses
import functools
import itertools
import json
from pathlib import Path

import numpy as np
import polars as pl
import settings_maker
import yaml
from matplotlib.image import imsave

from memgrid.config.derive import partition
from memgrid.config.names import digest_of, run_folder, settings
from memgrid.config.schema import TaxonomyConfig
from memgrid.io.digests import write_json
from memgrid.io.paths import CONF
from memgrid.metrics.intervals import panel_scores
from memgrid.metrics.pairs import pair_scores
from memgrid.metrics.scores import confusion_matrix, scores
from memgrid.results.folder import RunFolder
from memgrid.results.result import from_json, to_json

# The twenty of the paper.
PAPERS = (
    "code",
    "code_or_recollect",
    "code_recite",
    "guess",
    "guess_or_recollect",
    "guess_recite",
    "recite",
    "recite_code",
    "recite_guess",
    "recite_or_code",
    "recite_or_guess",
    "recite_or_reconstruct",
    "recite_reconstruct",
    "recollect",
    "recollect_code",
    "recollect_guess",
    "recollect_reconstruct",
    "reconstruct",
    "reconstruct_or_recollect",
    "reconstruct_recite",
)
TAXONOMIES = sorted((*PAPERS, "rasy", "prashanth"))
DELTAS = (5, 50, 1000)
RHOS = tuple(round(0.1 * step, 1) for step in range(1, 10))
EVAL = 60  # eval samples per class


@functools.cache
def composed(overrides):
    """The composed, typed configuration; read only."""
    return settings_maker.composed(*overrides)


@functools.cache
def setting_of(taxonomy, overrides, **changes):
    """A setting's configuration, settings, partition and name of a folder, for one LLM and seed; the real functions are slow."""
    run = composed(overrides)
    written = yaml.safe_load((CONF / "taxonomy" / f"{taxonomy}.yaml").read_text())
    run = dataclasses.replace(run, taxonomy=TaxonomyConfig(**written), **changes)
    return run, settings(run), partition(run), run_folder(run).name


@functools.cache
def written(taxonomy, overrides, **changes):
    """The configuration as a run keeps it, with LLM in the place of its model's name and SEED in that of its seed."""
    config = dataclasses.replace(setting_of(taxonomy, overrides, **changes)[0], seed="SEED")
    plain = dataclasses.asdict(config)
    return yaml.safe_dump({**plain, "llm": {**plain["llm"], "name": "LLM"}}, sort_keys=False)


class Run:
    """One run to be made; `changes` are top-level fields such as delta, rho, rouge and compat."""

    def __init__(self, root, llm="toy", taxonomy="rasy", overrides=(), seed=0, classes=None, **changes):
        config, deciding, self.divided, name = setting_of(taxonomy, tuple(overrides), **changes)
        self.compat, self.llm, self.seed = config.compat, llm, seed
        self.config = written(taxonomy, tuple(overrides), **changes).replace("LLM", llm, 1).replace("SEED", str(seed), 1)
        self.settings = {**deciding, "llm": {**deciding["llm"], "name": llm}, "seed": seed}
        if classes:
            self.settings["taxonomy"] = {"name": taxonomy, "classes": classes}
        self.classes = list(self.settings["taxonomy"]["classes"])
        threshold = name.rsplit("seed", 1)[0]
        self.runs = Path(root) / "runs"
        self.folder = self.runs / llm / taxonomy / f"{threshold}seed{seed}-{digest_of(self.settings)}"

    @property
    def key(self):
        """As `memgrid.config.names.training_key`."""
        return digest_of(self.settings if self.compat == "paper" else {**self.settings, "taxonomy": self.divided.key})

    @property
    def quality(self):
        """A made-up share of answers that are right, the same for every seed of a setting, about as the paper found."""
        rules = str(self.settings["taxonomy"]["classes"])
        share = {3: 0.86, 4: 0.72}.get(len(self.classes), 0.6)
        share += 0.05 * ("guess" in rules) - 0.06 * ("[" in rules) - 0.03 * (self.divided.delta is not None and self.divided.delta > 100)
        if self.divided.rho is not None:
            share -= 0.5 * (self.divided.rho - 0.55) ** 2 + 0.02 * (self.divided.rouge == "3")
        luck = int(digest_of([self.llm, self.divided.key])[:4], 16) / 65535
        return round(share + 0.06 * (luck - 0.5), 2)


@functools.cache
def made_up(classes, members, share, seed):
    """Labels int (n,) and predictions int (epochs=3, members, n): right with probability `share`, a little less in the last class."""
    rng = np.random.default_rng([classes, members, int(1000 * share), seed])
    labels = np.repeat(np.arange(classes), EVAL)
    easy = share + np.linspace(0.05, -0.05, classes)[labels]
    right = rng.random((3, members, len(labels))) < easy + rng.normal(0, 0.02, (members, 1))
    return labels, np.where(right, labels, rng.integers(0, classes, right.shape))


@functools.cache
def scored(classes, members, share, seed):
    """Everything in metrics.json that depends on predictions, classes in the partition's order."""
    labels, predicted = made_up(classes, members, share, seed)
    confusions = np.array([confusion_matrix(labels, epoch, classes) for epoch in predicted])
    summed = confusions.sum((0, 1))
    loss = 1.6 * (1.02 - share)
    shuffled = made_up(classes, 1, 0.0, seed)[1][-1]
    confidence = made_up(classes, 1, min(0.97, share + 0.03), seed)[1][-1]
    return {
        "panel": panel_scores(labels, predicted[-1], classes, seed, rounds=20),
        "members_min_f1": [scores(confusion)["min_f1"] for confusion in confusions[-1]],
        "paper_protocol": {**scores(summed), "confusion": summed.tolist(), "mean_eval_loss": 1.05 * loss / 16},
        "confusion": confusions[-1].sum(0).tolist(),
        "pairs": pair_scores(labels, np.eye(classes)[predicted[-1]].mean(0)),
        "control": panel_scores(labels, shuffled, classes, seed, rounds=20),
        "confidence": panel_scores(labels, confidence, classes, seed, rounds=20),
        "eval_loss": loss,
    }


def result_of(run, control=True, same_as=None):
    """The result that a training of this run would have."""
    panel = run.settings["cnn"]["members"]
    own_seed = run.seed if run.compat == "none" else int(run.key, 16) % 64
    order = run.divided.order
    content = {
        "settings": run.settings,
        "classes": run.classes,
        "order": list(order),
        "partition": run.key,
        "same_as": same_as,
        "origin": {"corpus": "made up", "llm": run.llm},
        "samples": {"train": 4 * EVAL, "eval": EVAL},
        "members": panel,
        **scored(len(run.classes), len(panel), run.quality, own_seed),
    }
    # In the partition's order, then in the taxonomy's: equal partitions have equal numbers.
    result = from_json(json.dumps(content)).in_order(np.argsort(order).tolist())
    return result if control else dataclasses.replace(result, control=None, confidence=None)


def metrics_of(run, **options):
    """The same as the content of metrics.json."""
    return to_json(result_of(run, **options))


def begin(run):
    """The folder of a run that a sweep wants; returns it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    RunFolder(run.folder).config.write_text(run.config)
    return run.folder


def finish(run, **options):
    """Write a finished run's folder; returns it."""
    RunFolder(begin(run)).metrics.write_text(json.dumps(metrics_of(run, **options), indent=1))
    return run.folder


def leave(run, state):
    """The folder of a run that is failed, stopped or missing; returns it."""
    folder = begin(run)
    if state == "failed":
        RunFolder(folder).note_failure("class 'Recite' has 12 samples to train, fewer than 50: choose a lower delta", folder / "job.log")
    if state == "stopped":
        RunFolder(folder).checkpoints.mkdir(exist_ok=True)
        RunFolder(folder).checkpoint.write_bytes(b"weights")
        RunFolder(folder).lock_file.touch()
    return folder


def example_map(folder, classes):
    """A picture where a run keeps its examples of attention."""
    figures = RunFolder(folder).figures
    figures.mkdir(exist_ok=True)
    rows, columns = np.mgrid[: 64 * classes, :384] / 64.0
    imsave(figures / "attention.png", np.exp(-np.abs(rows % 1 - columns % 1) * 9), cmap="viridis")


def grid(root, llms=("toy",), taxonomies=TAXONOMIES, deltas=DELTAS, seeds=(0,), rhos=(), **options):
    """Every run of the grid, each once, then rasy's ρ sweep."""
    choices = [{"taxonomy": name, "delta": delta} for name in taxonomies for delta in deltas]
    choices += [{"taxonomy": "rasy", "rho": rho, "rouge": rouge} for rho in rhos for rouge in ("both", "l", "3")]
    runs = [Run(root, llm, seed=seed, **choice, **options) for llm, choice, seed in itertools.product(llms, choices, seeds)]
    return list({run.folder: run for run in runs}.values())


def make_runs(root, pictures=False, **choice):
    """Finish every run of `grid(root, **choice)`, equal partitions once and adopted by the others; returns the folders."""
    trained, runs = {}, grid(root, **choice)
    for run in runs:
        finish(run, same_as=trained.get(run.key))
        trained.setdefault(run.key, run.folder.relative_to(run.runs).as_posix())
        if pictures:
            example_map(run.folder, len(run.classes))
    return [run.folder for run in runs]


def make_labels(root, llm="toy", corpus="toy", rows=3000, groups=("memorized", "duplicates", "templates", "rouge"), seed=0):
    """Label files of a corpus, as `memgrid.label.labels` writes them; returns their folder."""
    rng = np.random.default_rng(seed)
    rouge = rng.beta(1, 3, rows)
    columns = {
        "memorized": {"memorized": rng.random(rows) < 0.6, "confidence": rng.random(rows).astype(np.float32)},
        "duplicates": {"duplicates": (10 ** rng.uniform(0, 4, rows)).astype(np.int64)},
        "templates": {"is_repeating": rouge > 0.8, "is_incrementing": rng.random(rows) < 0.1},
        "rouge": {"rouge_l": rouge, "rouge_3": rouge * rng.random(rows)},
        "code": {"is_code": rng.random(rows) < 0.2},
    }
    folder = Path(root) / "labels" / llm / corpus
    folder.mkdir(parents=True, exist_ok=True)
    for group in groups:
        table = pl.DataFrame({"sequence_id": np.arange(rows), **columns[group]})
        table.write_parquet(folder / f"{group}.parquet", metadata={"memgrid": json.dumps({"corpus": corpus, "k": 32, "llm": llm})})
    return folder


def rewrite(folder, **changes):
    """Change keys of a finished run's metrics.json."""
    path = RunFolder(folder).metrics
    write_json({**json.loads(path.read_text()), **changes}, path)
