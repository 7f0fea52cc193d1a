"""What a run measured, as it stands in ``results.json``: one schema for all that show it.

Figures that could not be had, or that were not finite, are None here and ``null`` in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ORIGINAL = "original"
"""Name of the model as it was loaded, among the variants."""

SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes; a new key beside the others leaves it alone."""


@dataclass(frozen=True)
class RunRecord:
    """How the results were made.

    Attributes:
        name: Name of the run: its folder under ``logs/``.
        version: Number of the run among those of its name.
        command: Subcommand, for example ``validate``.
        seed: Value of ``seed_everything``; None where nothing was seeded.
        world_size: Number of processes.
        precision: Precision of the trainer, for example ``32-true``.
        duration_seconds: Wall time of the command, seconds.
        partial: Whether only a part of the split was scored.
        confidence: Coverage of the intervals, 0 to 1; the keys that end in ``_ci95`` too.
        resamples: Random changes of sign behind p-values.
        arguments: The command as it was typed; None where a program called the harness.
        started: When it began, in ISO 8601 with the offset from UTC.
        versions: Versions of Python and of the libraries that figures may depend on.
    """

    name: str
    version: int
    command: str
    seed: int | None
    world_size: int
    precision: str
    duration_seconds: float
    partial: bool
    confidence: float = 0.95
    resamples: int = 10_000
    arguments: str | None = None
    started: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRecord:
    """The original.

    Attributes:
        pretrained: Hub id, local folder, or ``demo``.
        revision: Revision on the hub; None for the default or a folder.
        class_name: Class of the model (``class`` in the file).
        parameters: Number of parameters, tied ones counted once.
        dtype: Type of the weights, for example ``bfloat16``.
    """

    pretrained: str
    revision: str | None
    class_name: str
    parameters: int
    dtype: str


@dataclass(frozen=True)
class DataRecord:
    """The text that was scored, and how it was cut.

    Attributes:
        dataset: Hub id, local path or paths, or ``demo``.
        split: Name of the split; ``all`` for local files that have none.
        documents: Number of documents that are scored, or of rows that were joined.
        windows: Number of windows.
        tokens: Number of scored tokens.
        words: Words in the raw documents; None where not every token is scored.
        bytes: UTF-8 bytes in the raw documents; None where not every token is scored.
        max_length: Longest window, tokens.
        stride: Tokens from the start of one window to the start of the next.
        join: ``document`` or ``corpus``.
        bos: Where a beginning-of-sequence token stands: ``window``, ``start`` or ``none``.
        windows_kind: ``rolling``, ``strided`` or ``chunks``.
        text_column: The column that was read; None where the text has no columns.
    """

    dataset: str | list[str]
    split: str
    documents: int
    windows: int
    tokens: int
    words: int | None
    bytes: int | None
    max_length: int
    stride: int
    join: str
    bos: str
    windows_kind: str
    text_column: str | None = None


@dataclass(frozen=True)
class Rounding:
    """The original with some weights moved to the next number of their data type.

    In that precision it is the same model: differences of this size mean nothing.

    Attributes:
        entries: Number of weights moved, at random, up or down.
        delta_nll: Change of nll, nats per scored token.
        kl_mean: Mean divergence, nats per scored token.
        top1_agreement: Share of scored positions where both find the same token likeliest, 0 to 1.
    """

    entries: int
    delta_nll: float | None
    kl_mean: float | None
    top1_agreement: float | None


@dataclass(frozen=True)
class NoiseFloor:
    """What of a difference is arithmetic, on the first eight batches.

    The original scored again shows whether the machine repeats itself (repeatability), `rounding`
    what the precision of the weights leaves undecided.

    Attributes:
        delta_nll: Change of nll when the original is scored again, nats per scored token.
        kl_mean: Mean divergence likewise, nats per scored token.
        rounding: The floor of the precision; None in files of older versions.
    """

    delta_nll: float | None
    kl_mean: float | None
    rounding: Rounding | None = None


@dataclass(frozen=True)
class ObserverRecord:
    """From where on an activation was an outlier, see the configuration's ``activations``.

    Attributes:
        threshold: Magnitude that an outlier exceeds.
        sigmas: Distance from the mean that an outlier exceeds, in standard deviations.
        massive_threshold: Magnitude that a massive activation exceeds.
        massive_ratio: How many times the median magnitude of its text it exceeds as well.
        every_n_steps: Each n-th batch was observed.
    """

    threshold: float
    sigmas: float
    massive_threshold: float
    massive_ratio: float
    every_n_steps: int


