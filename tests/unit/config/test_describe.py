"""What there is to set: complete, in `--help` and on the settings page, and as conf/ and the schema have it."""

import runpy
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from memgrid.audit.run import COMMAND as AUDIT
from memgrid.config.describe import CONF, choices, comments, defaults, groups, header, helped, leaves, sentence, settings, shown
from memgrid.pretrain.__main__ import COMMAND as PRETRAIN
from memgrid.pretrain.config import PretrainConfig
from memgrid.run import COMMAND as RUN

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "settings.md").read_text(encoding="utf-8")
each_command = pytest.mark.parametrize("command", [RUN, AUDIT, PRETRAIN], ids=lambda command: command.name)


@cache
def of(name):
    """The settings of a command: read from all its files, and asked for by many tests."""
    return settings({command.name: command for command in (RUN, AUDIT, PRETRAIN)}[name])


def composed(command):
    """The settings if nothing is said, as Hydra composes them."""
    ConfigStore.instance().store(name=f"{command.name}_schema", node=command.schema)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command.name)


def test_the_page_is_what_is_generated():
    page = runpy.run_path(str(DOCS / "settings.py"))["page"]()
    assert page == PAGE, "docs/settings.md is old: make docs"


@each_command
def test_defaults_are_those_that_hydra_composes(command):
    assert OmegaConf.to_container(defaults(command), resolve=True) == OmegaConf.to_container(composed(command), resolve=True)


@each_command
def test_every_key_and_every_choice_is_told_with_its_default(command):
    told = helped(command)
    section = PAGE[PAGE.index(f"\n## memgrid {command.name}\n") :].split("\n## ")[1]
    found = {one.key: one for one in of(command.name)}
    for key, _, value in leaves(OmegaConf.to_object(composed(command))):
        assert found[key].default == shown(value)
        assert f"  {key}={shown(value)}" in told
        assert f"| `{key}` | `{shown(value)}` |" in section
    for group in groups(command.name):
        for choice, path in choices(group).items():
            assert f"\n  {choice} " in told
            assert f"| `{choice}` | " in PAGE
            assert sentence(path)
            assert header(path)


@each_command
def test_every_key_has_a_comment(command):
    assert [one.key for one in of(command.name) if not one.meaning] == []


@each_command
def test_only_groups_of_the_command_are_told(command):
    told = helped(command)
    others = {path.name for path in CONF.iterdir() if path.is_dir()} - {group.partition("/")[0] for group in groups(command.name)}
    assert [group for group in others if f"\n{group}=<choice>" in told] == []
    assert set(groups("pretrain")) == set()
    assert {"taxonomy", "experiment", "hydra/launcher"} <= set(groups("run"))


@pytest.mark.parametrize(
    ("command", "key", "limit"),
    [
        (RUN, "rouge", "both, l or 3"),
        (RUN, "rho", "above 0 and at most 1"),
        (RUN, "delta", "at least 0"),
        (RUN, "corpus.k", ""),
        (RUN, "cnn.epochs", "at least 1"),
        (RUN, "cnn.dropout", "from 0 to 0.99"),
        (RUN, "cnn.kernel_size", "one value or a list of values, 1 to 16"),
        (RUN, "intervene.percent", "above 0 and at most 100"),
        (RUN, "stages", "fetch, label, plan, extract, train, localize, intervene or transfer"),
        (RUN, "parts", "from 1 to 256"),
        (RUN, "select.leak_free", "true or false"),
        (RUN, "llm.path", ""),
        (AUDIT, "canary.name", "clean, label_noise, ood, ood_matched, blank, duplicated or mixed"),
        (AUDIT, "shadows", "at least 4"),
        (PRETRAIN, "documents", "shipped or sources"),
    ],
)
def test_limits_are_those_beside_the_fields(command, key, limit):
    assert {one.key: one.allowed for one in of(command.name)}[key] == limit


def test_comments_are_read_behind_keys_at_any_depth(tmp_path):
    path = tmp_path / "some.yaml"
    lines = (
        "# @package _global_",
        "# First. Second,",
        "# third.",
        "",
        "a: 1   # one",
        "b:   # a group",
        "  c: 'x # y'   # see",
        "  d: {e: 1}",
    )
    path.write_text("\n".join((*lines, 'f: "#" # four', "# not of a key", "g: 3")))
    assert header(path) == "First. Second, third."
    assert sentence(path) == "First"
    assert comments(path) == {"a": "one", "b": "a group", "b.c": "see", "f": "four"}


def test_values_are_shown_as_they_are_typed():
    values = (None, True, 1e-3, 0.5, [6, 8], [], {"a": [1.0]}, "text", (1, 2))
    assert [shown(value) for value in values] == ["null", "true", "0.001", "0.5", "[6, 8]", "[]", "{a: [1]}", "text", "[1, 2]"]


def test_the_embedded_model_is_what_its_dataclasses_say():
    """conf/pretrain.yaml repeats the defaults, so that each has its comment."""
    given, usual = OmegaConf.to_container(composed(PRETRAIN)), OmegaConf.to_container(OmegaConf.structured(PretrainConfig))
    assert {key: value for key, value in given.items() if key not in ("sources", "characters")} == {
        key: value for key, value in usual.items() if key not in ("sources", "characters")
    }
