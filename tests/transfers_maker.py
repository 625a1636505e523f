"""Records of transfers between made-up runs, through the real functions."""

import numpy as np

from memgrid.config.names import called
from memgrid.results.folder import RunFolder
from memgrid.results.transfers.record import PANEL, SourceRun, TransferRecord
from memgrid.results.transfers.sources import inputs_of
from memgrid.train.transfer.comparison import PERMUTATIONS, Asked, corrected, transfer_of

EACH = 20


def said(random, labels, weight, members=2):
    """Probabilities that lean to the true class by a weight, float (members, n, classes)."""
    classes = int(labels.max()) + 1
    leaned = random.dirichlet(np.ones(classes), (members, len(labels))) + weight * np.eye(classes)[labels]
    return leaned / leaned.sum(-1, keepdims=True)


def made_record(run, sources, weight=1.0, layers=6, remark="", known=0):
    """What would come of trying made-up sources on a made-up run, each a `runs_maker.Run`; `weight` is how much they know."""
    classes = len(run.classes)
    asked = Asked(np.repeat(np.arange(classes), EACH), np.arange(EACH * classes), np.arange(classes), run.seed)
    random = np.random.default_rng(run.seed)
    names = {PANEL: 2, "linear-mean": 1, "tokens": 1, "together": 1}
    own = {name: said(random, asked.labels, 1.0, members) for name, members in names.items()}
    transfers = []
    for source in sources:
        theirs = {name: said(random, asked.labels, weight, members) for name, members in names.items()}
        theirs, mine = ({name: found if name == PANEL else found[0] for name, found in both.items()} for both in (theirs, own))
        settings = source.settings
        named = SourceRun(
            source.folder.relative_to(source.runs).as_posix(),
            f"{called(settings['llm'])} · rasy · seed {source.seed}",
            called(settings["llm"]),
            "",
            settings["corpus"]["name"],
            settings["taxonomy"]["name"],
            source.seed,
            layers,
        )
        transfers.append(transfer_of(named, asked, [known] * classes, theirs, mine, {}, remark))
    inputs = inputs_of([source.folder for source in sources], run.folder)
    return TransferRecord({"from": ["*/rasy/*"]}, inputs, run.classes, 6, PERMUTATIONS, corrected(transfers))


def add_transfer(run, sources, **options):
    """Leave the record of a transfer in the folder of a finished run; returns it."""
    record = made_record(run, sources, **options)
    RunFolder(run.folder).write_record(record)
    return record
