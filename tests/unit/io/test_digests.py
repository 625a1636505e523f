"""Digests: what was written is read, and no flipped bit is used; what older versions wrote is believed."""

import json
import re
from contextlib import suppress

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from memgrid.errors import DamagedError, DamageWarning
from memgrid.io.digests import (
    BLOCK,
    UNSEALED,
    check_file,
    is_sound,
    is_usable,
    read_bytes,
    read_json,
    read_parquet,
    read_table,
    read_yaml,
    sealed,
    write_json,
    write_parquet,
    write_yaml,
)
from memgrid.io.paths import PACKAGE

TABLE = pl.DataFrame({"id": np.arange(3000), "text": ["sha256:" + "ab" * 32] * 3000, "list": [[True, None]] * 3000})
CONFIG = {"a": 1, "b": {"c": "ρ=0.5", "d": [1.5, None]}}
# A file of each kind: its name, what writes it, and what reads it.
KINDS = {
    "a.json": (lambda path: write_json(CONFIG, path), read_json),
    "a.yaml": (lambda path: write_yaml(OmegaConf.create(CONFIG), path), lambda path: OmegaConf.to_container(read_yaml(path))),
    "a.parquet": (
        lambda path: write_parquet(TABLE, path, {"memgrid": '{"k": 32}'}),
        lambda path: (lambda table, metadata: (str(table), metadata["memgrid"]))(*read_table(path)),
    ),
}


DAMAGES = [lambda b: b"", lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: bytes(len(b)), lambda b: b + b"x"]


@pytest.mark.parametrize("name", KINDS)
def test_of_random_flips_none_is_silent(name, tmp_path):
    path, (write, read) = tmp_path / name, KINDS[name]
    write(path)
    expected, kept = read(path), path.read_bytes()
    ends = np.arange(8 * max(0, len(kept) - 1200), 8 * len(kept))  # where digest, footer and lengths stand
    generator = np.random.default_rng(0)
    places = [*generator.integers(0, 8 * len(kept), 200), *generator.choice(ends, 800), *ends[-2000:]]
    harmless = 0
    for at in map(int, places):
        flipped = bytearray(kept)
        flipped[at // 8] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        with suppress(DamagedError):
            assert read(path) == expected
            harmless += 1  # the name under which parquet has its digest
    assert harmless < len(places) / 20
    assert name.endswith("parquet") or not harmless
    path.write_bytes(kept)
    assert read(path) == expected


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: bytes(len(b)), lambda b: b + b"x"]
)
def test_of_torn_files_none_is_used(name, damage, tmp_path):
    path, (write, read) = tmp_path / name, KINDS[name]
    write(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedError):
        read(path)


def test_what_is_read_is_what_was_written(tmp_path):
    for name, (write, _) in KINDS.items():
        write(tmp_path / name)
    assert read_json(tmp_path / "a.json") == CONFIG
    assert json.loads((tmp_path / "a.json").read_text()).keys() == {*CONFIG, "digest"}
    assert read_yaml(tmp_path / "a.yaml") == OmegaConf.load(tmp_path / "a.yaml") == OmegaConf.create(CONFIG)
    assert read_parquet(tmp_path / "a.parquet").equals(TABLE)
    assert read_parquet(tmp_path / "a.parquet", ["id"]).equals(TABLE.select("id"))
    assert pl.read_parquet(tmp_path / "a.parquet").equals(TABLE)  # other programs see a table
    assert read_table(tmp_path / "a.parquet")[1]["memgrid"] == '{"k": 32}'


def test_what_older_versions_wrote_is_believed(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(CONFIG))
    (tmp_path / "a.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(CONFIG)))
    TABLE.write_parquet(tmp_path / "a.parquet", metadata={"memgrid": "old"})
    for name, (_, read) in KINDS.items():
        assert read(tmp_path / name)
        check_file(tmp_path / name)


def test_one_bit_of_a_sealed_file_never_makes_it_look_like_an_old_one():
    content = bytes(sealed(f'{{"a": 1, "digest": "{UNSEALED}"}}'.encode()))
    assert is_sound(content)
    for at in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << (at % 8)
        assert not is_sound(bytes(flipped)), at


@settings(max_examples=60)
@given(st.integers(0, 400), st.integers(1, 3))
def test_a_text_is_summed_wherever_it_ends(before, seed):
    content = np.random.default_rng(seed).bytes(before) + f'"digest": "{UNSEALED}"\n}}'.encode()
    assert is_sound(bytes(sealed(content)), old=False)


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame({"digest": ["sha256:" + "ab" * 32], "text": ["a digest"]}),
        pl.DataFrame({"digest": ["\x06digest\x18" * 9]}),
        pl.DataFrame({f"digest-{n}": ["sha256:" + "00" * 32] for n in range(30)}),
    ],
)
def test_what_users_bring_may_speak_of_digests(table, tmp_path):
    path = tmp_path / "a.parquet"
    table.write_parquet(path, metadata={"origin": "digest of the web"})
    if not table["digest" if "digest" in table.columns else "digest-0"][0].startswith("\x06"):
        check_file(path)
        assert read_parquet(path).equals(table)
    (tmp_path / "a.yaml").write_text("corpus: {path: /data/digests}\ntitle: a digest\n")
    assert read_yaml(tmp_path / "a.yaml").title == "a digest"
    (tmp_path / "a.json").write_text('{"title": "digest", "path": "digest: sha256:"}')
    assert read_json(tmp_path / "a.json")["title"] == "digest"


