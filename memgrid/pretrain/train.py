"""Training of the embedded GPT-NeoX: one pass over the documents, in bfloat16, resumable at any checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from memgrid.io.checkpoints import keep_last, newest, save
from memgrid.io.display import progress_bar
from memgrid.pretrain.config import ModelConfig, OptimizerConfig


def train_model(
    windows: np.ndarray, shape: ModelConfig, recipe: OptimizerConfig, seed: int, checkpoint: Path, log: Callable[[str], None]
) -> GPTNeoXForCausalLM:
    """Train on every window once, in a seeded order; goes on from the checkpoint if it is there.

    Args:
        windows: token ids, uint16 (windows, length).
        checkpoint: replaced atomically every `checkpoint_every` steps.
        log: called with a line about every checkpoint.
    """
    torch.manual_seed(seed)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**asdict(shape), bos_token_id=0, eos_token_id=0, use_cache=False, attn_implementation="eager"))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )
    order = np.random.default_rng(seed).permutation(len(windows))
    batches = [order[start : start + recipe.batch_size] for start in range(0, len(order), recipe.batch_size)]
    resumed = restore(model, optimizer, checkpoint)
    if resumed:
        log(f"continuing at step {resumed} of {len(batches)}")
    loss_of = torch.compile(window_loss) if recipe.compile else window_loss
    recent: list[float] = []
    with progress_bar() as progress:
        task = progress.add_task("pretraining", total=len(batches), completed=resumed)
        for step in range(resumed + 1, len(batches) + 1):
            rate = learning_rate(step - 1, len(batches), recipe)
            loss = loss_of(model, torch.from_numpy(windows[batches[step - 1]].astype(np.int64)))
            take_step(model, optimizer, loss, rate, recipe.clip)
            recent.append(loss.item())
            progress.advance(task)
            if step % recipe.checkpoint_every == 0 or step == len(batches):
                save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, checkpoint)
                log(f"step {step} of {len(batches)}, training loss {np.mean(recent):.3f} nats per token")
                recent = []
    keep_last(checkpoint)
    return model


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
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=tokens).logits
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
