"""What the version of commit 4fcf3ec left in a run's folder is read; what cannot be is refused in a sentence that says who wrote it.

`tests/data/run-4fcf3ec` is the folder of a run on the embedded model as that version wrote it, but for what is large.
"""

import json
import shutil
from pathlib import Path

import pytest
from conftest import refusal
from omegaconf import OmegaConf
from rich.console import Console

from memgrid.config.names import settings
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.results.findings import print_result, stage_sentences, where_it_decides
from memgrid.results.folder import RunFolder
from memgrid.results.result import Estimate, to_json

EARLIER = Path(__file__).resolve().parents[2] / "data" / "run-4fcf3ec"


@pytest.fixture
def folder(tmp_path):
    return RunFolder(shutil.copytree(EARLIER, tmp_path / "run"))


@pytest.fixture
def run(folder):
    """The run's settings as it kept them, with both stages asked for."""
    run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(folder.config)))
    run.stages = ["train", "localize", "intervene"]
    return run


def plain(path):
    return json.loads(path.read_text())


def test_the_result_is_read(folder):
    result, content = folder.result(), plain(folder.metrics)
    assert result.classes == ["Non-Memo", "Guess", "Recall"]
    assert result.panel.min_f1 == Estimate(**content["panel"]["min_f1"])
    assert result.origin.llm == content["origin"]["llm"]
    assert list(result.baselines) == ["tokens", "overlap", "confidence", "likelihood", "together"]
    assert result.memgrid == ""
    assert {**to_json(result), "memgrid": ...} == {
        **content,
        "memgrid": ...,
        "training": [],
        "pairs": [],
        "probe_test": None,
    }  # nothing is lost or changed


def test_its_name_and_settings_are_those_of_today(folder, run):
    result = folder.result()
    assert settings(run) == result.settings
    assert RunFolder.of(run).path.name == "rho0.5-both-seed0-e23e725aca"


def test_the_records_are_read(folder):
    located, content = folder.localize_record("guided"), plain(folder.decision_record("guided"))
    assert located.inputs == content["inputs"]
    assert [regions.title for regions in located.classes] == ["Non-Memo", "Guess", "Recall"]
    assert located.classes[0].layer_shares == content["classes"][0]["layer_shares"]
    assert located.randomization_test["Recall"].decision_map[4] == content["sanity"]["Recall"]["delta"]["4"]
    assert where_it_decides(located).startswith("Most of Δ (guided, 100 eval samples per class) lies for Non-Memo in layer 6 of 6 (31 %)")


def test_writing_it_again_changes_nothing_but_the_version(folder):
    path = folder.decision_record("guided")
    before = plain(path)
    folder.write_record(folder.localize_record("guided"))
    after = {key: value for key, value in plain(path).items() if key not in ("memgrid", "digest")}
    for regions in after["classes"]:
        assert regions.pop("agreement") is regions.pop("shared") is None  # what it did not know
    assert after == before


def test_an_intervention_whose_controls_were_not_matched_is_made_again(folder):
    """They took other amounts of attention: what was said of them cannot be said any more."""
    said = refusal(folder.intervene_record)
    assert "another version of memgrid wrote it (its intervene.json has no verdict.0.doses.0." in said
    assert said.endswith("do the stage intervene again")


def test_its_stages_are_done(folder, run):
    assert folder.undone(run) == ["localize", "intervene"]  # the maps and the table are too large to be kept beside the tests
    folder.decision_maps("guided").touch()
    folder.intervention.touch()
    assert folder.undone(run) == ["intervene"]
    assert len(stage_sentences(run, folder)) == 2


def test_the_epochs_are_read_and_written_alike(folder):
    rows = folder.read_epochs()
    assert len(rows) == 40
    assert (rows[0].epoch, rows[0].member) == (0, "k6-f10-mean")
    folder.write_epochs(rows)
    assert folder.read_epochs() == rows


def test_the_failure_is_read(folder):
    failure = folder.failure()
    assert failure.error.startswith("UserError: class 'Recite' has 12 samples")
    assert (failure.log, failure.time) == (Path("logs/4_0_log.out"), "2026-11-22T10:00:00+01:00")
    folder.failure_file.write_text('{"error": "no log"}')
    assert str(folder.failure()) == "no log"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"panel": ...}, "another version of memgrid wrote it (its metrics.json has no panel): run it again with force=true"),
        ({"panel": ..., "memgrid": "7.1"}, "version 7.1 of memgrid wrote it (its metrics.json has no panel): run it again"),
        ({"eval_loss": "much"}, "(its metrics.json holds something else under eval_loss): run it again with force=true"),
        ({"settings": {"compat": "none"}}, "(its metrics.json has no settings.taxonomy.classes): run it again with force=true"),
        ({"settings": {"compat": "none", "taxonomy": {"classes": {"A": ["memorized", "x"]}}}}, "has the rule x): use that version"),
    ],
)
def test_what_another_version_wrote_is_a_sentence(changes, sentence, folder):
    content = {key: value for key, value in {**plain(folder.metrics), **changes}.items() if value is not ...}
    folder.metrics.write_text(json.dumps(content))
    with pytest.raises(UserError) as refusal:
        folder.result()
    assert str(refusal.value).startswith(f"{folder.path}: ")
    assert sentence in str(refusal.value)


def test_results_without_controls_and_without_what_came_later_are_read(folder, capsys):
    content = plain(folder.metrics)
    for name in ("baselines", "probes"):
        del content[name]
    folder.metrics.write_text(json.dumps({**content, "control": {}, "confidence": {}}))
    result = folder.result()
    assert (result.control, result.confidence, result.baselines, result.probes) == (None, None, {}, {})
    print_result(result, folder, Console(width=140))
    assert "–" in capsys.readouterr().out


def test_classes_in_another_order_and_back(folder):
    result = folder.result()
    turned = result.in_order([2, 0, 1])
    assert [score.mean for score in turned.panel.f1] == [result.panel.f1[index].mean for index in (2, 0, 1)]
    assert turned.confusion[0] == [result.confusion[2][index] for index in (2, 0, 1)]
    assert turned.paper_protocol.f1[1] == result.paper_protocol.f1[0]
    assert turned.baselines["tokens"].recall[0] == result.baselines["tokens"].recall[2]
    assert turned.in_order([1, 2, 0]) == result


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00"])
def test_a_damaged_result_is_a_sentence(content, folder):
    folder.metrics.write_text(content)
    with pytest.raises(UserError, match=r": its metrics.json is damaged: run it again with force=true$"):
        folder.result()


def test_a_missing_result_is_none_and_an_unreadable_one_a_sentence(folder):
    folder.metrics.unlink()
    assert folder.result() is None
    folder.metrics.mkdir()
    with pytest.raises(UserError, match=r"metrics\.json cannot be read"):
        folder.result()
