"""From a configuration to a language model: its files, its identity, and the proofs that it is what they say."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from memgrid.config.names import checkpoint_of
from memgrid.config.schema import LLMConfig
from memgrid.errors import UserError
from memgrid.io.hub import absent, cached_as, download_as
from memgrid.io.paths import TOY
from memgrid.lm.checks import check_keys, check_numbers, check_positions, check_size, prove_causal, reason, told
from memgrid.lm.model import LanguageModel, ModelIdentity
from memgrid.lm.proof import prove_pooling
from memgrid.lm.weights import IN_PYTORCH, IN_SAFETENSORS, check_file, check_weights, is_mapped, weight_files

FORMS = (IN_SAFETENSORS, IN_PYTORCH)
TOKENIZERS = ("tokenizer.json", "vocab.json", "*.model")


def model_folder(config: LLMConfig) -> Path | None:
    """The local folder of the model's files: an embedded one, a user's, or a snapshot in the hub cache; None for random weights.

    Raises:
        UserError: neither a folder nor in the hub cache.
    """
    if config.random:
        return None
    if config.path is None:
        return TOY.parent / config.name / (config.revision or "")  # config.validate has seen that it is there
    folder = Path(config.path)
    snapshot = folder if folder.is_dir() else cached_as(config.path, "model", config.revision, FORMS)
    if snapshot is None:
        raise UserError(f"llm.path={config.path} is neither a folder nor a model {absent()}")
    return snapshot


def fetch_model(config: LLMConfig) -> Path | None:
    """Download a hub model into the local hub cache, in safetensors or else as .bin files; None where there is nothing to download.

    Raises:
        UserError: the model cannot be had, or has neither.
    """
    if config.random or config.path is None or Path(config.path).is_dir():
        return None
    return download_as(f"llm.path={config.path}", config.path, "model", config.revision, FORMS)


def identify(config: LLMConfig) -> ModelIdentity:
    """The model's identity, from its configuration and from blocks sampled out of its weight files; nothing is loaded.

    Raises:
        UserError: no such model, or a folder that holds none, or files that are not whole.
    """
    digest = hashlib.sha256(config.dtype.encode())
    folder = model_folder(config)
    with told(config.name, folder):
        shape = read_shape(config, folder)
        if folder is None:
            digest.update(json.dumps(config.random, sort_keys=True).encode())
        else:
            files = weight_files(folder)
            for path in files:
                check_weights(path)
            digest.update((folder / "config.json").read_bytes())
            # All safetensors, as ever: what was computed with earlier versions is found by this.
            for path in sorted({*files, *folder.glob("*.safetensors")}):
                digest_blocks(path, digest)
        text = shape.get_text_config()  # the language part of a model that also sees or hears
        checkpoint = checkpoint_of(config.revision, config.path)
        return ModelIdentity(
            config.name, config.revision or "", digest.hexdigest()[:16], text.num_hidden_layers, text.vocab_size, checkpoint
        )


def read_shape(config: LLMConfig, folder: Path | None) -> Any:
    """The model's configuration as transformers has it.

    Raises:
        UserError: the folder holds no model, or not only that.
    """
    if folder is None:
        assert config.random is not None
        return AutoConfig.for_model(**config.random)
    described = folder / "config.json"
    if not described.is_file() or not weight_files(folder):
        raise UserError(
            f"llm.path={config.path} holds no model: memgrid needs config.json and either model.safetensors or pytorch_model.bin, in one "
            f"piece or as an index with its parts, in {folder}"
        )
    check_file(described)
    try:
        content = json.loads(described.read_text())
        kind = content["model_type"]
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{described} is no JSON with a model_type: get it anew") from None
    subject = f"llm {config.name!r} in {folder}"
    if (quantized := content.get("quantization_config")) is not None:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise UserError(f"{subject} is quantized ({method}), which memgrid does not read: choose the {kind} that it was made of")
    if content.get("transformers_weights") is not None or (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{subject} is changed by an adapter or by weights in other files: merge them, and save the model with save_pretrained"
        )
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


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
    if not (paths := [path for name in TOKENIZERS for path in folder.glob(name)]):
        raise UserError(f"llm {config.name!r} has no tokenizer in {folder}: put its tokenizer.json there")
    for path in paths:
        check_file(path)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library in Rust raises nothing more special
        raise UserError(f"the tokenizer in {folder} cannot be read because {reason(error)}") from None


def load_language_model(config: LLMConfig, length: int = 64) -> LanguageModel:
    """Load from a local folder or the local hub cache, with no remote code and no network, and prove that all is as its files say.

    Args:
        length: of the sequences that it will read, in tokens.

    Raises:
        UserError: there is no such model, its weights do not fit its configuration, or it is none that memgrid can read.
    """
    if config.device_map is not None and find_spec("accelerate") is None:
        raise UserError(f"llm.device_map={config.device_map} needs accelerate: pip install accelerate, or leave llm.device_map out")
    transformers.logging.disable_progress_bar()
    identity, tokenizer, folder = identify(config), load_tokenizer(config), model_folder(config)
    subject = f"llm {config.name!r} in {folder or 'llm.random'}"
    with told(config.name, folder):
        check_positions(read_shape(config, folder).get_text_config(), length, subject)
        model = random_model(config) if folder is None else stored_model(config, folder, subject)
        model.eval()
        model.generation_config = GenerationConfig()  # a model's own penalties would make its continuation something else than greedy
        if config.device_map is None:
            device = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
            model.to(torch.device(device))
        lm = LanguageModel(tokenizer, identity, model, model.device, config.batch_tokens)
        check_numbers(model, subject)
        prove_causal(lm, length, subject)
        prove_pooling(lm, length)
    return lm


def random_model(config: LLMConfig) -> Any:
    """A model with the same random weights each time."""
    torch.manual_seed(0)
    shape = AutoConfig.for_model(**config.random)  # type: ignore[arg-type]
    return AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, config.dtype), trust_remote_code=False)


def stored_model(config: LLMConfig, folder: Path, subject: str) -> Any:
    """The model of a folder, all of its weights from its files."""
    files = weight_files(folder)
    if all(path.suffix == ".safetensors" or is_mapped(path) for path in files):
        with torch.device("meta"):
            check_size(AutoModelForCausalLM.from_config(read_shape(config, folder), trust_remote_code=False), files, subject)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, config.dtype),
        use_safetensors=files[0].suffix == ".safetensors",
        weights_only=True,
        ignore_mismatched_sizes=True,  # they are told below, by name
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=False,
        device_map=config.device_map,
    )
    check_keys(info, files, subject)
    return model
