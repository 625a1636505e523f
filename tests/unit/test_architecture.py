"""The house: its limits hold (`python -m benchmarks.house`), every config key does something."""

import ast
from collections.abc import Iterator

import pytest
from omegaconf import OmegaConf
from settings_maker import composed, raw

from benchmarks import house
from memgrid.config.names import run_folder
from memgrid.io.paths import PACKAGE

REPOSITORY = PACKAGE.parent


@pytest.fixture(scope="module")
def numbers():
    return {number.name: number for number in house.count(REPOSITORY)}


def test_the_limits_of_the_house_hold(numbers):
    assert [number for number in numbers.values() if not number.holds] == []


def test_the_layers_are_those_that_the_linter_holds(numbers):
    """What is counted by hand is what import-linter asks for, so that a broken contract is seen here too."""
    assert numbers["imports against the layers"].value == 0
    names = set().union(*house.layers(REPOSITORY))
    assert names >= {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}


# What a module may change beyond itself, because something outside of memgrid looks there, or remember, because it can never be another.
OF_THE_PROCESS = {
    "__main__.py sys.argv",  # what a command sees is what it would see by itself
    "audit/shadow/users.py sys.path",  # a network of the user's own may import its neighbours whenever it runs: for good
    "io/commands.py sys.stderr",  # the same
    "io/commands.py sys.stdout",  # where the process was started with it closed: for good
    "io/display.py warnings.showwarning",  # within catch_warnings, which puts it back
    "launch/cli.py os.environ",  # Hydra reads HYDRA_FULL_ERROR; put back
    "launch/cli.py sys.argv",  # hydra.main reads it; put back
    "launch/handover.py os.environ",  # submitit looks there for the folder of its jobs: for good
    "pipeline/sweep.py os.environ",  # the hub's library reads HF_HUB_OFFLINE when it is imported: for good
    "report/figures/style.py matplotlib.rcParams",  # within rc_context, which puts them back
    "tracking/log.py os.environ",  # wandb reads its settings there
}
PURE_CACHES = {
    "report/figures/causes/maps.py font_characters",
    "report/figures/style.py text_width",
    "report/settings/variants.py whole",
    "results/boundary.py adapter",
}
MUTATORS = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort", "update"}


def chain(node: ast.expr) -> list[str]:
    """`a.b[0].c` as a, b, c; empty if it does not start with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        names[:0] = [node.attr] if isinstance(node, ast.Attribute) else []
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []


def changed_by(node: ast.AST) -> Iterator[list[str]]:
    """What a statement or call changes in place, each as a chain of names."""
    targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else []
    targets = [*targets, *([node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else [])]
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple) else [target]:
            if isinstance(part, ast.Attribute | ast.Subscript):
                yield chain(part)
            elif isinstance(node, ast.AugAssign) and isinstance(part, ast.Name):
                yield [part.id]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        yield chain(node.func.value)


def bound(nodes: list[ast.stmt]) -> set[str]:
    """Names that statements bind, those within their functions and classes apart."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            names |= set(stored(node))
    return names


def stored(node: ast.AST) -> Iterator[str]:
    """Names that a statement assigns to; those of a comprehension are its own."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, ast.comprehension | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from stored(child)


def changes(node: ast.AST, outer: set[str], libraries: set[str]) -> Iterator[str]:
    """What code changes of the names in `outer`, which it does not bind itself; of a library, such as numpy, what it calls is no change."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        inner = bound(node.body) if not isinstance(node, ast.Lambda) else set()
        outer = outer - inner - {argument.arg for argument in every if argument is not None}
    for names in changed_by(node):
        if names and names[0] in outer and (len(names) > 1 or names[0] not in libraries):
            yield ".".join(names)
    for child in ast.iter_child_nodes(node):
        yield from changes(child, outer, libraries)


