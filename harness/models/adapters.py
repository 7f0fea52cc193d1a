"""Adapters of PEFT: merged into the weights of the model that they were trained on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from harness.models.checkpoint import ADAPTER, ADAPTER_WEIGHTS, Checkpoint
from harness.models.loading import unused
from harness.models.repository import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Refuses an adapter that cannot be merged, as far as its settings tell.

    Args:
        checkpoint: The adapter.
        settings: What its `adapter_config.json` holds.

    Raises:
        ConfigError: Saying what is missing.
    """
    if find_spec("peft") is None:
        what = "an adapter needs a package more: pip install 'outlier-harness[peft]'"
        raise checkpoint.refused(what)
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    kind, base = settings.get("peft_type"), settings.get("base_model_name_or_path")
    if kind not in list(PeftType):
        what = f"{ADAPTER} names no type of adapter that peft knows (peft_type: {kind!r})"
        raise checkpoint.refused(what)
    if not hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(PeftType(kind)), "merge_and_unload"):
        what = f"an adapter of type {kind} adds no weights that could be merged into a model"
        raise checkpoint.refused(what)
    if not isinstance(base, str) or not base:
        what = f"{ADAPTER} names no model that it belongs to (base_model_name_or_path: {base!r})"
        raise checkpoint.refused(what)


def merge(model: PreTrainedModel, checkpoint: Checkpoint) -> list[str]:
    """Adds what an adapter changes to the weights of its model.

    Args:
        model: The model that it was trained on; its weights are changed.
        checkpoint: The adapter.

    Returns:
        What a reader should know of it, one sentence each.

    Raises:
        ConfigError: The adapter is not whole, or is one of another model.
    """
    base = checkpoint.mapping(ADAPTER)["base_model_name_or_path"]
    try:
        left = _merge(model, checkpoint)
    except Exception as error:  # an adapter may hold anything
        why = f"cannot be merged into {base}: {first_line(error)}"
        raise checkpoint.refused(why) from error
    return [
        f"The adapter in {checkpoint.name} was merged into {base}.",
        *unused(left, checkpoint.name),
    ]


def _merge(model: PreTrainedModel, checkpoint: Checkpoint) -> list[str]:
    """Names of weights of the adapter that the model has no place for."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    # Fetched one by one, so that peft does not look for pickles in their place.
    folder = os.path.dirname(checkpoint.path(ADAPTER))
    with safe_open(checkpoint.path(ADAPTER_WEIGHTS), "pt") as file:
        held = set(file.keys())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is asked for below
        adapted = PeftModel.from_pretrained(model, folder)
        due = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        if missing := sorted(due - held):
            raise ValueError(f"it lacks {len(missing)} weights, {missing[0]} for one")
        # Embeddings of the model may be in the file as well.
        left = sorted(held - due - set(adapted.state_dict()))
        merged = adapted.merge_and_unload()
    if merged is not model:
        raise ValueError("peft gives back another model than it was given")
    model.requires_grad_(True)  # peft froze it
    return left
