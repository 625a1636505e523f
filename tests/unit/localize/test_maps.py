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


def test_votes_are_ranks_of_each_network(tmp_path):
    """A position that one network finds overwhelming and the others nothing loses against one that all find the second."""
    delta = np.zeros((3, 2, 1, 2, 2))
    delta[0, 0, 0, 1] = [9.0, 0.1]
    delta[1, 0, 0], delta[2, 0, 0] = [[0.2, 0.0], [0.0, 0.3]], [[0.5, 0.0], [0.0, 0.6]]
    write_decision_maps(tmp_path / "maps.h5", attributes(members=["a", "b", "c"]), delta, [np.array([5, 7]), np.array([9])])
    maps = read_decision_maps(tmp_path / "maps.h5", with_members=True)
    np.testing.assert_allclose(maps.votes()[0, 0] * 4, np.array([[0 + 2 + 2, 0], [3 + 0 + 0, 2 + 3 + 3]]) / 3)
    assert maps.values[0, 0].argmax() == 2
    assert maps.votes()[0, 0].argmax() == 3
    assert not maps.votes()[1].any()  # nothing decides it


def test_the_votes_of_one_network_have_the_order_of_its_map(tmp_path):
    write_decision_maps(tmp_path / "maps.h5", attributes(members=["a"]), DELTA[:1], [np.array([5, 7]), np.array([9])])
    maps = read_decision_maps(tmp_path / "maps.h5", with_members=True)
    for votes, values in zip(maps.votes(), maps.values, strict=True):
        np.testing.assert_array_equal(votes.ravel().argsort(kind="stable"), values.ravel().argsort(kind="stable"))