@dataclass(frozen=True)
class EditRecord:
    """What was done to the weights.

    Attributes:
        criterion: The criterion with its arguments; None where a saved patch does not tell.
        edit: The edit with its arguments; None where a saved patch does not tell.
        entries: Number of weights edited.
        fraction: Edited weights as a share of all parameters, 0 to 1.
        by_module_class: Number of weights edited per class of module.
        patch: File of the saved patch, relative to the run's folder; None where none was saved.
        is_original: Whether the criterion selected nothing, so that this is the original.
        scope: Where the criterion looked, in words: ``all weights``, ``matrices``, ... This and
            what follows is None where a saved patch does not tell, and in files of older versions.
        in_scope: Number of weights that it looked at.
        verb: What the edit does, for a sentence: ``zeroes``.
        which: Which weights, as it goes on: ``those with |w| > 5``.
        share_of_scope: Edited weights as a share of those, 0 to 1.
        nearest: Where nothing was selected, how near the criterion came to it.
    """

    criterion: str | None
    edit: str | None
    entries: int
    fraction: float
    by_module_class: dict[str, int]
    patch: str | None
    is_original: bool
    scope: str | None = None
    in_scope: int | None = None
    verb: str | None = None
    which: str | None = None
    share_of_scope: float | None = None
    nearest: str | None = None


@dataclass(frozen=True)
class Likelihood:
    """How well the text is predicted.

    Attributes:
        nll: Mean negative log-likelihood, nats per scored token.
        perplexity: Its exponential, per scored token.
        word_perplexity: Perplexity per word of the raw documents, as in lm-evaluation-harness.
        byte_perplexity: Perplexity per UTF-8 byte of the raw documents, as there.
        bits_per_byte: Mean negative log-likelihood, bits per UTF-8 byte, as there.
    """

    nll: float | None
    perplexity: float | None
    word_perplexity: float | None
    byte_perplexity: float | None
    bits_per_byte: float | None


@dataclass(frozen=True)
class VersusOriginal:
    """A variant beside the original, paired by token and by document.

    Attributes:
        delta_nll: Change of nll, nats per scored token; positive is worse.
        delta_nll_ci95: Both ends of its interval over documents, nats per scored token, at the
            level of ``model.confidence`` (0.95 unless it was set). Documents of one text count as
            one; None where there is no second.
        p_value: Two-sided p-value of the paired permutation test over documents, 0 to 1, likewise.
            None where 0.05 is out of its reach: where fewer than six texts change.
        perplexity_ratio: Perplexity of the variant divided by that of the original.
        kl_mean: Mean Kullback-Leibler divergence KL(original || variant) of the next-token
            distributions, nats per scored token.
        kl_p50: Its median over scored tokens, nats, within 1.2 %.
        kl_p99: Its 99th percentile over scored tokens, nats, within 1.2 %.
        kl_max: Its exact maximum over scored tokens, nats.
        top1_agreement: Share of scored positions where both find the same token likeliest, 0 to 1.
    """

    delta_nll: float | None
    delta_nll_ci95: tuple[float, float] | None
    p_value: float | None
    perplexity_ratio: float | None
    kl_mean: float | None
    kl_p50: float | None
    kl_p99: float | None
    kl_max: float | None
    top1_agreement: float | None


