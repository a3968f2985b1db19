"""The numbers of a diagnosis, from a tokenizer and raw features.

Legend: N rows, D cleaned features, C categories, L levels, S codebooks of a level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.rate_distortion import gaussian_reference
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.diagnosis.record import (
    CategoryDiagnosis,
    CodebookDiagnosis,
    Diagnosis,
    FeatureDiagnosis,
)
from spinlock_dist.errors import DataError
from spinlock_dist.metrics.codebook_usage import CodebookUsage, codebook_usage
from spinlock_dist.metrics.raw_imbalance import split_raw_imbalance
from spinlock_dist.metrics.reconstruction import IMBALANCE_FLOOR, RAW_FLOOR, fraction_unexplained, imbalance
from spinlock_dist.model.hierarchical_vqvae import stack_tokens
from spinlock_dist.prepare import fingerprint
from spinlock_dist.split import Split, split_rows
from spinlock_dist.tokenizer import Tokenizer

FAR_OUT = 3.0
"""Outliers lie more than this many interquartile ranges beyond the quartiles (Tukey 1977)."""


def diagnose(
    tokenizer: Tokenizer, table: FeatureTable, split: str | None = "validation", parts: Split | None = None
) -> Diagnosis:
    """Score a tokenizer category by category and feature by feature.

    `table` is the one it was trained on and `split` its `train`, `validation` or `test` rows: errors are about the
    mean of the training rows, and codebook usage is of those, as in the metrics. With `split=None` it is any table
    with the same columns: all rows are scored, about their own mean. `parts` are the rows of each split where the
    tokenizer's config does not say.
    Raises `DataError` unless the columns are those the tokenizer was trained on.
    """
    values_ND = tokenizer.pipeline.transform(table)
    output_ND, tokens_NCLS = _reconstruct(tokenizer, values_ND)
    fitted = scored = np.arange(len(values_ND))
    if split is not None:
        parts = parts or split_rows(len(values_ND), tokenizer.config.prepare.split)
        fitted, scored = parts.train, parts.part(split)
    fitted_ND = values_ND[fitted]
    scores = _Scores(
        tokenizer=tokenizer,
        target_ND=values_ND[scored].astype(np.float64),
        output_ND=output_ND[scored].astype(np.float64),
        mean_D=fitted_ND.mean(axis=0, dtype=np.float64),
        raw_mean_D=tokenizer.pipeline.invert(fitted_ND).mean(axis=0),
        tokens_NCLS=tokens_NCLS[fitted],
        scored_tokens_NCLS=tokens_NCLS[scored],
    )
    categories = scores.categories()
    return Diagnosis(
        source=table.source,
        rows=split or "all",
        row_count=len(scored),
        codebook_row_count=len(fitted),
        is_training_data=_is_training_data(tokenizer, values_ND),
        fvu_mean=scores.fvu(range(values_ND.shape[1])),
        imbalance=imbalance(category.fvu for category in categories),
        bits_per_feature=tokenizer.plan.bits_per_sample / values_ND.shape[1],
        raw=split_raw_imbalance(
            {each.name: each.mse_raw for each in categories}, {each.name: each.variance_raw for each in categories}
        ),
        categories=categories,
    )


def outlier_share(x_ND: np.ndarray) -> np.ndarray:
    """Per column `[D]`, the share of values more than `FAR_OUT` interquartile ranges beyond the quartiles."""
    q1, q3 = np.percentile(x_ND, (25, 75), axis=0)
    fence = FAR_OUT * (q3 - q1)
    return ((x_ND < q1 - fence) | (x_ND > q3 + fence)).mean(axis=0)


def kurtosis(x_ND: np.ndarray) -> np.ndarray:
    """Per column `[D]`, the fourth standardized moment, 3 for a normal; 0 for a column that does not vary."""
    std = x_ND.std(axis=0)
    deviation = np.divide(x_ND - x_ND.mean(axis=0), std, out=np.zeros_like(x_ND), where=std > 0)
    return (deviation**4).mean(axis=0)


def _is_training_data(tokenizer: Tokenizer, values_ND: np.ndarray) -> bool:
    config = tokenizer.config.prepare
    try:
        split = split_rows(len(values_ND), config.split)
    except DataError:
        return False
    names = tokenizer.pipeline.feature_names
    return fingerprint(values_ND, names, split, tokenizer.categories, config) == tokenizer.fingerprint


def _reconstruct(tokenizer: Tokenizer, values_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reconstruction `[N, D]`, normalized, and the tokens `[N, C, L, S]`."""
    model = tokenizer.model
    outputs, tokens = [], []
    for results in tokenizer.reconstruct(values_ND):
        output_MBGF = model.join([result.output_MGBF for result in results])
        outputs.append(model.layout.unpack(output_MBGF[0]).cpu().numpy())
        tokens.append(stack_tokens(model.layout, [[level.tokens_MGBS for level in each.levels] for each in results]))
    return np.concatenate(outputs), np.concatenate(tokens)


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """Targets and reconstructions, normalized and float64, with the means errors are compared about."""

    tokenizer: Tokenizer
    target_ND: np.ndarray
    output_ND: np.ndarray
    mean_D: np.ndarray
    raw_mean_D: np.ndarray
    tokens_NCLS: np.ndarray
    """Of the rows behind the codebook usage."""
    scored_tokens_NCLS: np.ndarray

    @cached_property
    def raw_target_ND(self) -> np.ndarray:
        return self.tokenizer.pipeline.invert(self.target_ND)

    @cached_property
    def mse_D(self) -> np.ndarray:
        """Mean squared error in normalized space."""
        return np.square(self.target_ND - self.output_ND).mean(axis=0)

    @cached_property
    def mse_raw_D(self) -> np.ndarray:
        return np.square(self.raw_target_ND - self.tokenizer.pipeline.invert(self.output_ND)).mean(axis=0)

    @cached_property
    def variance_raw_D(self) -> np.ndarray:
        return np.square(self.raw_target_ND - self.raw_mean_D).mean(axis=0)

    def fvu(self, columns: Sequence[int]) -> float:
        return fraction_unexplained(self.target_ND, self.output_ND, self.mean_D, columns)

    def categories(self) -> tuple[CategoryDiagnosis, ...]:
        tokenizer = self.tokenizer
        reference = gaussian_reference(
            [each.spectrum for each in tokenizer.characteristics], tokenizer.plan.bits.sum(axis=1)
        )
        features = self._features()
        raw_total = sum(float(self.mse_raw_D[list(each.columns)].mean()) for each in tokenizer.categories)
        diagnosed = [
            self._category(index, category, float(reference[index]), raw_total, features)
            for index, category in enumerate(tokenizer.categories)
        ]
        return tuple(sorted(diagnosed, key=lambda each: -each.fvu))

    def _category(
        self, index: int, category: Category, reference: float, raw_total: float, features: list[FeatureDiagnosis]
    ) -> CategoryDiagnosis:
        plan, columns = self.tokenizer.plan, list(category.columns)
        bits, fvu = float(plan.bits[index].sum()), self.fvu(columns)
        mse_raw, variance_raw = float(self.mse_raw_D[columns].mean()), float(self.variance_raw_D[columns].mean())
        of_category = sorted((features[column] for column in columns), key=lambda each: -each.error_share)
        return CategoryDiagnosis(
            name=category.name,
            features=tuple(of_category),
            families=dict(Counter(each.family for each in of_category).most_common()),
            dims=tuple(plan.dims[index].tolist()),
            codes=tuple(plan.codes[index].prod(axis=1).tolist()),
            bits=bits,
            bits_carried=sum(usage.bits_carried for _, usage in self._usages(index, self.scored_tokens_NCLS)),
            bits_per_feature=bits / len(category),
            fvu=fvu,
            reference_fvu=reference,
            distance=max(fvu, IMBALANCE_FLOOR) / max(reference, IMBALANCE_FLOOR),
            mse_raw=mse_raw,
            variance_raw=variance_raw,
            fvu_raw=max(mse_raw, RAW_FLOOR) / max(variance_raw, RAW_FLOOR),
            raw_share=mse_raw / raw_total if raw_total > 0 else 0.0,
            codebooks=self._codebooks(index),
        )

    def _features(self) -> list[FeatureDiagnosis]:
        pipeline = self.tokenizer.pipeline
        kept = [entry for entry in pipeline.cleaning.ledger if entry.dropped is None]
        raw_ND = self.raw_target_ND
        std, tails, outliers = raw_ND.std(axis=0), kurtosis(raw_ND), outlier_share(raw_ND)
        share = self._error_shares()
        return [
            FeatureDiagnosis(
                feature=entry.feature,
                family=entry.family,
                name=entry.feature.removeprefix(f"{entry.family}::"),
                std=float(std[column]),
                kurtosis=float(tails[column]),
                outliers=float(outliers[column]),
                fvu=self.fvu([column]),
                error_share=float(share[column]),
                mse_raw=float(self.mse_raw_D[column]),
                imputed=entry.imputed,
                clipped=entry.clipped,
            )
            for column, entry in enumerate(kept)
        ]

    def _error_shares(self) -> np.ndarray:
        """For every feature `[D]`, its share of the squared error of its category."""
        share = np.zeros_like(self.mse_D)
        for category in self.tokenizer.categories:
            columns = list(category.columns)
            total = self.mse_D[columns].sum()
            share[columns] = self.mse_D[columns] / total if total > 0 else 0.0
        return share

    def _codebooks(self, index: int) -> tuple[CodebookDiagnosis, ...]:
        return tuple(
            CodebookDiagnosis(
                level=name,
                dim=dim,
                codes=usage.codes,
                used=usage.used,
                dead=usage.codes - usage.used,
                perplexity=usage.perplexity,
            )
            for (name, dim), usage in self._usages(index, self.tokens_NCLS)
        )

    def _usages(self, index: int, tokens_NCLS: np.ndarray) -> Iterator[tuple[tuple[str, int], CodebookUsage]]:
        """Level and latent dimension of every codebook of a category, and how these tokens use it."""
        plan = self.tokenizer.plan
        for (category, level, book), name, codes in plan.codebooks():
            if category == index:
                counts_K = np.bincount(tokens_NCLS[:, index, level, book], minlength=codes)
                yield (name, int(plan.dims[index, level])), codebook_usage(counts_K)
