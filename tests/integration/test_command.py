"""`memgrid` as a user types it: what is printed, the exit status, and what is not imported."""

import os
import subprocess
import sys
from pathlib import Path

import forks
import pytest
from conftest import NIGHT, memgrid

from memgrid.io.commands import COMMANDS, MODULES

HEAVY = {"torch", "transformers", "pytorch_lightning", "torchmetrics", "captum"}
PATH = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
# What a process had imported when it ended: the names of heavy packages, as the last line on stderr.
SPY = f"""
import atexit, sys
atexit.register(lambda: print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr))
"""

# What is typed by day as users do, in a new interpreter; all else in one that starts in a moment, and tells as well what it imports.
TYPED = {("--help",), ("run", "--help"), ("status", "--help"), ("statsu",), ("run", "rho=7"), ("store", "verfy"), ("-m", "rho=0.5,7")}


def typed(*words, cwd=None, env=None):
    """Run `python <words>`, with this memgrid, whichever is installed."""
    environment = {**os.environ, "COLUMNS": "160", "PYTHONPATH": PATH, **(env or {})}
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def typed_again(*words, cwd=None, env=None, light=True):
    """The same in a process that starts in a moment, and has imported more than one that a user starts: if it is light, nothing heavy."""
    return forks.run(words, cwd, {**os.environ, "COLUMNS": "160", "PYTHONPATH": PATH, **(env or {})}, light=light)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The console script, as pip would install it."""
    path = tmp_path_factory.mktemp("bin") / "memgrid"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nfrom memgrid.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def spy(tmp_path_factory):
    """An environment in which every process tells which heavy packages it imported."""
    folder = tmp_path_factory.mktemp("spy")
    (folder / "sitecustomize.py").write_text(SPY)
    return {"PYTHONPATH": os.pathsep.join((str(folder), PATH))}


@pytest.mark.parametrize("words", [("--help",), ("--version",), *((name, "--help") for name in COMMANDS), ("status", "-h")])
def test_help_ends_with_0_and_is_the_same_in_each_way_to_type_it(words, script, spy):
    shown = (typed if NIGHT or words in TYPED else typed_again)("-m", "memgrid", *words, env=spy)
    assert (shown.returncode, shown.stderr) == (0, "[]\n")
    ways = [(script, *words)]
    if not words[0].startswith("-") and words[0] not in MODULES:
        ways += [("-m", f"memgrid.{words[0]}", *words[1:])]
    for way in ways:
        again = typed_again(*way, env=spy)
        assert (again.returncode, again.stdout, again.stderr) == (0, shown.stdout, "[]\n")
    assert len(shown.stdout) > 10


@pytest.mark.parametrize(
    "words",
    [
        ("statsu",),
        ("status", "rot=x"),
        ("status", "root=nowhere"),
        ("report", "rot=x"),
        ("report", "root=nowhere"),
        ("store", "verfy"),
        ("trace", "nowhere", "1"),
        ("tracking", "push"),
        ("run", "taxonmy=rasy"),
        ("run", "rho=7"),
        ("rho=7",),
        ("audit", "shadws=4"),
        ("audit", "shadows=7"),
        ("-m", "rho=0.5,7"),
        ("-m", "llm=hf", "llm.name=x", "llm.path=/nowhere", "seed=0,1"),
        ("corpus=text", "corpus.name=x", "corpus.path=/nowhere"),
        ("corpus=tables", "corpus.name=x", "corpus.path=/nowhere"),
        ("corpus=semantic_filters", "llm=pythia-70m", "corpus.path=/nowhere"),
        ("llm=hf", "llm.name=x", "llm.path=/nowhere"),
        ("taxonomy=counterfactual", "llm.reference=/nowhere/model"),
        ("stages=[label,extract,train,transfer]", "transfer.from=/nowhere"),
        ("--config-dir", "/nowhere"),
        ("audit", "dataset=digitz"),
        ("audit", "dataset=arrays", "dataset.path=/nowhere.npz"),
        ("audit", "canary=ood", "canary.path=/nowhere"),
        ("status", "watch=0"),
        ("pretrain", "documents=none"),
        ("pretrain", "widows=3"),
    ],
)
def test_a_refusal_is_one_sentence_and_1_and_imports_nothing_heavy(words, script, spy, tmp_path):
    process = (typed if NIGHT or words in TYPED else typed_again)(script, *words, cwd=tmp_path, env=spy)
    sentence, imported = process.stderr.splitlines()
    assert process.returncode == 1
    assert sentence.startswith("memgrid: ")
    assert imported == "[]"
    assert process.stdout == ""
    assert list(tmp_path.iterdir()) == []
    own = words[0] in COMMANDS and words[0] not in MODULES
    again = typed_again("-m", f"memgrid.{words[0]}" if own else "memgrid", *(words[1:] if own else words), cwd=tmp_path, env=spy)
    assert (again.returncode, again.stderr) == (process.returncode, process.stderr)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("stages=[label,", "extract]"),
            "extract] is no key=value: write a list without spaces or in quotes, such as stages=[label,extract]",
        ),
        (("corpus.path=/a=b",), "corpus.path=/a=b cannot be read: give the value in quotes within quotes, 'corpus.path=\"/a=b\"'"),
        (("root=/x(1)",), "root=/x(1) cannot be read: give the value in quotes within quotes, 'root=\"/x(1)\"'"),
        (("root=~/mg",), "root=~/mg cannot be read: no shell replaces ~ there, so write root=$HOME/mg"),
        (("stages=train",), "stages=train is one word, and a list is wanted: write stages=[train]"),
        (("taxonmy=rasy",), "taxonmy is no setting of memgrid (did you mean taxonomy?): `memgrid run --help` lists them"),
        (("run", "status"), "status is no key=value, but a command of its own: write memgrid status"),
        (("--multirn", "seed=0,1"), "--multirn is no option (did you mean --multirun?): `--help` lists them"),
        (("-taxonomy=rasy",), "-taxonomy=rasy is no option (did you mean taxonomy=rasy?): `--help` lists them"),
        (("--config-dir", "/nowhere"), "--config-dir /nowhere is no folder: name the one in which <group>/<choice>.yaml is"),
        (("rouge=bot",), "rouge=bot is unknown: use both or l or 3 (did you mean both?)"),
        (
            ("stages=[lable]",),
            "stages=[lable]: lable is no stage, choose from fetch, label, plan, extract, train, localize, intervene, transfer "
            "(did you mean label?)",
        ),
    ],
)
def test_what_hydra_cannot_read_is_told_with_its_mend(words, told, script, tmp_path):
    process = typed_again(script, *words, cwd=tmp_path)
    assert (process.returncode, process.stderr) == (1, f"memgrid: {told}\n")


def test_the_words_in_quotes_are_read(script, tmp_path):
    process = typed_again(script, f'root="{tmp_path}/x(1)"', "stages=[fetch]", light=False)
    assert (process.returncode, process.stdout.split()[:1]) == (0, ["fetch"])
    assert (tmp_path / "x(1)").is_dir()


@pytest.mark.parametrize("module", ["memgrid.pipeline.plan", "memgrid.pipeline", "memgrid.train", "memgrid.errors", "memgrid.audit.run"])
@pytest.mark.parametrize("how", [("-m",), ("-W", "ignore", "-m")])
def test_a_module_that_is_no_command_says_so(module, how, tmp_path):
    process = typed(*how, module, "taxonomy=rasy", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith(f"memgrid: {module} is no command: python -m memgrid.<command> knows run, status, ")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("-c", "import memgrid.train, memgrid.pipeline.plan; print('imported')"),
        ("-m", "timeit", "-n1", "-r1", "import memgrid.pipeline.plan; print('imported')"),
        ("-c", "import multiprocessing, memgrid.errors; multiprocessing.get_context('spawn').Pool(1).map(print, ['imported'])"),
    ],
)
def test_others_that_import_a_module_are_left_alone(words):
    process = typed(*words) if "spawn" in words[-1] else typed_again(*words, light=False)
    assert process.returncode == 0, process.stderr
    assert "imported" in process.stdout


def test_hydras_own_options_still_work(script):
    assert "delta: 7" in typed(script, "run", "delta=7", "--cfg", "job").stdout.splitlines()
    assert "delta: 7" in typed(script, "delta=7", "--cfg", "job").stdout.splitlines()
    assert "--multirun" in typed(script, "--hydra-help").stdout
    assert "Config search path" in typed(script, "run", "--info", "searchpath").stdout


def test_a_finished_run_is_the_same_in_each_way_to_type_it(done_copy, quick, script, spy):
    ways = ((script,), (script, "run"), ("-m", "memgrid"), ("-m", "memgrid", "run"), ("-m", "memgrid.run"))
    shown = [(typed_again if at else typed)(*words, *quick, f"root={done_copy}", env=spy) for at, words in enumerate(ways)]
    assert "min-F1" in shown[0].stdout
    assert {(process.returncode, process.stdout, process.stderr) for process in shown} == {(0, shown[0].stdout, "[]\n")}


@pytest.mark.parametrize("name", ["status", "report", "store"])
def test_what_a_command_does_is_the_same_in_each_way_to_type_it(name, done_copy, script, spy):
    words = ["info", f"root={done_copy}/attention"] if name == "store" else [f"root={done_copy}"]
    first, second = typed(script, name, *words, env=spy), typed_again("-m", f"memgrid.{name}", *words)
    assert (first.returncode, first.stderr) == (0, "[]\n")
    assert (first.returncode, first.stdout, "") == (second.returncode, second.stdout, second.stderr)
    assert first.stdout == memgrid(*words, module=name).stdout


@pytest.mark.slow
@pytest.mark.parametrize("short", [True, False], ids=["memgrid -m", "memgrid run -m"])
def test_a_sweep_in_processes_of_their_own(short, extracted, quick, script):
    seeds = range(1 if short and not NIGHT else 2)  # a process that starts as a user's do takes five seconds to import what it needs
    grid = ("cnn.epochs=1", f"seed={','.join(map(str, seeds))}", "hydra/launcher=local")
    words = [script, *(() if short else ("run",)), "-m", *quick, f"root={extracted}", *grid]
    quickly = {**forks.WARM, "PYTHONPATH": os.pathsep.join((forks.WARM["PYTHONPATH"], PATH))}  # its jobs, once
    process = typed(*words, env=None if short else quickly)
    assert process.returncode == 0, process.stdout + process.stderr
    assert len(list(extracted.glob("runs/*/*/*/metrics.json"))) == len(seeds)
