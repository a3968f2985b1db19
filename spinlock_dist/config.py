"""What a trial is asked to do: nested, typed, strict, immutable. Costs no torch to import.

A config is *given*; what follows from it and the data (sizes, codes, bits) is *computed* elsewhere, as a plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from spinlock_dist.errors import ConfigError
from spinlock_dist.given_ratios import MAX_RATIO, GivenRatios, read_given
from spinlock_dist.parsing import assign, parse
from spinlock_dist.registry import Registry

LEVELS = ("L0", "L1", "L2")


class Section(BaseModel):
    """A group of settings: keyword-only, unknown names refused, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` and `true` for a number: they would be read as 1."""
        if isinstance(value, bool) and info.field_name is not None:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if bool not in kinds and kinds & {int, float}:
                raise ValueError(f"must be a number, is {str(value).lower()} (YAML reads yes, no, on and off so)")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    return {annotation}.union(*map(_kinds, get_args(annotation))) if isinstance(annotation, Hashable) else set()


def known_in(registry: Registry[Any]) -> Callable[[str], str]:
    """What checks, when a config is read, that a name is registered; it imports nothing."""

    def check(name: str) -> str:
        try:
            return registry.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return check


# ---------------------------------------------------------------- data: fixed for a study, never searched


class FamilyEncoder(Section):
    """Settings of a family's encoder; `spinlock_dist.features.encoders.base.Encoder` says what one does."""

    encoder: str
    """In `ENCODERS`."""
    needs_fields: ClassVar[bool] = False
    """Whether it looks at the rows' initial fields."""


ENCODERS: Registry[type[FamilyEncoder]] = Registry(
    "encoder",
    {
        "identity": "spinlock_dist.features.encoders.identity:IdentityEncoder",
        "mlp": "spinlock_dist.features.encoders.mlp:MLPEncoder",
        "temporal_cnn": "spinlock_dist.features.encoders.temporal_cnn:TemporalCNNEncoder",
        "initial_hybrid": "spinlock_dist.features.encoders.initial_hybrid:InitialHybridEncoder",
        "temporal_stats": "spinlock_dist.features.encoders.temporal_stats:TemporalStats",
    },
)


def read_encoder(given: Any) -> Any:
    """Make an encoder of its settings, by the name under `encoder`; what is no mapping pydantic refuses."""
    if not isinstance(given, dict):
        return given
    if "encoder" not in given:
        raise ValueError(f"encoder is missing; one of: {', '.join(ENCODERS)}")
    try:
        return ENCODERS[ENCODERS.check(given["encoder"])].model_validate(given)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def section_of(part: Any) -> type[FamilyEncoder] | None:
    """The settings of the encoder that a part of a tree names."""
    name = part.get("encoder") if isinstance(part, dict) else None
    return ENCODERS.get(str(name))


class SimulatorConfig(Section):
    """The built-in operator simulator, used when no dataset is named."""

    samples: int = Field(10_000, ge=2)
    grid: int = Field(32, ge=8)
    """Side of the square periodic grid, in cells."""
    steps: int = Field(64, ge=8)
    """Time steps recorded per operator."""
    realizations: int = Field(2, ge=1)
    """Runs per operator that differ only in their noise."""
    seed: int = 0


class SplitConfig(Section):
    """Which rows train, which steer and which test: a permutation of the rows by `seed` decides."""

    seed: int = 0
    test: float = Field(0.30, gt=0, lt=1)
    """Share of the rows that steers nothing: no setting, rung or sampler sees it."""
    folds: int = Field(3, ge=1)
    """Parts that the other rows are cut into. A trial of a study is trained once a fold, on the other folds, so that
    each row is scored by a model that has not seen it. A single training has the last fold as its validation rows."""
    validation: float | None = Field(None, gt=0, lt=1)
    """Share of the rows that validate where there is one fold; by default 0.15."""

    @model_validator(mode="before")
    @classmethod
    def _with_three_shares(cls, given: Any) -> Any:
        """Take `train`, `validation` and `test`, as earlier versions wrote them, for one fold."""
        if not isinstance(given, Mapping) or "train" not in given:
            return given
        shares = {"train": 0.70, "validation": 0.15, "test": 0.15} | dict(given)
        total = sum(shares[name] for name in ("train", "validation", "test"))
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test must be 1, is {total:g}")
        rest = {name: value for name, value in shares.items() if name not in ("train", "search_seed")}
        return {"folds": 1} | rest

    @model_validator(mode="after")
    def _shares_leave_rows_to_train_on(self) -> Self:
        if self.folds > 1 and self.validation is not None:
            raise ValueError(f"validation: with {self.folds} folds it is one of them; leave it out, or set folds to 1")
        if self.folds == 1 and self.test + self.validation_share >= 1:
            raise ValueError(f"validation + test must be below 1, is {self.test + self.validation_share:g}")
        return self

    @property
    def validation_share(self) -> float:
        """Share of the rows that validate one training."""
        if self.folds > 1:
            return (1 - self.test) / self.folds
        return 0.15 if self.validation is None else self.validation


class CleaningConfig(Section):
    """Which raw columns are dropped and how values are bounded; thresholds are Spinlock's."""

    min_std: float = Field(1e-10, ge=0)
    max_variance: float = Field(1e10, gt=0)
    """Above this variance *and* `max_variation` a column is dropped as unstable."""
    max_variation: float = Field(100, gt=0)
    """Coefficient of variation, std / |mean|."""
    max_correlation: float = Field(0.99, gt=0, le=1)
    """Of two columns with |correlation| above this, the less informative is dropped."""
    clip_percentiles: tuple[float, float] = (0.5, 99.5)

    @model_validator(mode="after")
    def _percentiles_in_order(self) -> Self:
        low, high = self.clip_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"clip_percentiles must satisfy 0 <= low < high <= 100, are {low:g} and {high:g}")
        return self


class CategoriesConfig(Section):
    """Category discovery: Ward linkage on 1 - |correlation|."""

    count: int | None = Field(None, ge=1)
    """Number of clusters; chosen by silhouette when absent."""
    max_count: int = Field(25, ge=1)
    min_features: int = Field(3, ge=1)
    """Smaller clusters are merged into the nearest one."""
    mapping: str | None = None
    """YAML or JSON file `category: [feature names]` that replaces discovery."""
    only_mapped: bool = False
    """Tokenize just the features of `mapping`: others are left out, and of those cleaning drops only what the training
    rows do not vary in. For training again on another split what was found on one."""

    @model_validator(mode="after")
    def _only_mapped_has_a_mapping(self) -> Self:
        if self.only_mapped and self.mapping is None:
            raise ValueError("only_mapped needs a mapping; name its file")
        return self


class PrepareConfig(Section):
    """Everything that turns a dataset into the prepared data that all trials of a study share."""

    dataset: str | None = None
    """HDF5, .parquet, .csv or .npz file; the built-in simulator when absent."""
    simulator: SimulatorConfig = SimulatorConfig()
    max_samples: int | None = Field(None, ge=2)
    """Use only the first rows of the dataset."""
    linked_files: bool = False
    """Read what an HDF5 file says lies in other files: external links and storage, sources of virtual datasets."""
    families: dict[str, Annotated[SerializeAsAny[FamilyEncoder], BeforeValidator(read_encoder)]] | None = None
    """Encoder per family; when absent, every family found: identity for `[N, D]`, temporal_stats for `[N, T, D]`."""
    split: SplitConfig = SplitConfig()
    cleaning: CleaningConfig = CleaningConfig()
    normalization: Literal["standard", "robust", "quantile"] = "standard"
    categories: CategoriesConfig = CategoriesConfig()


# ---------------------------------------------------------------- what a study may search


class Bounds(Section):
    """Range of a level's compression ratio. `{low, span}` is accepted for `{low, high = low * span}`."""

    low: float = Field(gt=0, le=MAX_RATIO)
    high: float = Field(gt=0, le=MAX_RATIO)

    @model_validator(mode="before")
    @classmethod
    def _span_to_high(cls, given: Any) -> Any:
        if isinstance(given, dict) and "span" in given and "high" not in given and "low" in given:
            rest = {key: value for key, value in given.items() if key != "span"}
            return {**rest, "high": _high_of(given["low"], given["span"])}
        return given

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, are {self.low:g} and {self.high:g}")
        return self


def _high_of(low: Any, span: Any) -> float:
    try:
        lowest, factor = float(low), float(span)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"low and span must be numbers, are {low!r} and {span!r}") from None
    if not 1 < factor < math.inf:
        raise ValueError(f"span must be above 1, is {factor:g}")
    return min(MAX_RATIO, lowest * factor)


class LevelBounds(Section):
    """Bounds per level, around the uniform ratios 0.5, 1.0, 1.5."""

    L0: Bounds = Bounds(low=0.25, high=1.0)
    L1: Bounds = Bounds(low=0.5, high=2.0)
    L2: Bounds = Bounds(low=0.75, high=3.0)

    def pairs(self) -> list[tuple[float, float]]:
        """`(low, high)` for L0, L1, L2."""
        return [(bounds.low, bounds.high) for bounds in (self.L0, self.L1, self.L2)]


STRATEGIES: Registry[Any] = Registry(
    "strategy",
    {
        "uniform": "spinlock_dist.compression.strategies.uniform:UNIFORM",
        "variance": "spinlock_dist.compression.strategies.variance:VARIANCE",
        "dimensionality": "spinlock_dist.compression.strategies.dimensionality:DIMENSIONALITY",
        "information": "spinlock_dist.compression.strategies.information:INFORMATION",
        "balanced": "spinlock_dist.compression.strategies.balanced:BALANCED",
        "waterfill": "spinlock_dist.compression.strategies.waterfill:WATERFILL",
        "feedback": "spinlock_dist.compression.strategies.feedback:FEEDBACK",
        "given": "spinlock_dist.compression.strategies.given:GIVEN",
    },
)
"""A new one is a `compression.strategies.Strategy` in a module, and a line here."""


class FeedbackConfig(Section):
    """Pilots of the strategy `feedback`: a codec without a network, out of fold on the training rows."""

    rounds: int = Field(3, ge=1)
    """Times that bits are moved and every category is measured again."""
    risk: float = Field(5.0, ge=0)
    """Times that a category's standard error, beyond 3 % of its FVU, is added to the FVU, up to twice the FVU."""

    @model_validator(mode="before")
    @classmethod
    def _without_trained_pilots(cls, given: Any) -> Any:
        """Leave out what earlier versions wrote, whose pilots were trainings."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if name not in ("start", "step")}
        return given


class CompressionConfig(Section):
    """How capacity is shared out among the categories and levels."""

    strategy: Annotated[str, AfterValidator(known_in(STRATEGIES))] = "balanced"
    """In `STRATEGIES`."""
    rule: Literal["graded", "spinlock"] = "graded"
    """`graded` spreads needs over the bounds; `spinlock` looks ratios up in the published tables."""
    capacity: Literal["latent", "codes"] = "codes"
    """What a ratio acts on: log2 of codebook sizes, or latent dimensions alone (Spinlock). Either total is that of the
    uniform baseline, never above it."""
    bounds: LevelBounds = LevelBounds()
    """Over which needs are spread, and at which multiples of the uniform ratios are cut off; what is measured has no
    bounds but those of its codebooks."""
    sharpness: float = Field(1.0, gt=0)
    """Exponent on the scaled needs: above 1 only the neediest categories get more."""
    min_ratio_range: float = Field(1.0, ge=1)
    """Smallest allowed max/min of a level's ratios across categories."""
    feedback: FeedbackConfig = FeedbackConfig()
    """Read by the strategy `feedback` alone."""
    given: Annotated[GivenRatios, BeforeValidator(read_given)] = (0.5, 1.0, 1.5)
    """Ratios of L0, L1 and L2, of all categories or by name, or the path of a file, a checkpoint or a study that has
    them; read by the strategy `given` alone. Totals stay those of the uniform baseline."""
    max_codes: int = Field(1024, ge=1)
    """Of one codebook."""
    max_codebooks: int = Field(4, ge=1)
    """Codebooks a level may have when one cannot hold its codes; each quantizes what those before it left."""
    min_rows_per_code: int = Field(8, ge=1)
    """Training rows a code needs: codebooks have at most rows / this many codes."""


class ModelConfig(Section):
    """Architecture of the hierarchical VQ-VAE."""

    levels: Literal["residual", "parallel"] = "residual"
    """`residual`: each level encodes what the levels before it left. `parallel`: independent heads (Spinlock)."""
    decoder: Literal["category", "joint", "shared"] = "category"
    """`category`: each category from its own tokens. `joint`: these decoders, and a linear correction from what all of
    them rebuild, fitted to the training rows. `shared`: one decoder sees all tokens (Spinlock)."""
    hidden: int = Field(32, ge=1)
    """Width of the hidden layer of each category's encoder and decoder."""
    shared_hidden: int = Field(256, ge=1)
    """Width of the hidden layer of the shared decoder."""
    initialization: Literal["data", "random"] = "data"
    """`data`: principal axes and k-means on the training rows. `random`: random weights, uniform codebook noise."""


QUANTIZERS: Registry[Any] = Registry(
    "quantizer",
    {
        "ema": "spinlock_dist.model.quantizers.ema:EMAQuantizer",
        "fsq": "spinlock_dist.model.quantizers.fsq:FSQ",
    },
)


class QuantizerConfig(Section):
    """EMA vector quantizer (van den Oord et al. 2017, appendix A.1) with dead-code expiry, or finite scalars."""

    kind: Annotated[str, AfterValidator(known_in(QUANTIZERS))] = "ema"
    """In `QUANTIZERS`. `ema`: learned codebooks. `fsq`: every latent dimension rounded to `fsq_levels` values; of the
    settings here it reads no other."""
    fsq_levels: int = Field(3, ge=2)
    """Values of a latent dimension (Mentzer et al. 2024)."""
    ema_decay: float = Field(0.95, gt=0, lt=1)
    kmeans_iterations: int = Field(20, ge=1)
    expiry_share: float = Field(0.001, ge=0, lt=1)
    """A code whose share of the rows falls below this / K is replaced; 0 switches expiry off. Higher, and the codes of
    rare outliers go, which carry much of the squared error of heavy-tailed features: LOG, 2026-11-28."""
    expiry_every: int = Field(5, ge=1)
    """Steps between expiry checks."""
    beam: int = Field(4, ge=1, le=256)
    """Partial choices that encoding keeps while it chooses the tokens of all levels of a category together, by what the
    decoder makes of them; 1 takes the encoder's nearest code level by level, and so does a shared decoder."""


class LossConfig(Section):
    """Weights of the loss terms; every term is in units of FVU."""

    commitment: float = Field(3.0, ge=0)
    """In these units straight-through gradients push the finest latents off their codes with weight 1, which in a mean
    over three levels takes 3 to undo: much below, latents run away; much above, they cannot move."""
    informativeness: float = Field(0.1, ge=0)
    orthogonality: float = Field(0.0, ge=0)
    topographic: float = Field(0.0, ge=0)
    reconstruction_balance: Literal["features", "categories", "worst"] = "features"
    """Weigh the reconstruction error per feature, per category, or by a softmax over category errors."""


class TrainingConfig(Section):
    """Optimization of one trial."""

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(5e-3, gt=0)
    """Adam (Kingma & Ba 2015); with a schedule, its highest. Measured with epochs and batch size: docs/training.md."""
    evaluate_every: int = Field(5, ge=1)
    """Epochs between evaluations; the last epoch is always evaluated."""
    schedule: Literal["constant", "linear", "wsd"] = "wsd"
    """Of the learning rate over the epochs: constant, linear to zero, or constant and then linear to zero."""
    decay_share: float = Field(0.5, gt=0, le=1)
    """Share of the training in which `wsd` decays."""
    refine_share: float = Field(0.5, ge=0, lt=1)
    """Share of the epochs, the last ones, in which decoders alone learn, on the tokens that beam search has found for
    them; the schedule runs anew. Not read where tokens are the encoders' own (`quantizer.beam: 1`, finite scalars, a
    shared decoder)."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without a lower worst-category validation FVU; never when absent."""
    engine: Literal["auto", "compiled", "torch"] = "auto"
    """`compiled`: loops for the processor, some times as fast; they lack some losses and quantizers. `auto`: compiled
    where the config and the device allow it, else torch."""
    device: str = "auto"
    """`auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:N`."""


class TrialConfig(Section):
    """One trial: the data it sees, how capacity is allocated, the model and its training."""

    seed: int = 0
    """Fixes initialization, batch order and k-means of this trial."""
    prepare: PrepareConfig = PrepareConfig()
    compression: CompressionConfig = CompressionConfig()
    model: ModelConfig = ModelConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()

    def with_overrides(self, overrides: dict[str, Any], source: str = "override") -> TrialConfig:
        """A copy with dotted names replaced, e.g. `{"compression.bounds.L0.low": 0.3}`.

        Raises `ConfigError`, naming `source`, for an unknown name or an impossible value.
        """
        tree = self.model_dump(mode="json")
        for name, value in overrides.items():
            assign(tree, name, value, source)
        return parse(TrialConfig, tree, source, None, section_of)
