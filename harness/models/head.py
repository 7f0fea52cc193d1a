"""A causal language model in two parts: the body, and the tail that makes logits of its output.

The tail is the model's own forward with the body's taken out, so that biases, projections, logit
scales and soft-caps are the model's and not a copy of its formulas.

Legend: B rows of T tokens, n positions, D features, V entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.base import shards
from harness.models.agreement import same_but_for_rounding
from harness.models.repository import said
from harness.outliers.parameters import storage_key

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.outliers.intervention import Intervention


class ChunkedHead:
    """Splits a causal language model, so that logits can be made of a few positions at a time.

    The split is tried once on a small batch and used only if it gives the logits that the model
    itself gives. Otherwise the body is the whole model, its logits stand for hidden states, and
    the tail does nothing: correct, but with all logits of a batch in memory at once.

    Args:
        model: A Hugging Face causal language model.
        tokens: Tokens of each of the two rows of that batch.

    Attributes:
        model: The model.
        reason: Why the model could not be split, in one line; None where it was.
        vocabulary: Number of logits per position, V.
    """

    def __init__(self, model: PreTrainedModel, tokens: int = 8) -> None:
        self.model = model
        self.reason: str | None = None
        self.vocabulary = 0
        self._backbone: nn.Module | None = None
        self._output: type[Any] = dict
        self._body_names: frozenset[str] = frozenset()
        self._tail_names: frozenset[str] = frozenset()
        self._try(tokens)

    def _try(self, tokens: int) -> None:
        """Compares body and tail with the model's own logits and decides whether to use them."""
        ids = torch.arange(2 * tokens, device=self.model.device).reshape(2, -1)
        embedding: Any = self.model.get_input_embeddings()
        ids %= embedding.weight.shape[0]
        mask = torch.ones_like(ids)
        self.reason = "the model has no body apart from itself"
        with evaluating(self.model), torch.inference_mode():
            expected = self.body(ids, mask)
            self.vocabulary = expected.shape[-1]
            for backbone in _candidates(self.model):
                self._backbone = backbone
                try:
                    self.reason = self._difference(ids, mask, expected)
                except Exception as error:
                    # Whatever foreign code makes of this, the whole model still works.
                    self.reason = said(error)
                if self.reason is None:
                    return
            self._backbone = None

    def body(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states of a batch.

        Args:
            input_ids: Token ids [B, T].
            attention_mask: 1 for tokens, 0 for padding on the right [B, T].

        Returns:
            [B, T, D], or the logits [B, T, V] of a model that could not be split.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        if self._backbone is None:
            logits: Tensor = self.model(**inputs, return_dict=True).logits
            return logits
        # It runs without the whole around it, which may hold parameters of its own for it.
        shards.gather(self.model)
        hidden: Tensor = self._backbone(**inputs).last_hidden_state
        return hidden

    def tail(self, hidden: Tensor) -> Tensor:
        """Logits of some positions.

        Hooks on the model and on the modules of its tail see these positions as one row of a
        batch; hooks on the body as a whole see it too.

        Args:
            hidden: Hidden states [n, D], as `body` gives them.

        Returns:
            [n, V] in the model's data type.
        """
        if self._backbone is None:
            return hidden
        output = self._output(last_hidden_state=hidden[None])
        ids = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        with _forward_replaced(self._backbone, lambda *_, **__: output):
            logits: Tensor = self.model(input_ids=ids, use_cache=False, return_dict=True).logits
        return logits[0]

    def split(self, intervention: Intervention) -> tuple[Intervention, Intervention]:
        """The parts that body and tail need; what is done to tied parameters is in both."""
        if self._backbone is None:
            return intervention, intervention.within([])
        return intervention.within(self._body_names), intervention.within(self._tail_names)

    def _difference(self, ids: Tensor, mask: Tensor, expected: Tensor) -> str | None:
        assert self._backbone is not None
        self._output = type(self._backbone(input_ids=ids, attention_mask=mask, use_cache=False))
        hidden = self.body(ids, mask).flatten(0, 1)
        with _ParametersRead(self.model) as read:
            logits = self.tail(hidden)
        expected = expected.flatten(0, 1)
        if logits.shape != expected.shape:
            return f"logits of shape {tuple(logits.shape)} where {tuple(expected.shape)} was due"
        # Both are of the same hidden states: of the rounding, only the tail's own is forgiven.
        if not same_but_for_rounding(
            self.model, expected, logits, lambda: self.tail(hidden), epsilons=4
        ):
            return "body and tail one after the other give other logits than the model"
        self._find_names(self._backbone, read.names)
        return None

    def _find_names(self, backbone: nn.Module, read: set[str]) -> None:
        shards.let_go(self.model)
        keys = _keys_of(self.model)
        prefix = next(n for n, module in self.model.named_modules() if module is backbone) + "."
        inside = {key for name, key in keys.items() if name.startswith(prefix)}
        outside = {key for name, key in keys.items() if not name.startswith(prefix) or name in read}
        self._body_names = frozenset(name for name, key in keys.items() if key in inside)
        self._tail_names = frozenset(name for name, key in keys.items() if key in outside)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every module is as it was."""
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


class _ParametersRead(TorchFunctionMode):
    """Notes the parameters that operations read: a tail may reach into the body for one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self.names: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        for value in (*args, *kwargs.values()):
            if isinstance(value, nn.Parameter):
                # By name, and now: what is gathered for this moment is let go after it.
                key = storage_key(value)
                self.names |= {name for name, k in _keys_of(self._model).items() if k == key}
        return func(*args, **kwargs)


_Keys = dict[str, Hashable]


def _keys_of(model: nn.Module) -> _Keys:
    return {n: storage_key(p) for n, p in model.named_parameters(remove_duplicate=False)}


def _candidates(model: PreTrainedModel) -> list[nn.Module]:
    """Modules that may be the body: the base model, or the decoder that some models call in it."""
    base = model.base_model
    parts = [base, getattr(base, "decoder", None)]
    return [part for part in parts if isinstance(part, nn.Module) and part is not model]


@contextmanager
def _forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    # accelerate keeps a forward of its own on the instance: it has to come back.
    own = module.__dict__.get("forward")
    try:
        module.forward = forward
        yield
    finally:
        if own is None:
            module.__dict__.pop("forward", None)
        else:
            module.forward = own
