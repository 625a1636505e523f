"""A small corpus cut out of the embedded one, a run folder with everything done on it once, and two ways to run memgrid."""

import gc
import io
import logging
import os
import random
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import forks
import numpy as np
import polars as pl
import pytest
import submitit  # noqa: F401
from filelock import FileLock
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hypothesis import settings
from job_callbacks import held
from painting import left_out

# submitit is imported above, before any test is collected: at its first import it configures logging, which closes the handlers that
# logging knows. rouge_score brings in absl, whose handler keeps pytest's stderr: it must not be there yet, whichever files a worker gets.

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if Path("/dev/nvidiactl").exists():  # a GPU computes other last bits, and what is tested here bit for bit is the CPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

from memgrid.config.schema import CorpusConfig, LLMConfig
from memgrid.errors import UserError
from memgrid.io.paths import TOY

sys.dont_write_bytecode = False  # what was compiled is kept for the other workers, for processes started here, and for the next time

NIGHT = os.environ.get("MEMGRID_NIGHT") == "1"  # no hurry: `.ci/run night` takes everything, where the day takes a part
# By day always the same examples, by night others; how long one takes says what else the machine does.
settings.register_profile("memgrid", deadline=None, derandomize=not NIGHT)
settings.load_profile("memgrid")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2)
PER_KIND = {"chunk": 170, "held_out": 100, "repeat": 52, "unseen_repeat": 26, "increment": 26, "unseen_increment": 26}
QUICK = (
    "cnn=single",
    "cnn.epochs=3",
    "select.train_per_class=32",
    "select.eval_per_class=20",
    "select.min_train_per_class=20",
    "select.min_eval_per_class=5",
    "trainer.progress=false",
    "trainer.threads=1",
    "wandb=off",
)
# Samples of a run that extracts its own, where it does not matter how many there are.
FEWER = ("select.train_per_class=10", "select.eval_per_class=6", "select.min_train_per_class=5", "select.min_eval_per_class=2")
# The stages after training, small.
CAUSES = (
    "localize.samples=6",
    "localize.sanity=2",
    "intervene.percent=[5,30]",
    "intervene.seeds=2",
    "intervene.samples=8",
    "intervene.ordinary=4",
    "intervene.layers_at=30",
    "intervene.unit=[positions,heads,layers]",
    "intervene.numbers=[1,6]",
)
# What the fixtures below call a root with finished runs.
FINISHED = {"done", "done_copy", "caused", "caused_copy", "twins", "twins_copy", "extracted"}
TWINS = ("cnn.epochs=2", "control.members=0", "delta=40")
# And as small as they can be, where it does not matter what they find.
LEAST = (
    *("localize.samples=2", "localize.sanity=0"),
    *("intervene.percent=[30]", "intervene.seeds=1", "intervene.samples=2", "intervene.ordinary=2", "intervene.layers_at=null"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--order", type=int, metavar="SEED", help="run the files of tests in a random order, which the seed decides")


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.getoption("order")
    return None if seed is None else f"files in the random order {seed}: again with --order={seed}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list) -> None:
    """Workers are forked from a process that has imported the large libraries, so that each need not import them."""
    for spec in specs:
        spec.python = shlex.join([sys.executable, forks.__file__])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that wait come first, then those that take long, so that none is left to one worker at the end; or a random order.

    Whoever needs a finished run is no unit test: those stay quick.
    """
    for item in items:
        if Path(__file__).parent / "unit" in item.path.parents and (asked := FINISHED.intersection(getattr(item, "fixturenames", ()))):
            raise pytest.UsageError(f"{item.nodeid} asks for {min(asked)}: a test of a finished run belongs into tests/integration")
    files = list(dict.fromkeys(item.path for item in items))
    if (seed := config.getoption("order")) is None:
        marked = {mark: {item.path for item in items if item.get_closest_marker(mark)} for mark in ("slurm", "slow")}
        files.sort(key=lambda path: (path not in marked["slurm"], path not in marked["slow"]))
    else:
        random.Random(seed).shuffle(files)
    place = {path: number for number, path in enumerate(files)}
    items.sort(key=lambda item: place[item.path])


def pytest_collection_finish() -> None:
    """What is imported stays until the end: the garbage collector need not look through it again and again.

    It runs seldom, too: tests leave so much behind that it would take a tenth of their time, and no memory is short.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def pytest_unconfigure() -> None:
    """As usual at the end: a library may tell on stderr what was never collected."""
    gc.unfreeze()


def pytest_runtest_setup() -> None:
    """Figures hold a font that is cut out once, from the first test on that may draw."""
    if "matplotlib.figure" in sys.modules and "fonts" not in sys.modules:
        import fonts

        fonts.cut_once()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[object]:
    """What a test does to the signals of this process, which those that it starts inherit, ends with it."""
    usual = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return (yield)
    finally:
        for number, handler in usual.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def memgrid(*arguments, module="run", cwd=None, check=True, env=None):
    """Run `python -m memgrid.<module>` in a process of its own; returns that when it has finished."""
    light = module in ("status", "tracking")  # those need none of the large libraries
    process = forks.run(
        ["-m", f"memgrid.{module}", *map(str, arguments)], cwd, {**os.environ, "COLUMNS": "160", **(env or {})}, light=light
    )
    assert not check or process.returncode == 0, process.stdout + process.stderr
    return process


def kill_in_the_middle(folder: Path, *arguments, sent: int = signal.SIGKILL) -> int:
    """Run `python -m memgrid.run` until `job_callbacks.Held` stops it, and kill it; returns its status. `folder` is for its marks."""
    folder.mkdir()
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    process = forks.Started(["-m", "memgrid.run", *arguments, held(folder)], env={**os.environ, "PYTHONPATH": path})
    while not list(folder.iterdir()) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(sent)
    return process.wait(300)


def refusal(function, *arguments) -> str:
    """The one sentence with which something is refused."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert ". " not in sentence
    return sentence


def memgrid_here(*arguments, module="run", cwd=None, check=True, env=None, seen=None):
    """The same in this process: `python -m memgrid.<module>` executes the same lines in the same way.

    Where the process itself is the point (its exit status, a kill, what it imports, how it is called), use `memgrid`. Figures are painted
    if they shall be seen: if nothing is said, those of reports, which are looked at.
    """
    out, err = io.StringIO(), io.StringIO()
    words = [f"memgrid.{module}", *map(str, arguments)]
    with (
        as_a_fresh_process(err),
        left_out(not (module == "report" if seen is None else seen)),
        mock.patch.dict(os.environ, {"COLUMNS": "160", **(env or {})}),
        mock.patch.object(sys, "argv", words),
        chdir(cwd or Path.cwd()),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if not isinstance(end.code, int | None):
                print(end.code, file=err)
        except Exception:
            traceback.print_exc(file=err)
            status = 1
    process = subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
    assert not check or process.returncode == 0, process.stdout + process.stderr
    return process


@contextmanager
def as_a_fresh_process(err: io.StringIO) -> Iterator[None]:
    """What frameworks keep for the life of a process is as at its start, and afterwards as it was; memgrid keeps nothing.

    That is Hydra's configuration, Python's warnings (told once per line of code, on stderr) and logging, torch's threads and determinism,
    and the states of the random numbers.
    """

    import torch

    def shown(message, category, filename, lineno, file=None, line=None):
        err.write(warnings.formatwarning(message, category, filename, lineno, line))

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    numbers, python_numbers = np.random.get_state(), random.getstate()  # noqa: NPY002
    level, handlers = logging.root.level, logging.root.handlers[:]
    try:
        # Hydra shuts down every handler that logging knows of, and some would close the stream that pytest captures.
        with mock.patch.object(logging, "_handlerList", []), warnings.catch_warnings(), torch.random.fork_rng():
            warnings.resetwarnings()
            for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", category)
            warnings.filterwarnings("ignore", ".*found in sys.modules.*", RuntimeWarning)  # imported here before: runpy frowns
            warnings.showwarning = shown
            yield
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(python_numbers)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def made_once(name: str, make: Callable[[Path], object], factory: pytest.TempPathFactory) -> Path:
    """A folder that is filled once for all workers of pytest-xdist; nobody may write into it afterwards."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, mark = base / name, base / f".{name}-made"
    with FileLock(base / f".{name}-lock"):
        if not mark.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            mark.touch()
    return folder


@pytest.fixture(scope="session")
def toy_lm():
    from memgrid.lm.load import load_language_model

    return load_language_model(LLMConfig(name="toy", path=None))


@pytest.fixture(scope="session")
def mini(tmp_path_factory) -> Path:
    """A folder with sequences of every kind from the embedded corpus, and its documents."""

    def make(folder: Path) -> None:
        table = pl.read_parquet(TOY / "sequences.parquet")
        parts = [table.filter(pl.col("kind") == kind).sample(count, seed=0) for kind, count in PER_KIND.items()]
        pl.concat(parts).sort("sequence_id").write_parquet(folder / "sequences.parquet")
        (folder / "documents.parquet").symlink_to(TOY / "documents.parquet")

    return made_once("mini", make, tmp_path_factory)


def scored(lm, corpus):
    """Which sequences of a corpus a model continues word for word, and how sure it is."""
    scores = [lm.score(part, corpus.k) for part in np.array_split(corpus.tokens, 8)]
    return np.concatenate([s.memorized for s in scores]), np.concatenate([s.confidence for s in scores])


def every(step, corpus, folder):
    """Write one of so many sequences of a corpus, spread over all of it, into another folder; returns that."""
    pl.read_parquet(corpus / "sequences.parquet").gather_every(step).write_parquet(folder / "sequences.parquet")
    return folder


@pytest.fixture(scope="module")
def some(mini, tmp_path_factory):
    """A folder with a hundred sequences of the embedded corpus, of all kinds."""
    return every(4, mini, tmp_path_factory.mktemp("some"))


@pytest.fixture(scope="module")
def embedded(some):
    """Their corpus."""
    from memgrid.corpus.corpus import load_corpus

    return load_corpus(CorpusConfig(name="some", path=str(some)))


@pytest.fixture(scope="module")
def judged(embedded, toy_lm):
    """What the embedded model makes of them, as `scored`."""
    return scored(toy_lm, embedded)


@pytest.fixture(scope="session")
def quick(mini) -> tuple[str, ...]:
    """Overrides for a run that takes seconds."""
    return ("corpus=tables", "corpus.name=mini", f"corpus.path={mini}", *QUICK)


@pytest.fixture
def few(some) -> tuple[str, ...]:
    """Further overrides, for a run on a hundred sequences and no documents: where labels are computed, that takes a second."""
    return ("corpus.name=some", f"corpus.path={some}", *FEWER)


@pytest.fixture(scope="session")
def done(tmp_path_factory, quick) -> Path:
    """A root in which one quick run is finished, by a process of its own. To read from only: all workers share it."""
    return made_once("done", lambda root: memgrid(*quick, f"root={root}", "wandb=offline"), tmp_path_factory)


@pytest.fixture
def done_copy(done, tmp_path) -> Path:
    """A root of the test's own in which the run of `done` is finished."""
    return shutil.copytree(done, tmp_path / "done", ignore=shutil.ignore_patterns(".lock"), symlinks=True)


@pytest.fixture(scope="session")
def caused(done, tmp_path_factory, quick) -> Path:
    """A root in which the run of `done` is localized and intervened on. To read from only."""

    def make(root: Path) -> None:
        shutil.copytree(done, root, ignore=shutil.ignore_patterns(".lock"), symlinks=True, dirs_exist_ok=True)
        memgrid_here(*quick, *CAUSES, f"root={root}", "stages=[localize,intervene]", seen=True)

    return made_once("caused", make, tmp_path_factory)


@pytest.fixture
def caused_copy(caused, tmp_path) -> Path:
    """A root of the test's own in which the run of `caused` is done."""
    return shutil.copytree(caused, tmp_path / "caused", ignore=shutil.ignore_patterns(".lock"), symlinks=True)


@pytest.fixture(scope="session")
def twins(done, tmp_path_factory, quick) -> Path:
    """A root in which the runs of `TWINS` are finished: two equal partitions, of which one was trained. To read from only."""

    def make(root: Path) -> None:
        for name in ("attention", "labels"):
            shutil.copytree(done / name, root / name)
        for taxonomy in ("recite", "recollect"):
            told = memgrid_here(*quick, *TWINS, f"root={root}", f"taxonomy={taxonomy}").stdout
            (root / f"{taxonomy}.out").write_text(told)

    return made_once("twins", make, tmp_path_factory)


@pytest.fixture
def twins_copy(twins, tmp_path) -> Path:
    """A root of the test's own in which the runs of `twins` are done."""
    return shutil.copytree(twins, tmp_path / "twins", ignore=shutil.ignore_patterns(".lock"), symlinks=True)


@pytest.fixture
def extracted(done, tmp_path) -> Path:
    """A root of the test's own with the labels and the attention of `done`, but no run."""
    for name in ("attention", "labels"):
        shutil.copytree(done / name, tmp_path / "extracted" / name)
    return tmp_path / "extracted"


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    """A real browser for the pages of a file of tests; see tests/browser.py."""
    from browser import browser

    with browser(tmp_path_factory.mktemp("downloads")) as opened:
        yield opened
