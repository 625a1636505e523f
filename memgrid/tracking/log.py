"""Experiment tracking: a run of wandb per training, offline unless asked otherwise, or another tracker's files; never a sequence's text.

`python -m memgrid.tracking sync` pushes offline runs to the server, `python -m memgrid.tracking dashboard` builds the project's workspace.
"""

from __future__ import annotations

import html
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memgrid.config.names import called, settings
from memgrid.config.schema import RunConfig, WandbConfig
from memgrid.errors import UserError
from memgrid.io.files import PRIVATE_FOLDER
from memgrid.metrics.scores import scores
from memgrid.results.folder import RunFolder
from memgrid.results.result import MemberEpoch, RunResult
from memgrid.taxonomy.thresholds import Thresholds
from memgrid.tracking.files import begun, logged_epochs
from memgrid.tracking.local import local_logger

if TYPE_CHECKING:
    from pytorch_lightning.loggers import WandbLogger
    from pytorch_lightning.loggers.logger import Logger

LOCAL = ("csv", "tensorboard")  # trackers that only leave files
FLUSH_SECONDS = 1.0  # wandb's own interval is 15: a training that is killed would leave an empty file
PREFIX = "WANDB_"
# What wandb may take from the environment: who we are, how its server is reached, where its own files lie, and what people note of a run.
# All else says which run this is, or how it is logged. That is said here: under a sweep agent, or in a job that inherits another's
# variables, all runs would become one.
INHERITED = {
    f"{PREFIX}{name}"
    for name in (
        *("API_KEY", "IDENTITY_TOKEN_FILE", "CREDENTIALS_FILE", "ENTITY", "USERNAME", "USER_EMAIL"),
        *("BASE_URL", "APP_URL", "HTTP_PROXY", "HTTPS_PROXY", "HTTP_TIMEOUT", "INIT_TIMEOUT", "INSECURE_DISABLE_SSL", "EXTRA_HTTP_HEADERS"),
        *("CONFIG_DIR", "CACHE_DIR", "DATA_DIR", "ERROR_REPORTING", "TAGS", "NOTES", "JOB_TYPE"),
    )
}


@contextmanager
def own_environment() -> Iterator[None]:
    """Inside, wandb finds those variables of its own that are meant for every run, and says nothing on stdout."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and name not in INHERITED}
    for name in hidden:
        del os.environ[name]
    os.environ["WANDB_SILENT"] = "true"
    try:
        yield
    finally:
        os.environ.pop("WANDB_SILENT", None)
        os.environ.update(hidden)


def cell_name(settings: Mapping[str, Any]) -> str:
    """The cell that a run belongs to, such as `toy/rasy/rho0.5-both`; thresholds that are None are left out."""
    return "/".join(filter(None, (called(settings["llm"]), settings["taxonomy"]["name"], Thresholds.of(settings).folder())))


def epoch_logger(experiment: Any, logged: Iterable[int]) -> WandbLogger:
    """Lightning's logger, but with a row per epoch whose step is the epoch, and without the epochs that are `logged` already."""
    from pytorch_lightning.loggers import WandbLogger  # seconds to import, and no command line needs it

    already = set(logged)

    class EpochLogger(WandbLogger):
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            """Lightning calls this at the end of an epoch; `metrics` has the key epoch."""
            epoch = int(metrics["epoch"])
            if epoch not in already:
                already.add(epoch)
                # Without commit wandb keeps the row back until the next epoch: a killed training would lose it.
                self.experiment.log({**metrics, "epoch": epoch}, step=epoch, commit=True)

        def summarise(self, summary: dict[str, float], result: RunResult) -> None:
            """Put final scores and the confusion matrix into the run."""
            import wandb

            titles, counts = result.classes, result.confusion
            matrix = wandb.Html(confusion_table(titles, counts))  # a wandb.Table would be kept outside the run's folder
            self.experiment.log({"confusion": matrix}, step=result.settings["cnn"]["epochs"], commit=True)
            by_class = {true: dict(zip(titles, row, strict=True)) for true, row in zip(titles, counts, strict=True)}
            self.experiment.summary.update({**summary, "confusion_counts": by_class})

    return EpochLogger(experiment=experiment)


@contextmanager
def tracked(run: RunConfig, folder: RunFolder) -> Iterator[Logger | None]:
    """A logger for the training of a run, whose files lie in the run's folder; None if nothing is to be recorded.

    Raises:
        UserError: wandb could not start a run.
    """
    if run.tracking.name == "wandb" and asked_for(run.wandb):
        with wandb_run(run, folder) as logger:
            yield logger
    elif run.tracking.name in LOCAL:
        local = local_logger(run.tracking.name, folder.path, settings(run))
        try:
            yield local
        finally:
            local.finalize("success")
    else:
        yield None


@contextmanager
def wandb_run(run: RunConfig, folder: RunFolder) -> Iterator[WandbLogger]:
    """A wandb run of its own in the run's folder, finished at the end, so that the runs of a multirun never merge.

    Runs are grouped by cell (llm, taxonomy, δ, ρ); settings become the config. Started again, a run goes on under the same id: offline as a
    further part that holds only the epochs that no earlier part has, which `sync` appends to them.

    Raises:
        UserError: wandb could not start a run.
    """
    import wandb  # seconds to import, and not needed otherwise

    folder.path.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in sorted(folder.wandb.glob("*run-*/run-*.wandb")) if begun(path)]
    deciding = settings(run)
    experiment = start(run.wandb, folder.path, cell_name(deciding), deciding, resume=bool(earlier) or run.wandb.mode == "online")
    # What an online run has sent is known to the server only.
    logged = range(int(experiment.summary.get("epoch", -1)) + 1) if run.wandb.mode == "online" else logged_epochs(earlier)
    logger = epoch_logger(experiment, logged)
    try:
        yield logger
    except BaseException:
        wandb.finish(exit_code=1)
        raise
    wandb.finish()


