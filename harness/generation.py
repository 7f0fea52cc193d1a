"""How text is generated, as the configuration describes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from harness.errors import ConfigError

# What the harness gives itself, or what would part prompts from texts, or texts from tokens.
_OURS = {
    "input_ids",
    "attention_mask",
    "max_length",
    "logits_processor",
    "num_beams",
    "num_return_sequences",
    "pad_token_id",
    "eos_token_id",
    "return_dict_in_generate",
    "streamer",
    "prefill_chunk_size",
    "stop_strings",
    "max_time",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
    # Would hide that the logits of a variant are not finite.
    "remove_invalid_values",
}
# What needs a second model, foreign code or a single prompt.
_NOT_HERE = {
    "assistant_early_exit",
    "constraints",
    "dola_layers",
    "force_words_ids",
    "is_assistant",
    "penalty_alpha",
    "prompt_lookup_num_tokens",
    "token_healing",
    "use_mtp",
}
# Checked here: of types that allow null as well, jsonargparse does not say what it expects.
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "temperature": ("above 0", lambda value: 0 < value < math.inf),
    "top_k": ("from 0 on; 0 draws from all tokens", lambda value: value >= 0),
    "top_p": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "repetition_penalty": ("above 0", lambda value: 0 < value < math.inf),
}
_SHARES = {"min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"}


@dataclass
class Generation:
    """Settings of `generate`, the same for the original and all variants.

    Args:
        max_new_tokens: Most tokens that are generated after each prompt.
        do_sample: Draw tokens at random; else the likeliest is taken each time.
        temperature: Divides the logits before a token is drawn.
        top_k: Draw from that many likeliest tokens.
        top_p: Draw from the likeliest tokens whose probabilities sum up to this.
        repetition_penalty: Divides the logits of tokens that stand in the text; 1 does nothing.
        seed: Seed of the sampling. The first batch of prompts is drawn with it, the next with the
            next number, and so on; each variant starts from the same.
        arguments: Further arguments of `generate` in transformers, such as `{min_p: 0.05}`.
        metrics: Further metrics of the texts: names of metrics of `evaluate` on the hub, or scripts
            that hold one (they are run). Where one needs references it gets the original's texts.
    """

    max_new_tokens: PositiveInt = 40
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: NonNegativeInt = 42
    arguments: dict[str, Any] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)

    def check(self, key: str) -> None:
        """Refuses values out of range, and arguments that are not free or that nobody knows.

        Args:
            key: Configuration key of these settings.

        Raises:
            ConfigError: Naming the argument.
        """
        from transformers import GenerationConfig

        for name, (words, accepts) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not accepts(value):
                raise ConfigError(f"{key}.{name}", value, f"must be {words}")
        known = set(GenerationConfig().to_dict())
        for name, value in self.arguments.items():
            own_setting = name in self.__dataclass_fields__
            if name in _OURS or own_setting:
                own = f"set {key}.{name}" if own_setting else "the harness sets it itself"
                raise ConfigError(f"{key}.arguments.{name}", value, f"is not free: {own}")
            if name not in known or name.startswith("_"):
                reason = "generate of transformers has no such argument"
                raise ConfigError(f"{key}.arguments.{name}", value, reason)
            if name in _NOT_HERE:
                reason = "does not go with batches of prompts whose texts are compared"
                raise ConfigError(f"{key}.arguments.{name}", value, reason)
            if name in _SHARES and not (_is_number(value) and 0 < value < 1):
                raise ConfigError(f"{key}.arguments.{name}", value, "must be above 0 and below 1")
        try:
            GenerationConfig(**self.to_arguments()).validate()
        except (ValueError, TypeError) as error:
            raise ConfigError(key, self.to_arguments(), " ".join(str(error).split())) from error

    def load_metrics(self, key: str) -> list[Any]:
        """Loads the further metrics.

        Args:
            key: Configuration key of these settings.

        Raises:
            ConfigError: Naming the one that cannot be loaded.
        """
        if not self.metrics:
            return []
        from harness.scoring.text_metrics import load_metric

        return [load_metric(name, f"{key}.metrics") for name in self.metrics]

    def to_arguments(self) -> dict[str, Any]:
        """Arguments of `generate`; what is not set is left to the model's own settings."""
        chosen = {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
        }
        return {
            "max_new_tokens": self.max_new_tokens,
            "do_sample": self.do_sample,
            # A model's own settings may ask for several texts a prompt.
            "num_beams": 1,
            "num_return_sequences": 1,
            **{name: value for name, value in chosen.items() if value is not None},
            **self.arguments,
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
