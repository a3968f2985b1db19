"""The figures of a diagnosis: what they show against plain definitions, and that they are whole and safe drawings."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinlock_dist.config import TrialConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.diagnose import main
from spinlock_dist.diagnosis.figures import FIGURES
from spinlock_dist.diagnosis.figures.codes import grouped
from spinlock_dist.diagnosis.figures.correlation import category_correlation
from spinlock_dist.diagnosis.figures.figure import Book, PictureData, PicturedCategory
from spinlock_dist.diagnosis.figures.shared import shared_information
from spinlock_dist.diagnosis.figures.similarity import code_similarity
from spinlock_dist.diagnosis.measure import diagnose
from spinlock_dist.diagnosis.pictures import draw_figures, file_names, picture_data
from spinlock_dist.diagnosis.record import Diagnosis
from spinlock_dist.diagnosis.render import render_page
from spinlock_dist.errors import ConfigError
from spinlock_dist.metrics.reconstruction import fraction_unexplained
from spinlock_dist.prepare import prepare
from spinlock_dist.run import TrialOutcome, run_trial
from tests.synthetic import write_table

ARMS = {
    "default": {},
    "several codebooks": {"compression.max_codebooks": 3, "compression.max_codes": 8},
    "parallel, shared": {"model.levels": "parallel", "model.decoder": "shared"},
    "finite scalars": {"quantizer.kind": "fsq"},
}


@pytest.fixture(scope="module", params=ARMS)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrialOutcome:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", sizes=(8, 4, 36))
    config = TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}},
        training={"epochs": 2, "batch_size": 64, "device": "cpu"},
        model={"hidden": 8},
    ).with_overrides(ARMS[request.param])
    return run_trial(config, prepare(config.prepare))


@pytest.fixture(scope="module")
def table(outcome: TrialOutcome) -> FeatureTable:
    return load_table(outcome.config.prepare)


@pytest.fixture(scope="module")
def diagnosis(outcome: TrialOutcome, table: FeatureTable) -> Diagnosis:
    return diagnose(outcome.tokenizer, table)


@pytest.fixture(scope="module")
def labels(table: FeatureTable) -> dict[str, np.ndarray]:
    return {"evolution_policies": np.array(["convex", "a <b> & c"])[np.arange(len(table)) % 2]}


@pytest.fixture(scope="module")
def data(
    outcome: TrialOutcome, table: FeatureTable, diagnosis: Diagnosis, labels: dict[str, np.ndarray]
) -> PictureData:
    return picture_data(outcome.tokenizer, table, diagnosis, labels)


def made_up(tokens_NQ: np.ndarray, codes: int) -> PictureData:
    """Two categories of two columns, each rebuilt as the first codebook's token times a direction."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=(len(tokens_NQ), 4))
    return PictureData(
        categories=(PicturedCategory("a", (0, 1), "summary"), PicturedCategory("b", (2, 3), "temporal")),
        books=tuple(Book(place % 2, 0, "L0", codes) for place in range(tokens_NQ.shape[1])),
        target_ND=target,
        partial_LND=np.stack([0.5 * target, target]),
        mean_D=np.zeros(4),
        tokens_NQ=tokens_NQ,
        labels={},
    )


def test_the_last_level_is_the_reconstruction_that_was_measured(data: PictureData, diagnosis: Diagnosis) -> None:
    assert [each.name for each in data.categories] == [each.name for each in diagnosis.categories]
    for category, measured in zip(data.categories, diagnosis.categories, strict=True):
        fvu = fraction_unexplained(data.target_ND, data.partial_LND[-1], data.mean_D, category.columns)
        assert fvu == pytest.approx(measured.fvu)


def test_tokens_are_those_of_the_rows(data: PictureData, outcome: TrialOutcome, table: FeatureTable) -> None:
    plan, names = outcome.tokenizer.plan, [category.name for category in outcome.tokenizer.categories]
    rows = outcome.data.split.validation
    tokens = outcome.tokenizer.encode(table)[rows].reshape(len(rows), *plan.codes.shape)
    named = {(names[at[0]], level): at for at, level, _ in plan.codebooks()}
    assert len(named) == len(data.books)
    for place, book in enumerate(data.books):
        at = named[data.categories[book.category].name, book.name]
        assert np.array_equal(data.tokens_NQ[:, place], tokens[(slice(None), *at)])
        assert book.codes == plan.codes[at]


