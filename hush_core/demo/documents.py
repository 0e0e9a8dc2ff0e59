"""The text that the demo works on: a folder of the user's, or the project's own documents."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

_SUFFIXES: Final = frozenset({".md", ".txt", ".rst"})
_MOST_FILES: Final = 200
_MOST_BYTES: Final = 1_000_000
_PROJECT_DOCUMENTS: Final = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")


class Document(NamedTuple):
    """One file of text."""

    name: str
    text: str


class Passage(NamedTuple):
    """A paragraph of a document, with the heading that it stands under."""

    document: str
    heading: str
    text: str


def find_documents(folder: Path | None) -> list[Document]:
    """The Markdown and text files of a folder, hidden ones left out; without one, the project's documents.

    At most 200 files of at most 1 MB. A file that is not UTF-8 text is passed over.
    """
    roots = [folder] if folder is not None else [_project_folder() / name for name in _PROJECT_DOCUMENTS]
    base = folder if folder is not None else _project_folder()
    paths = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob("*")))]
    found: list[Document] = []
    for path in paths:
        name = path.relative_to(base)
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not any(part.startswith(".") for part in name.parts):
            text = _read(path)
            if text:
                found.append(Document(str(name), text))
            if len(found) == _MOST_FILES:
                break
    return found


def _project_folder() -> Path:
    """Where the project's documents are: the wheel has them beside this module, a checkout at its root."""
    installed = Path(__file__).parent / "documents"
    return installed if installed.is_dir() else Path(__file__).parents[2]


def _read(path: Path) -> str | None:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def split_into_passages(document: Document) -> list[Passage]:
    """The paragraphs and list items of a document, each with its heading. Code and tables are left out."""
    passages: list[Passage] = []
    heading, lines, in_code = "", list[str](), False

    def close() -> None:
        text = " ".join(lines).strip()
        if len(text.split()) > 5:
            passages.append(Passage(document.name, heading, text))
        lines.clear()

    for line in [*document.text.splitlines(), ""]:
        stripped = line.strip()
        if stripped.startswith(("```", "~~~")):
            in_code = not in_code
            close()
        elif in_code or stripped.startswith("|"):
            continue
        elif stripped.startswith("#"):
            close()
            heading = stripped.lstrip("# ")
        elif not stripped:
            close()
        else:
            if stripped.startswith(("- ", "* ")):
                close()
                stripped = stripped[2:]
            lines.append(stripped)
    return passages