def asked_for(config: WandbConfig) -> bool:
    """Whether something is to be recorded. Offline, which is the default, a run goes on without wandb, and says so.

    Raises:
        UserError: it is to be pushed, and wandb is not installed.
    """
    if config.mode == "disabled" or find_spec("wandb"):
        return config.mode != "disabled"
    mend = "wandb is not installed: pip install wandb, or choose wandb=off"
    if config.mode == "online":
        raise UserError(f"wandb.mode=online, but {mend}")
    warnings.warn(f"nothing is recorded for wandb, for {mend}", NotRecorded, stacklevel=2)
    return False


class NotRecorded(UserWarning):
    """What was asked for is done, but wandb will not know of it."""


def record(
    tracker: str,
    config: WandbConfig,
    folder: Path,
    group: str,
    deciding: dict[str, Any],
    rows: list[dict[str, float]],
    summary: dict[str, Any],
) -> None:
    """What a tracker knows of something that is finished: a row for each epoch, and a summary; nothing if disabled.

    Raises:
        UserError: wandb could not start a run.
    """
    if tracker in LOCAL:
        logger = local_logger(tracker, folder, deciding)
        for epoch, row in enumerate(rows):
            logger.log_metrics({**row, "epoch": epoch})
        logger.summarise(summary)  # type: ignore[union-attr]
        logger.finalize("success")
    if tracker != "wandb" or not asked_for(config):
        return
    import wandb

    experiment = start(config, folder, group, deciding, resume=config.mode == "online")
    for epoch, row in enumerate(rows):
        experiment.log({**row, "epoch": epoch}, step=epoch, commit=True)
    experiment.summary.update(summary)
    wandb.finish()


def start(config: WandbConfig, folder: Path, group: str, deciding: dict[str, Any], resume: bool) -> Any:
    """Begin a wandb run, or a further part of it; its id is the end of the folder's name."""
    import wandb

    quiet = wandb.Settings(x_disable_stats=True, console="off", disable_git=True, x_save_requirements=False)
    quiet.x_transaction_log_flush_interval = FLUSH_SECONDS
    if config.mode != "disabled":
        (folder / "wandb").mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)  # wandb's files are open to the world
    try:
        with own_environment():
            experiment = wandb.init(
                project=config.project,
                entity=config.entity,
                mode=config.mode,  # type: ignore[arg-type]
                dir=folder,
                id=folder.name.rsplit("-", 1)[-1],
                name=folder.name,
                group=group,
                config=deciding,
                resume="allow" if resume else None,
                reinit="finish_previous",
                settings=quiet,
            )
    except (wandb.Error, ValueError) as error:  # ValueError: a variable of the environment that is none of its kind
        raise UserError(f"wandb={config.mode} could not start a run ({brief(error)}): use wandb=offline or `wandb login`") from None
    experiment.define_metric("*", step_metric="epoch")
    return experiment


def log_history(logger: Logger, history: Iterable[MemberEpoch]) -> None:
    """Write the curves of a history, in the order of the epochs."""
    epochs: dict[int, dict[str, float]] = {}
    for row in sorted(history, key=lambda row: row.epoch):
        values = {"train_loss": row.train_loss, "eval_loss": row.eval_loss, "min_f1": scores(np.asarray(row.confusion))["min_f1"]}
        curves = epochs.setdefault(row.epoch, {"epoch": row.epoch})
        curves |= {f"{row.member}/{key}": value for key, value in values.items()}
    for curves in epochs.values():
        logger.log_metrics(curves)


def summarise(logger: Logger | None, result: RunResult) -> None:
    """Give the final scores to the tracker: panel with spread and interval, members, controls; to wandb the confusion matrix, too."""
    if logger is None:
        return
    score = result.panel.min_f1
    summary = {
        "min_f1": score.mean,
        **{"min_f1_std": score.std, "min_f1_low": score.low, "min_f1_high": score.high},
        "mean_f1": result.panel.mean_f1.mean,
        "paper_min_f1": result.paper_protocol.min_f1,
        **{f"members/{name}/min_f1": value for name, value in zip(result.members, result.members_min_f1, strict=True)},
    }
    for control, name in ((result.control, "shuffled_min_f1"), (result.confidence, "confidence_min_f1")):
        if control:
            summary[name] = control.min_f1.mean
    # So that every ROUGE score has a curve over ρ of its own.
    if result.settings["rho"] is not None:
        summary[f"rouge_{result.settings['rouge']}/min_f1"] = score.mean
    logger.summarise(summary, result)  # type: ignore[attr-defined]


def confusion_table(titles: list[str], counts: list[list[int]]) -> str:
    """The confusion matrix as HTML: a row per true class, a column per predicted one, darker where there is more of a row."""
    names = [f"<th>{html.escape(title)}</th>" for title in titles]
    lines = ["<th>true \\ predicted</th>" + "".join(names)]
    for name, row in zip(names, counts, strict=True):
        shares = (count / max(1, sum(row)) / 2 for count in row)
        cells = (f'<td style="background: rgba(0, 90, 160, {share:.2f})">{n}</td>' for n, share in zip(row, shares, strict=True))
        lines.append(name + "".join(cells))
    style = "<style>td, th {font-family: sans-serif; padding: .4em .8em; text-align: right}</style>"
    return f"{style}<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def brief(message: object) -> str:
    """The first clause of a message of wandb's, fit to stand within a sentence."""
    return re.split(r"\. |\n", str(message).strip())[0].rstrip(".") or type(message).__name__
