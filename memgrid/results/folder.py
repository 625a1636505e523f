"""A run on disk: every file of it, once, and what is asked of it. `metrics.json` is written last and whole: the mark of a finished run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import polars as pl

from memgrid.config.names import run_folder, work_folder
from memgrid.config.schema import RunConfig
from memgrid.errors import DamagedError, UserError
from memgrid.io.digests import read_parquet, write_json, write_parquet
from memgrid.io.files import content_of, reason
from memgrid.io.locks import missing_right
from memgrid.results import records, result
from memgrid.results.boundary import encode
from memgrid.results.records import LATER, InterveneRecord, LocalizeRecord, readable, stage_settings
from memgrid.results.result import MemberEpoch, RunResult
from memgrid.results.transfers.record import TransferRecord
from memgrid.results.transfers.sources import find_sources, inputs_of
from memgrid.results.work import WorkFolder

# What needs no attention; see `memgrid.train.baselines`.
BASELINES = ("tokens", "overlap", "confidence", "likelihood", "min_k", "zlib", "probabilities", "together")
CHECKPOINT = "last.ckpt"  # in a folder of checkpoints: the networks after their last whole epoch, with what a training needs to go on

Content = TypeVar("Content")


@dataclass(frozen=True)
class RunFolder(WorkFolder):
    """The folder of one run, `<root>/runs/<llm>/<taxonomy>/<name>`."""

    @classmethod
    def of(cls, run: RunConfig) -> RunFolder:
        """The folder that the run's settings name."""
        return cls(run_folder(run))

    @property
    def metrics(self) -> Path:
        """The result, written last: its presence says that the run is finished."""
        return self.path / result.NAME

    @property
    def samples(self) -> Path:
        """The selected sequences with class and side."""
        return self.path / "samples.parquet"

    @property
    def epochs(self) -> Path:
        """The scores of every network after every epoch."""
        return self.path / "epochs.parquet"

    @property
    def predictions(self) -> Path:
        """Each network's probabilities for every eval sample."""
        return self.path / "predictions.parquet"

    @property
    def baselines(self) -> Path:
        """The same of all that the panel is compared with; older runs have none."""
        return self.path / "baselines.parquet"

    @property
    def checkpoints(self) -> Path:
        """Where the panel's training leaves its checkpoint."""
        return self.path / "checkpoints"

    @property
    def checkpoint(self) -> Path:
        """The panel after its last whole epoch, with what a training needs to go on."""
        return self.checkpoints / CHECKPOINT

    def saved(self) -> list[Path]:
        """The checkpoints that a training of the panel could go on from: the last, and the one before it."""
        return sorted(self.checkpoints.glob(f"*{self.checkpoint.suffix}"))

    @property
    def control_checkpoints(self) -> Path:
        """Where the training on shuffled labels leaves its checkpoint."""
        return self.path / "control" / "checkpoints"

    @property
    def figures(self) -> Path:
        """The run's own figures, each as PNG and PDF."""
        return self.path / "figures"

    @property
    def wandb(self) -> Path:
        """The offline runs of wandb."""
        return self.path / "wandb"

    @property
    def intervention(self) -> Path:
        """A row per trial of the intervention."""
        return self.path / "intervene.parquet"

    @property
    def intervention_units(self) -> Path:
        """What was found of every head and layer."""
        return self.path / "intervene-units.parquet"

    @property
    def intervention_journal(self) -> Path:
        """The trials done so far, while an intervention goes on."""
        return self.path / "intervene.partial.jsonl"

    @property
    def intervention_record(self) -> Path:
        """What the intervention was done with and what it found, written last."""
        return self.path / "intervene.json"

    @property
    def transfers(self) -> Path:
        """What networks of other runs say of this one's samples, written whole."""
        return self.path / "transfer.json"

    def decision_maps(self, method: str) -> Path:
        """The Δ maps by one method of attribution."""
        return self.path / f"localize-{method}.h5"

    def decision_record(self, method: str) -> Path:
        """What the Δ maps were made with and what they show, written last."""
        return self.path / f"localize-{method}.json"

    def record_path(self, run: RunConfig, stage: str) -> Path:
        """Where a stage after training leaves its record: one for every method of localization, one of each other stage."""
        if stage == "transfer":
            return self.transfers
        return self.decision_record(run.localize.method) if stage == "localize" else self.intervention_record

    def stage_files(self, run: RunConfig, stage: str) -> list[Path]:
        """The files of a stage after training that count as its result, the record first."""
        if stage == "transfer":
            return [self.transfers]
        maps = [self.decision_maps(run.localize.method)]
        return [
            self.record_path(run, stage),
            *(maps if stage == "localize" else [self.intervention, self.intervention_units, self.intervention_journal]),
        ]

    def read(self, path: Path, decode: Callable[[bytes], Content]) -> Content | None:
        """What a file of the run holds, or None where there is none; UserError, which names it, where it is of no use."""
        try:
            return decode(content_of(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            closed = missing_right(error, path)
            raise UserError(closed or f"{path} cannot be read ({error.strerror}): set that right and start again") from None
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def table(self, path: Path, columns: list[str] | None = None, again: str = "run it again with force=true") -> pl.DataFrame:
        """A table of the run, or some columns of it; UserError where it is missing, cannot be read, or is damaged."""
        try:
            return read_parquet(path, columns)
        except FileNotFoundError:
            raise UserError(f"{path} is missing: {again}") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({reason(error)}): set that right and start again") from None
        except DamagedError as error:
            raise DamagedError(path, error.fault, again) from None

    def is_finished(self) -> bool:
        """Whether the training has its result."""
        return self.metrics.exists()

    def result(self) -> RunResult | None:
        """The result of a finished run, or None.

        Raises:
            UserError: it is damaged, or another version wrote what this one cannot read.
        """
        return self.read(self.metrics, result.from_json)

    def write_result(self, content: RunResult) -> None:
        """Finish the run."""
        write_json(encode(content), self.metrics)

    def trained_in(self, root: str | Path, content: RunResult) -> RunFolder:
        """Where the networks of a result lie: here, or in the folder of the equal run whose training was taken over."""
        return self if content.same_as is None else RunFolder(runs_below(root) / content.same_as)

    def read_epochs(self) -> list[MemberEpoch]:
        """The rows of `epochs.parquet`."""
        return [MemberEpoch(**row) for row in self.table(self.epochs).to_dicts()]

    def write_epochs(self, rows: Sequence[MemberEpoch]) -> None:
        """Write `epochs.parquet`."""
        write_parquet(pl.DataFrame([asdict(row) for row in rows]), self.epochs)

    def localize_record(self, method: str) -> LocalizeRecord | None:
        """What localization by a method left, or None; UserError as `result`."""
        path = self.decision_record(method)
        return self.read(path, lambda text: records.from_json(LocalizeRecord, text, path.name))

    def intervene_record(self) -> InterveneRecord | None:
        """What the intervention left, or None; UserError as `result`."""
        path = self.intervention_record
        return self.read(path, lambda text: records.from_json(InterveneRecord, text, path.name))

    def transfer_record(self) -> TransferRecord | None:
        """What a transfer left, or None; UserError as `result`."""
        return self.read(self.transfers, lambda text: records.from_json(TransferRecord, text, self.transfers.name))

    def methods(self) -> list[str]:
        """The methods of attribution whose decision maps are there, sorted."""
        return sorted(path.stem.removeprefix("localize-") for path in self.path.glob(self.decision_maps("*").name))

    def localize_records(self) -> list[LocalizeRecord]:
        """Those of all methods whose decision maps are there; one that cannot be read is passed over."""
        return [record for method in self.methods() if (record := readable(partial(self.localize_record, method))) is not None]

    def write_record(self, record: LocalizeRecord | InterveneRecord | TransferRecord) -> None:
        """Note that a stage after training is done."""
        other = self.transfers if isinstance(record, TransferRecord) else self.intervention_record
        write_json(encode(record), self.decision_record(record.method) if isinstance(record, LocalizeRecord) else other)

    def is_done(self, run: RunConfig, stage: str) -> bool:
        """Whether a stage after training has its result, made with the run's settings; an intervention, also from the maps that are there.

        A transfer, also from the runs that its sources are now. A record that is of no use is none: the stage writes it anew.
        """
        if stage == "transfer":
            return self.is_transferred(run)
        try:
            located = self.localize_record(run.localize.method)
            record = located if stage == "localize" else self.intervene_record()
        except UserError:
            return False
        if record is None or (record.method, record.settings) != (run.localize.method, stage_settings(run, stage)):
            return False
        if stage == "localize":
            return self.decision_maps(run.localize.method).exists()
        return located is not None and located.inputs == record.inputs and self.intervention.exists() and self.intervention_units.exists()

    def is_transferred(self, run: RunConfig) -> bool:
        """Whether what a transfer left was made from the runs that `transfer.from` names, as they are now."""
        try:
            record = self.transfer_record()
            sources = None if record is None else find_sources(run, self.path)
            return sources is not None and record is not None and record.inputs == inputs_of(list(sources.folders), self.path)
        except (UserError, OSError):
            return False

    def undone(self, run: RunConfig) -> list[str]:
        """The stages after training that the run asks for and that are not done."""
        return [stage for stage in LATER if stage in run.stages and not self.is_done(run, stage)]


def work_folder_of(run: RunConfig) -> WorkFolder:
    """Where a run's failure is noted: its own folder, or that of a job without training."""
    return WorkFolder(work_folder(run))


def runs_below(root: str | Path) -> Path:
    """The folder of all runs."""
    return Path(root) / "runs"


def folders_below(root: Path, below: str = "runs") -> list[Path]:
    """Every `<root>/<below>/<llm>/<taxonomy>/<name>`, sorted; folders that begin with a dot are nobody's run."""
    level: list[Path] = [root / below]
    for _ in ("llm", "taxonomy", "name"):
        level = [Path(entry.path) for folder in level if folder.is_dir() for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return sorted(path for path in level if path.is_dir())


def prepare_folder(name: str, key: str = "root") -> Path:
    """Create a folder and prove that it can be written to.

    Args:
        key: how the user names it.

    Raises:
        UserError: it cannot.
    """
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if closed := missing_right(error, folder):
            raise UserError(f"{key}={name} cannot be written to: {closed}") from None
        raise UserError(f"{key}={name} cannot be written to ({error.strerror}): choose another folder with {key}=<path>") from None
    return folder
