"""The text that the demo works on."""

from __future__ import annotations

from pathlib import Path

from hush_core.demo.documents import Document, find_documents, split_into_passages


def test_the_projects_own_documents_are_found_wherever_hush_is_installed() -> None:
    names = [document.name for document in find_documents(None)]
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= set(names)
    assert any(name.startswith("docs/") for name in names)


def test_text_files_below_a_folder_are_found_and_others_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("a.md", "sub/b.TXT", "c.rst"):
        (folder / name).write_text(name)
    for name in ("d.py", ".e.md", ".hidden/f.md"):
        (folder / name).write_text(name)
    (folder / "g.md").write_bytes(b"\xff\xfe not text")
    (folder / "h.md").write_bytes(b"x" * 2_000_000)
    (folder / "i.md").write_text("")
    assert [document.name for document in find_documents(folder)] == ["a.md", "c.rst", "sub/b.TXT"]


def test_a_hidden_folder_that_is_named_is_read(tmp_path: Path) -> None:
    folder = tmp_path / ".notes"
    folder.mkdir()
    (folder / "a.md").write_text("text")
    assert len(find_documents(folder)) == 1


def test_no_more_than_200_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(210):
        (folder / f"{number:03d}.md").write_text("text")
    assert len(find_documents(folder)) == 200


def test_passages_are_paragraphs_and_items_under_their_heading() -> None:
    text = """Preamble of at least six whole words here.

# First *part*
One paragraph that goes
on over two lines.

- an item of the list with some words
- another item of the list with words
```python
code_that_is(not_a_passage, of, the, text, at, all)
```
| a table | is | no | passage | of | text |
## Second
Too short.

The last paragraph has no empty line behind it"""
    assert [(passage.heading, passage.text) for passage in split_into_passages(Document("d", text))] == [
        ("", "Preamble of at least six whole words here."),
        ("First *part*", "One paragraph that goes on over two lines."),
        ("First *part*", "an item of the list with some words"),
        ("First *part*", "another item of the list with words"),
        ("Second", "The last paragraph has no empty line behind it"),
    ]
