"""Models from the hub, with a stand-in for it on this machine: what is downloaded, what is found again offline, and what goes wrong."""

import io
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants, snapshot_download
from safetensors.torch import load, save
from stand_in_hub import COMMIT, Answers, opened
from transformers import AutoConfig, AutoModelForCausalLM

from memgrid.config.schema import LLMConfig
from memgrid.errors import UserError
from memgrid.io import hub as hub_module
from memgrid.io.paths import TOY
from memgrid.lm.load import fetch_model, identify, load_language_model, load_tokenizer, model_folder

SMALL = {"vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
NOT_WANTED = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json.lock",
    "optimizer.bin",
    "README.md",
    "LICENSE.txt",
    "onnx/model.safetensors",
    "onnx/config.json",
    "consolidated.safetensors",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model as its folder on the hub, with much that memgrid does not read."""
    folder = tmp_path_factory.mktemp("model")
    AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_neox", **SMALL)).save_pretrained(folder)
    wanted = {path.name: path.read_bytes() for path in (*folder.iterdir(), TOY / "tokenizer.json", TOY / "tokenizer_config.json")}
    return {**wanted, **dict.fromkeys(NOT_WANTED, b"unwanted")}


# Names of the weight files of models on the hub, as their pages listed them at one time or another.
LISTED = {
    "pythia-12b-deduped-v0": [f"pytorch_model-0000{part}-of-00003.bin" for part in (1, 2, 3)],
    "pythia-12b-deduped": [f"pytorch_model-0000{part}-of-00003.bin" for part in (1, 2, 3)],
    "pythia-6.9b-deduped-v0": [f"pytorch_model-0000{part}-of-00002.bin" for part in (1, 2)],
    "pythia-6.9b-deduped": [f"pytorch_model-0000{part}-of-00002.bin" for part in (1, 2)],
    "pythia-2.8b-deduped-v0": ["model.safetensors", "pytorch_model.bin"],
    "pythia-1b-deduped-v0": ["model.safetensors", "pytorch_model.bin"],
    "pythia-410m-deduped-v0": ["model.safetensors", "pytorch_model.bin"],
    "pythia-70m-deduped-v0": ["model.safetensors", "pytorch_model.bin"],
    "pythia-70m-deduped-v0 at step143000": ["pytorch_model.bin"],
    "shards in both formats": [
        *(f"model-0000{part}-of-00002.safetensors" for part in (1, 2)),
        *(f"pytorch_model-0000{part}-of-00002.bin" for part in (1, 2)),
    ],
}


def laid_out(files, names):
    """A model's files with its weights under other names: in one format or in both, whole or in parts, each with an index."""
    made = {name: content for name, content in files.items() if name not in (*NOT_WANTED, "model.safetensors")}
    weights = load(files["model.safetensors"])
    for suffix, stem in ((".safetensors", "model.safetensors"), (".bin", "pytorch_model.bin")):
        parts = sorted(name for name in names if name.endswith(suffix))
        places = {key: parts[number % len(parts)] for number, key in enumerate(weights) if parts}
        for part in parts:
            held, buffer = {key: weights[key] for key, place in places.items() if place == part}, io.BytesIO()
            torch.save(held, buffer)
            made[part] = buffer.getvalue() if suffix == ".bin" else save(held, {"format": "pt"})
        if len(parts) > 1:
            made[f"{stem}.index.json"] = json.dumps({"metadata": {}, "weight_map": places}).encode()
    return made


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
    """The stand-in, to which the hub library is sent; its cache is empty."""
    with opened({"someone/small": dict(files)}, ("main", "step1", "step143000", COMMIT)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


def small(**settings):
    return LLMConfig(name="small", path="someone/small", **settings)


def refusal(config) -> str:
    with pytest.raises(UserError) as caught:
        fetch_model(config)
    sentence = str(caught.value)
    assert f"llm.path={config.path} " in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("revision", [None, "step143000", COMMIT])
def test_a_fetched_model_is_found_without_a_network(hub, monkeypatch, revision):
    config = small(revision=revision)
    with pytest.raises(UserError, match=r"neither a folder nor a model .* run once with stages=\[fetch\] where there is a network"):
        model_folder(config)
    folder = fetch_model(config)
    assert {path.name for path in folder.iterdir()} == set(hub.repositories["someone/small"]) - set(NOT_WANTED)
    assert not [path for path in hub.asked if "/resolve/" in path and path.endswith(NOT_WANTED)]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert model_folder(config) == folder
    assert identify(config).vocabulary == 2048
    assert load_language_model(config).identity.layers == 2
    assert fetch_model(config) == folder  # nothing to ask the hub for


@pytest.mark.parametrize("names", LISTED.values(), ids=LISTED)
def test_what_a_repository_has_is_fetched_and_never_both_formats(hub, files, monkeypatch, names):
    hub.repositories["someone/small"] = {
        **laid_out(files, names),
        "optimizer.bin": b"unwanted",
        "pytorch_model.fp16.bin": b"unwanted",
        "flax_model.msgpack": b"unwanted",
    }
    config = small(revision="step143000")
    folder = fetch_model(config)
    suffix = ".safetensors" if any(name.endswith(".safetensors") for name in names) else ".bin"
    wanted = {name for name in names if name.endswith(suffix)}
    assert {path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".msgpack")} == wanted
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert model_folder(config) == fetch_model(config) == folder
    tokens = np.random.default_rng(0).integers(0, 2048, (1, 64))
    lm = load_language_model(config)
    assert lm.identity == identify(config)
    (whole := folder.parent / "whole").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (whole / name).write_bytes(files[name])
    expected = load_language_model(LLMConfig(name="whole", path=str(whole))).score(tokens, 32)
    np.testing.assert_array_equal(lm.score(tokens, 32).suffix_logprob, expected.suffix_logprob)


def test_a_format_that_was_fetched_elsewhere_will_do(hub, files, monkeypatch):
    hub.repositories["someone/small"] = laid_out(files, LISTED["shards in both formats"])
    snapshot_download("someone/small", ignore_patterns=["*.safetensors"])  # as transformers does it with use_safetensors=False
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_language_model(small()).identity.layers == 2


def test_a_repository_of_which_only_the_tokenizer_was_fetched_is_no_model(hub, files):
    hub.repositories["someone/small"] = laid_out(files, ["pytorch_model.bin"])
    snapshot_download("someone/small", allow_patterns=["*.json"])
    with pytest.raises(UserError, match=r"run once with stages=\[fetch\]"):
        model_folder(small())


def test_an_interrupted_download_of_parts_does_not_count(hub, files):
    hub.repositories["someone/small"] = laid_out(files, LISTED["pythia-12b-deduped-v0"])
    (fetch_model(small()) / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(UserError, match="neither a folder nor a model"):
        model_folder(small())


def test_an_interrupted_download_does_not_count(hub, monkeypatch):
    folder = fetch_model(small())
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="neither a folder nor a model"):
        model_folder(small())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(small())


NONE = "has no model.safetensors or model.safetensors.index.json or pytorch_model.bin or pytorch_model.bin.index.json on the hub"


@pytest.mark.parametrize(
    "only", ["tf_model.h5", "onnx/model.safetensors", "model-q4.gguf", "adapter_model.safetensors", "training_args.bin"]
)
def test_a_model_without_weights_is_refused_before_anything_is_downloaded(hub, only):
    hub.repositories["someone/small"] = {"config.json": hub.repositories["someone/small"]["config.json"], only: b"unwanted"}
    assert NONE in refusal(small())
    assert not [path for path in hub.asked if "/resolve/" in path]


def test_without_weights_by_the_hub_librarys_own_words(monkeypatch):
    siblings = [SimpleNamespace(rfilename=name) for name in ("config.json", "pytorch_model.bin.lock")]
    monkeypatch.setattr(HfApi, "repo_info", lambda self, path, repo_type, revision, timeout: SimpleNamespace(siblings=siblings))
    assert NONE in refusal(small())


@pytest.mark.parametrize(
    ("at", "status", "code", "words"),
    [
        ("/api/models/", 404, "RepoNotFound", "the hub has no such model: check its name"),
        ("/api/models/", 404, "RevisionNotFound", "it has no revision step1: name another"),
        ("/api/models/", 403, "GatedRepo", "its owners decide who may have it: ask for access"),
        ("/someone/small/resolve/", 403, "GatedRepo", "its owners decide who may have it: ask for access"),
        ("/api/models/", 503, "", "the hub answers with status 503: try again later"),
        ("/someone/small/resolve/", 200, "", "what answers is not the hub: look at HF_ENDPOINT and at the proxy"),
        ("/api/models/", 429, "", "too many have asked the hub from this address: wait five minutes, or log in"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_sentence(hub, at, status, code, words):
    hub.error = {"at": at, "status": status, "code": code}
    assert words in refusal(small(revision="step1"))


def test_a_malformed_name(hub):
    assert "the hub has no such model: check its name" in refusal(LLMConfig(name="x", path="folder/that/is/not/there"))


def test_the_offline_flag(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set: unset it where there is a network" in refusal(small())


def test_an_unreachable_hub_is_told_within_seconds(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    start = time.monotonic()
    assert "the hub does not answer (ConnectError): run it where there is a network" in refusal(small())
    assert time.monotonic() - start < 10


def test_a_hub_that_says_nothing(hub, monkeypatch):
    monkeypatch.setattr(Answers, "answer", lambda self: time.sleep(1))
    monkeypatch.setattr(hub_module, "TIMEOUT", 0.2)
    assert "the hub does not answer (ReadTimeout)" in refusal(small())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "the disk is full: make room, or set HF_HOME"),
        (RuntimeError("IO error: No space left on device (os error 28)"), "the disk is full"),
        (OSError(122, "Disk quota exceeded"), "the disk is full"),
        (PermissionError(13, "Permission denied", "/cache/models"), "/cache/models cannot be written (Permission denied): set HF_HOME"),
        (RuntimeError("transfer broken off"), "the hub does not answer (RuntimeError)"),
    ],
)
def test_what_happens_while_files_are_written(hub, monkeypatch, error, words):
    def broken(*_, local_files_only=False, **__):
        raise FileNotFoundError if local_files_only else error

    monkeypatch.setattr(hub_module, "snapshot_download", broken)
    assert words in refusal(small())


def test_where_nothing_is_to_be_downloaded(tmp_path):
    assert fetch_model(LLMConfig(name="toy", path=None)) is None
    assert fetch_model(LLMConfig(name="mine", path=str(tmp_path))) is None
    assert fetch_model(LLMConfig(name="r", path=None, random={"model_type": "gpt2", **SMALL})) is None


def test_the_tokenizer_without_the_weights(tmp_path):
    config = LLMConfig(name="mine", path=str(tmp_path))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((TOY / name).read_bytes())
    expected = load_tokenizer(LLMConfig(name="toy", path=None))
    assert load_tokenizer(config).encode("Some words.") == expected.encode("Some words.")
    assert load_tokenizer(LLMConfig(name="r", path=None, random={"model_type": "gpt2", **SMALL})).get_vocab() == expected.get_vocab()


@pytest.mark.parametrize(
    ("content", "words"), [(None, "'mine' has no tokenizer in .*: put its tokenizer.json there"), ("{}", "cannot be read")]
)
def test_a_tokenizer_that_is_missing_or_broken(tmp_path, content, words):
    (tmp_path / "config.json").write_bytes((TOY / "config.json").read_bytes())
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        load_tokenizer(LLMConfig(name="mine", path=str(tmp_path)))
    assert "\n" not in str(caught.value)
