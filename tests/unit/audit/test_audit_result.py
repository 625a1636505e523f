"""The result of an audit: what older versions wrote is read, the same content is written, and everything else is refused in a sentence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import refusal
from test_audit_config import composed

from memgrid.audit.config import settings
from memgrid.audit.folder import attack_folder, current_result, models_on_disk, result_of
from memgrid.audit.report.findings import sentences, summary
from memgrid.audit.result import AuditResult, from_json, table, to_json
from memgrid.audit.shadow.arrays import write_arrays

OLDER = Path(__file__).parents[2] / "data" / "audit_metrics_without_version.json"


@pytest.fixture
def older():
    """The result of the default audit, cut short, as it was written before results had a version."""
    return from_json(OLDER.read_bytes())


def changed(**changes):
    """The older file with other content under some keys; without those that are `...`."""
    content = json.loads(OLDER.read_text()) | changes
    return json.dumps({key: value for key, value in content.items() if value is not ...})


def test_a_result_of_an_older_version_is_read(older):
    assert (older.data.name, older.data.samples, older.audited, older.steps, older.memgrid) == ("digits", 1498, 300, 660, "")
    assert older.predictions[0].question == "Λ ≥ 4"
    assert list(older.predictions[0].tpr) == ["0.001", "0.01", "0.05"]
    assert older.predictions[-1].eta is None
    assert older.attack[0].samples == "all audited"
    assert older.moment == "trigger"
    assert older.operating_point("is an OOD canary").tpr == pytest.approx(0.94, abs=0.005)


def test_it_says_what_it_said(older):
    lines = sentences(older)
    assert lines[0] == "35 % of audited members have Λ ≥ 4; 0.29 % of those that a model has not seen reach it too, by chance."
    assert lines[1].endswith("AUC 0.89; true positives at false positives: 18 % at 0.1 %, 45 % at 1 %, 56 % at 5 %.")
    assert lines[2].startswith(
        "Λ ≥ 4: logit gap predicts best, AUC 0.86; whether it is better than the others was not tested. PSMI < 0 finds 97 % of them"
    )
    assert lines[3].startswith("Is an OOD canary: PSMI predicts best, AUC 0.99; whether ")
    assert lines[3].endswith(". PSMI < 0 finds 94 % of them and 4 % of the others.")
    assert lines[4] == "The trigger fired in 32 of 32 models, after 30 of 660 steps (median)."
    assert summary(older)["auc/ood/trigger/psmi"] == older.predictions[-4].auc


def test_with_one_curve_over_all_models_its_area_is_told(older):
    rows = [replace(row, auc_pooled=0.25 if row.predictor == "psmi" else 0.125) for row in older.predictions]
    settings = {**older.settings, "attack": {**older.settings["attack"], "average": "pooled"}}
    pooled = replace(older, settings=settings, predictions=rows)
    assert (older.area, pooled.area) == ("auc", "auc_pooled")
    assert sentences(pooled)[2].startswith("Λ ≥ 4: PSMI predicts best, AUC 0.25")


def test_intervals_and_doubts_are_told(older):
    told = {"psmi": (0.9, 0.7, 0.95, None), "loss": (0.8, 0.6, 0.9, 0.2), "gap": (0.5, 0.4, 0.6, 0.0004)}
    names = ("auc", "auc_low", "auc_high", "p_beaten")
    rows = [replace(row, **dict(zip(names, told.get(row.predictor, (0.4, None, None, 0.01)), strict=True))) for row in older.predictions]
    ends = {"auc_low": 0.875, "auc_high": 0.905, "memorized_low": 0.3, "memorized_high": 0.4, "others_low": 0.001, "others_high": 0.0049}
    lines = sentences(replace(older, predictions=rows, attack=[replace(older.attack[0], **ends)], null_auc=0.49))
    assert lines[0].startswith("35 % (30 to 40) of audited members have Λ ≥ 4; 0.29 % (0.10 to 0.49) of those that")
    assert "with AUC 0.89 (0.88 to 0.91), where it would be 0.49 if nothing were memorized; true" in lines[1]
    assert lines[2].startswith("Λ ≥ 4: PSMI predicts best, AUC 0.90 (0.70 to 0.95); not clearly better than loss (p = 0.2). PSMI < 0 finds")


NEW = {
    "auc_low",
    "auc_high",
    "p_beaten",
    "memorized_low",
    "memorized_high",
    "others_low",
    "others_high",
    "auc_pooled",
    "positives_in_all",
    "accuracy",
    "published_memorized_at_4",
    "published_others_at_4",
    "global_auc",
    "global_accuracy",
}


def without_new(content):
    """What a result had before results told more."""
    if isinstance(content, list):
        return [without_new(part) for part in content]
    return {key: without_new(value) for key, value in content.items() if key not in NEW} if isinstance(content, dict) else content


def test_what_is_read_is_what_was_written(older):
    content = to_json(older)
    assert content.pop("memgrid")
    assert content.pop("null_auc") is None
    accuracy = content["accuracy"]  # of models, which results always had
    assert json.dumps({**without_new(content), "accuracy": accuracy}, sort_keys=True) == json.dumps(
        json.loads(OLDER.read_text()), sort_keys=True
    )
    assert replace(from_json(json.dumps(to_json(older))), memgrid="") == older


def test_audits_of_other_definitions_have_other_folders():
    """Models of earlier versions were trained on pixels of another scale, with other canaries out of domain."""
    assert settings(composed("root=here")) != json.loads(OLDER.read_text())["settings"]
    assert "mixed-canaries-32-seed0-326749a0e1" not in attack_folder(composed("root=here")).path.parts


def test_a_table_has_the_columns_of_the_file_and_those_that_came_later(older):
    columns = table(older.predictions).columns
    assert [name for name in columns if name not in NEW] == list(json.loads(OLDER.read_text())["predictions"][0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged: add attack to stages"),
        ("[]", "is damaged"),
        ("{}", "another version of memgrid wrote it (its metrics.json has no settings)"),
        (changed(audited=...), "has no audited"),
        (changed(audited=..., memgrid="9.9"), "version 9.9 of memgrid wrote it"),
        (changed(triggers=["early"]), "holds something else under triggers.0"),
        (changed(predictions=[{"question": "Λ ≥ 4"}]), "has no predictions.0.eta"),
        (changed(attack=["none"]), "holds something else under attack.0"),
        (changed(below_zero={}), "holds something else under below_zero"),
    ],
)
def test_a_result_that_cannot_be_read_gets_one_sentence(content, words):
    assert words in refusal(from_json, content)


@pytest.fixture
def attacked(tmp_path, older):
    """Settings of an audit whose models, made by hand, have a result that this version wrote."""
    run = composed("shadows=4", f"root={tmp_path}")
    folder = attack_folder(run)
    folder.path.mkdir(parents=True)
    for number in range(4):
        write_arrays(folder.path.parent / "shadows" / f"shadow-{number:04}.h5", str(number), {}, {})
    folder.metrics.write_text(json.dumps(to_json(replace(older, models=models_on_disk(run)))))
    return run


def test_a_result_belongs_to_the_models_on_disk(attacked):
    assert isinstance(result_of(attacked), AuditResult)
    shadow = attack_folder(attacked).path.parent / "shadows" / "shadow-0001.h5"
    write_arrays(shadow, "1", {}, {"logits": np.zeros(3)})
    assert result_of(attacked) is None
    shadow.unlink()
    assert result_of(attacked) is None


def test_a_result_of_another_version_is_told_where_it_is_to_be_shown_and_made_anew_where_it_can_be(attacked):
    folder = attack_folder(attacked)
    folder.metrics.write_text(changed(audited=..., memgrid="9.9"))
    sentence = refusal(result_of, attacked)
    assert sentence.startswith(f"{folder.path}: version 9.9 of memgrid wrote it")
    assert sentence.endswith("add attack to stages")
    assert current_result(attacked) is None