def test_every_figure_is_a_whole_drawing_with_text_as_text(
    outcome: TrialOutcome, table: FeatureTable, diagnosis: Diagnosis, labels: dict[str, np.ndarray]
) -> None:
    drawn = draw_figures(outcome.tokenizer, table, diagnosis, labels)
    assert [each.name for each in drawn] == list(FIGURES)
    for each in drawn:
        for panel in each.panels:
            root = ElementTree.fromstring(panel.svg)
            assert root.tag.endswith("svg") and len(root) > 0
            assert not re.search(r"\b(nan|inf)\b", panel.svg)
            assert {child.tag.split("}")[1] for child in root} <= {"text", "path", "rect"}
    by_policy = next(panel for each in drawn for panel in each.panels if panel.name == "evolution policies")
    assert "a &lt;b&gt; &amp; c" in by_policy.svg
    page = render_page(diagnosis, drawn)
    assert page.count("<svg") == sum(len(each.panels) for each in drawn)
    assert all(each.figure.title in page for each in drawn)


def test_categories_with_awkward_names_are_drawn(data: PictureData) -> None:
    awkward = replace(data, categories=tuple(each._replace(name=f"<i>{each.name}&") for each in data.categories))
    for figure in FIGURES.values():
        for panel in figure.draw(awkward):
            assert "<i>" not in panel.svg
            ElementTree.fromstring(panel.svg)


def test_shared_information_of_copies_is_all_and_of_strangers_none() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 8, (2, 3000))
    found = shared_information(made_up(np.stack([one, other, (one + 3) % 8], axis=1), 8))
    assert found[0, 2] == pytest.approx(1.0, abs=0.01)
    assert found[0, 1] < 0.01
    assert np.array_equal(found, found.T)
    assert (np.diag(found) == 1).all()


def test_category_correlation_is_a_root_mean_square() -> None:
    data = made_up(np.zeros((500, 1), int), 2)
    correlations = np.corrcoef(data.target_ND.T)
    found = category_correlation(data)
    assert found[0, 1] == pytest.approx(np.sqrt(np.square(correlations[:2, 2:]).mean()))
    assert found[0, 0] == pytest.approx(abs(correlations[0, 1]))


def test_code_similarity_is_a_cosine_of_what_codes_add() -> None:
    data = made_up(np.arange(400)[:, None] % 4, 5)  # the fifth code is never used
    angles = np.array([0.0, 0.1, np.pi, np.pi / 2])[data.tokens_NQ[:, 0]]
    partial = data.partial_LND.copy()
    partial[0, :, :2] = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = code_similarity(replace(data, partial_LND=partial), 0)
    assert found.shape == (4, 4)
    assert sorted(np.round(found[np.triu_indices(4, 1)], 3)) == pytest.approx(
        sorted(np.round([np.cos(0.1), -1, 0, np.cos(np.pi - 0.1), np.sin(0.1), 0], 3))
    )


def test_of_many_groups_the_first_are_told_apart() -> None:
    labels = np.array([f"g{index % 12}" for index in range(120)])
    groups = grouped(labels)
    assert len(groups) == 8 and groups[-1][0] == "5 others" and groups[-1][2] is None
    assert sum(int(members.sum()) for _, members, _ in groups) == 120
    assert len(grouped(labels[:1])) == 1


def test_the_command_writes_its_figures_and_replaces_only_these(outcome: TrialOutcome, tmp_path: Path) -> None:
    outcome.save(tmp_path / "ckpt")
    command = [str(tmp_path / "ckpt"), "--device", "cpu", "--json", "--figures"]
    for _ in range(2):
        assert main([*command, str(tmp_path / "figures")]) == 0
    files = sorted(file.name for file in (tmp_path / "figures").iterdir())
    assert {"usage.svg", "levels.svg", "shared.svg", "correlation.svg", "operators-error.svg"} <= set(files)
    for file in (tmp_path / "figures").iterdir():
        ElementTree.parse(file)
        assert "prefers-color-scheme: dark" in file.read_text()
    (tmp_path / "figures" / "mine.svg").write_text("<svg/>")
    with pytest.raises(ConfigError, match="something else than the figures"):
        main([*command, str(tmp_path / "figures")])
    assert (tmp_path / "figures" / "mine.svg").exists()


def test_names_of_files_lead_nowhere_and_are_all_different() -> None:
    names = ["speed [m/s]", "speed [m_s]", "SPEED [m_s]", "../../x", "a\0b\x1b", "n" * 400, "n" * 401, "höhe (km), 2"]
    found = file_names(names)
    assert found[:5] == ["speed_[m_s]", "speed_[m_s]-2", "SPEED_[m_s]-3", ".._.._x", "a_b_"]
    assert found[-1] == "höhe_(km),_2"
    assert len({name.casefold() for name in found}) == len(names)
    assert all(len(name.encode()) < 210 and "/" not in name for name in found)


@pytest.mark.parametrize(("page", "figures"), [("x", "x"), ("x/page.html", "x"), ("x.html", "x.html/figures")])
def test_two_outputs_in_one_place_are_refused_before_any_work(tmp_path: Path, page: str, figures: str) -> None:
    with pytest.raises(ConfigError, match="one lies in the other"):
        main([str(tmp_path / "none"), "--html", str(tmp_path / page), "--figures", str(tmp_path / figures)])
    assert not list(tmp_path.iterdir())
