"""A Hugging Face model and its tokenizer, named but not loaded until they are needed.

The one place that knows the ways of transformers. What can be refused is refused from the
configuration and the list of files, before any weight is read.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from harness.base.console import quiet_transformers
from harness.base.shards import class_of
from harness.errors import ConfigError
from harness.models import adapters
from harness.models.checkpoint import Checkpoint
from harness.models.configuration import (
    make_config,
    read_config,
    rows_of_positions,
    stated_positions,
    text_config,
    unfit,
)
from harness.models.loading import load_weights, make_model, read_tokenizer
from harness.models.sharding import Sharding
from harness.outliers.parameters import parameter_count
from harness.results.schema import ModelRecord

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DType = Literal["auto", "float32", "bfloat16", "float16"]


class Pretrained:
    """A causal language model, named but not loaded until it is needed.

    Args:
        pretrained: Hub id, local folder, GGUF file, or ``demo`` for the embedded model. A folder
            or repository may hold an adapter of PEFT, which is merged into its model.
        revision: Branch, tag or commit on the hub.
        dtype: Data type of the weights, and with it the precision of the evaluation. ``auto``
            is what the configuration states, and float32 for GGUF files: the values of their
            blocks are products that no shorter type holds.
        attn_implementation: Attention kernel, as transformers names it.
        device_map: Placement over devices, as accelerate reads it.
        tokenizer: Hub id, folder or GGUF file of the tokenizer, where it is not the model's own.
        trust_remote_code: Whether code from the model's repository may run.
        force_dtype: Accept a data type that is known to overflow in this model.
        architecture: Configuration of a model that is made with random weights instead of loaded.

    Attributes:
        remarks: What a reader should know of the weights that were loaded, one sentence each.
    """

    def __init__(
        self,
        pretrained: str = "demo",
        *,
        revision: str | None = None,
        dtype: DType = "auto",
        attn_implementation: str | None = None,
        device_map: str | dict[str, Any] | None = None,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        force_dtype: bool = False,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        self.name = pretrained
        self.revision = revision
        self.tokenizer_name = tokenizer
        self.architecture = architecture
        self.trusts_code = trust_remote_code
        self.device_map = device_map
        self.remarks: list[str] = []
        self.new_tokens: int | None = None
        """Most tokens that are generated after each prompt; None where no text is generated."""
        self._how: dict[str, Any] = {
            "attn_implementation": attn_implementation,
            "device_map": device_map,
            "trust_remote_code": trust_remote_code,
        }
        self._dtype: DType = dtype
        self._force_dtype = force_dtype
        self._adapter: str | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What lies at the model's place."""
        return Checkpoint("model.pretrained", self.name, self.revision, self._adapter)

    @cached_property
    def base(self) -> Pretrained | None:
        """The model that an adapter belongs to; None where the model is whole by itself.

        Raises:
            ConfigError: The adapter is of a kind that cannot be merged, or that of an adapter.
        """
        settings = None if self.architecture is not None else self.checkpoint.adapter
        if settings is None:
            return None
        adapters.check(self.checkpoint, settings)
        base = Pretrained(
            settings["base_model_name_or_path"],
            revision=settings.get("revision"),
            dtype=self._dtype,
            force_dtype=self._force_dtype,
            **self._how,
        )
        base._adapter = self.name
        if base.checkpoint.adapter is not None:
            raise base.refused("an adapter itself; merge that one first, and save the model")
        base.check()
        return base

    @cached_property
    def config(self) -> PretrainedConfig:
        """The model's configuration, without its weights.

        Raises:
            ConfigError: If there is no such model, its kind is not known, or cannot be measured.
        """
        if self.base is not None:
            return self.base.config
        if self.architecture is not None:
            config = make_config(self.architecture)
        else:
            config = read_config(self.checkpoint, self.trusts_code)
        if reason := unfit(config):
            raise self.refused(reason)
        return config

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            ConfigError: If there is none at that place.
        """
        if self.tokenizer_name is not None:
            other = Checkpoint("model.tokenizer", self.tokenizer_name)
            return read_tokenizer(other, self.trusts_code)
        # Beside an adapter lies a tokenizer only where it was changed for it.
        if self.base is not None and "tokenizer_config.json" not in self.checkpoint.files:
            return self.base.tokenizer
        return read_tokenizer(self.checkpoint, self.trusts_code)

    @property
    def title(self) -> str:
        """What it is called: the last part of its name; its type where it is made anew."""
        made_anew = self.architecture is not None
        return str(self.config.model_type) if made_anew else Path(self.name).name

    @property
    def is_local(self) -> bool:
        """Whether the model lies here, in a folder or a file of the user's."""
        return self.name != "demo" and self.checkpoint.local

    @cached_property
    def max_positions(self) -> int | None:
        """The longest input the model was made for, in tokens; None where it names no limit."""
        stated = stated_positions(self.config)
        with suppress(ConfigError):  # what no model can be made of is refused where one is made
            return stated and min([stated, *rows_of_positions(self.skeleton)])
        return stated

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has; None where its configuration does not say."""
        size = getattr(text_config(self.config), "vocab_size", None)
        return size if isinstance(size, int) else None

    @property
    def dtype(self) -> torch.dtype:
        """The data type that the weights will have, as far as the configuration tells."""
        if self._dtype != "auto":
            return getattr(torch, self._dtype)  # type: ignore[no-any-return]
        if self.base is not None:
            return self.base.dtype
        if self.architecture is None and self.checkpoint.gguf is not None:
            return torch.float32
        return getattr(self.config, "dtype", None) or torch.float32

    def check(self, sharding: Sharding | None = None) -> None:
        """Refuses what cannot be evaluated, before any weight is read.

        Args:
            sharding: How the model is to be divided among processes; None where it is not.

        Raises:
            ConfigError: For packed weights, pickled weights, or a data type that overflows.
        """
        # An adapter may name one beside a folder.
        if self.revision is not None and self.checkpoint.local and self._adapter is None:
            reason = "only a model of the hub has one; leave it out for a folder"
            raise ConfigError("model.revision", self.revision, reason)
        may_overflow = self.dtype == torch.float16 and not self._force_dtype
        if may_overflow and str(self.config.model_type).startswith("gemma3"):
            reason = (
                "activations of Gemma-3 exceed 65,504 and overflow; use bfloat16 or float32 "
                "(or force it with --model.force_dtype true)"
            )
            raise ConfigError("model.dtype", "float16", reason)
        if self.architecture is None:
            self.checkpoint.check()
        if sharding is not None:
            sharding.check(self)

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """The model's modules and parameter names on the meta device, without values.

        Raises:
            ConfigError: If no causal language model can be made of the configuration.
        """
        with torch.device("meta"):
            return self._made()

    def load(self, sharding: Sharding | None = None) -> PreTrainedModel:
        """Loads the weights, or makes random ones where an architecture is given.

        Args:
            sharding: How the model is divided among processes, all of which load it; None where it
                is not.

        Returns:
            The model in evaluation mode.

        Raises:
            ConfigError: If the weights are missing, incomplete, pickled or offloaded.
        """
        self.check(sharding)
        if self.architecture is not None:
            attention = self._how["attn_implementation"]
            return self._made(dtype=self.dtype, attn_implementation=attention).eval()
        if self.base is not None:
            model = self.base.load()
            self.remarks = [*self.base.remarks, *adapters.merge(model, self.checkpoint)]
            return model.eval()
        dtype = self._dtype if self.checkpoint.gguf is None else self.dtype
        with sharding.loading() if sharding else nullcontext(self._how) as how:
            how = {**self._how, **how}
            model, self.remarks = load_weights(self.checkpoint, self.config, dtype, how)
        return model.eval()

    def end_ids(self, model: PreTrainedModel) -> set[int]:
        """Tokens that end a text: those of a model's generation settings, else its tokenizer's."""
        given = model.generation_config
        end = given.eos_token_id if given else None
        end = self.tokenizer.eos_token_id if end is None else end
        return {end} if isinstance(end, int) else set(end or ())

    def record(self, model: PreTrainedModel) -> ModelRecord:
        """What results tell of the model, once it is loaded."""
        return ModelRecord(
            pretrained=self.name,
            revision=self.revision,
            class_name=class_of(model).__name__,
            parameters=parameter_count(model),
            dtype=str(model.dtype).removeprefix("torch."),
        )

    def refused(self, reason: str) -> ConfigError:
        """What says that this model cannot be evaluated, under the key that names it."""
        if self.architecture is not None:
            return ConfigError("model.architecture", self.architecture, reason)
        return self.checkpoint.refused(reason)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Writes a model and its tokenizer as a Hugging Face folder."""
        with quiet_transformers(progress=False):
            model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def _made(self, **options: Any) -> PreTrainedModel:
        try:
            return make_model(self.config, trust_remote_code=self.trusts_code, **options)
        except ValueError as error:
            raise self.refused(str(error)) from error
