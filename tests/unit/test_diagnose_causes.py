"""Each rule fires on the numbers it is about, says them, and is silent otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinlock_dist.diagnosis.causes import RULES, causes, changed_data, raw_imbalance
from spinlock_dist.diagnosis.record import CategoryDiagnosis, CodebookDiagnosis, Diagnosis, FeatureDiagnosis
from spinlock_dist.metrics.raw_imbalance import split_raw_imbalance

RAW = ("mse_raw", "variance_raw")


def feature(name: str, family: str = "summary", **given: float) -> FeatureDiagnosis:
    figures = {"std": 1.0, "kurtosis": 3.0, "outliers": 0.0, "fvu": 0.1, "error_share": 0.25, "mse_raw": 0.1}
    return FeatureDiagnosis(
        feature=f"{family}::{name}", family=family, name=name, imputed=0, clipped=0, **{**figures, **given}
    )


def book(level: str, codes: int, used: int, perplexity: float) -> CodebookDiagnosis:
    return CodebookDiagnosis(level=level, dim=4, codes=codes, used=used, dead=codes - used, perplexity=perplexity)


FEATURES = tuple(feature(name) for name in "abcd")
HEALTHY = CategoryDiagnosis(
    name="healthy",
    features=FEATURES,
    families={"summary": 4},
    dims=(4, 4, 4),
    codes=(8, 4, 2),
    bits=6.0,
    bits_carried=5.7,
    bits_per_feature=1.5,
    fvu=0.10,
    reference_fvu=0.08,
    distance=1.25,
    mse_raw=0.1,
    variance_raw=1.0,
    fvu_raw=0.1,
    raw_share=0.01,
    codebooks=(book("L0", 8, 8, 7.5), book("L1", 4, 4, 3.8), book("L2", 2, 2, 1.9)),
)


def among_healthy(category: CategoryDiagnosis) -> Diagnosis:
    others = [replace(HEALTHY, name=f"healthy_{index}") for index in range(3)]
    return Diagnosis(
        source="table.npz",
        rows="validation",
        row_count=100,
        codebook_row_count=500,
        is_training_data=True,
        fvu_mean=0.1,
        imbalance=category.fvu / HEALTHY.fvu,
        bits_per_feature=1.5,
        raw=split_raw_imbalance(*({each.name: getattr(each, name) for each in (category, *others)} for name in RAW)),
        categories=(category, *others),
    )


def found(**changes: object) -> list[str]:
    category = replace(HEALTHY, name="sick", **changes)  # type: ignore[arg-type]
    return causes(category, among_healthy(category))


def test_a_healthy_category_shows_no_fault() -> None:
    assert found() == ["shows no fault: FVU 0.100 is 1.2 times the Gaussian reference at its 6.0 bits"]
    assert all(rule(HEALTHY, among_healthy(HEALTHY)) is None for rule in RULES)


def test_collapse() -> None:
    assert found(fvu=0.99) == ["has collapsed: FVU 0.990, no better than predicting the mean"]
    assert found(fvu=0.97)[0].startswith("shows no fault")


def test_dead_codes() -> None:
    books = (book("L0", 16, 10, 9.5), book("L1", 4, 4, 4.0))
    assert found(codebooks=books, bits=4.0) == ["leaves codes dead: it uses 10 of 16 codes in L0"]
    books = (book("L0", 16, 15, 14.0), book("L1", 4, 4, 4.0))
    assert found(codebooks=books, bits=6.0)[0].startswith("shows no fault")


def test_uneven_codes() -> None:
    books = (book("L0", 16, 16, 2.0), book("L1", 4, 4, 4.0))
    assert found(codebooks=books, bits=6.0, bits_carried=3.0) == [
        "uses its codes unevenly: they carry 3.0 of the 6.0 bits they cost (perplexity 2.0 of 16 in L0, 4.0 of 4 in L1)"
    ]
    books = (book("L0", 16, 16, 8.0), book("L1", 4, 4, 4.0))
    assert found(codebooks=books, bits=6.0, bits_carried=5.0)[0].startswith("shows no fault")


def test_few_bits() -> None:
    sentence = (
        "has few bits for what it holds: 3.0 for 4 features, 0.75 bits per feature against a mean of 1.50; "
        "the Gaussian reference leaves FVU 0.200 there, 0.080 in the median category"
    )
    few = {"bits": 3.0, "bits_per_feature": 0.75, "reference_fvu": 0.2, "codebooks": (book("L0", 8, 8, 8.0),)}
    assert found(**few, fvu=0.3) == [sentence]
    assert found(**few, fvu=0.09)[0].startswith("shows no fault"), "one that is rebuilt well has bits enough"


def test_far_from_reference() -> None:
    assert found(fvu=0.2, distance=2.5) == [
        "is far from what its bits can do: FVU 0.200 is 2.5 times the Gaussian reference at 6.0 bits (0.080)"
    ]
    assert found(fvu=0.008, distance=20.0)[0].startswith("shows no fault")


def test_heavy_tails() -> None:
    spiky = feature("spiky", "temporal", kurtosis=143.0, outliers=0.031, error_share=0.6)
    assert found(features=(spiky, *FEATURES[1:])) == [
        "has heavy tails: 60% of its error lies in 1 temporal feature with kurtosis above 10; "
        "the heaviest is temporal::spiky (143, 3.1% far out)"
    ]
    assert found(features=(replace(spiky, error_share=0.1), *FEATURES[1:]))[0].startswith("shows no fault")


def test_large_scale() -> None:
    large = tuple(feature(f"f{index}", "temporal", std=61.7 + index, mse_raw=600.0) for index in range(9))
    [sentence] = found(features=large, mse_raw=600.0, variance_raw=4000.0, fvu_raw=0.15, raw_share=0.99)
    assert sentence == (
        "is large in scale: 90% of its raw error lies in 9 temporal features with std from 61 up, and it has 99.0% "
        "of the raw error of all categories; 95.3% of the raw imbalance is scale"
    )
    assert found(mse_raw=600.0, variance_raw=2.0, fvu_raw=300.0, raw_share=0.99)[0].startswith("shows no fault"), (
        "an error that is not due to scale is not blamed on it"
    )


def test_families_are_counted_and_only_the_features_that_matter_named() -> None:
    mixed = (
        feature("a", "temporal", std=80.0, mse_raw=500.0),
        feature("b", "summary", std=70.0, mse_raw=480.0),
        feature("c", "summary", std=0.1, mse_raw=20.0),
    )
    [sentence] = found(features=mixed, mse_raw=333.0, variance_raw=3330.0, raw_share=0.99)
    assert "lies in 2 features (1 temporal, 1 summary) with std from 70 up" in sentence
    assert "scale" in sentence


def test_several_causes_are_all_given() -> None:
    sentences = found(fvu=0.99, distance=12.0)
    assert [sentence.split(":")[0] for sentence in sentences] == ["has collapsed", "is far from what its bits can do"]


@pytest.mark.parametrize(
    ("mse", "variance", "expected"),
    [
        (400.0, 4000.0, "scale 4e+03 x FVU 1: 100.0% of the raw imbalance is scale"),
        (800.0, 4000.0, "scale 4e+03 x FVU 2: 92.3% of the raw imbalance is scale"),
        (
            80.0,
            0.5,
            "scale 0.5 x FVU 1.6e+03: FVU explains more than all of the raw imbalance, for scale works against it",
        ),
        (200.0, 4000.0, "FVU 0.5: scale explains more than all of the raw imbalance, for FVU works against it"),
    ],
)
def test_the_raw_imbalance_in_a_sentence(mse: float, variance: float, expected: str) -> None:
    category = replace(HEALTHY, name="sick", mse_raw=mse, variance_raw=variance, fvu_raw=mse / variance)
    assert raw_imbalance(among_healthy(category)).endswith(expected)


errors = st.tuples(st.floats(1e-12, 1e12), st.floats(1e-12, 1e12))


@given(st.lists(errors, min_size=1, max_size=6))
def test_the_split_of_the_raw_imbalance_is_exact(drawn: list[tuple[float, float]]) -> None:
    raw = split_raw_imbalance(*({f"c{index}": pair[part] for index, pair in enumerate(drawn)} for part in (0, 1)))
    assert raw.log10_imbalance == pytest.approx(raw.log10_scale + raw.log10_fvu, abs=1e-9)
    assert raw.log10_imbalance >= 0
    assert 10**raw.log10_imbalance == pytest.approx(max(drawn)[0] / min(drawn)[0])


def test_of_two_categories_the_larger_one_can_be_large_in_scale() -> None:
    large = replace(HEALTHY, name="large", mse_raw=600.0, variance_raw=6000.0, raw_share=0.99)
    diagnosis = replace(among_healthy(large), categories=(large, HEALTHY))
    assert causes(large, diagnosis)[0].startswith("is large in scale")


def test_equal_raw_errors_have_no_imbalance() -> None:
    diagnosis = among_healthy(HEALTHY)
    assert diagnosis.raw.scale_share == 0
    assert raw_imbalance(diagnosis) == "the raw errors of all categories are equal"


def test_a_dataset_that_changed_is_warned_of() -> None:
    diagnosis = among_healthy(HEALTHY)
    assert changed_data(diagnosis) is None
    changed = replace(diagnosis, is_training_data=False)
    assert "table.npz is not the data of the training" in str(changed_data(changed))
    assert changed_data(replace(changed, rows="all")) is None, "another dataset is scored whole: no row is held back"
