"""What is chosen at each step of generation, and how near another choice was.

Logits are exact but for rounding, and that is other in another batch, on another device and in
another data type: where the two best candidates lie so near that it decides, texts may part. How
often that was so is counted, since nothing else tells of it.

Legend: R rows, of M models one after the other, V entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Logits are near that differ by less than this, times the larger: by an epsilon of the model's data
# type, or of float32, in which layers are summed up whatever their type, by as many as a few dozen
# layers leave. Of 60 choices that fell otherwise in another batch (three models in bfloat16, 2,592
# choices) 51 were so near; in float32 none of 2,816 fell otherwise, and logits moved by 51 at most.
_FLOAT32_EPSILONS = 32


class Choices:
    """A logits processor that sees what is chosen from, and lets rows go on that have nothing.

    Of `generate` it is a stopping criterion as well, `chosen`, and the whole runs within `drawn`.

    A row whose largest logit is not a number, or is infinite, would choose a token that means
    nothing, or stop the sampling of the whole batch: it gets the end of its text instead.

    It keeps what it finds where the logits are, and waits for no device.

    Args:
        rows: Rows of the batch, R.
        models: How many models they belong to, M.
        dtype: The model's data type.
        end_ids: Tokens that end a text.
        temperature: What logits are divided by before a token is drawn; None where the likeliest is
            taken.

    Attributes:
        steps: How many choices were made.
    """

    def __init__(
        self,
        rows: int,
        models: int,
        dtype: torch.dtype,
        end_ids: Collection[int],
        temperature: float | None,
    ) -> None:
        self.steps = 0
        self._rows = rows
        self._models = models
        self._token = min(end_ids, default=0)
        single = torch.finfo(torch.float32).eps
        self._near_enough = max(torch.finfo(dtype).eps, _FLOAT32_EPSILONS * single)
        self._temperature = temperature
        self._broken: list[Tensor] = []
        self._near: list[Tensor] = []
        self._distance = torch.empty(0)
        # Open from the logits to the choice, and not while the model runs: it costs a little at
        # every call of torch.
        self._drawing = ExitStack()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Gives a row from which no choice can be made the end of its text, in place."""
        if len(scores) != self._rows:
            raise ValueError(f"{self._rows} prompts have {len(scores)} texts, not one each")
        best, second = _two_best(scores)
        broken = ~best.isfinite()
        self._distance = self._near_enough * best.abs()
        if self._temperature is None:
            self._near.append(best - second <= self._distance)
        scores.masked_fill_(broken[:, None], -torch.inf)
        scores[:, self._token].masked_fill_(broken, 0.0)
        self._broken.append(broken)
        self.steps += 1
        if self._temperature is not None:
            self._drawing.close()
            self._drawing.enter_context(_Draws(self._draw))
        return scores

    def chosen(self, input_ids: Tensor, scores: object) -> Tensor:
        """A stopping criterion, which `generate` asks after each choice; it stops no row."""
        self._drawing.close()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def drawn(self) -> AbstractContextManager[object]:
        """A context in which tokens are drawn, if any are, by the same numbers for each model."""
        return self._drawing

    def broken(self) -> list[list[bool]]:
        """Of each step whether each row had nothing to choose from, [steps, R]."""
        return _told(self._broken)

    def near(self) -> list[list[bool]]:
        """Of each step whether each row's two best candidates were near, [steps, R]."""
        return _told(self._near)

    def _draw(self, probabilities: Tensor) -> Tensor:
        """Draws a token for each row, [R, 1], as `torch.multinomial` does for one model alone.

        Each candidate's probability is divided by an exponential random number, and the largest
        quotient wins. The numbers are those of a row's prompt, whichever model continues it.

        Args:
            probabilities: Of each row, which sum up to 1 [R, V].
        """
        by_model = probabilities.view(self._models, -1, probabilities.shape[-1])
        quotients = (by_model / torch.empty_like(by_model[0]).exponential_()).flatten(0, 1)
        token: Tensor = quotients.argmax(-1, keepdim=True)
        best, second = _two_best(quotients)
        assert self._temperature is not None
        self._near.append(best - second <= self._distance / self._temperature * best)
        return token


class _Draws(TorchFunctionMode):
    """Has tokens drawn by a function of ours in place of `torch.multinomial`."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._draw = draw

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.multinomial:
            return self._draw(args[0])
        return func(*args, **(kwargs or {}))


def _two_best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and the second largest of each row; the scores are afterwards what they were."""
    best, place = scores.max(-1, keepdim=True)
    scores.scatter_(-1, place, -torch.inf)
    second = scores.amax(-1)
    scores.scatter_(-1, place, best)
    return best[:, 0], second


def _told(found: list[Tensor]) -> list[list[bool]]:
    told: list[list[bool]] = torch.stack(found).tolist() if found else []
    return told
