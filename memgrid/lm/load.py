"""From a configuration to a language model: its files, its identity, and the proof that its attention is read as it is used."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from memgrid.config.schema import LLMConfig
from memgrid.errors import UserError
from memgrid.io.hub import LATER, cached, download
from memgrid.io.paths import TOY
from memgrid.lm.model import LanguageModel, ModelIdentity
from memgrid.lm.proof import prove_pooling

# What memgrid reads of a model on the hub.
HUB_FILES = {"allow_patterns": ["*.safetensors", "*.json", "*.model", "merges.txt"], "ignore_patterns": ["*/*", "consolidated*"]}


def model_folder(config: LLMConfig) -> Path | None:
    """The local folder of the model's files: the embedded one, a user's, or a snapshot in the hub cache; None for random weights.

    Raises:
        UserError: neither a folder nor in the hub cache.
    """
    if config.random:
        return None
    if config.path is None:
        return TOY
    folder = Path(config.path)
    snapshot = folder if folder.is_dir() else cached(config.path, "model", config.revision, **HUB_FILES)
    if snapshot is None:
        raise UserError(f"llm.path={config.path} is neither a folder nor a model in the local hub cache: check the path, or {LATER}")
    return snapshot


def fetch_model(config: LLMConfig) -> Path | None:
    """Download a hub model into the local hub cache; None where there is nothing to download.

    Raises:
        UserError: the model cannot be had, or has no safetensors.
    """
    if config.random or config.path is None or Path(config.path).is_dir():
        return None
    return download(f"llm.path={config.path}", config.path, "model", config.revision, "*.safetensors", **HUB_FILES)


def identify(config: LLMConfig) -> ModelIdentity:
    """The model's identity, from its configuration and from blocks sampled out of its weight files; nothing is loaded.

    Raises:
        UserError: no such model, or a folder without safetensors.
    """
    digest = hashlib.sha256(config.dtype.encode())
    folder = model_folder(config)
    if folder is None:
        assert config.random is not None
        digest.update(json.dumps(config.random, sort_keys=True).encode())
        shape = AutoConfig.for_model(**config.random)
    else:
        weights = sorted(folder.glob("*.safetensors"))
        if not weights or not (folder / "config.json").is_file():
            raise UserError(f"llm.path={config.path} holds no model: memgrid needs config.json and *.safetensors in {folder}")
        digest.update((folder / "config.json").read_bytes())
        for path in weights:
            digest_blocks(path, digest)
        shape = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    text = shape.get_text_config()  # the language part of a model that also sees or hears
    return ModelIdentity(config.name, config.revision or "", digest.hexdigest()[:16], text.num_hidden_layers, text.vocab_size)


def digest_blocks(path: Path, digest: Any, blocks: int = 256) -> None:
    """Feed a file's name, size and `blocks` evenly spaced 4 KiB blocks into a hashlib digest: quick for files of many gigabytes."""
    size = path.stat().st_size
    digest.update(f"{path.name}{size}".encode())
    with path.open("rb") as file:
        for start in range(0, size, max(4096, size // blocks)):
            file.seek(start)
            digest.update(file.read(4096))


def load_tokenizer(config: LLMConfig) -> Any:
    """The model's tokenizer, read without the weights from a local folder or the local hub cache; random weights take the embedded one.

    Raises:
        UserError: there is no such model, or no tokenizer in its folder.
    """
    folder = model_folder(config) or TOY
    # Without these files transformers would make up an empty vocabulary and say nothing.
    if not any(path for name in ("tokenizer.json", "vocab.json", "*.model") for path in folder.glob(name)):
        raise UserError(f"llm {config.name!r} has no tokenizer in {folder}: put its tokenizer.json there")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library in Rust raises nothing more special
        raise UserError(f"the tokenizer in {folder} cannot be read, get it anew: {str(error).strip().splitlines()[0]}") from None


def load_language_model(config: LLMConfig) -> LanguageModel:
    """Load from a local folder or the local hub cache: safetensors only, no remote code, no network.

    Raises:
        UserError: there is no such model, or its attention cannot be pooled.
    """
    if config.device_map is not None and find_spec("accelerate") is None:
        raise UserError(f"llm.device_map={config.device_map} needs accelerate: pip install accelerate, or leave llm.device_map out")
    transformers.logging.disable_progress_bar()
    identity, tokenizer = identify(config), load_tokenizer(config)
    device = torch.device(config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    options: dict[str, Any] = {"dtype": getattr(torch, config.dtype), "trust_remote_code": False}
    folder = model_folder(config)
    if folder is None:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config.random), **options)  # type: ignore[arg-type]
    else:
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, device_map=config.device_map, **options
            )
        except (OSError, ValueError) as error:
            raise UserError(f"llm {config.name!r} cannot be loaded from {folder}: {str(error).strip().splitlines()[0]}") from None
    model.eval()
    if config.device_map is None:
        model.to(device)
    lm = LanguageModel(tokenizer, identity, model, model.device, config.batch_tokens)
    prove_pooling(lm)
    return lm
