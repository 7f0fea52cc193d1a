"""How text is generated, as the configuration describes it."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt

from harness.errors import ConfigError
from harness.outliers import Patch
from harness.repository import first_line
from harness.scoring import generate_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
# What needs several beams, a second model, an encoder, foreign code or a single prompt.
_NOT_HERE = {
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "constraints",
    "decoder_start_token_id",
    "diversity_penalty",
    "dola_layers",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "force_words_ids",
    "is_assistant",
    "length_penalty",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "penalty_alpha",
    "prompt_lookup_num_tokens",
    "speculation_type",
    "target_lookbehind",
    "token_healing",
    "use_mtp",
}
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
_SHARES = {"min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"}
_SAMPLING = {"temperature", "top_k", "top_p", *_SHARES}
# What the types mean that transformers documents, for values that come from YAML.
_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number from 0 on", lambda value: _is_whole(value)),
    "float": ("a number", lambda value: _is_number(value) and math.isfinite(value)),
    "str": ("text", lambda value: isinstance(value, str)),
    "dict": ("a mapping", lambda value: isinstance(value, dict)),
    "list[int]": ("a list of token ids", lambda value: _are(_is_whole, value)),
    "list[list[int]]": (
        "a list of lists of token ids",
        lambda value: _are(lambda ids: _are(_is_whole, ids), value),
    ),
}
# More than any model has: ids of all of them can be tried.
_TOKENS = 2**20


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
        for name, (words, accepts) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not accepts(value):
                raise ConfigError(f"{key}.{name}", value, f"must be {words}")
        for name, value in self.arguments.items():
            _check_argument(f"{key}.arguments.{name}", name, value)
        self._check_sampling(key)
        self.rehearse(key)

    def _check_sampling(self, key: str) -> None:
        own = {name: getattr(self, name) for name in _SAMPLING - _SHARES}
        given = own | {f"arguments.{name}": self.arguments.get(name) for name in _SHARES}
        for name, value in sorted(given.items()):
            if value is not None and not self.do_sample:
                reason = (
                    "would do nothing, since the likeliest token is taken each time; "
                    f"set {key}.do_sample: true, or leave it out"
                )
                raise ConfigError(f"{key}.{name}", value, reason)

    def rehearse(self, key: str, vocabulary: int = _TOKENS) -> None:
        """Refuses arguments that `generate` fails on, by trying them on a model of a few numbers.

        Args:
            key: Configuration key of these settings.
            vocabulary: Tokens that there are.

        Raises:
            ConfigError: Naming the argument, or all if they only fail together.
        """
        if not self.arguments:
            return
        model = _stand_in(vocabulary)
        for name, value in self.arguments.items():
            alone = replace(self, arguments={name: value}).to_arguments()
            _rehearse(model, alone, f"{key}.arguments.{name}", value)
        _rehearse(model, self.to_arguments(), f"{key}.arguments", self.arguments)

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


def _check_argument(key: str, name: str, value: Any) -> None:
    from transformers import GenerationConfig

    own_setting = name in Generation.__dataclass_fields__
    if name in _OURS or own_setting:
        place = key.replace(".arguments", "")
        own = f"set {place}" if own_setting else "the harness sets it itself"
        raise ConfigError(key, value, f"is not free: {own}")
    if name not in GenerationConfig().to_dict() or name.startswith("_"):
        raise ConfigError(key, value, "generate of transformers has no such argument")
    if name in _NOT_HERE:
        reason = (
            "is for beams, a second model, an encoder or a single prompt, and does not go with "
            "batches of prompts whose texts are compared"
        )
        raise ConfigError(key, value, reason)
    if name in _SHARES and not (_is_number(value) and 0 < value < 1):
        raise ConfigError(key, value, "must be above 0 and below 1")
    words, accepts = _TYPES.get(_documented_type(name), ("", lambda _: True))
    if value is not None and not accepts(value):
        raise ConfigError(key, value, f"must be {words}")


def _documented_type(name: str) -> str:
    """The type of an argument as transformers documents it; empty where it says none."""
    from transformers import GenerationConfig

    found = re.search(rf"^ +{name} *:? *\(`([^`]+)`[,)]", GenerationConfig.__doc__ or "", re.M)
    return found.group(1) if found else ""


def _stand_in(vocabulary: int) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    one = dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 1)
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=2, intermediate_size=2, **one)
    with torch.random.fork_rng([]):
        return LlamaForCausalLM(config).eval()


def _rehearse(model: PreTrainedModel, arguments: Mapping[str, Any], key: str, value: Any) -> None:
    prompts = torch.tensor([[0, 1], [1, 2]])
    stop = {"stopping_criteria": [lambda ids, _: torch.full((len(ids),), ids.shape[1] > 3)]}
    try:
        with _quietly():
            generate_batch(
                model,
                prompts,
                prompts.clamp(max=1),
                {"original": Patch(())},
                {**arguments, **stop},
                seed=0,
                end_ids={0},
                pad_id=0,
            )
    except Exception as error:  # which may be of any kind
        why = shorten(first_line(error), 300, placeholder=" ...")
        documented = _documented_type(key.rpartition(".")[2])
        if documented and documented not in _TYPES:  # what is there has been checked
            why += f"; it is documented as {documented}"
        raise ConfigError(key, value, f"generate of transformers fails on it: {why}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps transformers from warning, but of a length that no text can have."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    try:
        logging.set_verbosity_error()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "Unfeasible length constraints: `min_new_tokens`")
            yield
    finally:
        logging.set_verbosity(verbosity)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are(accepts: Callable[[Any], bool], values: Any) -> bool:
    return isinstance(values, list) and all(map(accepts, values))
