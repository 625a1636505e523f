"""Every file of a finished run that a later step reads says what its bytes are, and none is for the world."""

import re

from memgrid.io.checkpoints import beside, load
from memgrid.io.digests import is_sound

# What no later step reads, and what is summed in another way, each tested where it is written.
NOT_READ = re.compile(r"figures/|wandb/|/\.[^/]*lock$|\.lock$|/damaged/|\.trainings/")


SUMMED = re.compile(r"attention/.*\.h5$|localize-\w+\.h5$|\.ckpt\.sha256$")


def test_every_file_is_sealed(caused):
    sealed = set()
    for path in caused.rglob("*"):
        name = path.relative_to(caused).as_posix()
        if not path.is_file() or NOT_READ.search(name) or SUMMED.search(name):
            continue
        if path.suffix == ".ckpt":
            assert beside(path).is_file(), name
            load(path)
        else:
            assert is_sound(path.read_bytes(), old=False), f"{name} has no digest"
        sealed.add(path.name)
    named = {"metrics.json", "samples.parquet", "epochs.parquet", "predictions.parquet", "baselines.parquet", "config.yaml", "last.ckpt"}
    assert named | {"intervene.json", "intervene.parquet", "localize-guided.json", "memorized.parquet", "duplicates.parquet"} <= sealed


def test_nothing_of_a_run_is_readable_by_the_world(caused):
    modes = {path.relative_to(caused).as_posix(): path.stat().st_mode & 0o007 for path in caused.rglob("*") if path.is_file()}
    written = {name: mode for name, mode in modes.items() if not re.search(r"wandb/|lock$", name)}
    assert {name for name, mode in written.items() if mode} == set()
