"""Pages of the repository as pages of the site; mkdocs calls the `on_` functions while it builds.

The same files are read on a repository's host and on the site, and their links are written for the host, relative to
the file. Here README becomes the first page, other pages outside of `docs/` come along, the notebook is shown as a
page, and so is every file that a page leads to. A link that leads nowhere stays as it is, and ends a strict build.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "docs/walkthrough.ipynb"
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "DECISIONS.md", "LOG.md", "deploy/README.md")
"""Pages of the site outside of `docs/`, by their path in the repository."""
MOVED = {"README.md": "index.md", NOTEBOOK: "walkthrough.md"} | {path: path for path in OUTSIDE if path != "README.md"}
"""Sources of the site that are not where the file is below `docs/`."""
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".json": "json"}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside of `docs/`: the pages above, and every file that a page links to."""
    for path in OUTSIDE:
        files.append(File.generated(config, MOVED[path], abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, MOVED[NOTEBOOK], content=_notebook((ROOT / NOTEBOOK).read_text())))
    for file in [file for file in files if file.src_uri.endswith(".md")]:
        for target in _targets(_in_repository(file.src_uri), file.content_string).values():
            if files.get_file_from_path(site_path(target)) is None:
                files.append(File.generated(config, site_path(target), content=_shown(target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page with its links as they have to be on the site."""
    source = page.file.src_uri
    if source.startswith("files/"):
        return markdown
    folder = posixpath.dirname(source) or "."
    links = {
        link: posixpath.relpath(site_path(path), folder)
        for link, path in _targets(_in_repository(source), markdown).items()
    }
    return "".join(
        part if is_code else LINK.sub(lambda found: links.get(found[0], found[0]), part)
        for is_code, part in _parts(markdown)
    )


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page without headings that say nothing: the corner of a table is no head of its column."""
    return re.sub(r"<th([^>]*)></th>", r"<td\1></td>", html)


def site_path(path: str) -> str:
    """Where a file of the repository is among the sources of the site."""
    inside = path.removeprefix("docs/")
    return MOVED.get(path) or (inside if inside != path else f"files/{path}.md")


def _in_repository(source: str) -> str:
    """The way back, for all that are not shown files."""
    return {moved: path for path, moved in MOVED.items()}.get(source, f"docs/{source}")


def _targets(page: str, markdown: str) -> dict[str, str]:
    """The links of a page to files of the repository, as written, and those files' paths."""
    links = {link for is_code, part in _parts(markdown) if not is_code for link in LINK.findall(part)}
    paths = {link: posixpath.normpath(posixpath.join(posixpath.dirname(page), link)) for link in links}
    return {link: path for link, path in paths.items() if (ROOT / path).is_file()}


def _parts(markdown: str) -> Iterator[tuple[bool, str]]:
    """The text in turns: what is no code, and blocks of code."""
    for index, part in enumerate(re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)):
        yield bool(index % 2), part


def _shown(path: str) -> str:
    """A file as a page."""
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    return f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n````\n"


def _notebook(text: str) -> str:
    """A notebook as a page: its text, and its code without what it printed."""
    cells = [("".join(cell["source"]), cell["cell_type"] == "code") for cell in json.loads(text)["cells"]]
    return "\n\n".join(f"```python\n{source}\n```" if is_code else source for source, is_code in cells)
