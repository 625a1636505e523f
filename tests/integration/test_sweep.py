"""Sweeps: before one, all combinations are validated, and each leaves its configuration; two at a time share the work."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forks
import pytest
from cluster import wait_for
from conftest import FEWER, memgrid_here
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from job_callbacks import held
from omegaconf import OmegaConf

from memgrid.config.derive import members
from memgrid.config.names import run_folder, training_key
from memgrid.config.schema import RunConfig
from memgrid.config.validate import register, typed
from memgrid.io.paths import CONF
from memgrid.launch import sweep
from memgrid.launch.sweep import combinations
from memgrid.launch.tasks import Task, groups
from memgrid.pipeline.sweep import Runs
from memgrid.results.work import WorkFolder

PAPERS = ["pythia-12b-deduped", "pythia-6.9b-deduped", "pythia-2.8b-deduped"]
GRIDS = {
    "benchmark_taxonomies": (PAPERS, 60, 51),
    "optimize_rho": (PAPERS, 27, 27),
    "paper_in_small": (["toy"], 69, 54),  # with three that mean nothing
    "rho_in_small": (["toy"], 27, 27),
    "smoke": (["toy"], 18, 5),
}


SMALL = ("paper_in_small", "rho_in_small")


@functools.cache
def composed(*overrides):
    """A sweep's configuration and its runs, to be read only."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("run", overrides=list(overrides), return_hydra_config=True)
        return config, [run for _, run in combinations(config, Runs())]


@pytest.mark.parametrize("name", GRIDS)
def test_experiments_are_the_papers_grids(name):
    """Runs of one LLM as typed, and how many of them are trainings of their own."""
    llms, wanted, trainings = GRIDS[name]
    config, runs = composed(f"experiment={name}", f"llm={llms[0]}")
    assert config.hydra.sweeper.params.get("llm", "toy").split(",") == llms
    assert len(runs) == wanted
    assert len({training_key(run) for run in runs}) == trainings
    assert {run.llm.name for run in runs} == {llms[0]}
    if llms == PAPERS:
        papers = (4000, 2000, "raw", 3, 8)
        of = [(run.select.train_per_class, run.select.eval_per_class, run.cnn.scale, run.cnn.epochs, len(members(run.cnn))) for run in runs]
        assert set(of) == {papers}
        assert {tuple(run.corpus.splits) for run in runs} == {("memories_deduped_12b", "pile_deduped_12b")}


def test_smoke_is_a_corner_of_the_paper_in_small():
    """Its trainings are taken over by the two larger sweeps."""
    small, whole, rho = ({training_key(run) for run in composed(f"experiment={name}", "llm=toy")[1]} for name in ("smoke", *SMALL))
    assert small <= whole | rho
    assert small & whole
    assert small & rho


SWEPT = {"taxonomy": "rasy,recite", "delta": "5,50", "rho": "0.3,1", "seed": "0,7"}


def swept(*words):
    """The runs that -m has with these words."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = GlobalHydra.instance().config_loader().load_configuration("run", list(words), run_mode=RunMode.MULTIRUN)
        return [run for _, run in combinations(config, Runs())]


def test_combinations_that_share_their_composition_are_those_that_are_composed_alone():
    """Each of a sweep's numbers, in both taxonomies: 16 runs, of which two are composed."""
    together = swept(*map("=".join, SWEPT.items()))
    some = [("recite", "5", "1", "7"), ("rasy", "50", "0.3", "0")]
    alone = [composed(*map("=".join, zip(SWEPT, values, strict=True)))[1][0] for values in some]
    assert len(together) == 16
    assert all(run in together for run in alone)
    assert len({repr(run) for run in together}) == 16
    assert all(isinstance(run.rho, float) and isinstance(run.delta, int) for run in together)


