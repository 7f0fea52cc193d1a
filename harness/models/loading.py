"""Reading weights and tokenizers by transformers, and what is not what it should be with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch

from harness.base.console import quiet_transformers
from harness.errors import ConfigError
from harness.models.checkpoint import ADAPTER, Checkpoint
from harness.models.repository import cause, first_line, said

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Where peft is installed, transformers puts an adapter that lies beside weights on top of them.
# It looks for one in this folder instead, which there is not.
_NO_ADAPTER = {"subfolder": "(none)"}
_SHOWN = 3


def load_weights(
    checkpoint: Checkpoint,
    config: PretrainedConfig,
    dtype: torch.dtype | str,
    how: Mapping[str, Any],
) -> tuple[PreTrainedModel, list[str]]:
    """Loads a model that is whole: every weight has a value from the checkpoint, on a device.

    Args:
        checkpoint: Where the weights lie, in safetensors or a GGUF file, which is dequantised.
        config: The model's configuration.
        dtype: Data type of the weights, or `auto` for that of the configuration.
        how: `attn_implementation`, `device_map`, `trust_remote_code` and further arguments, as
            transformers reads them.

    Returns:
        The model, and what a reader should know of its weights, one sentence each.

    Raises:
        ConfigError: The weights are damaged, incomplete, of other shapes, or offloaded.
    """
    from transformers import AutoModelForCausalLM

    try:
        # The bar of what is dequantised knows of no way to keep it quiet.
        hidden = redirect_stderr(StringIO()) if checkpoint.gguf is not None else nullcontext()
        with quiet_transformers(progress=not checkpoint.local), hidden:
            model, info = AutoModelForCausalLM.from_pretrained(
                **checkpoint.place,
                **_format(checkpoint, config),
                **how,
                dtype=dtype,
                ignore_mismatched_sizes=True,  # they are named below
                output_loading_info=True,
                adapter_kwargs=dict(_NO_ADAPTER),
            )
    except Exception as error:  # files may hold anything, and anything may be raised at it
        told = str(error)
        for key, sign in (("attn_implementation", "FlashAtt"), ("device_map", "device_map")):
            if how[key] is not None and (key in told or sign in told):
                raise ConfigError(f"model.{key}", how[key], first_line(error)) from error
        raise checkpoint.refused(cause(error, checkpoint.name)) from error
    _check_complete(checkpoint, model, info, how["device_map"])
    remarks = unused(sorted(info["unexpected_keys"]), checkpoint.name)
    if checkpoint.has_idle_adapter:
        remarks.append(
            f"The adapter in {checkpoint.name} ({ADAPTER}) was not used: the weights beside it are "
            "a whole model. To measure it, put it into a folder of its own."
        )
    return model, remarks


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


def read_tokenizer(checkpoint: Checkpoint, trust: bool) -> PreTrainedTokenizerBase:
    """Reads the tokenizer of a folder, repository or GGUF file.

    Args:
        checkpoint: Where it lies.
        trust: Whether code from its repository may run.

    Raises:
        ConfigError: There is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(**checkpoint.place, trust_remote_code=trust)
        tokenizer("a")  # some settings are only looked at now
    except Exception as error:  # as above
        raise checkpoint.refused(f"no tokenizer: {cause(error, checkpoint.name)}") from error
    return tokenizer


def unused(names: Sequence[str], whose: str) -> list[str]:
    """Says of weights that they were read and have no place, in a sentence or none.

    Args:
        names: Their names.
        whose: What holds them.
    """
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
    return {"quantization_config": how, "config": config}


def _check_complete(
    checkpoint: Checkpoint, model: PreTrainedModel, info: dict[str, Any], device_map: object
) -> None:
    if missing := sorted(info["missing_keys"]):
        raise checkpoint.refused(
            f"the checkpoint lacks {len(missing)} weights, {missing[0]} for one; random values in "
            "their place would be measured, so a complete checkpoint is needed"
        )
    for weight, found, due in sorted(info["mismatched_keys"]):
        raise checkpoint.refused(
            f"{weight} has shape {list(found)} where its configuration asks for {list(due)}"
        )
    offloaded = [weight for weight, value in model.named_parameters() if value.is_meta]
    if offloaded:
        reason = (
            f"{offloaded[0]} is offloaded and cannot be edited; use more devices or a smaller "
            "dtype, so that every weight stays on a device"
        )
        raise ConfigError("model.device_map", device_map, reason)