def test_a_table_of_many_columns_has_its_digest_too(tmp_path):
    path, table = tmp_path / "a.parquet", pl.DataFrame({f"column-{n}": [n] for n in range(3000)})
    write_parquet(table, path)
    assert read_parquet(path).equals(table)
    path.write_bytes(path.read_bytes()[:100] + b"?" + path.read_bytes()[101:])
    with pytest.raises(DamagedError):
        read_parquet(path)


def test_files_longer_than_a_block(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    write_parquet(TABLE, path)
    size = path.stat().st_size
    place = path.read_bytes().rindex(b"sha256:")
    for block in (1, place + 7, place + 20, place + 71, size - 1, size, BLOCK):
        monkeypatch.setattr("memgrid.io.digests.BLOCK", max(block, 64))
        check_file(path)
        kept = path.read_bytes()
        for at in (0, place - 1, place + 80, size // 2):
            path.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
            with pytest.raises(DamagedError):
                check_file(path)
        path.write_bytes(kept)


def test_a_damaged_file_is_named_and_set_aside_for_whoever_makes_it_anew(tmp_path):
    path = tmp_path / "a.json"
    assert not is_usable(path)
    write_json(CONFIG, path)
    assert is_usable(path)
    path.write_bytes(path.read_bytes().replace(b"1.5", b"1.6"))
    with pytest.warns(
        DamageWarning, match=rf"^{path} is damaged \(its content does not match its digest\) and was moved to .*damaged/a.json"
    ):
        assert not is_usable(path)
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        read_bytes(path)


# Who may read a file in another way: what users bring, what has sums of its own, and logs.
OTHER_WAYS = re.compile(
    r"pl\.(read|scan)_parquet|read_parquet_metadata|json\.loads\(.*read_|OmegaConf\.load|\.read_bytes\(\)|\.read_text\(|content_of\(|torch\.load|pickle\.load"
)
ALLOWED = {
    "io/digests.py",
    "io/checkpoints.py",
    "io/files.py",  # copies
    "corpus/parquet.py",  # tables that users bring
    "corpus/documents.py",  # text that users bring
    "corpus/corpus.py",  # documents, after their digest
    "config/overrides.py",  # conf/
    "config/mistakes.py",  # conf/
    "config/describe.py",  # conf/
    "report/flows/sides.py",  # conf/
    "report/shell/render.py",  # styles and scripts that come with memgrid
    "report/viewer/section.py",  # the same
    "audit/report/page.py",  # tables that were just written
    "config/derive.py",  # conf/
    "report/figures/drawing.py",  # what was just drawn
    "report/read.py",  # results, whose digest `results.result` checks
    "results/folder.py",  # the same
    "audit/folder.py",  # the same
    "results/states.py",  # the same
    "launch/handover.py",  # what nobody else can have written
    "train/reuse.py",  # the name of a folder, which is checked
    "store/archive.py",  # ids that users bring
    "localize/maps.py",  # HDF5 with a sum of its own
    "intervene/trials.py",  # a journal, line by line
    "results/transfers/sources.py",  # a result, whose digest is looked at where it is decoded
    "lm/load.py",  # models that users bring
    "lm/weights.py",  # the same: their weights have no digest of memgrid's, and are looked through for what a broken download leaves
    "pretrain/sources.py",  # text that users bring
    "audit/data/canaries.py",  # images that users bring
    "tracking/files.py",  # wandb's files
    "tracking/sync.py",  # a note of its own: one number
}


def test_there_is_no_other_way_to_read_a_file():
    others = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if OTHER_WAYS.search(path.read_text())}
    assert others == ALLOWED
