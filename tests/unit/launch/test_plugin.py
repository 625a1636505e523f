"""What Hydra finds of memgrid, in every program that uses it."""

import pickle
import subprocess
import sys

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf

from memgrid.io.paths import CONF
from memgrid.launch.queues import LocalSettings, SlurmSettings

HEAVY = ("torch", "transformers", "pytorch_lightning", "submitit", "polars", "wandb", "sklearn", "matplotlib", "pandas", "h5py", "scipy")


def ours(plugin):
    return plugin.__module__ == "hydra_plugins.memgrid"


def test_hydra_finds_the_launchers_and_the_sweeper_under_the_names_in_the_configuration():
    found = {f"{plugin.__module__}.{plugin.__name__}" for kind in (Launcher, Sweeper) for plugin in Plugins.instance().discover(kind)}
    named = {LocalSettings._target_, SlurmSettings._target_, OmegaConf.load(CONF / "run.yaml").hydra.sweeper._target_}
    assert named == {f"hydra_plugins.memgrid.{name}" for name in ("LocalLauncher", "SlurmLauncher", "Sweeper")}
    assert named <= found
    assert OmegaConf.load(CONF / "audit.yaml").hydra.sweeper._target_ in named


def test_a_job_can_be_given_the_launcher_that_hydra_makes():
    (launcher,) = [plugin for plugin in Plugins.instance().discover(Launcher) if plugin.__qualname__ == "LocalLauncher" and ours(plugin)]
    assert pickle.loads(pickle.dumps(launcher)) is launcher


def test_every_key_of_the_launchers_files_is_one_of_their_settings():
    for name, settings in (("local", LocalSettings), ("slurm", SlurmSettings)):
        given = OmegaConf.load(CONF / "hydra" / "launcher" / f"{name}.yaml")
        del given["defaults"]
        OmegaConf.merge(OmegaConf.structured(settings), given)


def test_other_programs_that_use_hydra_pay_little_for_it():
    code = "import sys, hydra_plugins.memgrid; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert set(HEAVY) & set(process.stdout.split()) == set()
