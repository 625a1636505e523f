"""corpus.bos=true through the stages: what is labelled and extracted is what the model says and looks at after its BOS token."""

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
from conftest import memgrid_here

from memgrid.lm.model import after_bos, identity_after_bos


def test_labels_and_attention_are_those_after_bos(quick, few, toy_lm, tmp_path):
    memgrid_here(*quick, *few, f"root={tmp_path}", "corpus.bos=true", "select.min_train_per_class=2", "stages=[label,extract]")
    bos = toy_lm.tokenizer.bos_token_id
    lm = after_bos(toy_lm, identity_after_bos(toy_lm.identity, bos), bos)
    with h5py.File(next(tmp_path.glob("attention/**/*.h5"))) as shard:
        assert shard.attrs["fingerprint"].decode() == lm.identity.fingerprint != toy_lm.identity.fingerprint
        assert (shard.attrs["length"], shard.attrs["k"]) == (64, 32)
        for name, pool in lm.pooled_maps(shard["decoded"][:4]).items():
            np.testing.assert_allclose(shard[name][:4], pool, atol=2e-3)
