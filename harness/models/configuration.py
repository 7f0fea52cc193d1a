"""A model's configuration: where it is read, which kinds are refused, and what limits it states."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from torch import nn

from harness.errors import ConfigError
from harness.models.checkpoint import CONFIG, Checkpoint
from harness.models.repository import cause, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# What configurations call the longest input, those of models with code of their own among them.
_POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_target_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
)


def read_config(checkpoint: Checkpoint, trust: bool) -> PretrainedConfig:
    """Reads the configuration of a model that lies somewhere.

    Args:
        checkpoint: What lies there.
        trust: Whether code from the model's repository may run.

    Raises:
        ConfigError: It is missing or damaged, or the kind of model is not known.
    """
    from transformers import AutoConfig

    if checkpoint.gguf is None and CONFIG in checkpoint.files:
        checkpoint.mapping(CONFIG)
    try:
        return AutoConfig.from_pretrained(**checkpoint.place, trust_remote_code=trust)
    except Exception as error:  # a file may hold anything, and anything may be raised at it
        raise checkpoint.refused(cause(error, checkpoint.name)) from error


def make_config(architecture: dict[str, Any]) -> PretrainedConfig:
    """Makes the configuration of a model that starts from random weights.

    Args:
        architecture: Its `model_type` and arguments.

    Raises:
        ConfigError: There is no such type, or it does not take the arguments.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    arguments = dict(architecture)
    kind = arguments.pop("model_type", None)
    if not isinstance(kind, str):
        raise ConfigError("model.architecture", architecture, "must name a model_type, e.g. llama")
    if kind not in CONFIG_MAPPING:
        near = get_close_matches(kind, CONFIG_MAPPING.keys()) or ["llama", "gpt2"]
        reason = f"transformers has no such type; it has {', '.join(near)} and others"
        raise ConfigError("model.architecture.model_type", kind, reason)
    try:
        return AutoConfig.for_model(kind, **arguments)
    except Exception as error:  # strict dataclass validation has exceptions of its own
        raise ConfigError("model.architecture", architecture, first_line(error)) from error


def unfit(config: PretrainedConfig) -> str | None:
    """Why a kind of model cannot be measured; None where nothing speaks against it."""
    if getattr(config, "is_encoder_decoder", False):
        return (
            f"{config.model_type} is an encoder-decoder model, which predicts a text from another "
            "one; give a causal language model, which predicts a text from its own beginning"
        )
    packed = getattr(config, "quantization_config", None)
    if packed is not None:
        method = packed.get("quant_method", "packed") if isinstance(packed, dict) else "packed"
        return (
            f"its weights are {method}-quantised; outliers are edited in floating-point weights, "
            "so give the unquantised checkpoint, or dequantise it and save it first"
        )
    named = getattr(config, "transformers_weights", None)
    if named is not None and not str(named).endswith(".safetensors"):
        return f"its config.json names {named!r} as weights; they are read from safetensors alone"
    return None


def text_config(config: PretrainedConfig) -> Any:
    """The part of a configuration that is about text; the whole where no one part is."""
    try:
        return config.get_text_config()
    except ValueError:
        return config


def stated_positions(config: PretrainedConfig) -> int | None:
    """The longest input that a configuration states, in tokens; None where it states none.

    XLNet, which has no limit, says -1.
    """
    text = text_config(config)
    stated = (getattr(text, name, None) for name in _POSITIONS)
    limits = (limit for limit in stated if isinstance(limit, int) and limit > 0)
    return next(limits, None)


def rows_of_positions(model: nn.Module) -> Iterator[int]:
    """How many positions there are in each table of a model that keeps some for padding.

    RoBERTa and its like count positions from behind the row of the padding token, and so have
    fewer than their configuration states, which is the size of the table.

    Args:
        model: A model, with or without values.
    """
    for name, module in model.named_modules():
        table = isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]
        if table and module.padding_idx is not None:
            yield module.num_embeddings - module.padding_idx - 1
