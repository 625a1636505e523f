"""The command of a run: typed again, it is the same run."""

import dataclasses
import shlex

import pytest
import settings_maker
from conftest import QUICK, refusal
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from memgrid.config.names import run_folder
from memgrid.config.overrides import COMPOSED, command, command_of, file_called, overrides, read_config, text
from memgrid.io.paths import CONF


def composed(words):
    return settings_maker.composed(*(word for word in words if not word.startswith(("-m", "stages="))))


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["root=elsewhere/my runs"],
        ["taxonomy=recite_or_guess", "delta=5", "rho=0.3", "rouge=l", "seed=3"],
        ["llm=pythia-12b", "corpus=semantic_filters", "trainer=gpu"],
        ["llm=hf", "llm.name=mine", 'llm.path="/models/it\'s mine, is it"', "corpus=text", "corpus.name=t", "corpus.path='/a,b'"],
        ["llm=tiny_random", "corpus=tables", "corpus.name=mini", "corpus.path=/corpora/mini"],
        ["cnn=paper", "select.leak_free=false", "select.decoded=suffix"],
        ["cnn=linear", "cnn.kernel_size=[1,2]", "control.members=0"],
        ["compat=paper", "cnn=single", "select.train_per_class=40", "select.min_train_per_class=40"],
        ["compat=paper", "taxonomy=prashanth"],
        list(QUICK),
    ],
    ids=lambda given: " ".join(given)[:40] or "default",
)
def test_the_command_of_a_run_is_the_same_run(given):
    run = composed(given)
    words = shlex.split(command(run, "stages=[localize]"))
    assert words[:3] == ["python", "-m", "memgrid.run"]
    assert words[-1] == "stages=[localize]"
    assert run_folder(composed(words[3:])) == run_folder(run)


def test_the_command_says_nothing_that_is_the_default():
    assert overrides(composed([])) == []
    assert overrides(composed(["wandb=off", "trainer.threads=1", "localize.samples=3"])) == []
    assert overrides(composed(["llm=pythia-70m", "corpus=semantic_filters"])) == ["llm=pythia-70m", "corpus=semantic_filters"]


def test_values_are_written_as_hydra_reads_them():
    assert [text(value) for value in (None, True, 0.5, [6, "a b"], {"a": None})] == ["null", "true", "0.5", '[6,"a b"]', "{a:null}"]


def test_settings_come_back_from_disk_with_the_root_where_they_lie(tmp_path):
    run, path = composed(list(QUICK)), tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.structured(run), path)
    assert read_config(path, tmp_path) == dataclasses.replace(run, root=str(tmp_path))
    path.write_text(path.read_text() + "\nlater: {key: 1}\n")
    assert read_config(path, tmp_path).seed == run.seed
    path.write_text("seed: [1")
    assert "is damaged" in refusal(read_config, path, tmp_path)
    path.unlink()
    assert "is missing" in refusal(read_config, path, tmp_path)


@pytest.mark.parametrize("root", ["/data/my runs", "/a=b", "/it's", "/x(1)/{y}", "r#1", "/a,b", "/p$HOME"])
@pytest.mark.parametrize("name", ["run", "audit", "status", "report"])
def test_a_command_on_a_root_can_be_typed_as_it_stands(root, name):
    words = shlex.split(command_of(name, root, "seed=1"))[2:]
    assert words[:2] == [f"memgrid.{name}", "seed=1"]
    if name in COMPOSED:
        value = OverridesParser.create().parse_override(words[2]).value()
        assert OmegaConf.create({"root": value}).root == root
    else:
        assert words[2] == f"root={root}"


def test_the_default_root_need_not_be_typed():
    assert command_of("status", "memgrid-runs") == "python -m memgrid.status"


@pytest.mark.parametrize("name", ["../cnn/panel", "</script>", "/etc/hosts", "", "."])
def test_a_name_in_a_result_of_others_leads_to_no_other_file(name):
    assert file_called("llm", name) is None
    assert file_called("llm", "toy") == CONF / "llm" / "toy.yaml"
