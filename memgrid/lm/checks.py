"""Whether a model that was loaded is the one that its folder describes; everything that can go wrong before that is one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from memgrid.errors import UserError
from memgrid.lm.model import LanguageModel
from memgrid.lm.weights import is_constant, mapped

TOKENS = 8  # read to prove causality, in both of two sequences: a moment for the largest models
FAR = 2  # times the numbers in the weight files; a smaller difference is told by the names of the tensors
MOST_WORDS = 160  # characters of what a library says


@contextmanager
def told(name: str, folder: Path | None) -> Iterator[None]:
    """Whatever goes wrong inside, in this project's code or in a library's, is one sentence; libraries say nothing themselves.

    Args:
        name: of the model. folder: its files; None for random weights.

    Raises:
        UserError: instead of any other exception.
    """
    loudness = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    try:
        yield
    except UserError as error:
        if folder is None or str(folder) in str(error):
            raise
        raise UserError(f"{error} (it was read from {folder})") from None
    except Exception as error:
        raise UserError(f"llm {name!r} cannot be loaded from {folder or 'llm.random'} because {reason(error)}") from None
    finally:
        transformers.logging.set_verbosity(loudness)


def reason(error: Exception) -> str:
    """Why a model cannot be loaded, and what to do about it: the second half of a sentence."""
    said = plain(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in said:
        return "it does not fit into memory: choose llm.dtype=float16, llm.device_map=auto or a smaller model"
    if "trust_remote_code" in str(error):
        return "it brings code of its own, which memgrid does not run: choose a model that transformers itself knows"
    if isinstance(error, ImportError):
        return f"{said}: install what is missing"
    if isinstance(error, FloatingPointError):
        return said
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be read ({error.strerror}): see to its rights, or get it anew"
    return (
        f"transformers {transformers.__version__} says {said!r}: choose a model that this version knows, or get its files anew, as "
        "save_pretrained writes them"
    )


def plain(error: Exception) -> str:
    """The first sentence of what a library says, without line breaks, or the kind of its error where it says nothing."""
    said = str(error).strip().partition("\n")[0].partition(". ")[0].strip(" .:")
    if len(said) > MOST_WORDS:
        said = said[:MOST_WORDS].rpartition(" ")[0] + " …"
    return f"{type(error).__name__}: {said}" if isinstance(error, LookupError | AttributeError | TypeError) or not said else said


def check_positions(shape: Any, length: int, subject: str) -> None:
    """Refuse a model that has not learned positions for so many tokens.

    Args:
        shape: the configuration of the language part.
    """
    positions = getattr(shape, "max_position_embeddings", None)
    if isinstance(positions, int) and positions < length:
        raise UserError(f"{subject} knows only {positions} positions, but sequences have {length} tokens: lower corpus.length")


def check_size(model: Any, paths: Sequence[Path], subject: str) -> None:
    """Refuse weights that are far from filling the model, before memory is taken for it: the system might end this process for that.

    Args:
        model: without memory for its tensors (on torch's device meta). paths: the weight files.
    """
    wanted = sum(parameter.numel() for parameter in model.parameters())
    held = sum(tensor.numel() for path in paths for tensor in mapped(path).values())
    if wanted > FAR * held:
        raise UserError(
            f"{subject} has weights that do not fit its config.json, which describes {wanted:,} numbers where they are {held:,}: put the "
            "config.json there that they were saved with"
        )


def check_keys(info: dict[str, Any], paths: Sequence[Path], subject: str) -> None:
    """Refuse weights that are not exactly those of the model: transformers would make up what is missing.

    Args:
        info: what transformers tells of its loading, tied weights already left out. paths: the weight files.
    """
    faults = []
    if missing := sorted(info["missing_keys"]):
        faults.append(f"lack {len(missing)} of its tensors, such as {missing[0]}")
    if mismatched := sorted(info["mismatched_keys"]):
        name, stored, wanted = mismatched[0]
        faults.append(f"have {len(mismatched)} of other shapes, such as {name} with {list(stored)} for {list(wanted)}")
    if leftover := info["unexpected_keys"] and unknown(info["unexpected_keys"], paths):
        faults.append(f"have {len(leftover)} that it has no place for, such as {leftover[0]}")
    if faults:
        raise UserError(
            f"{subject} has weights that do not fit its config.json, as they {' and '.join(faults)}: put the config.json there that they "
            "were saved with, or save the model anew with save_pretrained"
        )


def unknown(names: set[str], paths: Sequence[Path]) -> list[str]:
    """Those of the tensors that the model has no use for that held learned numbers, sorted."""
    shapes = {name: tuple(tensor.shape) for path in paths for name, tensor in mapped(path).items()}
    # transformers may tell a name with or without the prefix of the model's body.
    found = {name: next((shapes[key] for key in shapes if name.endswith(key) or key.endswith(name)), ()) for name in names}
    return sorted(name for name, shape in found.items() if not is_constant(name, shape))


def check_numbers(model: Any, subject: str) -> None:
    """Refuse weights that are not finite: what is computed with them may be wrong in some sequences only."""
    tensors = [(name, tensor.detach()) for name, tensor in model.named_parameters() if tensor.numel() and not tensor.is_meta]
    # The least and the largest number are not finite if any is not, and are found many times faster than by asking each.
    broken = [name for name, tensor in tensors if not torch.stack(tensor.aminmax()).isfinite().all()]
    if broken:
        raise UserError(
            f"{subject} has numbers that are not finite in {len(broken)} of its {len(tensors)} tensors, such as {broken[0]}: get its files "
            "anew, or set llm.dtype=float32 if it is float16 that cannot hold them"
        )


@torch.inference_mode()
def prove_causal(lm: LanguageModel, length: int, subject: str) -> None:
    """Read two sequences that begin alike, and compare what the model expects after each token of the beginning.

    Raises:
        UserError: a later token changes what is expected before it, or what is expected is no finite number for each token id.
    """
    count, vocabulary = min(length, TOKENS), lm.identity.vocabulary
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocabulary, (1, count)).repeat(2, 0)
    tokens[1, count // 2 :] = (tokens[1, count // 2 :] + rng.integers(1, max(2, vocabulary), count - count // 2)) % vocabulary
    inputs = lm._tensor(tokens)
    logits = lm.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits.float()
    kind, dtype = type(lm.model).__name__, str(lm.model.dtype).replace("torch.", "llm.dtype=")
    if not logits.isfinite().all():
        raise UserError(f"{subject} ({kind}) computes numbers that are not finite in {dtype}: set llm.dtype=float32, or get its files anew")
    if logits.shape[-1] < vocabulary:
        raise UserError(f"{subject} ({kind}) expects one of {logits.shape[-1]} tokens, but config.json says vocab_size={vocabulary}")
    one, other = logits[:, : count // 2]
    # Experts get other tokens in the second sequence, and may round otherwise.
    tolerance = 1e-4 if lm.model.dtype == torch.float32 else 3e-2
    if count > 1 and (one - other).abs().max() > tolerance * logits.std():
        raise UserError(
            f"{subject} ({kind}) is not causal (a later token changes what it expects before it): choose one that reads from left to right"
        )
