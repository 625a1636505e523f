"""The published protocol: the settings of experiment=cifar10_paper against a table written down here, and what a page says."""

import pytest
from published_audit import TABLE
from test_audit_config import raw

from memgrid.audit.config import settings, typed
from memgrid.audit.report.protocol import PUBLISHED, differences, protocol_sentence
from memgrid.config.overrides import flat


def published(*more):
    return typed(raw("experiment=cifar10_paper", "dataset.path=x", *more))


@pytest.mark.parametrize("canary", ["clean", "ood"])
def test_one_line_is_the_published_protocol(canary):
    run = published(f"canary={canary}", "canary.count=500")
    own = flat(settings(run))
    assert {key: own[key] for key in TABLE} == TABLE
    assert run.canary.name == canary
    assert differences(settings(run)) == []
    assert protocol_sentence(settings(run)) == "Protocol: the published one (experiment=cifar10_paper)."


def test_the_experiment_needs_nothing_but_a_folder():
    assert differences(settings(published())) == []


@pytest.mark.parametrize("key", [key for key in PUBLISHED if key not in ("dataset.kind", "canary.name")])
def test_every_difference_is_told(key):
    run = settings(published())
    group, _, name = key.rpartition(".")
    (run[group] if group else run)[name] = "other"
    assert differences(run) == [(key, "other", PUBLISHED[key])]
    assert f"in 1 of {len(PUBLISHED)} settings" in protocol_sentence(run)


def test_the_usual_audit_is_another_protocol():
    own = {key for key, _, _ in differences(settings(typed(raw())))}
    assert {"dataset.kind", "canary.name", "model.kind", "attack.calibrated", "attack.average", "shadows"} <= own
    assert ("canary.name", "mixed", "clean or ood") in differences(settings(typed(raw())))
