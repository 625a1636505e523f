"""The language model: load it, ask it for continuations, and read its attention while it decodes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from memgrid.attention import POOLED, AttentionRecorder, attention_of, recording
from memgrid.corpus import TOY
from memgrid.hub import LATER, cached, download
from memgrid.schema import LLMConfig, UserError

# What memgrid reads of a model on the hub.
HUB_FILES = {"allow_patterns": ["*.safetensors", "*.json", "*.model", "merges.txt"], "ignore_patterns": ["*/*", "consolidated*"]}


@dataclass(frozen=True)
class Scores:
    """What teacher forcing tells of sequences; all arrays have one entry per sequence.

    Attributes:
        memorized: bool; the arg max at every position from k - 1 on is the next token.
        confidence: float32; mean probability of the most probable token at the positions that predict the suffix.
        prefix_logprob: float32; mean log-probability (nats) of the prefix tokens after the first.
        suffix_logprob: float32; mean log-probability (nats) of the suffix tokens.
        suffix_probability: float32; mean probability of the suffix tokens.
    """

    memorized: np.ndarray
    confidence: np.ndarray
    prefix_logprob: np.ndarray
    suffix_logprob: np.ndarray
    suffix_probability: np.ndarray


def scores_of(logits: Float[Tensor, "batch length vocabulary"], inputs: Int[Tensor, "batch length"], k: int) -> Scores:
    """What the logits of one pass say of the tokens that were read."""
    logits = logits[:, :-1].float()
    # Log-probabilities only where they are asked for: a second tensor of all of them costs more time than the model's last layers.
    total = logits.logsumexp(-1)
    highest, predicted = logits.max(-1)
    best, given = highest - total, logits.gather(-1, inputs[:, 1:, None])[..., 0] - total
    return Scores(
        memorized=(predicted[:, k - 1 :] == inputs[:, k:]).all(-1).cpu().numpy(),
        confidence=best[:, k - 1 :].exp().mean(-1).cpu().numpy(),
        prefix_logprob=given[:, : k - 1].mean(-1).cpu().numpy() if k > 1 else np.zeros(len(inputs), np.float32),
        suffix_logprob=given[:, k - 1 :].mean(-1).cpu().numpy(),
        suffix_probability=given[:, k - 1 :].exp().mean(-1).cpu().numpy(),
    )


@dataclass(frozen=True)
class ModelIdentity:
    """What a model is, known without loading its weights; `fingerprint` tells its weights and dtype from all others."""

    name: str
    revision: str
    fingerprint: str
    layers: int
    vocabulary: int


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer without its model."""

    tokenizer: Any

    def detokenize(self, tokens: Int[np.ndarray, "batch length"]) -> list[str]:
        """The text of each sequence, nothing cleaned up."""
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class LanguageModel(Tokenizer):
    """A causal language model with its tokenizer."""

    identity: ModelIdentity
    model: Any
    device: torch.device
    batch_tokens: int

    def batch_size(self, length: int) -> int:
        """How many sequences of `length` tokens are computed at once."""
        return max(1, self.batch_tokens // length)

    @torch.inference_mode()
    def score(self, tokens: Int[np.ndarray, "batch length"], k: int) -> Scores:
        """Read sequences once under teacher forcing (DESIGN 4: one pass equals greedy decoding, up to exact ties)."""
        inputs = self._tensor(tokens)
        return scores_of(self.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits, inputs, k)

    @torch.inference_mode()
    def score_and_pool(self, tokens: Int[np.ndarray, "batch length"], k: int) -> tuple[Scores, dict[str, np.ndarray]]:
        """`score` and `pooled_maps` in one pass, for corpora of which most sequences' attention will be wanted."""
        inputs = self._tensor(tokens)
        with self.pooling(inputs) as recorder:
            logits = self.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
        return scores_of(logits, inputs, k), recorder.maps()

    @torch.inference_mode()
    def continue_greedily(
        self, prefix: Int[np.ndarray, "batch k"], steps: int
    ) -> tuple[Int[np.ndarray, "batch steps"], Float[np.ndarray, " batch"]]:
        """The greedy continuation, int32, and the mean probability of its tokens, float32.

        The end-of-text token is a token like any other here: a training sequence may contain it.
        """
        inputs = self._tensor(prefix)
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=steps,
            eos_token_id=None,
            pad_token_id=0,
            use_cache=True,
            output_logits=True,
            return_dict_in_generate=True,
        )
        self.model.generation_config.eos_token_id = None
        # The mask is all ones, explicitly: transformers would otherwise guess padding from token 0.
        made = self.model.generate(inputs, attention_mask=torch.ones_like(inputs), generation_config=greedy)
        best = torch.stack([logits.float().softmax(-1).amax(-1) for logits in made.logits])
        return made.sequences[:, prefix.shape[1] :].cpu().numpy().astype(np.int32), best.mean(0).cpu().numpy()

    @torch.inference_mode()
    def pooled_maps(self, decoded: Int[np.ndarray, "batch length"]) -> dict[str, np.ndarray]:
        """The attention while the model reads `decoded`, as `mean` and `max` over heads: float16 (batch, cells, layers).

        The language-model head is not computed. Cells are the lower triangle, row by row.
        """
        inputs = self._tensor(decoded)
        with self.pooling(inputs) as recorder:
            self.model.base_model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)
        return recorder.maps()

    @contextmanager
    def pooling(self, inputs: Tensor) -> Iterator[AttentionRecorder]:
        """What the model reads inside is pooled.

        Raises:
            UserError: not every layer reported.
        """
        layers = self.identity.layers
        recorder = AttentionRecorder(len(inputs), inputs.shape[1], layers)
        with attention_of(self.model, POOLED), recording(recorder):
            yield recorder
        if len(recorder.layers) != layers:
            raise UserError(
                f"llm {self.identity.name!r} sent {len(recorder.layers)} of its {layers} layers through transformers' attention interface"
            )

    def _tensor(self, tokens: np.ndarray) -> Int[Tensor, "batch length"]:
        return torch.from_numpy(np.ascontiguousarray(tokens, dtype=np.int64)).to(self.device)


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
    found = folder if folder.is_dir() else cached(config.path, "model", config.revision, **HUB_FILES)
    if found is None:
        raise UserError(f"llm.path={config.path} is neither a folder nor a model in the local hub cache: check the path, or {LATER}")
    return found


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
    if not model._supports_attention_backend:
        raise UserError(
            f"llm {config.name!r} ({type(model).__name__}) does not use transformers' attention interface: its attention cannot be pooled"
        )
    model.eval()
    if config.device_map is None:
        model.to(device)
    lm = LanguageModel(tokenizer, identity, model, model.device, config.batch_tokens)
    prove_pooling(lm)
    return lm


def prove_pooling(lm: LanguageModel) -> None:
    """Pool a few tokens and compare with the model's own eager attention.

    It takes a moment and finds every model whose attention does what our function does not know of, such as capped scores or sinks.

    Raises:
        UserError: the two differ, or a layer does not report.
    """
    tokens = np.arange(1, 9)[None] % lm.identity.vocabulary
    made = lm.pooled_maps(tokens)
    rows, columns = np.tril_indices(tokens.shape[1])
    with torch.inference_mode(), attention_of(lm.model, "eager"):
        attentions = lm.model.base_model(input_ids=lm._tensor(tokens), output_attentions=True, use_cache=False).attentions
    expected = np.stack([weights.float().mean(1)[:, rows, columns].cpu().numpy() for weights in attentions], -1)
    # Eager attention rounds its weights to the model's type, pooling does not.
    tolerance = 1e-3 if lm.model.dtype == torch.float32 else 2e-2
    if not np.allclose(made["mean"], expected, atol=tolerance):
        raise UserError(
            f"llm {lm.identity.name!r} ({type(lm.model).__name__}) computes attention in a way of its own: its pooled maps would be wrong"
        )
