"""A Hugging Face model and its tokenizer: where they come from and how they are loaded.

The one place that knows the ways of transformers. What can be refused is refused from the
configuration and the list of files, before any weight is read.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from harness.console import quiet_transformers
from harness.errors import ConfigError
from harness.repository import check_safetensors, first_line, locate, refusal

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DType = Literal["auto", "float32", "bfloat16", "float16"]


class Pretrained:
    """A causal language model, named but not loaded until it is needed.

    Args:
        pretrained: Hub id, local folder, or ``demo`` for the embedded model.
        revision: Branch, tag or commit on the hub.
        dtype: Data type of the weights, and with it the precision of the evaluation.
        attn_implementation: Attention kernel, as transformers names it.
        device_map: Placement over devices, as accelerate reads it.
        tokenizer: Hub id or folder of the tokenizer, where it is not the model's own.
        trust_remote_code: Whether code from the model's repository may run.
        force_dtype: Accept a data type that is known to overflow in this model.
        architecture: Configuration of a model that is made with random weights instead of loaded.
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
        self.tokenizer_name = tokenizer or pretrained
        self.architecture = architecture
        self._dtype: DType = dtype
        self._attention = attn_implementation
        self.device_map = device_map
        self._trust = trust_remote_code
        self._force_dtype = force_dtype
        self.new_tokens: int | None = None
        """Most tokens that are generated after each prompt; None where no text is generated."""

    @cached_property
    def config(self) -> PretrainedConfig:
        """The model's configuration, without its weights.

        Raises:
            ConfigError: If there is no such model or its kind is not known.
        """
        from transformers import AutoConfig

        if self.architecture is not None:
            return _config_from(self.architecture)
        source = locate("model.pretrained", self.name)
        try:
            return AutoConfig.from_pretrained(
                source, revision=self.revision, trust_remote_code=self._trust
            )
        except (OSError, ValueError, KeyError) as error:
            raise refusal("model.pretrained", self.name, error) from error

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            ConfigError: If there is none at that place.
        """
        from transformers import AutoTokenizer

        own = self.tokenizer_name == self.name
        key = "model.pretrained" if own else "model.tokenizer"
        source = locate(key, self.tokenizer_name)
        try:
            return AutoTokenizer.from_pretrained(
                source,
                revision=self.revision if own else None,
                trust_remote_code=self._trust,
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            reason = refusal(key, self.tokenizer_name, error).reason
            raise ConfigError(key, self.tokenizer_name, f"no tokenizer: {reason}") from error

    @property
    def is_local(self) -> bool:
        """Whether the model lies in a folder here."""
        return self.name != "demo" and Path(self.name).expanduser().is_dir()

    @property
    def max_positions(self) -> int | None:
        """The longest input the model was made for, in tokens; None where it names no limit."""
        text = self.config.get_text_config()
        positions = getattr(text, "max_position_embeddings", None)
        # XLNet, which has no limit, says -1.
        return int(positions) if positions and positions > 0 else None

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has; None where its configuration does not say."""
        size = getattr(self.config.get_text_config(), "vocab_size", None)
        return None if size is None else int(size)

    @property
    def dtype(self) -> torch.dtype:
        """The data type that the weights will have, as far as the configuration tells."""
        if self._dtype != "auto":
            return getattr(torch, self._dtype)  # type: ignore[no-any-return]
        return getattr(self.config, "dtype", None) or torch.float32

    def check(self) -> None:
        """Refuses what cannot be evaluated, before any weight is read.

        Raises:
            ConfigError: For packed weights, pickled weights, or a data type that overflows.
        """
        if self.revision is not None and Path(locate("model.pretrained", self.name)).is_dir():
            reason = "only a model of the hub has one; leave it out for a folder"
            raise ConfigError("model.revision", self.revision, reason)
        packed = getattr(self.config, "quantization_config", None)
        if packed is not None:
            method = packed.get("quant_method", "packed") if isinstance(packed, dict) else "packed"
            raise ConfigError(
                "model.pretrained",
                self.name,
                f"its weights are {method}-quantised; outliers are edited in floating-point "
                "weights, so give the unquantised checkpoint, or dequantise it and save it first",
            )
        family = str(self.config.model_type)
        overflows = family.startswith("gemma3") and self.dtype == torch.float16
        if overflows and not self._force_dtype:
            raise ConfigError(
                "model.dtype",
                "float16",
                "activations of Gemma-3 exceed 65,504 and overflow; use bfloat16 or float32 "
                "(or force it with --model.force_dtype true)",
            )
        folder = Path(locate("model.pretrained", self.name))
        if self.architecture is None and folder.is_dir():
            check_safetensors(folder, self.name)

    def skeleton(self) -> PreTrainedModel:
        """The model's modules and parameter names on the meta device, without values."""
        from transformers import AutoModelForCausalLM

        try:
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(self.config, trust_remote_code=self._trust)
        except Exception as error:  # what a configuration says wrongly may fail anywhere
            raise self._unusable(error) from error

    def load(self) -> PreTrainedModel:
        """Loads the weights, or makes random ones where an architecture is given.

        Returns:
            The model in evaluation mode.

        Raises:
            ConfigError: If the weights are missing, incomplete, pickled or offloaded.
        """
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM

        self.check()
        if self.architecture is not None:
            try:
                model = AutoModelForCausalLM.from_config(
                    self.config, dtype=self.dtype, attn_implementation=self._attention
                )
            except Exception as error:
                raise self._unusable(error) from error
            return model.eval()
        source = locate("model.pretrained", self.name)
        try:
            with quiet_transformers(progress=not Path(source).is_dir()):
                model, info = AutoModelForCausalLM.from_pretrained(
                    source,
                    revision=self.revision,
                    dtype=self._dtype,
                    attn_implementation=self._attention,
                    device_map=self.device_map,
                    trust_remote_code=self._trust,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,  # they are named below
                    output_loading_info=True,
                )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise self._refused_loading(error) from error
        self._check_complete(model, info)
        return model.eval()

    def end_and_pad(self, model: PreTrainedModel) -> tuple[set[int], int]:
        """Tokens that end a generated text, and the one that fills up texts that have ended.

        Args:
            model: The model, whose generation settings come before its tokenizer's.
        """
        given = model.generation_config
        end = given.eos_token_id if given else None
        end = self.tokenizer.eos_token_id if end is None else end
        ends = {end} if isinstance(end, int) else set(end or ())
        pad = self.tokenizer.pad_token_id
        return ends, min(ends, default=0) if pad is None else int(pad)

    def refused(self, reason: str) -> ConfigError:
        """What says that this model cannot be evaluated, under the key that names it."""
        if self.architecture is not None:
            return ConfigError("model.architecture", self.architecture, reason)
        return ConfigError("model.pretrained", self.name, reason)

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Writes a model and its tokenizer as a Hugging Face folder."""
        with quiet_transformers(progress=False):
            model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def _check_complete(self, model: PreTrainedModel, info: dict[str, Any]) -> None:
        missing = sorted(info["missing_keys"])
        if missing:
            raise ConfigError(
                "model.pretrained",
                self.name,
                f"the checkpoint lacks {len(missing)} weights, {missing[0]} for one; random "
                "values in their place would be measured, so a complete checkpoint is needed",
            )
        for name, found, due in sorted(info["mismatched_keys"]):
            reason = f"{name} has shape {list(found)} where its config.json asks for {list(due)}"
            raise ConfigError("model.pretrained", self.name, reason)
        offloaded = [name for name, weight in model.named_parameters() if weight.is_meta]
        if offloaded:
            raise ConfigError(
                "model.device_map",
                self.device_map,
                f"{offloaded[0]} is offloaded and cannot be edited; use more devices or a "
                "smaller dtype, so that every weight stays on a device",
            )

    def _refused_loading(self, error: Exception) -> ConfigError:
        told = str(error)
        if self._attention is not None and ("attn_implementation" in told or "FlashAtt" in told):
            return ConfigError("model.attn_implementation", self._attention, first_line(error))
        if self.device_map is not None and "device_map" in told:
            return ConfigError("model.device_map", self.device_map, first_line(error))
        return refusal("model.pretrained", self.name, error)

    def _unusable(self, error: Exception) -> ConfigError:
        reason = f"{self.config.model_type} is not a causal language model: {first_line(error)}"
        if not str(error).startswith("Unrecognized configuration class"):
            told = f"{type(error).__name__}: {first_line(error)}"
            reason = f"no model can be made of this configuration: {told}"
        return self.refused(reason)


def _config_from(architecture: dict[str, Any]) -> PretrainedConfig:
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
    except (ValueError, TypeError) as error:
        raise ConfigError("model.architecture", architecture, first_line(error)) from error
    except Exception as error:  # strict dataclass validation has exceptions of its own
        reason = " ".join(str(error).split())
        raise ConfigError("model.architecture", architecture, reason) from error
