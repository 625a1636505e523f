"""The files of an audit: where they lie, and what is asked of the folder."""

import os

import pytest

from memgrid.results.audit_folder import AuditFolder


@pytest.fixture
def audit(tmp_path):
    """An empty audit."""
    folder = AuditFolder(tmp_path / "audits" / "digits" / "mlp" / "some")
    folder.shadows.mkdir(parents=True)
    return folder


def test_every_file_lies_where_older_versions_left_it(audit):
    shadow, attack = audit.shadow(7), audit.attack("hinge-0123456789")
    expected = {
        audit.config: "config.yaml",
        audit.population: "population.h5",
        shadow.arrays: "shadows/shadow-0007.h5",
        shadow.lock_file: "shadows/shadow-0007/.lock",
        shadow.checkpoint: "shadows/shadow-0007/last.ckpt",
        audit.part(1, 3).failure_file: "shadows/part1of3/failed.json",
        attack.metrics: "attack-hinge-0123456789/metrics.json",
        attack.arrays: "attack-hinge-0123456789/attack.h5",
        attack.page: "attack-hinge-0123456789/report/index.html",
        attack.table("below-zero", "md"): "attack-hinge-0123456789/report/below-zero.md",
    }
    assert {str(path.relative_to(audit.path)) for path in expected} == set(expected.values())
    assert [str(path.relative_to(audit.path)) for path in expected] == list(expected.values())


def test_models_pieces_and_attacks_are_listed(audit):
    assert (audit.trained(), audit.pieces(), audit.attacks(), audit.piece_failures()) == (0, [], [], [])
    audit.shadow(1).arrays.touch()
    audit.shadow(0).path.mkdir()
    audit.part(0, 2).note_failure("no fan")
    attack = audit.attack("hinge-0")
    attack.path.mkdir()
    assert audit.trained() == 1
    assert [piece.path.name for piece in audit.pieces()] == ["part0of2", "shadow-0000"]
    assert audit.piece_failures() == ["part0of2: no fan"]
    assert audit.attacks() == [attack]
    assert not audit.shadow(0).is_trained()
    assert audit.shadow(1).is_trained()


def test_a_model_is_cleared_with_what_its_training_could_go_on_from(audit):
    shadow = audit.shadow(2)
    shadow.clear()
    shadow.path.mkdir()
    for path in (shadow.arrays, shadow.checkpoint, shadow.lock_file):
        path.touch()
    shadow.clear()
    assert not shadow.is_trained()
    assert not shadow.checkpoint.exists()
    assert shadow.lock_file.exists()  # whoever clears it holds it


def test_a_page_is_current_until_the_attack_is_made_again(audit):
    attack = audit.attack("hinge-0")
    attack.report.mkdir(parents=True)
    attack.page.touch()
    assert not attack.page_is_current()
    attack.metrics.touch()
    os.utime(attack.metrics, ns=(1, 1))
    assert attack.page_is_current()
    os.utime(attack.page, ns=(0, 0))
    assert not attack.page_is_current()