@dataclass(frozen=True)
class VersusControl:
    """A variant beside its matched random controls.

    Attributes:
        controls: Number of controls.
        delta_nll: Mean of the controls' changes of nll, nats per scored token.
        delta_nll_ci95: Both ends of the interval of what random selections change on average, over
            documents and draws of controls, nats per scored token; None with one control, which
            tells of no spread, and with one text.
        excess_delta_nll: The variant's change beyond that mean, nats per scored token.
        excess_ci95: Both ends of the excess's interval, over documents and draws of controls
            likewise, at the level of ``model.confidence`` (0.95 unless it was set). A random
            selection's excludes zero no more often than that.
        importance_ratio: The variant's change divided by that mean; None below 19 controls, and
            where the interval of the mean includes zero.
        p_value: (1 + controls at least as bad) / (1 + controls); None below 19 controls.
        lowest: Smallest change of nll among the controls, nats per scored token.
        highest: Largest change of nll among the controls, nats per scored token.
    """

    controls: int
    delta_nll: float | None
    delta_nll_ci95: tuple[float, float] | None
    excess_delta_nll: float | None
    excess_ci95: tuple[float, float] | None
    importance_ratio: float | None
    p_value: float | None
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class TextRecord:
    """The texts that a model wrote after the prompts.

    Attributes:
        seq_rep_4: Share of a text's 4-grams that repeat an earlier one, mean over texts, 0 to 1.
        distinct_2: Different bigrams of each text, summed, per token, 0 to 1.
        diversity: Product over n = 2, 3, 4 of the share of n-grams that are new in their text.
        loop_rate: Share of texts that end in a loop, 0 to 1.
        tokens: New tokens of all texts.
        prompts: Number of prompts.
        broken: Prompts after which nothing could be written: the logits were not finite.
        identical_to_original: Share of texts that are the original's, token by token, 0 to 1; None
            for the original.
        first_divergence: Token from which on a text differs from the original's, median over those
            that do; None where none does.
        ci95: Both ends of each figure's interval over prompts, of ``model.confidence``.
        delta: Each figure's difference to the original's on the same prompts.
        delta_ci95: Both ends of each difference's interval over prompts.
        metrics: Figures of the metrics of ``model.generation.metrics``.
        nll_under_original: Mean negative log-likelihood of the texts' tokens after their prompts,
            by the original, nats per token: gibberish repeats nothing, but nobody expects it. Its
            interval and difference stand among ``ci95``, ``delta`` and ``delta_ci95``.
        texts: Number of texts of at least one token: those that the figures are of.
        mean_tokens: Their mean length, tokens.
    """

    seq_rep_4: float | None
    distinct_2: float | None
    diversity: float | None
    loop_rate: float | None
    tokens: int
    prompts: int
    broken: int
    identical_to_original: float | None = None
    first_divergence: float | None = None
    ci95: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    delta: dict[str, float | None] = field(default_factory=dict)
    delta_ci95: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    nll_under_original: float | None = None
    texts: int | None = None
    mean_tokens: float | None = None


@dataclass(frozen=True)
class ActivationRecord:
    """Extremes of what flowed through a model while it read the windows; in `predict` the prompts.

    Attributes:
        max_abs: Largest magnitude at any site.
        max_abs_site: The site.
        max_kurtosis: Largest Pearson kurtosis of a site, over all positions that were read.
        max_kurtosis_site: The site.
        massive_count: Massive activations in the residual stream, over all blocks and texts read;
            None where no block was observed.
    """

    max_abs: float | None
    max_abs_site: str | None
    max_kurtosis: float | None
    max_kurtosis_site: str | None
    massive_count: int | None


@dataclass(frozen=True)
class VariantRecord:
    """Everything measured of one variant, of one control, or of the original.

    Attributes:
        likelihood: How well it predicts the text; None after `predict`, which scores none.
        edit: What was done to the weights; None for the original.
        versus_original: Differences to the original; None for the original.
        versus_control: Differences to the controls; None where there are none.
        generation: The texts it wrote; None where none were asked for, and for all controls but
            the first.
        activations: What flowed through it; None where it was not observed.
    """

    likelihood: Likelihood | None = None
    edit: EditRecord | None = None
    versus_original: VersusOriginal | None = None
    versus_control: VersusControl | None = None
    generation: TextRecord | None = None
    activations: ActivationRecord | None = None


@dataclass(frozen=True)
class Results:
    """The whole of ``results.json``.

    Attributes:
        schema_version: Version of this schema.
        run: How the results were made.
        model: The original.
        data: The text that was scored; None after `predict`, which scores none.
        noise_floor: The original measured against itself; None likewise.
        observed: How activations were observed; None where they were not.
        variants: By name, ``original`` among them.
        controls: By name, ``<variant>-control-<i>``.
        warnings: What a reader should know before believing a figure, one sentence each.
    """

    schema_version: int = field(default=SCHEMA_VERSION, kw_only=True)
    run: RunRecord
    model: ModelRecord
    data: DataRecord | None
    noise_floor: NoiseFloor | None
    observed: ObserverRecord | None = field(default=None, kw_only=True)
    variants: dict[str, VariantRecord]
    controls: dict[str, VariantRecord] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
