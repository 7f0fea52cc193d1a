"""Reading weights and tokenizers by transformers, and what is not what it should be with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch

from harness.base.console import quiet_transformers
from harness.errors import ConfigError
from harness.models.checkpoint import Checkpoint
from harness.models.repository import first_line, refusal, said

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Where peft is installed, transformers puts an adapter that lies beside weights on top of them.
# It looks for one in this folder instead, which there is not.
_NO_ADAPTER = {"subfolder": "(none)"}
_SHOWN = 3


def load_weights(
    checkpoint: Checkpoint,
    name: str,
    config: PretrainedConfig,
    *,
    dtype: torch.dtype | str,
    attn_implementation: str | None,
    device_map: str | dict[str, Any] | None,
    trust_remote_code: bool,
) -> tuple[PreTrainedModel, list[str]]:
    """Loads a model that is whole: every weight has a value from the checkpoint, on a device.

    Args:
        checkpoint: Where the weights lie, in safetensors or a GGUF file, which is dequantised.
        name: What the user calls the model.
        config: Its configuration.
        dtype: Data type of the weights, or `auto` for that of the configuration.
        attn_implementation: Attention kernel, as transformers names it.
        device_map: Placement over devices, as accelerate reads it.
        trust_remote_code: Whether code from the model's repository may run.

    Returns:
        The model, and the names of weights in the checkpoint that it has no place for.

    Raises:
        ConfigError: The weights are damaged, incomplete, of other shapes, or offloaded.
    """
    from transformers import AutoModelForCausalLM

    try:
        # The bar of what is dequantised knows of no way to keep it quiet.
        hidden = redirect_stderr(StringIO()) if checkpoint.gguf is not None else nullcontext()
        with quiet_transformers(progress=not checkpoint.local), hidden:
            model, info = AutoModelForCausalLM.from_pretrained(
                checkpoint.source,
                revision=checkpoint.revision,
                dtype=dtype,
                attn_implementation=attn_implementation,
                device_map=device_map,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # they are named below
                output_loading_info=True,
                adapter_kwargs=dict(_NO_ADAPTER),
                **_format(checkpoint, config),
            )
    except Exception as error:  # files may hold anything, and anything may be raised at it
        told = str(error)
        given = {"attn_implementation": attn_implementation, "device_map": device_map}
        for key, sign in (("attn_implementation", "FlashAtt"), ("device_map", "device_map")):
            if given[key] is not None and (key in told or sign in told):
                raise ConfigError(f"model.{key}", given[key], first_line(error)) from error
        raise refusal("model.pretrained", name, error) from error
    _check_complete(model, info, name, device_map)
    return model, sorted(info["unexpected_keys"])


def make_model(config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """Makes a model with the values that it starts from.

    Args:
        config: Its configuration.
        options: How transformers is to make it.

    Raises:
        ValueError: No causal language model can be made of the configuration.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_config(config, **options)
    except Exception as error:  # what a configuration says wrongly may fail anywhere
        reason = f"no model can be made of this configuration: {said(error)}"
        if str(error).startswith("Unrecognized configuration class"):
            reason = f"{config.model_type} is not a causal language model: {first_line(error)}"
        raise ValueError(reason) from error


def read_tokenizer(
    checkpoint: Checkpoint, key: str, name: str, trust: bool
) -> PreTrainedTokenizerBase:
    """Reads the tokenizer of a folder, repository or GGUF file.

    Args:
        checkpoint: Where it lies.
        key: Configuration key that names it.
        name: What the user calls it.
        trust: Whether code from its repository may run.

    Raises:
        ConfigError: There is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    file = {} if checkpoint.gguf is None else {"gguf_file": checkpoint.gguf}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.source, revision=checkpoint.revision, trust_remote_code=trust, **file
        )
        tokenizer("a")  # some settings are only looked at now
    except Exception as error:  # as above
        reason = refusal(key, name, error).reason
        raise ConfigError(key, name, f"no tokenizer: {reason}") from error
    return tokenizer


def unused(names: Iterable[str], whose: str) -> list[str]:
    """Says of weights that they were read and have no place, in a sentence or none.

    Args:
        names: Their names.
        whose: What holds them.
    """
    names = list(names)
    if not names:
        return []
    kinds = list(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names))
    shown = ", ".join(kinds[:_SHOWN]) + (", ..." if len(kinds) > _SHOWN else "")
    return [
        f"{len(names)} weights in {whose} have no place in the model that its configuration "
        f"describes, and were not measured: {shown}."
    ]


def _format(checkpoint: Checkpoint, config: PretrainedConfig) -> dict[str, Any]:
    """What says in which format the weights are."""
    if checkpoint.gguf is None:
        return {"use_safetensors": True}
    from transformers import GgufConfig

    # Without this its weights would stay packed, and could not be edited.
    how = GgufConfig(dequantize=True)
    # The configuration is given, as reading it from such a file takes long.
    return {"gguf_file": checkpoint.gguf, "quantization_config": how, "config": config}


def _check_complete(
    model: PreTrainedModel, info: dict[str, Any], name: str, device_map: object
) -> None:
    missing = sorted(info["missing_keys"])
    if missing:
        reason = (
            f"the checkpoint lacks {len(missing)} weights, {missing[0]} for one; random values in "
            "their place would be measured, so a complete checkpoint is needed"
        )
        raise ConfigError("model.pretrained", name, reason)
    for weight, found, due in sorted(info["mismatched_keys"]):
        reason = f"{weight} has shape {list(found)} where its configuration asks for {list(due)}"
        raise ConfigError("model.pretrained", name, reason)
    offloaded = [weight for weight, value in model.named_parameters() if value.is_meta]
    if offloaded:
        reason = (
            f"{offloaded[0]} is offloaded and cannot be edited; use more devices or a smaller "
            "dtype, so that every weight stays on a device"
        )
        raise ConfigError("model.device_map", device_map, reason)
