"""The documentation keeps its word: links resolve, commands are ones that memgrid understands, and the tests that it cites exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memgrid.audit.config import AuditConfig
from memgrid.audit.config import typed as typed_audit
from memgrid.config.describe import settings
from memgrid.config.validate import register, typed
from memgrid.errors import UserError
from memgrid.io.commands import Command
from memgrid.io.paths import CONF
from memgrid.launch.sweep import Composer
from memgrid.pipeline.__main__ import COMMAND as TRACE
from memgrid.pipeline.__main__ import named as with_keys
from memgrid.pipeline.face.__main__ import COMMAND as EXPORT
from memgrid.pipeline.face.__main__ import named as with_root
from memgrid.pretrain.__main__ import COMMAND as PRETRAIN
from memgrid.report.__main__ import COMMAND as REPORT
from memgrid.status import COMMAND as STATUS
from memgrid.store.__main__ import COMMAND as STORE
from memgrid.tracking.__main__ import COMMAND as TRACKING

REPOSITORY = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md", *sorted(REPOSITORY.glob("docs/*.md"))]
LONGEST_README = 150
LONGEST_COLUMN = 30

# What the pages name and a checkout need not hold: the tiers into which tests are sorted.
TIERS = {"tests/unit", "tests/integration", "tests/acceptance"}


def keys_of(command: Command) -> dict[str, set[str]]:
    """The keys of a command, by the word that is typed before them."""
    if isinstance(command.keys, Mapping):
        return {"": set()} | {word: {one.name for one in fields(keys)} for word, keys in command.keys.items()}
    return {"": {one.name for one in fields(command.keys)}}


# Keys of the commands whose settings are not composed here.
KEYS = {command.name: keys_of(command) for command in (STATUS, REPORT, TRACE, EXPORT, STORE, TRACKING)}
KEYS["pretrain"] = {"": {one.key for one in settings(PRETRAIN)}}
COMPOSED = {"run": typed, "audit": typed_audit}
FLAGS = {"--help", "--version"}
COMMAND = re.compile(r"(python -m memgrid(\.\w+)?|memgrid|make|pytest)(\s|$)")
SETTING = re.compile(r"(-m |--config-dir )?[\w./]+=")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PLACEHOLDER = re.compile(r"<[^>]+>")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


# The pages


def without_code(text: str) -> str:
    """A page without its blocks and spans of code."""
    kept = [line for line in FENCE.sub("", text).splitlines() if not line.startswith("    ")]
    return SPAN.sub(lambda match: f"`{'x' * len(match[1])}`", "\n".join(kept))


def links(text: str) -> list[str]:
    """Where a page's links and images lead."""
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)) if "://" not in target]


@lru_cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    made: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        made.add(slug if slug not in made else next(f"{slug}-{n}" for n in range(1, 99) if f"{slug}-{n}" not in made))
    return made


def broken(page: Path, target: str) -> str | None:
    """Why a link leads nowhere, or None."""
    name, _, anchor = target.partition("#")
    goal = (page.parent / name).resolve() if name else page
    if not goal.exists():
        here = goal.relative_to(REPOSITORY).as_posix() if goal.is_relative_to(REPOSITORY) else name
        return f"{target}: there is no {here}"
    return f"{target}: {goal.name} has no such heading" if anchor and goal.suffix == ".md" and anchor not in anchors(goal) else None


def commands(text: str) -> Iterator[str]:
    """Every command of a page: the lines of its code blocks, variables filled in, and its spans of code that begin like one."""
    indented = [line[4:] for line in FENCE.sub("", text).splitlines() if line.startswith("    ")]
    fenced = [line for language, block in FENCE.findall(text) if language in ("", "bash", "sh") for line in block.splitlines()]
    variables: dict[str, str] = {}
    for line in [*indented, *fenced]:
        if given := re.fullmatch(r'(\w+)="([^"]*)"', line.strip()):
            variables[given[1]] = given[2]
            continue
        filled = re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), line)
        yield from (part.strip() for part in re.split(r"; | && ", filled) if COMMAND.match(part.strip()))
    yield from (span for span in SPAN.findall(text) if COMMAND.match(span) and span != "memgrid")


def typed_settings(text: str) -> Iterator[tuple[str, str]]:
    """What the tables `you want | you type` say: the command that a row is added to, and the words."""
    command, within = "run", False
    for line in text.splitlines():
        if added := re.search(r"added to `python -m memgrid\.(\w+)`", line):
            command = added[1]
        if not line.startswith("|"):
            within = False
        elif "you type" in line:
            within = True
        elif within:
            yield from ((command, span) for span in SPAN.findall(line) if SETTING.match(span))


