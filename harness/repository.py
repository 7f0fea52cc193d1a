"""Where a model lies, a folder here or a repository on the hub, and why it cannot be had."""

from __future__ import annotations

from pathlib import Path

from harness.demo import MODEL_FOLDER
from harness.errors import ConfigError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")


def locate(key: str, name: str) -> str:
    """Returns the folder of a model, or its id on the hub where no folder is meant.

    Args:
        key: Configuration key that named it, for errors.
        name: Hub id, local folder, or ``demo``.

    Raises:
        ConfigError: It can only be a folder, and there is none.
    """
    if name == "demo":
        return str(MODEL_FOLDER)
    path = Path(name).expanduser()
    if name and path.is_dir():
        return str(path)
    if not name or name[0] in "./~" or name.count("/") > 1 or path.is_file():
        raise ConfigError(
            key, name, "no such folder; give a hub id, a folder with a config.json, or demo"
        )
    return name


def check_safetensors(folder: Path, name: str) -> None:
    """Refuses a folder without weights in safetensors.

    Raises:
        ConfigError: It holds pickles, or no weights at all.
    """
    if any(folder.glob("*.safetensors")):
        return
    pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        raise ConfigError(
            "model.pretrained",
            name,
            f"holds pickled weights only ({pickles[0]}); a pickle can run code when it is "
            "opened, so convert it to safetensors with model.save_pretrained(folder) first",
        )
    raise ConfigError("model.pretrained", name, "holds no weights (*.safetensors)")


def refusal(key: str, name: str, error: Exception) -> ConfigError:
    """Turns an error of transformers or of the hub into one line that says what to do.

    Args:
        key: Configuration key that named the repository.
        name: The repository or folder.
        error: What was raised; its chain of causes is looked through.
    """
    kinds = {type(cause).__name__ for cause in _causes(error)}
    if "GatedRepoError" in kinds:
        reason = (
            f"the repository is gated: accept its terms at https://huggingface.co/{name} "
            "and run `hf auth login`"
        )
    elif "RevisionNotFoundError" in kinds:
        reason = "the repository has no such revision (model.revision)"
    elif "RepositoryNotFoundError" in kinds:
        reason = (
            "no such repository on the hub (a private one needs `hf auth login`), and no such "
            "folder here"
        )
    elif "trust_remote_code" in str(error):
        reason = (
            "it brings code of its own, which would run on this machine; read it, then allow it by "
            "model.trust_remote_code=true"
        )
    elif "SafetensorError" in kinds:
        reason = f"its weights are damaged or cut short (*.safetensors): {first_line(error)}"
    elif kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError"}:
        reason = "not a folder here, not in the local cache, and the hub cannot be reached"
    else:
        reason = first_line(error)
    return ConfigError(key, name, reason)


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or its name where it has none.

    One that ends in a colon goes on in the next.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    said = 1 + next((k for k, line in enumerate(lines) if not line.endswith(":")), len(lines) - 1)
    return " ".join(lines[:said]).rstrip(".")
