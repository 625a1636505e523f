"""What Hydra refuses of what was typed: one sentence that names the word and the mend."""

import shlex
from dataclasses import fields

import pytest
from conftest import memgrid_here
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memgrid.audit.config import AuditConfig
from memgrid.config.describe import groups
from memgrid.config.mistakes import ELSEWHERE, broken_file, one_sentence, quoted, unreadable
from memgrid.config.validate import register
from memgrid.io.paths import CONF
from memgrid.pipeline.face.__main__ import COMMAND as EXPORT
from memgrid.report.__main__ import COMMAND as REPORT
from memgrid.status import COMMAND as STATUS
from memgrid.store.__main__ import COMMAND as STORE


def told(word, name="run"):
    """What is said of a word."""
    register()
    ConfigStore.instance().store(name="audit_schema", node=AuditConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        compose(name, overrides=[word])
    sentence = one_sentence(caught.value)
    assert "\n" not in sentence
    assert "conf/" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("taxonmy=rasy", "taxonmy is no setting of memgrid (did you mean taxonomy?): `memgrid run --help` lists them"),
        ("cnn.kernel=6", "cnn.kernel is no setting of memgrid (did you mean cnn.kernel_size?): `memgrid run --help` lists them"),
        (
            "shard_samples=6",
            "shard_samples is no setting of memgrid (did you mean extract.shard_samples?): `memgrid run --help` lists them",
        ),
        ("experimnt=smoke", "experimnt is no setting of memgrid (did you mean experiment?): `memgrid run --help` lists them"),
        ("hydra/launchr=local", "hydra/launchr is no setting of memgrid (did you mean hydra/launcher?): `memgrid run --help` lists them"),
        ("elephant=3", "elephant is no setting of memgrid: `memgrid run --help` lists them"),
        ("state=failed", "state is no setting of memgrid run: it belongs to memgrid status"),
        ("out=page", "out is no setting of memgrid run: it belongs to memgrid report and export"),
        ("text=true", "text is no setting of memgrid run: it belongs to memgrid report and export"),
        ("RHO=0.5", "RHO is no setting of memgrid (did you mean rho?): `memgrid run --help` lists them"),
        ("shadows=4", "shadows is no setting of memgrid run: it belongs to memgrid audit"),
        ("windows=4", "windows is no setting of memgrid run: it belongs to memgrid pretrain"),
        ("dataset=digits", "dataset is no group of this command: it belongs to memgrid audit"),
        ("stages=train", "stages=train is one word, and a list is wanted: write stages=[train]"),
        ("delta=null", "delta=null leaves delta without a value, and it needs one: leave delta out for its default"),
        ("select=3", "select=3 is one value, and select is a group of keys: write select.<key>=<value>"),
    ],
)
def test_what_no_schema_has_is_named_with_the_nearest(word, sentence):
    assert told(word) == sentence


def test_each_command_has_keys_of_its_own():
    assert told("shadws=3", "audit") == "shadws is no setting of memgrid (did you mean shadows?): `memgrid audit --help` lists them"
    assert told("llm=toy", "audit") == "llm is no group of this command: it belongs to memgrid run"


def test_a_choice_that_is_unknown_comes_with_the_nearest():
    assert told("taxonomy=rasi").endswith("or a file of your own with --config-dir (did you mean rasy?)")


def test_a_folder_of_files_of_ones_own_that_is_not_there():
    sentence = one_sentence(HydraException("Additional config directory '/nowhere' not found"))
    assert sentence == "--config-dir /nowhere is no folder: name the one in which <group>/<choice>.yaml is"


def test_a_comma_in_a_fraction_is_a_point():
    assert "add -m, or write 0.5 for a fraction, rho=[0,5] for a list" in told("rho=0,5")


def test_several_values_without_a_sweep():
    assert told("root=a,b").startswith("root=a,b has several values, as a sweep has them: add -m, or write root=[a,b] for a list")


@pytest.mark.parametrize("word", ["corpus.path=/a=b", "root=/x(1)", "root=a#b", "root=/x(1)/{y}", "llm.path=a=b,c", "root=it's"])
def test_a_value_that_the_grammar_does_not_know_is_mended_by_quotes(word):
    before, mend = told(word).split(" cannot be read: give the value in quotes within quotes, ")
    (mended,) = shlex.split(mend)  # as a shell reads it
    assert before == word
    assert OverridesParser.create().parse_override(mended).value() == word.partition("=")[2]


