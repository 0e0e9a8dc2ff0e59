"""BM25: ranks passages by how much they say about the words of a question.

The formula is the one of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with
its usual constants.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

_K1: Final = 1.2  # how soon a further occurrence of a word stops to count
_B: Final = 0.75  # how much a long passage is held against it
_WORD: Final = re.compile(r"\w+")
_STOP_WORDS: Final = frozenset(
    _WORD.findall(
        "a about an and are as at be but by can do does for from has have how if in into is it its no not of on or so "
        "that the their them then there they this to was what when where which who why will with you your"
    )
)


def words(text: str) -> list[str]:
    """The words that say something, in lower case, without a plural's s."""
    found = (word.lower() for word in _WORD.findall(text))
    return [_singular(word) for word in found if word not in _STOP_WORDS]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


class Index:
    """Passages, ready to be ranked. Immutable once made, so any number of threads may ask it."""

    def __init__(self, passages: Sequence[str]) -> None:
        self._counts = [Counter(words(passage)) for passage in passages]
        self._lengths = [count.total() for count in self._counts]
        self._average = sum(self._lengths) / max(len(passages), 1) or 1.0
        self._passages_with = Counter(word for count in self._counts for word in count)

    def weight(self, word: str) -> float:
        """How telling a word is: the rarer, the more. 0 for one that no passage has."""
        having = self._passages_with[word]
        return math.log(1 + (len(self._counts) - having + 0.5) / (having + 0.5)) if having else 0.0

    def score(self, question: Iterable[str], passage: int) -> float:
        """How much a passage, given by its number, says about the words of a question."""
        count, length = self._counts[passage], self._lengths[passage]
        norm = _K1 * (1 - _B + _B * length / self._average)
        return sum(self.weight(word) * count[word] * (_K1 + 1) / (count[word] + norm) for word in question)

    def best(self, question: Iterable[str], limit: int) -> list[tuple[int, float]]:
        """The numbers of the passages that say most, with their scores, the best first; none that say nothing."""
        asked = set(question)
        scores = ((number, self.score(asked, number)) for number in range(len(self._counts)))
        return sorted((found for found in scores if found[1] > 0), key=lambda found: -found[1])[:limit]

    def most_telling(self, limit: int) -> list[str]:
        """The words that stand for these passages: frequent in some, absent from most."""
        total = sum(self._counts, Counter[str]())
        candidates = (word for word in total if len(word) > 4 and not word.isdigit() and self._passages_with[word] > 1)
        return sorted(candidates, key=lambda word: (-total[word] * self.weight(word), word))[:limit]
