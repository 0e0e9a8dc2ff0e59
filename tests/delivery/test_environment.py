"""Whose environment a delivery process gets."""

from __future__ import annotations

from hush_core.delivery.environment import OF_A_COMMAND, Environments


def test_the_environment_of_the_app_that_recorded_comes_first() -> None:
    environments = Environments({"KEY": "writer"})
    environments.hand_over(1, {"KEY": "app 1"})
    environments.hand_over(2, {"KEY": "app 2"})
    assert environments.choose(1, {"KEY"}) == {"KEY": "app 1"}
    assert environments.choose(3, {"KEY"}) == {"KEY": "writer"}


def test_where_nothing_is_known_of_it_the_next_that_has_the_variables_serves() -> None:
    environments = Environments({"KEY": "writer"})
    environments.hand_over(2, {"KEY": "old", "SECRET": "old"})
    environments.hand_over(3, {"KEY": "new", "SECRET": "new"})
    assert environments.choose(1, {"KEY"}) == {"KEY": "writer"}
    assert environments.choose(1, {"KEY", "SECRET"}) == {"KEY": "new", "SECRET": "new"}


def test_no_other_apps_variables_are_taken_where_its_own_are_known() -> None:
    environments = Environments({"KEY": "writer"})
    environments.hand_over(1, {"OTHER": "x"})
    environments.hand_over(2, {"KEY": "somebody else's"})
    assert environments.choose(1, {"KEY"}) == {"OTHER": "x"}
    environments.hand_over(OF_A_COMMAND, {"KEY": "brought by hush flush"})
    assert environments.choose(1, {"KEY"}) == {"KEY": "brought by hush flush"}


def test_no_other_apps_variables_are_taken_while_its_own_app_runs() -> None:
    environments = Environments({"KEY": "writer"})
    environments.hand_over(2, {"KEY": "somebody else's"})
    assert environments.choose(1, {"KEY"}, live={"HOME": "/"}) == {"HOME": "/"}
    environments.hand_over(OF_A_COMMAND, {"KEY": "brought by hush flush"})
    assert environments.choose(1, {"KEY"}, live={"HOME": "/"}) == {"KEY": "brought by hush flush"}
    environments.hand_over(1, {"KEY": "mine"})
    assert environments.choose(1, {"KEY"}, live={"HOME": "/"}) == {"KEY": "mine"}


def test_where_none_has_it_the_apps_own_is_taken_and_the_delivery_says_what_is_missing() -> None:
    environments = Environments({"KEY": "writer"})
    environments.hand_over(1, {"A": "1"})
    assert environments.choose(1, {"MISSING"}) == {"A": "1"}
    assert environments.choose(2, {"MISSING"}) == {"KEY": "writer"}


def test_a_change_is_news_and_only_so_many_are_kept() -> None:
    environments = Environments({})
    assert environments.hand_over(1, {"A": "1"})
    assert not environments.hand_over(1, {"A": "1"})
    assert environments.hand_over(1, {"A": "2"})
    assert not environments.hand_over(1, {"A": "2", "PWD": "/", "SHLVL": "1"})  # the same, by way of a shell
    assert not environments.hand_over(1, {"A": "1"}, 1)  # of before, by way of a writer that gave way
    assert environments.choose(1, {"A"})["A"] == "2"
    for origin in range(2, 1030):
        environments.hand_over(origin, {"A": str(origin)})
    assert environments.choose(1, {"A"}) == {"A": "1029"}
