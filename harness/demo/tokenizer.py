"""Builds the tokenizer of the embedded model: ``python -m harness.demo.tokenizer``.

Byte-level byte-pair encoding, learnt from the training split of the embedded corpus alone. Any text
comes back as it went in; runs of spaces, as indentation has them, are tokens of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.demo import MODEL_FOLDER
from harness.demo.corpus import documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
"""Entries of the vocabulary, special tokens and the 256 bytes included."""

_SPECIAL_TOKENS = ("<bos>", "<eos>", "<pad>")


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learns a tokenizer from texts; the same texts always give the same one.

    Args:
        texts: The training documents.

    Returns:
        A tokenizer that puts one ``<bos>`` before each text, and whose ``decode`` gives the text
        back unchanged, white space included.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bos, eos, pad = _SPECIAL_TOKENS
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        clean_up_tokenization_spaces=False,
    )


def main(folder: Path = MODEL_FOLDER) -> None:
    """Builds the tokenizer from the training split and saves it in Hugging Face's layout."""
    tokenizer = build_tokenizer(text for _, text in documents("train"))
    tokenizer.save_pretrained(folder)
    print(f"{len(tokenizer)} tokens in {folder}")


if __name__ == "__main__":
    main()
