"""A retrieval workflow, traced: what `hush demo` runs, and an example to read.

It reads documents, splits them into passages, ranks the passages against several questions in a loop, and then answers
all questions at once. hush records all of it through `@code_node` and `tracer.trace`; outside of a trace, the same
functions are plain functions.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, Final

from hush_core import LocalTracer, MemoryState, code_node
from hush_core.demo.bm25 import Index, words
from hush_core.demo.documents import Document, Passage, find_documents, split_into_passages

#: About the project's own documents.
QUESTIONS: Final = (
    "What survives kill -9?",
    "Who stores the records in SQLite?",
    "What happens when the disk is full?",
    "Why is there no lock on the path of a record?",
)
_ATTEMPTS: Final = 3
_SURE_ABOVE: Final = 8.0  # a score of the best passage

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=\W?[A-Z`])")


def run(folder: Path | None = None, questions: tuple[str, ...] = ()) -> tuple[MemoryState, list[dict[str, Any]]]:
    """Answer questions about the text files of a folder, as one traced request; gives its state and the answers.

    Without a folder, about the project's own documents; without questions, about the words that stand out in it.
    Raises ValueError if there is no text in the folder.
    """
    tracer = LocalTracer(tags=["demo"])
    with tracer.trace("demo", inputs={"folder": folder and str(folder), "questions": questions}) as state:
        library = Library(split(read(folder)))
        questions = questions or (QUESTIONS if folder is None else library.make_up_questions())

        rankings = []
        for question in state.loop(questions):  # every turn is an iteration of its own in the trace
            rankings.append(library.rank(question))

        answers = asyncio.run(answer_all(state, questions, rankings))
        state.set_output(answers)
    return state, answers


@code_node
def read(folder: Path | None) -> list[Document]:
    documents = find_documents(folder)
    if not documents:
        raise ValueError(f"There is no Markdown or text file in {folder}.")
    return documents


@code_node(capture_input=False)  # the input is the output of `read`, which the trace has already
def split(documents: list[Document]) -> list[Passage]:
    return [passage for document in documents for passage in split_into_passages(document)]


class Library:
    """Passages that can be asked. Methods are nodes like functions; `self` is not recorded."""

    def __init__(self, passages: list[Passage]) -> None:
        self._passages = passages
        self._index = Index([f"{passage.heading} {passage.text}" for passage in passages])

    @code_node
    def rank(self, question: str, limit: int = 3) -> list[dict[str, Any]]:
        best = self._index.best(self.telling_words(question), limit)
        return [{**self._passages[number]._asdict(), "score": round(score, 2)} for number, score in best]

    @code_node
    def telling_words(self, question: str) -> list[str]:
        return sorted(set(words(question)), key=self._index.weight, reverse=True)

    @code_node
    def make_up_questions(self) -> tuple[str, ...]:
        return tuple(f"What about {word}?" for word in self._index.most_telling(4))


@code_node(capture_input=False)
async def answer_all(
    state: MemoryState, questions: tuple[str, ...], rankings: list[list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Answer all questions at once. Each keeps its own place in the trace, though they take turns in one thread."""
    model = ExtractiveModel()

    async def one(number: int) -> dict[str, Any]:
        with state.iteration(number):
            return await answer(questions[number], rankings[number], model)

    return await asyncio.gather(*map(one, range(len(questions))))


@code_node(capture_input=False)
async def answer(question: str, passages: list[dict[str, Any]], model: ExtractiveModel) -> dict[str, Any]:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            completion = await model.complete(question, passages)
            break
        except ModelNotReadyError:  # the failed call stays in the trace, beside the one that succeeds
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.01 * 2**attempt)
    sure = bool(passages) and passages[0]["score"] >= _SURE_ABOVE
    return {
        "question": question,
        **completion,
        "$tags": ["answered" if sure else "unsure"],  # keys with a $ go to the trace, and not to the caller
        "$metadata": {"attempts": attempt},
    }


class ModelNotReadyError(Exception):
    """The model is still loading."""


class ExtractiveModel:
    """Stands in for a language model: of the passages it is given, it says the sentence that answers best.

    It refuses its first call, as the server of a model does that has just been started.
    """

    def __init__(self) -> None:
        self._is_ready = False

    @code_node(model="extractive-1", node_type="llm")
    async def complete(self, question: str, passages: list[dict[str, Any]]) -> dict[str, Any]:
        if not self._is_ready:
            self._is_ready = True
            raise ModelNotReadyError("the model is still loading, try again in a moment")
        await asyncio.sleep(0.002)  # others run meanwhile
        said, source = best_sentence(question, passages)
        prompt_words = sum(len(passage["text"].split()) for passage in passages) + len(question.split())
        return {
            "answer": said,
            "source": source,
            "$usage": {"prompt_tokens": prompt_words, "completion_tokens": len(said.split())},
        }


def best_sentence(question: str, passages: list[dict[str, Any]]) -> tuple[str, str | None]:
    """The sentence that says most about the words of a question, and the document that it is in."""
    sentences = [
        (sentence, passage["document"]) for passage in passages for sentence in _SENTENCE_END.split(passage["text"])
    ]
    best = Index([sentence for sentence, _ in sentences]).best(words(question), 1)
    return sentences[best[0][0]] if best else ("The documents do not say.", None)
