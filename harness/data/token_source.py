"""The model's side of the data, as a protocol: what windows and prompts depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenSource(Protocol):
    """What the data need to know of the model."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""

    @property
    def max_positions(self) -> int | None:
        """Most ids the model can see at once; None where it has no limit."""

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has; None where that is not known."""

    @property
    def new_tokens(self) -> int | None:
        """Most tokens that are generated after each prompt; None where no text is generated."""
