from dataclasses import asdict, fields

import pytest
from conftest import refusal
from hydra.errors import ConfigCompositionException
from settings_maker import composed

from memgrid.config.derive import Member, members
from memgrid.config.limits import limits_of
from memgrid.config.schema import InterveneConfig, LocalizeConfig
from memgrid.errors import UserError
from memgrid.intervene.positions import candidates
from memgrid.localize.attribution import METHODS
from memgrid.results.folder import prepare_folder

LONG = "n" * 300


def test_the_defaults_are_valid():
    run = composed()
    assert (run.llm.name, run.corpus.name, run.taxonomy.name) == ("toy", "toy", "rasy")
    assert run.stages == ["label", "extract", "train"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("rho=0", ["rho=0", "above 0"]),
        ("rho=1.5", ["rho=1.5", "at most 1"]),
        ("delta=-1", ["delta=-1", "0 or more"]),
        ("corpus.k=64", ["corpus.k=64", "63"]),
        ("corpus.k=100", ["corpus.k=100", "63"]),
        ("llm=hf", ["llm.name, llm.path are not set: give them on the command line, such as llm.name=... llm.path=..."]),
        ("rouge=2", ["rouge=2", "both or l or 3"]),
        ("stages=[bake]", ["bake", "label"]),
        ("stages=[]", ["stages"]),
        ("cnn.kernel_size=0", ["cnn.kernel_size=0"]),
        ("cnn.kernel_size=[6,big]", ["cnn.kernel_size"]),
        ("cnn.pooling=median", ["median", "mean or max"]),
        ("cnn.features=true", ["cnn.features"]),
        ("cnn.epochs=0", ["cnn.epochs=0"]),
        ("cnn.dropout=1", ["cnn.dropout=1"]),
        ("select.train_per_class=3", ["select.train_per_class=3"]),
        ("trainer.precision=int4", ["int4"]),
        ("localize.method=lime", ["localize.method=lime", "guided or gradient or integrated_gradients or gradcam"]),
        ("localize.samples=0", ["localize.samples=0", "at least 1"]),
        ("localize.sanity=-1", ["localize.sanity=-1"]),
        ("intervene.percent=[3,0]", ["intervene.percent=0", "above 0"]),
        ("intervene.percent=[100.5]", ["intervene.percent=100.5", "up to 100"]),
        ("intervene.percent=[nan]", ["intervene.percent=nan"]),
        ("intervene.percent=[]", ["intervene.percent=[]"]),
        ("intervene.layers_at=200", ["intervene.layers_at=200"]),
        ("stages=[train,transfer]", ["transfer.from=[]", "the folder of a finished one"]),
        ("transfer.from=[a,3]", ["transfer.from=3", "no folder of a run"]),
        ("transfer.from=' '", ["transfer.from=' '", "no folder of a run"]),
        ("+transfer.form=a", ["transfer.form is no setting"]),
        ("intervene.queries=prefix", ["intervene.queries=prefix", "suffix or all"]),
        ("intervene.seeds=0", ["intervene.seeds=0"]),
        ("intervene.heads=0", ["intervene.heads=0"]),
        ("intervene.samples=0", ["intervene.samples=0"]),
        ("intervene.ordinary=-1", ["intervene.ordinary=-1"]),
        ("parts=0", ["parts=0", "1 to 256"]),
        ("part=1", ["part=1", "0 to 0"]),
        ("parts=4", ["parts=4", "stages=[extract]"]),
        ("llm=hf", ["llm.name", "llm.path"]),
        ("taxonomy.classes.Guess=[nonsense]", ["nonsense", "recite"]),
        (f"llm.name={LONG}", ["llm.name=nnnnnnnnnnnnnnnnnnnn… cannot name a folder", "300 bytes", "100"]),
        (f"corpus.name={LONG}", ["corpus.name=nnn"]),
        (f"taxonomy.name={LONG}", ["taxonomy.name=nnn"]),
        (f'corpus.name="{"ü" * 51}"', ["102 bytes"]),
        (f"wandb.project={LONG}", ["wandb.project=nnn", "1 to 128 characters"]),
        ("wandb.project=a/b", ["wandb.project=a/b", "none of /"]),
        (f"root={'/n' * 1600}", ["root=/n/n", "3200 bytes", "3000"]),
        ('root="a\nb"', ["root is 'a\\nb'"]),
        ('root="~/mg"', ["root=~/mg cannot be read: no shell replaces ~ there, so write root=$HOME/mg"]),
        ('corpus.path="~"', ["corpus.path=~", "write corpus.path=$HOME"]),
        ('llm.path="~else/x"', ["llm.path=~else/x", "write llm.path=<folder>/x"]),
    ],
)
def test_bad_values_get_one_sentence(given, words):
    with pytest.raises(UserError) as caught:
        composed(given)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_titles_fit_into_figures_and_lines(tmp_path):
    folder = tmp_path / "taxonomy"
    folder.mkdir()
    for name, title in (("long", LONG), ("lines", "a\\nb"), ("fits", "n" * 100)):
        (folder / f"{name}.yaml").write_text(f'name: {name}\nclasses: {{A: non_memorized, "{title}": memorized}}\n')
    words = [f"hydra.searchpath=[file://{tmp_path}]", "taxonomy=long"]
    assert refusal(composed, *words) == "class 'nnnnnnnnnnnnnnnnnnnn' (and so on) has 300 characters: a title may have 100"
    assert refusal(composed, words[0], "taxonomy=lines").startswith("a name in taxonomy.classes is 'a\\nb', with characters that no line")
    assert list(composed(words[0], "taxonomy=fits").taxonomy.classes) == ["A", "n" * 100]


