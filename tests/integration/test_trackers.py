"""Real trainings recorded as CSV and for TensorBoard: killed in the middle and started again, each epoch is there once."""

import json
import os
import signal
from pathlib import Path

import forks
import polars as pl
import pytest
from conftest import memgrid_here
from tokenizers import Tokenizer
from tracker_files import epochs_of

from memgrid.io.paths import TOY

# Killed when the tracker has the second epoch and its checkpoint is not yet written.
KILLED = """
import os, signal, time
from pathlib import Path
from pytorch_lightning.callbacks import ModelCheckpoint
from tracker_files import epochs_of
from memgrid.run import main

save = ModelCheckpoint.on_train_epoch_end

def save_or_die(self, trainer, module):
    if trainer.current_epoch == 1:
        run = Path(trainer.default_root_dir).parent
        until = time.monotonic() + 60
        while [epoch for epoch, _ in epochs_of(run, TRACKER)] != [0, 1]:  # TensorBoard's writer is a thread
            assert time.monotonic() < until
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, trainer, module)

ModelCheckpoint.on_train_epoch_end = save_or_die
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["csv", "tensorboard"])
def test_a_killed_training_neither_loses_nor_doubles_an_epoch(tracker, extracted, quick, mini):
    given = [*quick, f"tracking={tracker}", "control.members=0", f"root={extracted}"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parents[1], *filter(None, [os.environ.get("PYTHONPATH")])))),
    }
    killed = forks.run(["-c", KILLED.replace("TRACKER", repr(tracker)), *given], env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    told = memgrid_here(*given)
    assert "deleted" not in told.stderr
    (folder,) = extracted.glob("runs/*/*/*seed0*")
    found = epochs_of(folder, tracker)
    assert [epoch for epoch, _ in found] == [0, 1, 2]
    for row in pl.read_parquet(folder / "epochs.parquet").iter_rows(named=True):
        logged = found[row["epoch"]][1]
        assert logged["epoch"] == row["epoch"]
        for key in ("train_loss", "eval_loss"):
            assert logged[f"{row['member']}/{key}"] == pytest.approx(row[key], rel=1e-6)
        assert f"{row['member']}/min_f1" in logged
    assert not (folder / "wandb").exists()
    written = b"".join(path.read_bytes() for path in (folder / tracker).iterdir())
    assert json.loads((folder / "metrics.json").read_text())["settings"]["llm"]["name"].encode() in written
    tokenizer = Tokenizer.from_file(str(TOY / "tokenizer.json"))
    for tokens in pl.read_parquet(mini / "sequences.parquet")["tokens"].to_list():
        text = tokenizer.decode(tokens[8:24]).strip()
        assert len(text) < 8 or text.encode() not in written
        assert ", ".join(map(str, tokens[:8])).encode() not in written
