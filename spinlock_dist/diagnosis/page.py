"""A diagnosis as one HTML page that needs nothing but a browser: no script, no network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from spinlock_dist.diagnosis.causes import causes, changed_data, raw_imbalance
from spinlock_dist.diagnosis.record import CategoryDiagnosis, Diagnosis, FeatureDiagnosis
from spinlock_dist.errors import ConfigError

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5b6670; --line: #d9dee3; --paper: #ffffff;
  --bar: #2f6fb3; --mark: #c2410c; --wash: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa5af; --line: #38414a; --paper: #15191d;
  --bar: #3d7fc4; --mark: #fdba74; --wash: #1e242a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; white-space: normal; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.name { white-space: normal; min-width: 8rem; }
td.bar { min-width: 7rem; width: 25%; }
.track { position: relative; height: .8rem; background: var(--wash); }
.track i { position: absolute; inset: 0 auto 0 0; background: var(--bar); }
.track b { position: absolute; top: -.15rem; bottom: -.15rem; width: 2px; background: var(--mark); }
details { border-top: 1px solid var(--line); padding: .6rem 0; } summary { cursor: pointer; }
summary strong { margin-right: .5rem; }
ul { scroll-margin-top: 3rem; } a { color: inherit; }
@media (max-width: 40rem) { .minor { display: none; } }
"""


def write_page(path: Path, diagnosis: Diagnosis) -> None:
    """Write the page. Raises `ConfigError` if the path cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_page(diagnosis), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {path}: cannot be written: {error.strerror}") from None


def render_page(diagnosis: Diagnosis) -> str:
    """Return the page: all categories, the worst first, then each with its causes, codebooks and features."""
    head = (
        f"{diagnosis.row_count} {diagnosis.rows} rows of {diagnosis.source}. FVU mean {diagnosis.fvu_mean:.4f}, "
        f"imbalance {diagnosis.imbalance:.2f}x, {diagnosis.bits_per_feature:.2f} bits per feature."
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Diagnosis of a tokenizer</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Diagnosis of a tokenizer</h1>
<p class="soft">{escape(head)}</p>
{"".join(f"<p>{_sentence(each)}</p>" for each in (changed_data(diagnosis), raw_imbalance(diagnosis)) if each)}
<h2>Categories, the worst first</h2>
{_overview(diagnosis)}
<h2>Why, and which features</h2>
{"".join(_details(each, diagnosis, is_open=place == 0) for place, each in enumerate(diagnosis.categories))}
</body>
</html>
"""


def _overview(diagnosis: Diagnosis) -> str:
    widest = max(max(each.fvu, each.reference_fvu) for each in diagnosis.categories) or 1.0
    rows = [
        _row(
            f'<td class="name"><a href="#{_anchor(each)}">{escape(each.name)}</a></td>',
            f'<td class="bar">{_bar(each.fvu / widest, each.reference_fvu / widest)}</td>',
            _cells(f"{each.fvu:.4f}", f"{each.distance:.2f}"),
            _cells(len(each.features), f"{each.bits:.1f}", f"{each.bits_per_feature:.2f}", minor=True),
            _cells(f"{each.mse_raw:.3g}", f"{each.variance_raw:.3g}", f"{each.raw_share:.1%}", minor=True),
            _cells(sum(book.dead for book in each.codebooks), minor=True),
        )
        for each in diagnosis.categories
    ]
    caption = (
        "Bars show FVU, the fraction of variance unexplained; the upright mark is what the Gaussian reference "
        "leaves at the same bits, and /ref the ratio of the two."
    )
    return _table(
        caption,
        _headings("category", "", "FVU", "/ref")
        + _headings(
            "features", "bits", "bits / feature", "raw MSE", "raw variance", "of raw error", "dead", minor=True
        ),
        rows,
    )


def _details(category: CategoryDiagnosis, diagnosis: Diagnosis, *, is_open: bool) -> str:
    families = ", ".join(f"{count} {family}" for family, count in category.families.items())
    sentences = "".join(f"<li>{_sentence(each)}</li>" for each in causes(category, diagnosis))
    sizes = (
        f"{families}. {category.bits:.1f} bits. Raw MSE {category.mse_raw:.4g} = variance {category.variance_raw:.4g} "
        f"x {category.fvu_raw:.4g}."
    )
    return (
        f"<details{' open' if is_open else ''}>"
        f"<summary><strong>{escape(category.name)}</strong> FVU {category.fvu:.4f}</summary>"
        # The anchor is inside: a browser then opens what encloses it.
        f'<ul id="{_anchor(category)}">{sentences}</ul><p class="soft">{escape(sizes)}</p>'
        f"{_codebooks(category, diagnosis)}{_features(category.features)}</details>\n"
    )


def _codebooks(category: CategoryDiagnosis, diagnosis: Diagnosis) -> str:
    rows = [
        _row(_cells(book.level, book.dim, book.codes, book.used, book.dead, f"{book.perplexity:.1f}"))
        for book in category.codebooks
    ]
    return _table(
        f"Codebooks, on {diagnosis.codebook_row_count} rows",
        _headings("level", "dim", "codes", "used", "dead", "perplexity"),
        rows,
    )


def _features(features: Iterable[FeatureDiagnosis]) -> str:
    rows = [
        _row(
            f'<td class="name">{escape(each.feature)}</td>',
            _cells(f"{each.fvu:.3f}", f"{each.error_share:.1%}", f"{each.std:.3g}", f"{each.kurtosis:.1f}"),
            _cells(f"{each.outliers:.1%}", each.imputed, each.clipped),
        )
        for each in features
    ]
    return _table(
        "Features, the largest error first; imputed and clipped count training values",
        _headings("feature", "FVU", "of error", "std", "kurtosis", "far out", "imputed", "clipped"),
        rows,
    )


def _table(caption: str, headings: str, rows: list[str]) -> str:
    return (
        f'<p class="soft">{escape(caption)}</p>'
        f'<div class="scroll"><table><thead><tr>{headings}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cells(*values: object, minor: bool = False) -> str:
    return "".join(f"<td{_minor(minor)}>{escape(str(value))}</td>" for value in values)


def _headings(*names: str, minor: bool = False) -> str:
    return "".join(f'<th scope="col"{_minor(minor)}>{escape(name)}</th>' for name in names)


def _minor(minor: bool) -> str:
    return ' class="minor"' if minor else ""


def _bar(share: float, mark: float) -> str:
    return (
        f'<div class="track"><i style="width:{100 * share:.1f}%"></i>'
        f'<b style="left:calc({100 * mark:.1f}% - 1px)"></b></div>'
    )


def _anchor(category: CategoryDiagnosis) -> str:
    return f"category-{escape(category.name, quote=True).replace(' ', '-')}"


def _sentence(text: str) -> str:
    return escape(f"{text[0].upper()}{text[1:]}.")