def test_a_model_without_a_path_is_an_embedded_one_at_one_of_its_steps(monkeypatch):
    monkeypatch.setattr("memgrid.config.validate.embedded_models", lambda: {"toy": ["step300", "step2600"], "toy_reference": []})
    assert composed("llm.revision=step300").llm.revision == "step300"
    assert refusal(composed, "llm.revision=step1000") == (
        "llm.revision=step1000 is no training step of the embedded model toy: it has step300, step2600, or leave it out"
    )
    assert "toy_reference: it has none, or leave it out" in refusal(composed, "llm=toy_reference", "llm.revision=step300")
    assert refusal(composed, "llm.name=mine").startswith("llm.name=mine is none of the embedded models, toy and toy_reference: use one")
    assert composed("llm.revision=step1000", "llm.path=someone/model").llm.revision == "step1000"
    assert composed("llm=tiny_random", "llm.revision=step1000").llm.revision == "step1000"  # a corpus may have splits of the step


@pytest.mark.parametrize("mode", ["bogus", "", "Online"])
def test_a_mode_of_wandb_that_there_is_not_is_refused_before_any_work(mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert refusal(composed, "seed=0").startswith(f"WANDB_MODE={mode} in the environment is no mode of wandb: unset it")
    assert composed("wandb=off").wandb.mode == "disabled"


def test_what_is_no_home_is_a_path_as_it_stands():
    assert composed('root="./~/x"').root == "./~/x"
    assert composed('corpus.path="a~/ü ☃ [x](1)"').corpus.path == "a~/ü ☃ [x](1)"


def test_gradcam_needs_a_convolution():
    with pytest.raises(UserError, match=r"localize\.method=gradcam needs a convolution"):
        composed("cnn.kind=linear", "localize.method=gradcam")


def test_what_later_rooms_know_is_what_is_allowed():
    choices = {
        setting.name: limits_of(setting).choices for setting in fields(LocalizeConfig) + fields(InterveneConfig) if limits_of(setting)
    }
    assert set(choices["method"]) == set(METHODS)
    for method in METHODS:
        assert composed(f"localize.method={method}").localize.method == method
    for queries in choices["queries"]:
        assert composed(f"intervene.queries={queries}").intervene.queries == queries
        assert candidates(2, 8, 4, queries).any()
    assert asdict(composed().intervene) == asdict(InterveneConfig())
    assert asdict(composed().localize) == asdict(LocalizeConfig())


@pytest.mark.parametrize("given", ["deltaa=3", "cnn.kernel=6", "+cnn.kernel=6", "delta=many", "taxonomy=unheard_of", "llm.batch_tokens=x"])
def test_hydra_refuses_unknown_keys_types_and_files(given):
    with pytest.raises((ConfigCompositionException, UserError)):
        composed(given)


def test_the_panel_is_a_product():
    run = composed("cnn=paper")
    assert len(members(run.cnn)) == 8
    assert members(composed("cnn.kernel_size=6", "cnn.features=[4]", "cnn.pooling=max").cnn) == [Member(6, 4, "max")]
    assert Member(6, 4, "max").name == "k6-f4-max"


def test_an_unwritable_root_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        prepare_folder(f"{tmp_path}/file/below")
