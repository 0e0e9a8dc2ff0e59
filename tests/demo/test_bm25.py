"""The ranking of the demo."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hush_core.demo.bm25 import Index, words

TEXTS = [
    "The cat sat on the mat.",
    "A dog barked at the cats, and the cats ran.",
    "Fish swim in the sea.",
    "The sea is deep, and the fish are many; many fish live in the deep sea.",
]


def test_words_are_those_that_say_something() -> None:
    assert words("What are the Cats of Paris?") == ["cat", "pari"]
    assert words("the of and is") == []


def test_the_passage_that_says_most_comes_first() -> None:
    ranked = Index(TEXTS).best(words("deep sea fish"), 4)
    assert [number for number, _ in ranked] == [3, 2]
    assert ranked[0][1] > ranked[1][1] > 0


def test_a_passage_that_says_nothing_is_not_ranked() -> None:
    assert Index(TEXTS).best(words("elephants"), 4) == []
    assert Index([]).best(words("cat"), 4) == []


def test_a_rare_word_weighs_more_than_a_frequent_one() -> None:
    index = Index(TEXTS)
    assert index.weight("dog") > index.weight("cat") > 0
    assert index.weight("elephant") == 0


def test_a_long_passage_does_not_win_by_its_length() -> None:
    index = Index(["cat " + "other words entirely " * 50, "cat house"])
    assert index.best(["cat"], 1)[0][0] == 1


def test_the_limit_is_kept() -> None:
    assert len(Index(TEXTS).best(words("the cat sea dog"), 2)) == 2


def test_the_most_telling_words_are_frequent_in_few_passages() -> None:
    texts = ["tracer tracer tracer delivers", "tracer fails", *["common filler words"] * 6, "nothing here"]
    assert Index(texts).most_telling(1) == ["tracer"]


def test_several_threads_may_ask_at_once() -> None:
    index = Index(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: tuple(index.best(["fish"], 2)), range(50)))
    assert len(set(answers)) == 1
