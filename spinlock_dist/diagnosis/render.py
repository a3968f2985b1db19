"""A diagnosis as one HTML page that needs nothing but a browser: no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from spinlock_dist.atomic_files import write_text
from spinlock_dist.diagnosis.causes import causes, changed_data, raw_imbalance
from spinlock_dist.diagnosis.pictures import Drawn
from spinlock_dist.diagnosis.record import CategoryDiagnosis, Diagnosis
from spinlock_dist.errors import ConfigError
from spinlock_dist.shown import in_html

PAGE = Path(__file__).parent / "page"


def write_page(path: Path, diagnosis: Diagnosis, drawn: Sequence[Drawn] = (), of: str = "a tokenizer") -> None:
    """Write the page of what is called `of`. Raises `ConfigError` if the path cannot be written."""
    try:
        write_text(path, render_page(diagnosis, drawn, of))
    except OSError as error:
        raise ConfigError(f"--html {path}: cannot be written: {error.strerror}") from None


def render_page(diagnosis: Diagnosis, drawn: Sequence[Drawn] = (), of: str = "a tokenizer") -> str:
    """The page: all categories, the worst first, the figures, then each category with its causes, codebooks and
    features."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=in_html,
        trim_blocks=True,
    )

    def causes_of(category: CategoryDiagnosis) -> list[str]:
        return [_sentence(each) for each in causes(category, diagnosis)]

    return environment.get_template("diagnosis.html").render(
        diagnosis=diagnosis,
        of=of,
        head=(
            f"{diagnosis.row_count} {diagnosis.rows} rows of {diagnosis.source}. FVU mean {diagnosis.fvu_mean:.4f}, "
            f"imbalance {diagnosis.imbalance:.2f}x, {diagnosis.bits_per_feature:.2f} bits per feature."
        ),
        sentences=[_sentence(each) for each in (changed_data(diagnosis), raw_imbalance(diagnosis)) if each],
        widest=max(max(each.fvu, each.reference_fvu) for each in diagnosis.categories) or 1.0,
        causes=causes_of,
        drawn=drawn,
        style="".join((PAGE / name).read_text(encoding="utf-8") for name in ("diagnosis.css", "figures.css")),
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