def remembered(node: ast.AST) -> Iterator[str]:
    """Functions and methods whose results are kept for the life of the process; a function made within another ends with it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = [part.func if isinstance(part, ast.Call) else part for part in child.decorator_list]
            if any(chain(part)[-1:] in (["cache"], ["lru_cache"]) for part in decorators):
                yield child.name
        elif isinstance(child, ast.ClassDef):
            yield from remembered(child)


def state_of(source: str) -> set[str]:
    """What a module keeps while the process runs: variables, constants that it changes, and what it remembers of its functions."""
    tree = ast.parse(source)
    libraries = bound([node for node in tree.body if isinstance(node, ast.Import)])
    variables = {name for name in bound([node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]) if name.islower()}
    kept = (
        {name for name in variables if not name.startswith("__")} | set(remembered(tree)) | set(changes(tree, bound(tree.body), libraries))
    )
    return kept | {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_keep_no_state(path):
    """What the runs of a process share lies in a `memgrid.launch.workspace.Workspace`, or in a ContextVar for as long as a `with`."""
    kept = {f"{path.relative_to(PACKAGE)} {name}" for name in state_of(path.read_text())}
    assert kept - OF_THE_PROCESS - PURE_CACHES == set()


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("failures: list[str] = []", {"failures"}),
        ("COUNT = 0\ndef f():\n    global COUNT\n    COUNT = 1", {"COUNT"}),
        ("SEEN = []\ndef f(x):\n    SEEN.append(x)", {"SEEN"}),
        ("SEEN = {}\ndef f(x):\n    SEEN[x] = 1", {"SEEN"}),
        ("SEEN = {}\ndef f(x):\n    def g():\n        SEEN.setdefault(x, []).append(1)", {"SEEN"}),
        ("from memgrid.launch.sweep import FAILURES\ndef f(x):\n    FAILURES.append(x)", {"FAILURES"}),
        ("class A:\n    def f(self):\n        A.started = self", {"A.started"}),
        ("import sys\nsys.argv[1:] = []", {"sys.argv"}),
        ("import os\ndef f():\n    os.environ.setdefault('A', '1')", {"os.environ"}),
        ("import warnings\ndef f():\n    warnings.showwarning = f", {"warnings.showwarning"}),
        ("@lru_cache(maxsize=2)\ndef f(x): ...", {"f"}),
        ("class A:\n    @functools.cache\n    def f(self): ...", {"f"}),
        ("LIMIT = {'a': 1}\nRows = list[int]\n__version__ = '1'", set()),
        ("SEEN = []\ndef f(SEEN):\n    SEEN.append(1)", set()),
        ("SEEN = []\ndef f():\n    SEEN = []\n    SEEN.append(1)", set()),
        ("import numpy as np\ndef f(x):\n    np.add(x, x)", set()),
        ("class A:\n    def __init__(self):\n        self.f = lru_cache(maxsize=2)(f)\n        self.rows = []", set()),
        ("MASK = ContextVar('mask')\ndef f(x):\n    MASK.set(x)", set()),
    ],
)
def test_state_is_found_where_it_is(source, kept):
    assert state_of(source) == kept


def leaves(config, prefix=""):
    for key, value in config.items():
        if OmegaConf.is_dict(value):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_key_of_run_yaml_is_read_somewhere():
    keys = [key for key, _ in leaves(raw())]
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    for key in keys:
        if not key.startswith("taxonomy.classes."):
            assert f".{key}" in source or f".{key.split('.')[-1]}" in source, f"no module reads {key}"


CHANGES = {
    "delta": "7",
    "rho": "0.3",
    "rouge": "l",
    "seed": "3",
    "select.train_per_class": "77",
    "select.eval_per_class": "66",
    "select.min_train_per_class": "9",
    "select.min_eval_per_class": "9",
    "select.leak_free": "false",
    "select.non_memorized": "matched",
    "select.decoded": "suffix",
    "cnn.kind": "linear",
    "cnn.kernel_size": "5",
    "cnn.features": "3",
    "cnn.pooling": "max",
    "cnn.scale": "raw",
    "cnn.dropout": "0.2",
    "cnn.epochs": "2",
    "cnn.batch_size": "4",
    "cnn.learning_rate": "0.01",
    "cnn.weight_decay": "0.01",
    "control.members": "0",
    "trainer.precision": "bf16-mixed",
    "trainer.channels_last": "false",
    "trainer.accelerator": "auto",
    "llm.dtype": "bfloat16",
    "corpus.k": "16",
    "taxonomy": "prashanth",
    "compat": "paper",
    "label.code": "usepackage",
    "label.code_model": "some/model",
}


@pytest.mark.parametrize("key", CHANGES)
def test_every_setting_that_decides_a_result_changes_the_run_folder(key):
    # A taxonomy that reads every threshold, or the changed feature: elsewhere it changes nothing, and the name says so.
    base = ["taxonomy=code_recite" if key.startswith("label.") else "taxonomy=guess_recite"]
    overrides = (base, [one for one in base if not one.startswith(f"{key}=")] + [f"{key}={CHANGES[key]}"])
    usual, changed = (run_folder(composed(*given)) for given in overrides)
    assert usual != changed


def test_where_duplicates_are_counted_changes_the_folder_of_runs_that_read_them():
    asked = ["label.counts=infini_gram", "label.index=/data/index"]
    for reads, words in ((True, ["taxonomy=recite"]), (False, ["taxonomy=rasy"]), (True, ["select.non_memorized=matched"])):
        usual, changed = (run_folder(composed(*given)) for given in (words, words + asked))
        assert (usual != changed) == reads


@pytest.mark.parametrize(
    "given",
    [
        "delta=7",
        "label.code=usepackage",
        "root=/elsewhere",
        "stages=[label]",
        "force=true",
        "trainer.threads=1",
        "label.processes=3",
        "wandb=off",
        "tracking=csv",
        "llm.batch_tokens=640",
        "localize.method=gradient",
        "intervene.percent=[5]",
    ],
)
def test_what_cannot_change_a_result_does_not_change_the_name(given):
    usual, changed = (run_folder(composed(*overrides)) for overrides in ([], [given]))
    assert usual.name == changed.name