# The commands


def trouble(command: str, folder: Path) -> str | None:
    """Why memgrid, make or pytest would not understand a command, or None.

    Args:
        folder: of configuration files that a user made.
    """
    words = shlex.split(PLACEHOLDER.sub("placeholder", command), comments=True)
    if words[0] == "make":
        return trouble_of_make(words[1:])
    if words[0] == "pytest":
        return trouble_of_pytest(words[1:])
    if words[0] == "python":
        module, given = words[2].removeprefix("memgrid").removeprefix("."), words[3:]
    else:
        module, given = "", words[1:]
    if not module:
        named = given[:1] and given[0] in {*KEYS, *COMPOSED}
        module, given = (given[0], given[1:]) if named else ("run", given)
    given = {"trace": with_keys, "export": with_root}.get(module, list)(given)
    if module in COMPOSED:
        return trouble_of_settings(module, given, folder)
    return trouble_of_keys(module, given) if module in KEYS else f"memgrid has no command {module}"


def trouble_of_make(words: list[str]) -> str | None:
    """As `trouble`, of `make`."""
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M)
    for word in words:
        name, _, value = word.partition("=")
        if name == "PYTEST" and (told := trouble_of_pytest(["tests", *shlex.split(value)])):
            return told
        if "=" not in word and word not in targets:
            return f"the Makefile has no target {word}"
    return None


def trouble_of_pytest(words: list[str]) -> str | None:
    """As `trouble`, of `pytest`: each path exists, and at least one test is selected."""
    expression, paths = "", []
    rest = iter(words)
    for word in rest:
        if word == "-k":
            expression = next(rest)
        elif not word.startswith("-"):
            paths.append(word)
    for path in paths:
        if path not in TIERS and not (REPOSITORY / path).exists():
            return f"there is no {path}"
    return (
        None
        if not expression or any(selects(expression, name) for name in names_of_tests())
        else f"no test is selected by -k {expression!r}"
    )


@lru_cache
def names_of_tests() -> list[str]:
    """The file and the name of every test."""
    names = []
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        functions = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        names += [f"{path.name}::{name}" for name in functions if name.startswith("test_")]
    return names


def selects(expression: str, name: str) -> bool:
    """Whether pytest's -k would select a test."""
    truth = re.sub(
        r"\w+", lambda match: match[0] if match[0] in ("and", "or", "not") else str(match[0].lower() in name.lower()), expression
    )
    return bool(eval(truth, {"__builtins__": {}}))


def trouble_of_keys(module: str, words: list[str]) -> str | None:
    """As `trouble`, of commands that Hydra does not compose."""
    first = words[0] if words and "=" not in words[0] and words[0] not in FLAGS else ""
    if first not in KEYS[module]:
        return f"{module} has no command {first}"
    unknown = [word for word in words[bool(first) :] if word.partition("=")[0] not in KEYS[module][first] and word not in FLAGS]
    return f"{module} {first} does not know {unknown[0]}" if unknown else None


def trouble_of_settings(name: str, words: list[str], folder: Path) -> str | None:
    """As `trouble`, of commands that Hydra composes: every value that is typed or swept over is composed and validated once."""
    words = [word for word in words if word not in FLAGS]
    if "--config-dir" in words:
        at = words.index("--config-dir")
        words = words[:at] + words[at + 2 :]
    sweep, overrides = "-m" in words, tuple(word for word in words if word != "-m")
    try:
        for combination in each_value_once(name, overrides, sweep, folder):
            COMPOSED[name](composer(name, folder).compose(list(combination)))
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return str(error)
    return None


@lru_cache
def composer(name: str, folder: Path) -> Composer:
    """What composes the settings on a page one after another."""
    loader = GlobalHydra.instance().config_loader()
    return Composer(loader, loader.load_configuration(name, [f"hydra.searchpath=[file://{folder}]"], run_mode=RunMode.MULTIRUN))


@lru_cache
def composed(name: str, overrides: tuple[str, ...], folder: Path):
    """A configuration, with Hydra's own part."""
    return compose(name, overrides=[f"hydra.searchpath=[file://{folder}]", *overrides], return_hydra_config=True)