def test_what_a_file_makes_from_a_number_is_made_for_each(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nselect: {train_per_class: '${delta}00'}\n")
    runs = swept("delta=5,6", f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine")
    assert [run.select.train_per_class for run in runs] == [500, 600]


def test_a_long_composition_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sweep, "SILENT_SECONDS", 0.0)
    assert len(swept("taxonomy=rasy,recite,guess")) == 3
    told = capsys.readouterr().err
    assert told.startswith("memgrid: 3 combinations are composed, in about ")
    assert told.count("\n") == 1


def test_the_papers_grid_on_a_cluster():
    """The sentences of the README, and how many jobs each becomes."""
    given = ("experiment=benchmark_taxonomies", "cluster=a100")
    parts = ("stages=[extract]", "+hydra.sweeper.params.part='range(0,8)'", "parts=8")
    for more, jobs in (((), 153), (("stages=[label,plan]",), 3), (parts, 24)):
        config, runs = composed(*given, *more)
        assert len(groups([Task(number, [], run) for number, run in enumerate(runs)], Runs())) == jobs
    asked = config.hydra.launcher
    assert (asked.gres, asked.account, asked.max_array_size, asked.max_num_timeout) == ("gpu:a100:1", "my-project", 1000, 20)
    assert {run.trainer.accelerator for run in runs} == {"gpu"}


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "cluster").glob("*.yaml")))
def test_every_cluster_is_usable(name):
    config, _ = composed(f"cluster={name}", "hydra.launcher.partition=mine")
    assert config.hydra.launcher._target_.endswith("SlurmLauncher")
    assert config.hydra.launcher.partition == "mine"


def test_the_command_line_wins_over_the_experiment():
    _, runs = composed("experiment=benchmark_taxonomies", "llm=toy", "corpus=toy", "delta=7", "taxonomy=rasy")
    assert [(run.llm.name, run.corpus.name, run.taxonomy.name, run.delta) for run in runs] == [("toy", "toy", "rasy", 7)]


def test_a_bad_combination_stops_the_sweep_before_it_starts(tmp_path, quick):
    process = memgrid_here(*quick, f"root={tmp_path}", "rho=0.3,0.5,1.5", "-m", check=False)
    assert process.returncode == 1
    assert process.stderr.count("rho=1.5 is not a ROUGE threshold") == 1
    assert "nothing was started" in process.stderr
    assert "label" not in process.stdout
    assert not (tmp_path / "runs").exists()


def test_every_combination_leaves_its_configuration(extracted, quick):
    given = (*quick, *FEWER, f"root={extracted}", "taxonomy=recite", "delta=40,100000", "cnn.epochs=1")
    process = memgrid_here(*given, "-m", check=False)
    assert process.returncode == 1
    left = sorted(path.parent.name.split("-")[0] for path in extracted.glob("runs/toy/recite/*/config.yaml"))
    assert left == ["delta100000", "delta40"]
    (config,) = extracted.glob("runs/toy/recite/delta40-*/config.yaml")
    again = typed(OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(config)))
    assert run_folder(again) == config.parent
    (failed,) = extracted.glob("runs/toy/recite/delta100000-*/failed.json")
    assert "class 'Recite' has 0 samples" in failed.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["finishes", "is killed"])
def test_the_same_sweep_in_two_terminals_is_done_once(first, extracted, quick, tmp_path):
    """The second goes on with what the first does not do, and waits for the rest; if the first dies, the second does that too."""
    (hold := tmp_path / "hold").mkdir()
    words = ("-m", *quick, "cnn.epochs=3", "control.members=0", "seed=0,1", f"root={extracted}")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])}
    with (tmp_path / "said").open("w") as said:
        one = forks.Started(["-m", "memgrid.run", *words, held(hold)], env=env, stdout=said, stderr=said)

    def meanwhile():
        wait_for(lambda: list(extracted.glob("runs/*/*/*/metrics.json")), 400)
        (hold / "go").touch() if first == "finishes" else one.kill()

    try:
        wait_for(lambda: list(hold.iterdir()), 400)
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(meanwhile)
            two = memgrid_here(*words, check=False)
            ended.result()
        one.wait(400)
    finally:
        one.kill()
    assert two.returncode == 0, two.stdout + two.stderr
    assert two.stdout.count("another process is working on") == 1
    assert "waits for 1 runs on which other processes are working" in two.stdout
    assert two.stdout.count("min-F1") >= 2
    assert len(list(extracted.glob("runs/*/*/*/metrics.json"))) == 2
    assert not list(extracted.glob("runs/*/*/*/failed.json"))
    if first == "finishes":
        out = (tmp_path / "said").read_text()
        assert one.returncode == 0, out
        assert "epoch 2\n" in out


def test_a_run_that_another_process_does_is_refused_in_a_sentence(done_copy, quick):
    """Typed by itself, and not in a sweep."""
    (folder,) = done_copy.glob("runs/*/*/*")
    (folder / "metrics.json").unlink()
    with WorkFolder(folder).lock(0):
        process = memgrid_here(*quick, f"root={done_copy}", check=False)
    assert process.returncode == 1
    assert process.stderr == f"memgrid: another process is working on {folder}: wait for it, or stop it\n"
