"""What a trial is asked to do: nested, typed, strict, immutable. Costs no torch to import.

A config is *given*; what follows from it and the data (sizes, codes, bits) is *computed* elsewhere, as a plan.
"""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spinlock_dist.errors import ConfigError, did_you_mean
from spinlock_dist.preset import over_preset

T = TypeVar("T", bound=BaseModel)

LEVELS = ("L0", "L1", "L2")


class Section(BaseModel):
    """A group of settings: keyword-only, unknown names refused, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ---------------------------------------------------------------- data: fixed for a study, never searched


class IdentityEncoder(Section):
    """Pass the columns of a `[N, D]` family through under their own names."""

    encoder: Literal["identity"] = "identity"


class NetworkEncoder(Section):
    """An encoder that is a random, frozen network. Its outputs are the features that the tokenizer reconstructs."""

    encoder: str
    seed: int = 42
    calibrate: bool = True
    """Fit BatchNorm statistics on the training rows; false leaves them at initialization, as Spinlock does."""


class MLPEncoder(NetworkEncoder):
    """Random MLP over a `[N, D]` family (Spinlock's `MLPEncoder`: Linear, BatchNorm, ReLU, Dropout blocks)."""

    encoder: Literal["mlp"] = "mlp"
    hidden: tuple[int, ...] = (512, 256)
    output: int = Field(128, ge=1)


class TemporalCNNEncoder(NetworkEncoder):
    """Random residual 1-d CNN with three blocks over a `[N, T, D]` family (Spinlock's `resnet1d_3`)."""

    encoder: Literal["temporal_cnn"] = "temporal_cnn"
    embedding: int = Field(128, ge=1)


class InitialHybridEncoder(NetworkEncoder):
    """A `[N, D]` family as it is, and behind it a random CNN on the initial fields (Spinlock's name for it).

    The fields have to be in the dataset, at `/inputs/fields` of an HDF5 file. Where that has fields but no family
    `initial`, the columns are computed from them, as the simulator does.
    """

    encoder: Literal["initial_hybrid"] = "initial_hybrid"
    embedding: int = Field(28, ge=1)
    """Columns that the CNN adds."""


class TemporalStats(Section):
    """Readable statistics of every channel of a `[N, T, D]` family: mean, std, trend, extremes, autocorrelation."""

    encoder: Literal["temporal_stats"] = "temporal_stats"


FamilyEncoder = Annotated[
    IdentityEncoder | MLPEncoder | TemporalCNNEncoder | InitialHybridEncoder | TemporalStats,
    Field(discriminator="encoder"),
]


class SimulatorConfig(Section):
    """The built-in operator simulator, used when no dataset is named."""

    samples: int = Field(2000, ge=2)
    grid: int = Field(32, ge=8)
    """Side of the square periodic grid, in cells."""
    steps: int = Field(64, ge=8)
    """Time steps recorded per operator."""
    realizations: int = Field(2, ge=1)
    """Runs per operator that differ only in their noise."""
    seed: int = 0


class SplitConfig(Section):
    """Shares of the rows; a permutation of the rows by `seed` decides which row goes where."""

    seed: int = 0
    search_seed: int | None = None
    """Seed of the split that a search was steered on: its validation rows are no test rows of this split."""
    train: float = Field(0.70, gt=0, lt=1)
    validation: float = Field(0.15, gt=0, lt=1)
    test: float = Field(0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test must be 1, is {total:g}")
        return self


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
    families: dict[str, FamilyEncoder] | None = None
    """Encoder per family; when absent, every family found: identity for `[N, D]`, temporal_stats for `[N, T, D]`."""
    split: SplitConfig = SplitConfig()
    cleaning: CleaningConfig = CleaningConfig()
    normalization: Literal["standard", "robust", "quantile"] = "standard"
    categories: CategoriesConfig = CategoriesConfig()


# ---------------------------------------------------------------- what a study may search


class Bounds(Section):
    """Range of a level's compression ratio. `{low, span}` is accepted for `{low, high = low * span}`."""

    low: float = Field(gt=0, le=4)
    high: float = Field(gt=0, le=4)

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
        low, span = float(low), float(span)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"low and span must be numbers, are {low!r} and {span!r}") from None
    if not 1 < span < math.inf:
        raise ValueError(f"span must be above 1, is {span:g}")
    return min(4.0, low * span)


class LevelBounds(Section):
    """Bounds per level, around the uniform ratios 0.5, 1.0, 1.5."""

    L0: Bounds = Bounds(low=0.25, high=1.0)
    L1: Bounds = Bounds(low=0.5, high=2.0)
    L2: Bounds = Bounds(low=0.75, high=3.0)

    def pairs(self) -> list[tuple[float, float]]:
        """Return `(low, high)` for L0, L1, L2."""
        return [(bounds.low, bounds.high) for bounds in (self.L0, self.L1, self.L2)]


class FeedbackConfig(Section):
    """Pilots of the strategy `feedback`: short trainings on three quarters of the training rows, each scored on another
    quarter."""

    start: str = "waterfill"
    """Strategy whose allocation the first pilot measures."""
    rounds: int = Field(1, ge=1)
    """Pilots as long as the training after them, which share `training.epochs` with it; four of one epoch come first.
    More of them need more epochs. They end sooner when reallocation no longer shrinks the spread of log FVU."""
    step: float = Field(0.8, gt=0, le=1)
    """Share of the correction that high-rate theory asks for."""


class CompressionConfig(Section):
    """How capacity is shared out among the categories and levels."""

    strategy: str = "balanced"
    """A name registered in `spinlock_dist.compression.strategies`."""
    rule: Literal["graded", "spinlock"] = "graded"
    """`graded` spreads needs over the bounds; `spinlock` looks ratios up in the published tables."""
    capacity: Literal["latent", "codes"] = "codes"
    """What a ratio acts on: log2 of codebook sizes, or latent dimensions alone (Spinlock). Either total is that of the
    uniform baseline, never above it."""
    bounds: LevelBounds = LevelBounds()
    sharpness: float = Field(1.0, gt=0)
    """Exponent on the scaled needs: above 1 only the neediest categories get more."""
    min_ratio_range: float = Field(1.0, ge=1)
    """Smallest allowed max/min of a level's ratios across categories."""
    feedback: FeedbackConfig = FeedbackConfig()
    """Read by the strategy `feedback` alone."""
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
    decoder: Literal["category", "shared"] = "category"
    """`category`: each category from its own tokens. `shared`: one decoder sees all tokens (Spinlock)."""
    hidden: int = Field(32, ge=1)
    """Width of the hidden layer of each category's encoder and decoder."""
    shared_hidden: int = Field(256, ge=1)
    """Width of the hidden layer of the shared decoder."""
    initialization: Literal["data", "random"] = "data"
    """`data`: principal axes and k-means on the training rows. `random`: random weights, uniform codebook noise."""


class QuantizerConfig(Section):
    """EMA vector quantizer (van den Oord et al. 2017, appendix A.1) with dead-code expiry, or finite scalars."""

    kind: Literal["ema", "fsq"] = "ema"
    """`ema`: learned codebooks. `fsq`: every latent dimension rounded to `fsq_levels` values; of the settings here it
    reads no other."""
    fsq_levels: int = Field(3, ge=2)
    """Values of a latent dimension (Mentzer et al. 2024)."""
    ema_decay: float = Field(0.95, gt=0, lt=1)
    kmeans_iterations: int = Field(20, ge=1)
    expiry_share: float = Field(0.01, ge=0, lt=1)
    """A code whose share of the rows falls below this / K is replaced; 0 switches expiry off. Far higher, and the
    codes of rare outliers go, which carry much of the squared error of heavy-tailed features."""
    expiry_every: int = Field(5, ge=1)
    """Steps between expiry checks."""


class LossConfig(Section):
    """Weights of the loss terms; every term is in units of FVU."""

    commitment: float = Field(3.0, ge=0)
    """In these units straight-through gradients push a latent off its code with weight 1 per level, which as a mean
    over the three levels is 3: much below, latents run away; much above, they cannot move."""
    informativeness: float = Field(0.1, ge=0)
    orthogonality: float = Field(0.0, ge=0)
    topographic: float = Field(0.0, ge=0)
    reconstruction_balance: Literal["features", "categories", "worst"] = "features"
    """Weigh the reconstruction error per feature, per category, or by a softmax over category errors."""


class TrainingConfig(Section):
    """Optimization of one trial."""

    epochs: int = Field(40, ge=1)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    """Adam (Kingma & Ba 2015)."""
    evaluate_every: int = Field(5, ge=1)
    """Epochs between evaluations; the last epoch is always evaluated."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without a lower worst-category validation FVU; never when absent."""
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
        """Return a copy with dotted names replaced, e.g. `{"compression.bounds.L0.low": 0.3}`.

        Raises `ConfigError`, naming `source`, for an unknown name or an impossible value.
        """
        tree = self.model_dump(mode="json")
        for name, value in overrides.items():
            _assign(tree, name, value, source)
        return parse_config(TrialConfig, tree, source)


def _assign(tree: dict[str, Any], name: str, value: Any, source: str) -> None:
    *parents, leaf = name.split(".")
    node = tree
    for key in parents:
        if not isinstance(node.get(key), dict):
            raise ConfigError(f"{source}: '{name}' is not a setting{did_you_mean(key, node)}")
        node = node[key]
    # `span` replaces `high`: a bound is given as {low, high} or as {low, span}, never both.
    if leaf == "span" and "high" in node:
        del node["high"]
    elif leaf not in node:
        raise ConfigError(f"{source}: '{name}' is not a setting{did_you_mean(leaf, node)}")
    node[leaf] = value


# ---------------------------------------------------------------- reading and writing


def parse_config(model: type[T], tree: Any, source: str, lines: dict[tuple, int] | None = None) -> T:
    """Validate `tree` as `model`. Raises `ConfigError` naming `source`, the line if known, and the nearest name."""
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected a mapping of settings, found {type(tree).__name__}")
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(model, error, source, lines or {})) from None


