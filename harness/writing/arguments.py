"""Arguments of `generate` in transformers: which are free here, and a trial of those given."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import ConfigError
from harness.models.repository import first_line
from harness.outliers import Patch
from harness.probes import Observer
from harness.writing.generate import generate_batch

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
# What needs several beams, a second model or pass, an encoder, foreign code or a single prompt.
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
    "guidance_scale",
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
SHARES = {"min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"}
"""Arguments that are shares of something; they choose among tokens that are drawn."""

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


def check_argument(key: str, name: str, value: Any, settings: Collection[str]) -> None:
    """Refuses an argument that is not free, that nobody knows, or that is of another type.

    Args:
        key: Its configuration key.
        name: Its name.
        value: Its value.
        settings: Names of arguments that have a key of their own.

    Raises:
        ConfigError: Under that key.
    """
    from transformers import GenerationConfig

    if name in _OURS or name in settings:
        place = key.replace(".arguments", "")
        own = f"set {place}" if name in settings else "the harness sets it itself"
        raise ConfigError(key, value, f"is not free: {own}")
    if name not in GenerationConfig().to_dict() or name.startswith("_"):
        raise ConfigError(key, value, "generate of transformers has no such argument")
    if name in _NOT_HERE:
        reason = (
            "is for beams, a second model or pass, an encoder or a single prompt, and does not go "
            "with batches of prompts whose texts are compared"
        )
        raise ConfigError(key, value, reason)
    if name in SHARES and not (_is_number(value) and 0 < value < 1):
        raise ConfigError(key, value, "must be above 0 and below 1")
    words, accepts = _TYPES.get(_documented_type(name), ("", lambda _: True))
    if value is not None and not accepts(value):
        raise ConfigError(key, value, f"must be {words}")


def _documented_type(name: str) -> str:
    """The type of an argument as transformers documents it; empty where it says none."""
    from transformers import GenerationConfig

    found = re.search(rf"^ +{name} *:? *\(`([^`]+)`[,)]", GenerationConfig.__doc__ or "", re.M)
    return found.group(1) if found else ""


def stand_in(vocabulary: int) -> PreTrainedModel:
    """A model of a few numbers with that many tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    one = dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 1)
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=2, intermediate_size=2, **one)
    with torch.random.fork_rng([]):
        return LlamaForCausalLM(config).eval()


def rehearse(model: PreTrainedModel, arguments: Mapping[str, Any], key: str, value: Any) -> None:
    """Refuses what `generate` fails on, by calling it.

    Args:
        model: A model that costs little.
        arguments: All arguments of the call.
        key: Configuration key of what is tried.
        value: Its value.

    Raises:
        ConfigError: With what transformers says.
    """
    prompts = torch.tensor([[0, 1], [1, 2]])
    mask, end_ids = prompts.clamp(max=1), {0}
    observer = Observer(model, [])
    stop = {"stopping_criteria": [lambda ids, _: torch.full((len(ids),), ids.shape[1] > 3)]}
    try:
        with _quietly():
            generate_batch(
                model,
                prompts,
                mask,
                {"original": Patch(())},
                {**arguments, **stop},
                seed=0,
                end_ids=end_ids,
                pad_id=0,
                watch=lambda _: observer.generating(mask, end_ids, "original"),
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
