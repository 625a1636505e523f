"""Training of the embedded GPT-NeoX: one pass over the documents, in bfloat16, resumable at any checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from memgrid.io.checkpoints import keep_last, newest, save
from memgrid.io.display import progress_bar
from memgrid.pretrain.config import OptimizerConfig, PretrainConfig

Keeper = Callable[[GPTNeoXForCausalLM], None]
NONE: Mapping[int, Keeper] = MappingProxyType({})


def train_model(
    batches: list[np.ndarray], config: PretrainConfig, checkpoint: Path, log: Callable[[str], None], kept: Mapping[int, Keeper] = NONE
) -> GPTNeoXForCausalLM:
    """Train on every batch once; goes on from the checkpoint if it is there.

    Args:
        batches: token ids, uint16 (batch, length), a step each.
        config: its `model`, `optimizer`, `seed` and `device`; the weights that training starts from are the same on each device.
        checkpoint: replaced atomically every `checkpoint_every` steps.
        log: called with a line about every checkpoint.
        kept: by step, what is done with the model as it is then; done again if a cut fell between it and the next checkpoint.
    """
    torch.manual_seed(config.seed)
    recipe = config.optimizer
    shape = GPTNeoXConfig(**asdict(config.model), bos_token_id=0, eos_token_id=0, use_cache=False, attn_implementation="eager")
    model: GPTNeoXForCausalLM = GPTNeoXForCausalLM(shape).to(torch.device(config.device))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    resumed = restore(model, optimizer, checkpoint)
    if resumed:
        log(f"continuing at step {resumed} of {len(batches)}")
    recent: list[Tensor] = []
    with progress_bar() as progress:
        task = progress.add_task("pretraining", total=len(batches), completed=resumed)
        for step in range(resumed + 1, len(batches) + 1):
            rate = learning_rate(step - 1, len(batches), recipe)
            loss = window_loss(model, torch.from_numpy(batches[step - 1].astype(np.int64)).to(model.device))
            take_step(model, optimizer, loss, rate, recipe.clip)
            recent.append(loss.detach())
            progress.advance(task)
            if step in kept:
                kept[step](model)
            if step % recipe.checkpoint_every == 0 or step == len(batches):
                save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, checkpoint)
                log(f"step {step} of {len(batches)}, training loss {torch.stack(recent).mean():.3f} nats per token")
                recent = []
    keep_last(checkpoint)
    return model


def in_batches(windows: np.ndarray, until: np.ndarray, size: int, seed: int) -> list[np.ndarray]:
    """Every window once, in a seeded order, in batches of `size`.

    Args:
        windows: token ids, uint16 (windows, length).
        until: the share of the training within which each window is read, above 0 and at most 1, float64 (windows,): 1 is anywhere.
    """
    order = np.argsort(np.random.default_rng(seed).random(len(windows)) * until, kind="stable")
    return [windows[order[start : start + size]] for start in range(0, len(order), size)]


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> int:
    """Load a checkpoint, if there is one; returns how many steps have been made."""
    state = newest(checkpoint, lambda state: {"model", "optimizer", "step"} <= state.keys())
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip: float) -> None:
    """One step down the gradient of a loss, which is cut to the norm `clip`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()


def window_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean next-token cross-entropy of tokens int64 (windows, length), in nats, computed in bfloat16 and reduced in float32."""
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
        logits = model(input_ids=tokens).logits
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
