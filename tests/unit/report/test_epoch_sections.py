"""How networks learned: the curves say what the epochs on disk say, of the best setting first."""

import numpy as np
import pytest
from painting import left_out
from runs_maker import Run, finish, rewrite

from memgrid.metrics.scores import scores
from memgrid.report.__main__ import PAIR
from memgrid.report.epochs.section import SHOWN, by_epoch, panels_of, section
from memgrid.report.figures.curves import draw_over_epochs
from memgrid.report.report import gather
from memgrid.results.folder import RunFolder
from memgrid.results.result import MemberEpoch

COUNTS = [[30, 20, 10], [5, 50, 5], [0, 10, 50]]


def epochs_of(number, members=("a", "b")):
    """Made-up epochs: the second network is better."""
    better = 9 * np.eye(3, dtype=int)
    return [
        MemberEpoch(epoch, member, 1.0 / (epoch + 1 + at), 1.1 / (epoch + 1 + at), (np.array(COUNTS) + at * better).tolist())
        for epoch in range(number)
        for at, member in enumerate(members)
    ]


def report_of(root):
    return gather(root, root / "report", PAIR)


def test_means_and_ends_over_networks():
    row = by_epoch(epochs_of(2)).row(1, named=True)
    assert row["epoch"] == 2
    assert row["train_loss"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert (row["eval_loss_low"], row["eval_loss_high"]) == pytest.approx((1.1 / 3, 1.1 / 2))
    assert row["min_f1_low"] == pytest.approx(scores(np.array(COUNTS))["min_f1"])
    loss, score = panels_of(by_epoch(epochs_of(3)))
    assert [curve.name for curve in loss.curves] == ["eval samples", "train samples"]
    assert list(score.curves[0].at) == [1, 2, 3]


def test_the_best_setting_and_undertrained_ones_are_shown(tmp_path):
    with left_out(True):
        for number, taxonomy in enumerate(("rasy", "prashanth", "recite", "code", "guess")):
            folder = finish(Run(tmp_path, taxonomy=taxonomy, delta=5))
            RunFolder(folder).write_epochs(epochs_of(4))
            if number:
                rewrite(folder, training=[{"train_loss": 1.0, "probe_loss": 0.1, "answers": 3}])
        report = report_of(tmp_path)
        made = section(report)
    assert len(made.parts) == SHOWN
    assert made.parts[0].title == f"Over the epochs: {report.ranked()['label'][0]}"
    assert [part.pdf for part in made.parts] == ["figures/epochs.pdf", "figures/epochs-2.pdf", "figures/epochs-3.pdf"]


def test_runs_that_kept_no_epochs(tmp_path):
    finish(Run(tmp_path))
    made = section(report_of(tmp_path))
    assert (made.parts, made.fill) == ([], ("force=true",))


def test_one_epoch_can_be_drawn(tmp_path):
    draw_over_epochs(panels_of(by_epoch(epochs_of(1))), tmp_path / "one")
    assert (tmp_path / "one.png").stat().st_size > 5000
