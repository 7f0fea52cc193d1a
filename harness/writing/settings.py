"""How text is generated, as the configuration describes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from harness.errors import ConfigError
from harness.writing.arguments import SHARES, check_argument, rehearse, stand_in

# Checked here: of types that allow null as well, jsonargparse does not say what it expects.
# Logits that are divided by less than a millionth can overflow, those by more are all the same.
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "temperature": (
        "above 0, from 1e-6 to 1e6; do_sample: false takes the likeliest token each time",
        lambda value: 1e-6 <= value <= 1e6,
    ),
    "top_k": ("from 0 on; 0 draws from all tokens", lambda value: value >= 0),
    "top_p": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "repetition_penalty": ("above 0, from 1e-6 to 1e6", lambda value: 1e-6 <= value <= 1e6),
}
_SAMPLING = {"temperature", "top_k", "top_p", *SHARES}
# More than any model has: ids of all of them can be tried.
_TOKENS = 2**20


@dataclass
class Generation:
    """Settings of `generate`, the same for the original and all variants.

    A model's own `generation_config.json` is not asked, but for the tokens that end a text: what is
    measured would depend on settings that stand nowhere in the run.

    Args:
        max_new_tokens: Most tokens that are generated after each prompt.
        do_sample: Draw tokens at random; else the likeliest is taken each time.
        temperature: Divides the logits before a token is drawn. Null: 1.
        top_k: Draw from that many likeliest tokens; 0 is all. Null: 50, as in transformers.
        top_p: Draw from the likeliest tokens whose probabilities sum up to this. Null: 1.
        repetition_penalty: Divides the logits of tokens that stand in the text; 1 does nothing.
        seed: Seed of the sampling. The first batch of prompts is drawn with it, the next with the
            next number, and so on; each variant starts from the same.
        arguments: Further arguments of `generate` in transformers, such as `{min_p: 0.05}`.
        metrics: Further metrics of the texts: names of metrics of `evaluate` on the hub, or scripts
            that hold one. They are run, but only where `model.trust_remote_code` allows it. Where
            one needs references it gets the original's texts.
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
        for name, (words, accepts) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not accepts(value):
                raise ConfigError(f"{key}.{name}", value, f"must be {words}")
        for name, value in self.arguments.items():
            check_argument(f"{key}.arguments.{name}", name, value, self.__dataclass_fields__)
        self._check_sampling(key)
        self.rehearse(key)

    def _check_sampling(self, key: str) -> None:
        own = {name: getattr(self, name) for name in _SAMPLING - SHARES}
        given = own | {f"arguments.{name}": self.arguments.get(name) for name in SHARES}
        for name, value in sorted(given.items()):
            if value is not None and not self.do_sample:
                reason = (
                    "would do nothing, since the likeliest token is taken each time; "
                    f"set {key}.do_sample: true, or leave it out"
                )
                raise ConfigError(f"{key}.{name}", value, reason)

    def rehearse(self, key: str, vocabulary: int | None = None) -> None:
        """Refuses arguments that `generate` fails on, by trying them on a model of a few numbers.

        Args:
            key: Configuration key of these settings.
            vocabulary: Tokens that there are; None for more than any model has.

        Raises:
            ConfigError: Naming the argument, or all if they only fail together.
        """
        if not self.arguments:
            return
        model = stand_in(vocabulary or _TOKENS)
        for name, value in self.arguments.items():
            alone = replace(self, arguments={name: value}).to_arguments()
            rehearse(model, alone, f"{key}.arguments.{name}", value)
        rehearse(model, self.to_arguments(), f"{key}.arguments", self.arguments)

    def load_metrics(self, key: str, trusted: bool) -> list[Any]:
        """Loads the further metrics.

        Args:
            key: Configuration key of these settings.
            trusted: Whether code of others may run for them.

        Raises:
            ConfigError: Naming the one that cannot be loaded.
        """
        if not self.metrics:
            return []
        from harness.writing.text_metrics import load_metric

        return [load_metric(name, f"{key}.metrics", trusted=trusted) for name in self.metrics]

    def to_arguments(self) -> dict[str, Any]:
        """Arguments of `generate`; for what is not set transformers has its defaults."""
        chosen = {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
        }
        return {
            "max_new_tokens": self.max_new_tokens,
            "do_sample": self.do_sample,
            **{name: value for name, value in chosen.items() if value is not None},
            **self.arguments,
        }
