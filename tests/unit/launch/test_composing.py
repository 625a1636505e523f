"""The composition of sweeps: the fast way equals Hydra's own, for combinations of files and values, whatever these are."""

import random
from contextlib import contextmanager

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memgrid.config.mistakes import one_sentence
from memgrid.config.validate import register, typed
from memgrid.errors import UserError
from memgrid.io.paths import CONF
from memgrid.launch.sweep import Composer, combinations, without_hydra
from memgrid.pipeline.sweep import Runs

# A user's own files: one that chooses others, one that speaks outside of its part, one that reads what another file says.
OWN = {
    "llm/layered.yaml": "defaults: [toy]\nname: layered\ndtype: float32\n",
    "llm/loud.yaml": "# @package _global_\nllm: {name: loud, path: null}\ndelta: 7\ntaxonomy: {name: louder}\n",
    "llm/empty.yaml": "",
    "corpus/reading.yaml": "name: reading\npath: ${llm.path}\nlength: ${llm.batch_tokens}\nk: ${delta}\n",
    "taxonomy/mine.yaml": "name: ${llm.name}\nclasses: {A: memorized, B: non_memorized}\n",
    "experiment/chooses.yaml": "# @package _global_\ndefaults: [override /cnn: paper]\nllm: {dtype: bfloat16}\nrho: ${oc.decode:'0.25'}\n",
    "mine.yaml": "defaults: [run_schema, llm: toy, taxonomy: rasy, cnn: panel, corpus: 'of_${llm}', _self_]\nseed: 3\n",
    "corpus/of_toy.yaml": "name: toys\npath: null\n",
    "corpus/of_hf.yaml": "name: hubs\npath: null\nk: 16\n",
}
CHOICES = {
    "llm": ["toy", "tiny_random", "layered", "loud", "empty", "unknown"],
    "taxonomy": ["rasy", "mine", "rasy.yaml", "{name:typed,classes:{A:memorized}}"],
    "cnn": ["panel", "linear"],
    "corpus": ["toy", "reading"],
    "compat": ["none", "paper"],
    "experiment": ["chooses", "null"],
}
VALUES = {
    "delta": ["5", "50", "many"],
    "rho": ["0.3", "1", "${seed}", "2"],
    "seed": ["1", "${delta}", "0x10"],
    "llm.revision": ["step1", "'a b'", "null", "[1]", "step${delta}"],
    "llm.path": ["here", "${oc.env:HOME}", "${nothing.there}", "${now:%Y}"],
    "++cnn.epochs": ["3", "three"],
    "+llm.random.layers": ["2"],
    "+nonsense": ["1"],
    "nonsense": ["1"],
    "~llm.revision": [""],
    "~nothing": [""],
    "~cluster": [""],
    "+select.more": ["1"],
    "cnn.kernel_size": ["[3,5]", "4"],
    "stages": ["[label,train]", "[]"],
    "root": ["${oc.select:llm.name,none}", "???", "${hydra.job.name}"],
    "llm@corpus": ["toy"],
}


