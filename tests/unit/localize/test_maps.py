"""The file of Δ maps: what is read is what was written, whole or refused, and nobody needs the networks for it."""

import forks
import h5py
import numpy as np
import pytest
from conftest import refusal
from maps_maker import CLASSES, attributes

from memgrid.localize.maps import made_from, read_decision_maps, write_decision_maps

DELTA = np.tril(np.random.default_rng(0).random((3, 2, 4, 8, 8)))


@pytest.fixture
def path(tmp_path):
    write_decision_maps(tmp_path / "localize-guided.h5", attributes(), DELTA, [np.array([5, 7]), np.array([9])])
    return tmp_path / "localize-guided.h5"


def test_what_is_read_is_what_was_written(path):
    found = read_decision_maps(path, with_members=True)
    np.testing.assert_allclose(found.values, DELTA.mean(0), rtol=1e-6)
    assert list(found.members) == ["a", "b", "c"]
    np.testing.assert_allclose(found.members["b"], DELTA[1], rtol=1e-6)
    assert (found.classes, found.samples, found.k, found.method, found.inputs) == (CLASSES, (2, 1), 4, "guided", "0123456789")
    assert [ids.tolist() for ids in found.ids] == [[5, 7], [9]]
    assert read_decision_maps(path).members == {}
    assert made_from(path) == "0123456789"
    with h5py.File(path) as file:
        assert file["delta"].shape == (2, 4, 8, 8)


def test_what_cannot_be_read_is_told_in_a_sentence(path, monkeypatch):
    assert "localize first" in refusal(read_decision_maps, path.with_name("none.h5"))
    whole = path.read_bytes()
    for damage in (b"", b"noise" * 300, whole[:-50], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        path.write_bytes(damage)
        assert "is damaged: remove it and localize again" in refusal(read_decision_maps, path)
        assert made_from(path) is None
    path.write_bytes(whole)
    monkeypatch.setattr("memgrid.localize.maps.FORMAT_VERSION", 99)
    assert "format version 1 and this memgrid reads 99" in refusal(read_decision_maps, path)
    assert made_from(path) is None


def test_reading_needs_no_torch():
    program = "import sys, memgrid.localize.maps, memgrid.report.sections.causes; sys.exit('torch' in sys.modules)"
    assert forks.run(["-c", program], light=True).returncode == 0
