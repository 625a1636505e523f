"""What is told of a training while it lasts: a line an epoch in a log, the watcher always, and nothing where nothing is wanted."""

from types import SimpleNamespace

import pytest

from memgrid.io.display import Watcher, watched
from memgrid.train.trainer import Epochs, ToldEpochs


class Listening(Watcher):
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def step(self, what, done, total, ordinal=False):
        self.told.append((what, round(done, 2), total, ordinal))


def go_through(epochs, batches=2, first=0):
    """As Lightning calls it, for the epochs from `first` on."""
    trainer = SimpleNamespace(current_epoch=first, num_training_batches=batches)
    epochs.on_train_start(trainer, None)
    for trainer.current_epoch in range(first, epochs.epochs):
        getattr(epochs, "on_train_epoch_start", lambda *_: None)(trainer, None)
        for batch in range(batches):
            epochs.on_train_batch_end(trainer, None, None, None, batch)
        epochs.on_train_epoch_end(trainer, None)
    epochs.on_train_end(trainer, None)


@pytest.mark.parametrize("shown", [True, False])
def test_a_log_has_a_line_an_epoch_and_the_watcher_knows_more(shown, capsys):
    listening = Listening()
    with watched(listening):
        go_through(ToldEpochs(3, "epoch", shown, lambda: "loss 0.412, min-F1 71.2"), first=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(", ")[0] for line in lines] == [
        f"train    epoch {epoch} of 3: loss 0.412, min-F1 71.2" for epoch in (2, 3) if shown
    ]
    assert all(line.endswith(" s") and "\r" not in line for line in lines)
    assert listening.told == [("epoch", done, 3, True) for done in (1, 1.5, 2, 2.5, 3)]


def test_a_shadow_model_tells_its_share():
    shares = []
    go_through(Epochs(2, shares.append))
    assert shares == [0, 0.25, 0.5, 0.75, 1]
    go_through(Epochs(2))
