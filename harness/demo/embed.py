"""Puts a trained checkpoint in place as the embedded model.

    python -m harness.demo.embed logs/demo/version_0/checkpoints/best

Weights are stored in bfloat16, which halves the file, and evaluated in float32.
"""

from __future__ import annotations

import json
from pathlib import Path

from jsonargparse import auto_cli

from harness.demo import MODEL_FOLDER


def embed(checkpoint: Path, folder: Path = MODEL_FOLDER) -> None:
    """Stores a checkpoint's weights rounded to bfloat16, with a configuration that says float32.

    Args:
        checkpoint: A Hugging Face folder.
        folder: Where the model goes; tokenizer and model card stay as they are.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    # transformers loads in the type that the configuration names, whatever the file holds.
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    auto_cli(embed)