@given(st.text(alphabet="ab'\"\\,[]{}()#$ :@%?~!*&^;<>|+-.=é", max_size=9))
def test_what_is_proposed_in_quotes_is_the_value_that_was_meant(value):
    """Whatever the signs: what the sentence says composes to what was typed, as a shell and Hydra read it."""
    (override,) = OverridesParser.create().parse_overrides([f"root={quoted(value)}"])
    assert OmegaConf.create({"root": override.value()}).root == value
    sentence = unreadable(f"root={value}")
    if "in quotes within quotes, " in sentence:
        (mended,) = shlex.split(sentence.partition("in quotes within quotes, ")[2])
        assert OmegaConf.create({"root": OverridesParser.create().parse_override(mended).value()}).root == value


@pytest.mark.parametrize("word", ["root=/a{1", "root=(a", 'root="a', "root=it's", 'root=/my "best" text', "root=a\\", "root=[a](b"])
def test_what_looks_like_a_text_is_mended_as_one(word):
    (mended,) = shlex.split(unreadable(word).rpartition("quotes, ")[2].removeprefix("such as "))
    if not word.startswith("root=["):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            assert compose("run", overrides=[mended]).root == word.partition("=")[2]


def test_keys_of_other_commands_are_theirs():
    of_commands = {"status": STATUS, "report": REPORT, "export": EXPORT, "store": STORE}
    for key, command in [(key, command) for key, commands in ELSEWHERE.items() for command in commands]:
        keys = of_commands[command].keys
        assert any(key in {field.name for field in fields(each)} for each in (keys.values() if isinstance(keys, dict) else [keys]))


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("root=~/mg", "root=~/mg cannot be read: no shell replaces ~ there, so write root=$HOME/mg"),
        # What a shell makes of stages=[label, extract]
        (
            "stages=[label,",
            "stages=[label, cannot be read, a bracket is not closed: write a list without spaces or in quotes, such as stages=[1,2]",
        ),
        ("extract]", "extract] is no key=value: write a list without spaces or in quotes, such as stages=[label,extract]"),
        ("delta=[1", "delta=[1 cannot be read, a bracket is not closed: write a list without spaces or in quotes, such as delta=[1,2]"),
        ("taxonomy", "taxonomy is no key=value: write taxonomy=<value>"),
    ],
)
def test_what_cannot_be_read_is_named(word, sentence):
    assert told(word) == sentence == unreadable(word)


def test_what_is_neither_true_nor_false_is_told_what_to_write():
    assert told("corpus.bos=maybe") == "corpus.bos=maybe is neither true nor false: write corpus.bos=true or corpus.bos=false"


def test_other_errors_keep_what_hydra_says_of_them():
    assert told("rho=abc") == "rho=abc is no number, and one is wanted: write rho=<number>"
    assert told("cnn.epochs=many") == "cnn.epochs=many is no whole number, and one is wanted: write cnn.epochs=<whole number>"


# Files of one's own.

HEAD = b"# @package _global_\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"defaults:\n  - override /wandb: off\n", "cluster/mine.yaml cannot be read (Unsupported item value in defaults: bool"),
        (b"defaults:\n  - override /wandb: 3\n", "write its defaults as a list of `- group: name`"),
        (b"defaults:\n  - override /wandb: [a: b]\n", "write its defaults as a list"),
        (b"defaults:\n  - [a, b]\n", "write its defaults as a list"),
        (b"defaults: wandb\n", "write its defaults as a list"),
        (b"hydra: {launcher: [\n", "mine.yaml is no YAML in line 3 (expected the node content, but found '<stream end>'): mend it there"),
        (b"\tdelta: 5\n", "mine.yaml is no YAML in line 2 (found character"),
        (b"delta: 5\n  rho: 1\n", "mine.yaml is no YAML in line 3 (mapping values are not allowed here)"),
        (b"root: \xe9\n", "cluster/mine.yaml is no text in UTF-8"),
        (b"root: \x00\n", "cluster/mine.yaml is no text in UTF-8"),
    ],
)
@pytest.mark.parametrize("sweep", [(), ("-m",)], ids=["one", "sweep"])
def test_a_file_of_ones_own_that_cannot_be_read_is_named(content, sentence, sweep, tmp_path):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "mine.yaml").write_bytes(HEAD + content)
    given = ("--config-dir", tmp_path, "cluster=mine", f"root={tmp_path / 'root'}")
    process = memgrid_here(*sweep, *given, check=False)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("memgrid: ")
    assert sentence in line
    assert ". " not in line


def test_another_error_is_none_of_a_file():
    assert broken_file(ValueError("delta")) is None


@pytest.mark.parametrize(("name", "group"), [(name, group) for name in ("run", "audit") for group in groups(name)])
def test_a_choice_that_is_unknown_is_told_in_three_lines(name, group):
    sentence = told(f"{group}=nonsense", name)
    assert sentence.startswith(f"{group}=nonsense is unknown: use ")
    assert len(sentence) <= 300
