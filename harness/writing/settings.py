"""How text is generated, as the configuration describes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from harness.errors import ConfigError
from harness.writing.arguments import contradiction, failure, objection

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHARE: tuple[str, Callable[[Any], bool]] = ("above 0 and below 1", lambda value: 0 < value < 1)
_COUNT: tuple[str, Callable[[Any], bool]] = (
    "a whole number from 0 on",
    lambda value: isinstance(value, int) and value >= 0,
)
# Checked here: of types that allow null as well, jsonargparse does not say what it expects.
# Logits that are divided by less than a millionth can overflow, those by more are all the same.
_DRAWING: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "temperature": (
        "above 0, from 1e-6 to 1e6; do_sample: false takes the likeliest token each time",
        lambda value: 1e-6 <= value <= 1e6,
    ),
    "top_k": ("from 0 on; 0 draws from all tokens", lambda value: value >= 0),
    "top_p": ("from 0 to 1", lambda value: 0 <= value <= 1),
    **dict.fromkeys(("min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"), _SHARE),
}
_RANGES = _DRAWING | {
    "repetition_penalty": ("above 0, from 1e-6 to 1e6", lambda value: 1e-6 <= value <= 1e6),
    "min_new_tokens": _COUNT,
    "no_repeat_ngram_size": _COUNT,
}


@dataclass
class Generation:
    """Settings of `generate`, the same for the original and all variants.

    A model's own `generation_config.json` is not asked, but for the tokens that end a text: what is
    measured would depend on settings that stand nowhere in the run.

    Args:
        max_new_tokens: Most tokens that are generated after each prompt.
        min_new_tokens: Fewest tokens that are generated after each prompt. Null: a text may end at
            once.
        do_sample: Draw tokens at random; else the likeliest is taken each time.
        temperature: Divides the logits before a token is drawn. Null: 1.
        top_k: Draw from that many likeliest tokens; 0 is all. Null: 50, as in transformers.
        top_p: Draw from the likeliest tokens whose probabilities sum up to this. Null: 1.
        min_p: Draw from tokens that are at least this share as likely as the likeliest. Null: all.
        typical_p: Draw from the most typical tokens whose probabilities sum up to this. Null: all.
        repetition_penalty: Divides the logits of tokens that stand in the text; 1 does nothing.
        no_repeat_ngram_size: No run of so many tokens occurs twice in a text. Null or 0: any may.
        seed: Seed of the sampling. The first batch of prompts is drawn with it, the next with the
            next number, and so on; each variant starts from the same.
        arguments: Further arguments of `generate` in transformers, such as
            `{suppress_tokens: [7]}`; they are tried on the model before it is measured. What has a
            key of its own may stand here instead.
        metrics: Further metrics of the texts: names of metrics of `evaluate` on the hub, or scripts
            that hold one. They are run, but only where `model.trust_remote_code` allows it. Where
            one needs references it gets the original's texts.
    """

    max_new_tokens: PositiveInt = 40
    min_new_tokens: int | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    seed: NonNegativeInt = 42
    arguments: dict[str, Any] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)

    def check(self, key: str) -> None:
        """Refuses what can be seen to be wrong without a model.

        Args:
            key: Configuration key of these settings.

        Raises:
            ConfigError: Naming the argument, or all further ones if they only fail together.
        """
        for name, value in self.arguments.items():
            reason = objection(name, value)
            if reason is None and (own := getattr(self, name, None)) is not None:
                reason = f"is not free: set {key}.{name}, which is {own}"
            if reason is not None:
                raise ConfigError(f"{key}.arguments.{name}", value, reason)
        self._check_ranges(key)
        self._refuse_for(contradiction, key)

    def _check_ranges(self, key: str) -> None:
        settings = self.to_arguments()
        for name, (words, accepts) in _RANGES.items():
            value = settings.get(name)
            if value is None:
                continue
            where = f"{key}.arguments.{name}" if name in self.arguments else f"{key}.{name}"
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            if not (numeric and accepts(value)):
                raise ConfigError(where, value, f"must be {words}")
            if name in _DRAWING and not self.do_sample:
                reason = (
                    "would do nothing, since the likeliest token is taken each time; "
                    f"set {key}.do_sample: true, or leave it out"
                )
                raise ConfigError(where, value, reason)
            if name == "min_new_tokens" and value > self.max_new_tokens:
                most = f"{key}.max_new_tokens={self.max_new_tokens}"
                raise ConfigError(where, value, f"must not be above {most}")

    def try_on(
        self, model: PreTrainedModel, key: str, *, end_ids: Collection[int], pad_id: int
    ) -> None:
        """Refuses further arguments that the model's `generate` cannot be measured with.

        A few tokens are generated as they are in the measurement; without further arguments none.

        Args:
            model: The model, on its device.
            key: Configuration key of these settings.
            end_ids: Tokens that end a text.
            pad_id: What fills up texts that have ended.

        Raises:
            ConfigError: Naming the argument, or all if they only fail together.
        """
        self._refuse_for(partial(failure, model, end_ids=end_ids, pad_id=pad_id), key)

    def _refuse_for(self, problem: Callable[[Mapping[str, Any]], str | None], key: str) -> None:
        """Refuses further arguments for what is wrong with all settings, or with those and one."""
        together = problem(self.to_arguments()) if self.arguments else None
        if together is None:
            return
        for name, value in self.arguments.items():
            alone = problem(replace(self, arguments={name: value}).to_arguments())
            if alone is not None:
                raise ConfigError(f"{key}.arguments.{name}", value, alone)
        raise ConfigError(f"{key}.arguments", self.arguments, together)

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
        own = {option.name: getattr(self, option.name) for option in fields(self)}
        for name in ("seed", "arguments", "metrics"):
            del own[name]
        return {name: value for name, value in own.items() if value is not None} | self.arguments
