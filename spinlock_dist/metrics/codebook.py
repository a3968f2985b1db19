"""The codebooks of a tokenizer: how they are used, and the bits that they cost."""

from __future__ import annotations

from typing import Any

from spinlock_dist.metrics.codebook_usage import mean_over_codebooks
from spinlock_dist.metrics.scored import Scored


def codebook_metrics(scored: Scored) -> dict[str, Any]:
    """How the codebooks are used, each and all together, and the bits that they cost."""
    books = scored.codebooks
    names = [category.name for category in scored.categories]
    carried = dict.fromkeys(names, 0.0)
    for book in books:
        carried[book.category] += book.split.bits_carried / scored.folds
    known = 1.0 if scored.is_finite else float("nan")  # tokens of what is not finite are none
    return {
        "utilization": known * mean_over_codebooks([book.train.utilization for book in books]),
        "utilization_split": known * mean_over_codebooks([book.split.utilization_of_possible for book in books]),
        "perplexity_ratio": known * mean_over_codebooks([book.train.perplexity_ratio for book in books]),
        "entropy_ratio": known * mean_over_codebooks([book.train.entropy_ratio for book in books]),
        "dead_codes": sum(book.train.codes - book.train.used for book in books),
        "bits_per_sample": float(scored.bits_C.sum()),
        "bits_carried_per_sample": known * sum(carried.values()),
        "bits": dict(zip(names, scored.bits_C.tolist(), strict=True)),
        "bits_carried": {name: known * bits for name, bits in carried.items()},
        "codebooks": [
            {
                "category": book.category,
                "level": book.level,
                "dim": book.dim,
                "codes": book.train.codes,
                "used": book.train.used,
                "perplexity": book.train.perplexity,
            }
            for book in books
        ],
    }
