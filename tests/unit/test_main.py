"""`memgrid <command>`: which command is started, and with which words."""

import runpy
import subprocess
import sys

import pytest

from memgrid import __version__
from memgrid.__main__ import main
from memgrid.io.commands import COMMANDS, MODULES, refuse_other_modules


@pytest.fixture
def started(monkeypatch):
    """Which modules were started as commands, and what was on the command line then."""
    calls = []
    monkeypatch.setattr(runpy, "run_module", lambda name, **how: calls.append((name, sys.argv[1:], how)))
    return calls


def type_words(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["memgrid", *words])
    main()


@pytest.mark.parametrize(
    ("words", "module", "rest"),
    [
        ([], "run", []),
        (["taxonomy=rasy", "rho=0.5", "-m"], "run", ["taxonomy=rasy", "rho=0.5", "-m"]),
        (["-m", "taxonomy=rasy"], "run", ["-m", "taxonomy=rasy"]),
        (["--config-dir", "mine", "taxonomy=mine"], "run", ["--config-dir", "mine", "taxonomy=mine"]),
        (["+new=3"], "run", ["+new=3"]),
        (["~cluster"], "run", ["~cluster"]),
        (["hydra/launcher=local"], "run", ["hydra/launcher=local"]),
        (["run", "rho=0.5"], "run", ["rho=0.5"]),
        (["taxonomy=rasy", "--help"], "run", ["taxonomy=rasy", "--help"]),
        (["store", "verify", "root=a"], "store", ["verify", "root=a"]),
        *(([name, "--help"], MODULES.get(name, name), ["--help"]) for name in COMMANDS),
    ],
)
def test_the_first_word_is_the_command_or_it_is_a_run(words, module, rest, started, monkeypatch):
    type_words(monkeypatch, *words)
    assert started == [(f"memgrid.{module}", rest, {"run_name": "__main__", "alter_sys": True})]


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_command_with_a_line(word, started, monkeypatch, capsys):
    type_words(monkeypatch, word)
    shown = capsys.readouterr().out
    assert all(any(line.split()[:1] == [name] and does in line for line in shown.splitlines()) for name, does in COMMANDS.items())
    assert "Examples:" in shown
    assert started == []


def test_help_is_a_command_too(started, monkeypatch, capsys):
    type_words(monkeypatch, "help")
    assert capsys.readouterr().out.startswith("memgrid: does a language model guess")
    assert started == []


def test_the_version(started, monkeypatch, capsys):
    type_words(monkeypatch, "--version")
    assert capsys.readouterr().out == f"memgrid {__version__}\n"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "statsu",
            "statsu is no command: use run, status, report, audit, trace, export, store, tracking or pretrain, or key=value for a run",
        ),
        ("taxonomy", "taxonomy is no command"),
        ("train", "train is no command"),
    ],
)
def test_another_word_is_refused_in_one_sentence(word, told, started, monkeypatch):
    with pytest.raises(SystemExit) as end:
        type_words(monkeypatch, word, "rho=0.5")
    assert str(end.value).startswith(f"memgrid: {told}")
    assert started == []


@pytest.mark.parametrize(
    "module", ["memgrid", "memgrid.__main__", "-mmemgrid.run", *(f"memgrid.{name}" for name in COMMANDS if name not in MODULES)]
)
def test_commands_may_be_started_as_modules(module):
    refuse_other_modules(module)
    refuse_other_modules(f"{module}.__main__".replace("__main__.__main__", "__main__"))


@pytest.mark.parametrize("module", ["memgrid.pipeline", "memgrid.pipeline.plan", "memgrid.audit.run", "memgrid.nowhere", "-mmemgrid.train"])
def test_other_modules_may_not(module, capsys):
    with pytest.raises(SystemExit) as end:
        refuse_other_modules(module)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"memgrid: {module.removeprefix('-m')} is no command: ")


@pytest.mark.parametrize("name", MODULES)
def test_a_command_without_a_module_of_its_name_says_how_it_is_typed(name, capsys):
    with pytest.raises(SystemExit) as end:
        refuse_other_modules(f"memgrid.{name}")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"memgrid: memgrid.{name} is no command: python -m memgrid {name} is\n"


@pytest.mark.parametrize("name", ["mypackage.script", "memgrid_extra", "memgridder.tool"])
def test_other_packages_are_left_alone(name, tmp_path):
    """A program of somebody's own that imports memgrid while Python looks for it."""
    package, _, module = name.partition(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("import memgrid\n")
    (tmp_path / package / f"{module or '__main__'}.py").write_text("print('mine')\n")
    process = subprocess.run([sys.executable, "-m", name], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert (process.returncode, process.stdout) == (0, "mine\n"), process.stderr
