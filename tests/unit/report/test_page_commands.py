"""Commands on the page: typed as they are, they make the row that they stand beside."""

import shlex

import pytest
from runs_maker import Run, finish
from settings_maker import composed

from memgrid.config.names import run_folder
from memgrid.report.__main__ import PAIR
from memgrid.report.read import finished_runs
from memgrid.report.report import gather
from memgrid.report.rows import named, ranking_rows
from memgrid.report.shell.commands import Commands

ROOT = "a root"  # a shell needs quotes for it


def commands_of(root):
    """The command of every row by its label."""
    commands = Commands(root)
    return {row.label: commands.of_row(row) for row in ranking_rows(named(finished_runs(root)))}


def made_by(command):
    """The folders of the runs that a command makes, composed as Hydra does."""
    program, *words = shlex.split(command)[2:]
    assert program == "memgrid.run"
    choices = [[]]
    for word in (word for word in words if word != "-m"):
        key, _, value = word.partition("=")
        values = value.split(",") if "-m" in words and value[:1] not in "['{" else [value]
        choices = [[*before, f"{key}={each}"] for before in choices for each in values]
    return {run_folder(composed(*choice)) for choice in choices}


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        ((), {}),
        ((), {"taxonomy": "recite", "delta": 1000}),
        ((), {"taxonomy": "prashanth", "delta": 5}),
        ((), {"rho": 0.3, "rouge": "l"}),
        (("cnn=single", "cnn.epochs=3"), {}),
        (("llm=tiny_random",), {"llm": "tiny_random"}),
        (("llm=hf", "llm.name=mine", "llm.path=/models/m", "llm.revision=step1"), {"llm": "mine"}),
        (("select.non_memorized=matched",), {"seed": 3}),
        ((), {"compat": "paper", "taxonomy": "recite", "delta": 5}),
    ],
)
def test_a_rows_command_makes_its_runs_and_no_others(tmp_path, overrides, changes):
    root = tmp_path / ROOT
    overrides = (*overrides, f"compat={changes['compat']}") if "compat" in changes else overrides
    run = Run(root, overrides=overrides, **changes)
    finish(run)
    (command,) = commands_of(root).values()
    assert made_by(command) == {run.folder}


def test_models_and_seeds_of_a_row_are_one_command(tmp_path):
    runs = [Run(tmp_path, llm, seed=seed, overrides=(f"llm={llm}",)) for llm in ("toy", "tiny_random") for seed in (0, 2)]
    for run in runs:
        finish(run)
    (command,) = commands_of(tmp_path).values()
    assert command == f"python -m memgrid.run -m llm=tiny_random,toy root={tmp_path} seed=0,2"
    assert made_by(command) == {run.folder for run in runs}


def test_models_of_ones_own_have_a_line_each(tmp_path):
    for name in ("a", "b"):
        finish(Run(tmp_path, name, overrides=("llm=hf", f"llm.name={name}", f"llm.path=/models/{name}")))
    (command,) = commands_of(tmp_path).values()
    assert [f"llm.path=/models/{name}" in line for name, line in zip("ab", command.splitlines(), strict=True)] == [True, True]


def test_a_taxonomy_of_ones_own_needs_its_folder(tmp_path):
    finish(Run(tmp_path))
    assert "--config-dir" not in commands_of(tmp_path)["Non-Memo, Guess, Recall"]
    run = named(finished_runs(tmp_path))[0]
    run.settings["taxonomy"]["name"] = "mine"
    command = Commands(tmp_path).fill(run, ["force=true"])
    assert command.startswith("python -m memgrid.run '--config-dir=<the folder with taxonomy/mine.yaml>' taxonomy=mine ")


def test_what_fills_a_section_takes_the_place_of_the_runs_own_words(tmp_path):
    root = tmp_path / ROOT
    finish(Run(root, overrides=("llm=tiny_random", "cnn.epochs=3", "control.members=0"), llm="tiny_random", seed=4))
    report = gather(root, root / "report", PAIR)
    fill = report.commands.fill
    start = "python -m memgrid.run "
    assert fill(report.best, ["control.members=1"]) == f"{start}llm=tiny_random cnn.epochs=3 'root=\"{root}\"' seed=4 control.members=1"
    assert fill(report.best, ["-m", "experiment=transfer"]) == f"{start}-m experiment=transfer llm=tiny_random 'root=\"{root}\"'"


def test_a_run_without_its_settings_has_no_command_of_its_own(tmp_path):
    folder = finish(Run(tmp_path))
    (folder / "config.yaml").unlink()
    assert list(commands_of(tmp_path).values()) == [""]
    run = named(finished_runs(tmp_path))[0]
    assert Commands(tmp_path).fill(run, ["force=true"]) == f"python -m memgrid.run force=true root={tmp_path}"


def test_an_interval_of_one_network_is_not_called_one_over_trainings(tmp_path):
    finish(Run(tmp_path, overrides=("cnn=single",)))
    finish(Run(tmp_path, taxonomy="recite"))
    said = dict(gather(tmp_path, tmp_path / "report", PAIR).ranked().select("variant", "said").iter_rows())
    alone = [told for variant, told in said.items() if "cnn.members" in variant]
    assert len(alone) == 1 < len(said)
    assert "over samples, of the only CNN" in alone[0]
    assert all("over trainings and samples" in told for told in said.values() if told not in alone)
