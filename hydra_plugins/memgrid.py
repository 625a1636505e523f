"""What Hydra finds of memgrid: it looks for launchers and sweepers in this namespace, and takes them by the names that they have here.

Hydra imports this in every program that uses it, so that nothing heavy may be imported by it.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from memgrid.launch import queues, sweep


class SlurmLauncher(queues.SlurmLauncher):
    """`hydra/launcher=slurm`."""


class LocalLauncher(queues.LocalLauncher):
    """`hydra/launcher=local`."""


class Sweeper(sweep.Sweeper):
    """The sweeper of conf/run.yaml and conf/audit.yaml."""


for name, settings in (("memgrid_slurm", queues.SlurmSettings), ("memgrid_local", queues.LocalSettings)):
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=settings, provider="memgrid")
