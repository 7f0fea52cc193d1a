"""How `fit` trains: AdamW with warm-up and cosine decay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from harness.errors import ConfigError


@dataclass
class Training:
    """Settings of the optimiser.

    Args:
        learning_rate: Highest learning rate, reached after the warm-up.
        betas: Decay rates of AdamW's two moments.
        weight_decay: Decoupled weight decay of the matrices; norms and biases have none.
        warmup_steps: Steps over which the learning rate rises linearly from zero.
        final_learning_rate_fraction: Where the cosine ends, as a share of learning_rate.
    """

    learning_rate: PositiveFloat = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: NonNegativeFloat = 0.1
    warmup_steps: NonNegativeInt = 100
    final_learning_rate_fraction: ClosedUnitInterval = 0.1

    def check(self, key: str) -> None:
        """Refuses decay rates outside [0, 1).

        Args:
            key: Configuration key of these settings.

        Raises:
            ConfigError: Naming the rates.
        """
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"{key}.betas", self.betas, "must both be at least 0 and below 1")

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW over the model's trainable parameters."""
        trainable = [weight for weight in model.parameters() if weight.requires_grad]
        # Plain numbers: those of jsonargparse's types would stand in checkpoints, which are read
        # without running any code.
        rate, decay = float(self.learning_rate), float(self.weight_decay)
        groups = [
            {
                "params": [weight for weight in trainable if weight.dim() >= 2],
                "weight_decay": decay,
            },
            {
                "params": [weight for weight in trainable if weight.dim() < 2],
                "weight_decay": 0.0,
            },
        ]
        return torch.optim.AdamW(groups, lr=rate, betas=self.betas)

    def schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
        """Linear warm-up, then a cosine that ends at ``final_learning_rate_fraction``.

        Args:
            optimizer: What is scheduled.
            steps: Optimiser steps of the whole training.
        """
        from transformers import get_cosine_with_min_lr_schedule_with_warmup

        schedule: LRScheduler = get_cosine_with_min_lr_schedule_with_warmup(
            optimizer,
            num_warmup_steps=self.warmup_steps,
            num_training_steps=steps,
            min_lr_rate=float(self.final_learning_rate_fraction),
        )
        return schedule