@contextmanager
def composer_of(folder, *words, name="run"):
    """With our own files and a user's; `name` is that of a command's file, in the one or the other."""
    register()
    first, second = (CONF, folder) if name == "run" else (folder, CONF)
    with initialize_config_dir(str(first), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration(name, [f"hydra.searchpath=[file://{second}]", *words], run_mode=RunMode.MULTIRUN)
        yield Composer(loader, config)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    for name, text in OWN.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def answer(compose, words):
    """What is composed, unresolved and as settings, or the sentence of a refusal."""
    try:
        config = compose(words)
        said = repr(OmegaConf.to_container(config, resolve=False))  # in its order, as in YAML, which takes ten times as long
    except (HydraException, OmegaConfBaseException) as error:
        return one_sentence(error)
    except (AssertionError, ValueError) as error:  # Hydra's own: `+llm.random.layers=2` where llm.random is null, `experiment=null`
        return str(error)
    try:
        return said, typed(config)
    except UserError as error:
        return said, str(error)
    except OmegaConfBaseException as error:
        return said, one_sentence(error)


def by_hydra(composer):
    """Hydra alone."""
    return lambda words: without_hydra(composer.loader.load_sweep_config(composer.config, words))


def some_words(choose, groups):
    """A combination: a choice in every group of the sweep, and up to three values."""
    keys = choose.sample(sorted(VALUES), choose.randint(0, 3))
    words = [f"{group}={choose.choice(CHOICES[group])}" for group in groups]
    words += [f"{key}={choose.choice(VALUES[key])}".removesuffix("=") for key in keys]
    choose.shuffle(words)
    return sorted(words, key=lambda word: groups.index(word.partition("=")[0]) if word.partition("=")[0] in groups else 9)


def test_every_file_is_composed_as_by_hydra(own):
    """After a first combination of ordinary files; another group changes too, so that parts are put together."""
    with composer_of(own) as composer:
        composer.compose(["llm=toy", "taxonomy=rasy", "compat=none", "experiment=smoke"])
        for group, choices in CHOICES.items():
            for choice in choices:
                chosen = {"llm": "tiny_random", "taxonomy": "recite", "compat": "none", "experiment": "smoke"} | {group: choice}
                words = [f"{key}={value}" for key, value in chosen.items()]
                assert answer(composer.compose, words) == answer(by_hydra(composer), words), words


@pytest.mark.parametrize("seed", range(3))
def test_the_fast_way_equals_hydras_own(own, seed):
    """Each composer has a first combination, with which the others are compared: its answers may not depend on which that was."""
    choose = random.Random(seed)
    groups = choose.sample(sorted(CHOICES), choose.randint(2, 4))
    with composer_of(own) as composer:
        for _ in range(6):
            words = some_words(choose, groups)
            assert answer(composer.compose, words) == answer(by_hydra(composer), words), words


def test_a_file_that_is_chosen_by_another_choice_is(own):
    """`- corpus: of_${llm}` in the command's own file: a choice that seems to change one part changes two."""
    with composer_of(own, name="mine") as composer:
        for words in (["llm=toy", "cnn=panel"], ["llm=hf", "cnn=single"], ["llm=tiny_random", "cnn=single"], ["llm=hf", "cnn=linear"]):
            assert answer(composer.compose, words) == answer(by_hydra(composer), words), words
        assert composer.compose(["llm=hf", "cnn=linear"]).corpus.name == "hubs"


def test_values_of_one_combination_are_not_those_of_the_next(own):
    with composer_of(own) as composer:
        for words in (["llm=toy", "llm.dtype=float16", "++llm.revision=x"], ["llm=hf", "llm.path=x", "select.train_per_class=60"]):
            composer.compose(words)
            assert answer(composer.compose, words[:1]) == answer(by_hydra(composer), words[:1])


def test_files_are_composed_by_hydra_once_and_not_for_every_combination(own, monkeypatch):
    """4 models, 3 taxonomies, 2 networks and 3 revisions: 72 combinations, one composition by Hydra."""
    calls = []
    usual = Composer.by_hydra
    monkeypatch.setattr(Composer, "by_hydra", lambda composer, words: calls.append(words) or usual(composer, words))
    words = [
        "llm=toy,tiny_random,pythia-160m,pythia-70m",
        "taxonomy=rasy,recite,guess",
        "cnn=panel,single",
        "llm.revision=a,b,c",
        "llm.path=x",
    ]
    with composer_of(own, *words) as composer:
        runs = dict(combinations(composer.config, Runs()))
    assert len(runs) == len({repr(run) for run in runs.values()}) == 72
    assert len(calls) == 1
    for typed_words, run in runs.items():
        assert f"taxonomy={run.taxonomy.name}" in typed_words
        assert f"llm.revision={run.llm.revision}" in typed_words
