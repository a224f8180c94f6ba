from __future__ import annotations

import random
import statistics

import pytest

from roundhouse.simulate.workloads import Agents, Chats, Poisson, Retrieval, around


def test_log_normal_numbers_have_their_mean():
    seeded = random.Random(1)
    numbers = [around(seeded, 8.0) for _ in range(20_000)]
    assert statistics.fmean(numbers) == pytest.approx(8.0, rel=0.03)
    assert statistics.median(numbers) < 7.5


def test_poisson_requests_come_at_their_rate_and_the_same_again():
    made = list(Poisson({"a": 1 / 10, "b": 1 / 100}, 36_000.0, 3).first())
    counts = {name: sum(r.model == name for r in made) for name in "ab"}
    assert counts["a"] == pytest.approx(3600, rel=0.1)
    assert counts["b"] == pytest.approx(360, rel=0.2)
    assert max(r.at for r in made) <= 36_000.0
    assert made == list(Poisson({"a": 1 / 10, "b": 1 / 100}, 36_000.0, 3).first())
    assert made != list(Poisson({"a": 1 / 10, "b": 1 / 100}, 36_000.0, 4).first())
    assert list(Poisson({"a": 1.0}, 10.0, 0).follow(made[0], 5.0)) == []


def test_agents_rest_after_a_burst():
    agents = Agents("ab", 0, think=3.0, burst=5, pause=500.0)
    first = list(agents.first())
    assert [(r.model, r.session) for r in first] == [("a", "agent-0"), ("b", "agent-1")]
    assert all(0 <= r.at <= 60 for r in first)
    request, now, gaps = first[1], 100.0, []
    for _ in range(10):
        (request,) = agents.follow(request, now)
        assert (request.model, request.session) == ("b", "agent-1")
        gaps.append(request.at - now)
        now = request.at
    assert [number for number, gap in enumerate(gaps, start=1) if gap > 60] == [5, 10]


def test_chats_ask_for_a_chore_after_each_answer_and_then_think():
    chats = Chats(2, "big", "small", 0)
    chat = list(chats.first())[1]
    assert (chat.model, chat.task, chat.user) == ("big", False, "person-1")
    (chore,) = chats.follow(chat, 50.0)
    assert (chore.model, chore.task, chore.user, chore.at) == ("small", True, "person-1", 50.2)
    (again,) = chats.follow(chore, 52.0)
    assert (again.model, again.session) == ("big", chat.session)
    assert again.at > 52.0


def test_chores_that_can_not_be_told_from_chats():
    chats = Chats(1, "big", "small", 0, marked=False)
    (chat,) = chats.first()
    (chore,) = chats.follow(chat, 50.0)
    assert (chore.model, chore.task) == ("small", False)
    assert next(iter(chats.follow(chore, 60.0))).model == "big"


def test_chores_on_the_model_of_the_chat_end_too():
    chats = Chats(1, "big", "big", 0, marked=False, chore_seconds=1.5)
    (chat,) = chats.first()
    (chore,) = chats.follow(chat, 50.0)
    assert (chore.model, chore.seconds) == ("big", 1.5)
    assert next(iter(chats.follow(chore, 60.0))).session == chat.session


def test_questions_are_embedded_before_they_are_answered():
    people = Retrieval(2, ["a", "b"], "e", 0)
    embed = list(people.first())[1]
    assert (embed.model, embed.mark) == ("e", 1)
    (chat,) = people.follow(embed, 5.0)
    assert (chat.model, chat.at, chat.user) == ("b", 5.0, "person-1")
    (question,) = people.follow(chat, 20.0)
    assert question.model == "e"
    assert question.at > 20.0
