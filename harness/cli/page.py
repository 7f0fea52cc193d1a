"""The first page of help, and how the help of a command begins."""

from __future__ import annotations

from harness import __version__

COMMANDS = {
    "validate": "measures the model and its variants on validation text",
    "test": "measures the same on test text",
    "predict": "writes texts with the model and each variant, side by side",
    "fit": "trains, from scratch or onward, and watches outliers emerge",
}
"""Each command, and what it does."""

PAGE = f"""\
outlier-harness {__version__}: what do the outliers of a language model do?
Measured with and without them on the same text, and beside random weights.

  python -m harness COMMAND [--KEY VALUE ...] [-c FILE.yaml ...]

Commands
{chr(10).join(f"  {name:<9} {says}" for name, says in COMMANDS.items())}

Common keys (default)
  --model.pretrained       hub id or folder of a model (demo: one is built in)
  --model.dtype            auto, float32, bfloat16 or float16 (auto)
  --model.variants.NAME    what is done to it (zeroed and sigma5)
                .criterion AbsoluteThreshold, SigmaThreshold, TopFraction
                .edit      Zero, Clip, Epsilon (Zero)
                .controls  random ones of its size beside it (0; sigma5: 3)
  --model.generation.max_new_tokens   tokens to write after each prompt (40)
  --data.dataset           hub id, or text, jsonl, csv, parquet (demo: built in)
  --data.max_length        tokens in a window (null: what fits, at most 2048)
  --data.batch_size        windows at a time (8)
  --run.name               folder of the run in logs/ (null: the model's name)

Examples
  python -m harness validate
  python -m harness validate --model.pretrained gpt2 --data.dataset my.txt \\
    --model.variants.zeroed null --model.variants.sigma5.criterion.sigmas 6

All keys: python -m harness validate --help
"""

ABOUT = (
    "This command {says}. Keys follow as --KEY VALUE, and files of keys as -c FILE, merged from "
    "left to right; config.yaml in a run's folder repeats the run. --model.variants.help shows the "
    "keys of a variant. A default variant is left out by --model.variants.zeroed null, all of them "
    "by --model.variants null; another criterion takes the place of a variant's own and of its "
    "arguments. A run takes one device unless trainer.devices says how many, and gives the same "
    "results with any number; under torchrun or srun it takes what they have started. --resume "
    "RUN goes on with a run that was interrupted, by its own configuration; keys beside it make it "
    "another or longer one, which measures only what is new."
)
"""How the help of a command begins."""