def _explain(model: type[BaseModel], error: ValidationError, source: str, lines: dict[tuple, int]) -> str:
    first = error.errors()[0]
    path = tuple(key for key in first["loc"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    where = f"{source}, line {line}" if line else source
    name = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown setting '{name}'{did_you_mean(str(path[-1]), _known_names(model, path[:-1]))}"
    if first["type"] == "value_error":
        return f"{where}: {name}: {first['ctx']['error']}" if name else f"{where}: {first['ctx']['error']}"
    found = "" if first["type"] == "missing" else f", found {reprlib.repr(first['input'])}"
    return f"{where}: {name}: {first['msg'][0].lower()}{first['msg'][1:]}{found}"


def _known_names(model: type[BaseModel], path: tuple) -> list[str]:
    """Return the setting names at `path`; follows nested sections and, in unions, the tag pydantic put in the path."""
    for key in path:
        field = model.model_fields.get(str(key))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
        else:
            candidates = (IdentityEncoder, MLPEncoder, TemporalCNNEncoder, InitialHybridEncoder, TemporalStats)
            model = next((c for c in candidates if path[-1] == c.model_fields["encoder"].default), model)
            break
    return list(model.model_fields)


def read_yaml(path: str | Path) -> tuple[Any, dict[tuple, int]]:
    """Return the content of a YAML file and the 1-based line of every key path in it.

    Raises `ConfigError` if the file is missing, not text, not YAML, or gives a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
        lines: dict[tuple, int] = {}
        _collect_lines(root, (), lines, set())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(
            f"{where}: not valid YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
        ) from None
    return tree, lines


def _collect_lines(node: yaml.Node | None, path: tuple, lines: dict[tuple, int], seen: set[int]) -> None:
    if id(node) in seen:  # an alias; following it again could go round for ever
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, key.value)
            if inner in lines:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
            lines[inner] = key.start_mark.line + 1
            _collect_lines(value, inner, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect_lines(item, (*path, index), lines, seen)


def load_config(path: str | Path) -> TrialConfig:
    """Read a trial config from YAML; settings left out keep their defaults, or those of the `preset` it names."""
    tree, lines = read_yaml(path)
    return parse_config(TrialConfig, over_preset({} if tree is None else tree, str(path)), str(path), lines)


def dump_config(config: BaseModel) -> str:
    """Return `config` as YAML that `load_config` reads back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
