"""Puts a trained checkpoint in place as the embedded model.

    python -m harness.demo.embed logs/demo/version_0/checkpoints/best

Weights are stored in bfloat16, which halves the file, and evaluated in float32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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


def main() -> None:
    """Reads the checkpoint's folder from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="Hugging Face folder of the trained model")
    embed(parser.parse_args().checkpoint)


if __name__ == "__main__":
    main()