def each_value_once(name: str, overrides: tuple[str, ...], sweep: bool, folder: Path) -> list[tuple[str, ...]]:
    """Combinations of a sweep in which each value that is typed occurs: the whole sweep would take a tenth of a second for each.

    Of what an experiment sweeps over by itself, the first value: its grid is tested with sweeps. Of a long range, the ends.
    """
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    if not sweep:
        return [overrides]  # which Hydra refuses if a key has several values
    alone = tuple(one.input_line for one in parsed if not one.is_sweep_override())
    experiment = tuple(word for word in alone if word.startswith("experiment="))
    params = (composed(name, experiment, folder) if experiment else OmegaConf.create({"hydra": {"sweeper": {}}})).hydra.sweeper.get(
        "params"
    )
    keys = {one.key_or_group for one in parsed}
    more = [f"{key}={value}" for key, value in (params or {}).items() if key not in keys]
    own = OverridesParser.create(config_loader=loader).parse_overrides(more)
    columns = [values_of(one) for one in parsed if one.is_sweep_override()] + [values_of(one)[:1] for one in own]
    return [(*(column[n % len(column)] for column in columns), *alone) for n in range(max(map(len, columns), default=1))]


def values_of(override: Override) -> list[str]:
    """A swept override as one for each of its values; of a long range, the first and the last."""
    words = [word for (word,) in BasicSweeper.split_arguments([override], None)[0]]
    return words if len(words) <= LONGEST_COLUMN else [words[0], words[-1]]


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Iterator[Path]:
    """Configuration of a user's own, as the pages tell to make it, and Hydra ready to compose what is kept for all pages."""
    folder = tmp_path_factory.mktemp("mine")
    blocks = [
        block for page in PAGES for language, block in FENCE.findall(page.read_text()) if language == "yaml" and "\nname: mine" in block
    ]
    assert blocks
    for group, content in (("taxonomy", blocks[0]), ("cluster", (CONF / "cluster" / "a100.yaml").read_text())):
        (folder / group).mkdir()
        (folder / group / "mine.yaml").write_text(content)
    register()
    ConfigStore.instance().store(name="audit_schema", node=AuditConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield folder
    composer.cache_clear()
    composed.cache_clear()


by_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@by_page
def test_links_resolve(page):
    assert [told for target in links(page.read_text()) if (told := broken(page, target))] == []


@by_page
def test_commands_are_understood(page, mine):
    text = page.read_text()
    given = [*commands(text), *(f"python -m memgrid.{command} {words}" for command, words in typed_settings(text))]
    assert [f"{command}: {told}" for command in dict.fromkeys(given) if (told := trouble(command, mine))] == []


@by_page
def test_examples_are_python_and_taxonomies(page, mine, tmp_path):
    (tmp_path / "taxonomy").mkdir()
    for number, (language, block) in enumerate(FENCE.findall(page.read_text())):
        if language == "python":
            compile(block, page.name, "exec")
        elif language == "yaml":  # a file of its own for each: a file is read once
            (tmp_path / "taxonomy" / f"own{number}.yaml").write_text(block)
            assert trouble_of_settings("run", [f"taxonomy=own{number}"], tmp_path) is None


def test_the_readme_is_a_first_page_that_leads_to_all_others():
    reached = {target.partition("#")[0] for target in links((REPOSITORY / "README.md").read_text())}
    assert {page.relative_to(REPOSITORY).as_posix() for page in PAGES} - {"README.md"} <= reached
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= LONGEST_README


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("python -m memgrid.run taxonmy=rasy", "taxonmy"),
        ("memgrid run rho=1.5", "not a ROUGE threshold"),
        ("memgrid taxonomy=rasi", "rasi"),
        ("python -m memgrid.run delta=40,60", "multirun"),
        ("python -m memgrid.run -m taxonomy='glob(recite*)' delta=5,-1", "-1 is not a number of duplicates"),
        ("python -m memgrid.run -m experiment=smoke cluster=nowhere", "nowhere"),
        ("python -m memgrid.audit shadows=7", "odd"),
        ("python -m memgrid.status folder=here", "does not know folder=here"),
        ("python -m memgrid.store verfy", "verfy"),
        ("python -m memgrid.reports", "no command reports"),
        ("make tests", "no target tests"),
        ("pytest tests/test_nothing.py", "there is no"),
        ('pytest tests -k "test_store and elephant"', "no test"),
    ],
)
def test_what_is_wrong_would_be_found(command, told, mine):
    assert told in str(trouble(command, mine))


def test_a_broken_link_would_be_found():
    page = REPOSITORY / "README.md"
    assert [bool(broken(page, target)) for target in ("docs/nowhere.md", "docs/findings.md#nothing", "docs/findings.md")] == [
        True,
        True,
        False,
    ]
