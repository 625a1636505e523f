"""The files of an audit: read back as written, or not at all."""

import warnings

import h5py
import numpy as np
import pytest
from conftest import refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from memgrid.audit.shadow import arrays as module
from memgrid.audit.shadow.arrays import FORMAT_VERSION, read_arrays, write_arrays
from memgrid.errors import DamageWarning, UserError

NUMBERS = {"trigger": 37, "accuracy": 0.1}


def some_arrays():
    rng = np.random.default_rng(0)
    return {
        "logits": rng.normal(size=(2, 40, 3)).astype(np.float32),
        "members": rng.random(40) < 0.5,
        "labels": rng.integers(0, 10, 40),
        "start/psmi": np.where(rng.random(40) < 0.5, np.nan, 1.5).astype(np.float32),
    }


def same(first, second):
    """Bit by bit, so that NaN equals itself."""
    return first.keys() == second.keys() and all(
        (first[name].dtype, first[name].shape, first[name].tobytes()) == (second[name].dtype, second[name].shape, second[name].tobytes())
        for name in first
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file, and its bytes."""
    path = tmp_path_factory.mktemp("audit") / "some.h5"
    write_arrays(path, "identity", NUMBERS, some_arrays())
    return path, path.read_bytes()


def believed(path, image):
    """Whether a file with these bytes is taken for whole; if so, it must hold what was written."""
    path.write_bytes(image)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content = read_arrays(path, "identity")
    if content is None:
        assert [warning.category for warning in caught] == [DamageWarning]
        assert "is damaged" in str(caught[0].message)
        assert "\n" not in str(caught[0].message)
        return False
    assert not caught
    assert content[0] == NUMBERS
    assert same(content[1], some_arrays())
    return True


def test_what_is_written_is_read(written):
    assert believed(*written)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.dictionaries(
        st.sampled_from(["logits", "members", "start/psmi", "end/loss", "curve"]),
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, bool]).flatmap(lambda kind: arrays(kind, array_shapes(max_side=5))),
        max_size=4,
    ),
    numbers=st.dictionaries(st.sampled_from(["trigger", "accuracy"]), st.floats(allow_nan=False) | st.integers(0, 2**40)),
    identity=st.text("0123456789abcdef", min_size=1, max_size=20),
)
def test_arrays_of_every_kind_and_shape_are_read_as_written(tmp_path, content, numbers, identity):
    write_arrays(tmp_path / "deep" / "some.h5", identity, numbers, content)
    reread = read_arrays(tmp_path / "deep" / "some.h5", identity)
    assert reread is not None
    assert reread[0] == numbers
    assert same(reread[1], content)


def test_a_file_that_is_not_there_is_none(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_arrays(tmp_path / "none.h5", "identity") is None
        assert read_arrays(tmp_path / "no" / "none.h5", "identity") is None


def test_a_truncated_file_is_damaged(written):
    path, image = written
    for length in (*range(0, len(image), 23), len(image) - 1):
        assert not believed(path, image[:length]), length


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_damage_or_does_not_matter(written, flip):
    """No sum is missing. Some bytes belong to nothing."""
    path, image = written
    believed_anyway = 0
    for at in range(flip % 7, len(image), 7):
        changed = bytearray(image)
        changed[at] ^= flip
        believed_anyway += believed(path, bytes(changed))
    assert believed_anyway < 0.2 * len(image) / 7


@pytest.mark.parametrize("length", [8, 64, 512])
def test_a_zeroed_block_is_damage_or_does_not_matter(written, length):
    path, image = written
    places = range(0, len(image), max(length // 2, 16))
    answers = [believed(path, image[:at] + bytes(len(image[at : at + length])) + image[at + length :]) for at in places]
    assert not all(answers)


def test_a_flipped_bit_of_the_data_is_damage(written):
    path, image = written
    for name, array in some_arrays().items():
        start = image.index(array.tobytes())
        for at in range(start, start + array.nbytes, max(1, array.nbytes // 20)):
            changed = bytearray(image)
            changed[at] ^= 4
            assert not believed(path, bytes(changed)), (name, at)


def test_arrays_that_are_not_those_of_the_digest_are_damage(written):
    """A file that HDF5 finds sound."""
    path, image = written
    for change in (lambda file: file["labels"].write_direct(np.zeros(40, np.int64)), lambda file: file.move("labels", "truth")):
        path.write_bytes(image)
        with h5py.File(path, "a") as file:
            change(file)
        assert not believed(path, path.read_bytes())


def test_words_lie_where_a_sum_protects_them(written):
    path, image = written
    for at in range(image.index(b"identity"), image.index(b"identity") + 40):
        changed = bytearray(image)
        changed[at] ^= 1
        assert not believed(path, bytes(changed)), at


@pytest.mark.parametrize("image", [b"", b"not HDF5 at all", bytes(4096)])
def test_other_bytes_are_damage(written, image):
    assert not believed(written[0], image)


def test_a_damaged_file_is_made_anew(written):
    path, image = written
    assert not believed(path, image[:-1])
    write_arrays(path, "identity", NUMBERS, some_arrays())
    assert believed(path, path.read_bytes())


@pytest.mark.parametrize("identity", ["identitz", "identity2", "", "idéntity"])
def test_a_file_of_another_audit_is_refused_and_stays(written, identity):
    path, image = written
    path.write_bytes(image)
    sentence = refusal(read_arrays, path, identity)
    assert str(path) in sentence
    assert "force=true" in sentence
    assert path.read_bytes() == image


def test_a_file_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FORMAT_VERSION", FORMAT_VERSION + 1)
    write_arrays(tmp_path / "some.h5", "identity", NUMBERS, some_arrays())
    monkeypatch.undo()
    assert "another version" in refusal(read_arrays, tmp_path / "some.h5", "identity")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "some.h5"
    broken = some_arrays() | {"wrong": np.array([object()])}
    with pytest.raises(TypeError):
        write_arrays(path, "identity", NUMBERS, broken)
    assert not list(tmp_path.iterdir())
    write_arrays(path, "identity", NUMBERS, some_arrays())
    with pytest.raises(TypeError):
        write_arrays(path, "identity", NUMBERS, broken)
    assert [path.name for path in tmp_path.iterdir()] == ["some.h5"]
    assert believed(path, path.read_bytes())


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to"):
        write_arrays(tmp_path / "file" / "some.h5", "identity", NUMBERS, some_arrays())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_the_place_of_a_file_is_no_damage(tmp_path):
    (tmp_path / "some.h5").mkdir()
    with pytest.raises(UserError, match="Cannot read"):
        read_arrays(tmp_path / "some.h5", "identity")
