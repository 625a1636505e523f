"""Extraction that is killed again and again, or done by several processes at once, leaves what one leaves that nothing disturbs."""

import forks
import h5py
import numpy as np
import pytest
from same_maps import assert_same_maps

from memgrid.store.extract import open_store

SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np, torch
from memgrid.config.schema import CorpusConfig
from memgrid.config.schema import ExtractConfig
from memgrid.config.schema import LLMConfig
from memgrid.corpus.corpus import load_corpus
from memgrid.store.extract import extract
from memgrid.store.extract import open_store
from memgrid.lm.load import load_language_model

folder, root, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)  # one thread: a child made by fork has no use for a pool of threads that stayed behind
corpus = load_corpus(CorpusConfig(name="some", path=folder))
lm = load_language_model(LLMConfig(name="toy", path=None, batch_tokens=512))
memorized, confidence = np.load(root.parent / "memorized.npy"), np.zeros(len(corpus.tokens), np.float32)


def child():
    pid = os.fork()
    if pid == 0:
        store = open_store(root, corpus, lm.identity)
        extract(store, lm, corpus, corpus.sequence_id, memorized, confidence, ExtractConfig(shard_samples=8))
        os._exit(0)
    return pid


rng = random.Random(0)
for _ in range(kills):
    pid = child()
    time.sleep(rng.uniform(0.01, 0.15))
    os.kill(pid, signal.SIGKILL)
    print("killed", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
for pid in [child() for _ in range(int(sys.argv[4]))]:
    print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture(scope="module")
def undisturbed(some, judged, tmp_path_factory):
    root = tmp_path_factory.mktemp("extraction")
    np.save(root / "memorized.npy", judged[0])
    run_script(some, root / "whole", 0, 1)
    return root


def run_script(folder, root, kills, writers):
    """Children extract the same sequences: `kills` of them one after the other, each killed, then `writers` at the same time."""
    done = forks.run(["-c", SCRIPT, folder, root, kills, writers])
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def assert_equal_to_undisturbed(undisturbed, root, corpus, toy_lm):
    whole, other = (open_store(folder, corpus, toy_lm.identity) for folder in (undisturbed / "whole", root))
    wanted = np.sort(corpus.sequence_id)
    np.testing.assert_array_equal(other.ids(), wanted)
    assert_same_maps(whole.read(wanted, measured=True), other.read(wanted, measured=True))


def test_killed_at_twenty_moments_and_started_again_equals_undisturbed(undisturbed, some, embedded, toy_lm):
    said = run_script(some, undisturbed / "killed", 20, 1)
    assert said.count("killed -9") >= 10  # the last ones may find nothing left to do
    assert "ended 0" in said
    assert_equal_to_undisturbed(undisturbed, undisturbed / "killed", embedded, toy_lm)


def test_four_extractors_at_once_lose_and_corrupt_nothing(undisturbed, some, embedded, toy_lm):
    assert run_script(some, undisturbed / "four", 0, 4).count("ended 0") == 4
    assert_equal_to_undisturbed(undisturbed, undisturbed / "four", embedded, toy_lm)
    shards = [h5py.File(path)["sequence_id"][:] for path in (undisturbed / "four").rglob("*.h5")]
    assert len(np.concatenate(shards)) == len(np.unique(np.concatenate(shards)))  # they shared the work
