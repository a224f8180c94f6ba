"""Programs' own requests are recognised, people's are not (spec D7)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.dialects import chores

HISTORY = "\n### Chat History:\n<chat_history>\nUSER: hi\nASSISTANT: hello\n</chat_history>"
CLAUDE_CODE = "You are Claude Code, Anthropic's official CLI for Claude."
CLAUDE_USER = "user_0f0f_account__session_c1cd8547-22a2-4928-9c48-96688f409afa"
TOOLS = [{"type": "function", "function": {"name": "look"}}]

OPEN_WEBUI = {
    "### Task:\nGenerate a concise title summarizing the chat history.": "title",
    "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.": "title",
    "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history": "tags",
    "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user": "follow_up",
    "### Task:\nPredict 3-5 useful messages": "follow_up",
    "### Task:\nAnalyze the chat history to determine the necessity of generating search queries, in": "query",
    "### Task:\nYou are an autocompletion system. Continue the text": "autocomplete",
    "### Task:\nGenerate a detailed prompt for am image generation task based on": "image_prompt",
    "Your task is to reflect the speaker's likely facial expression through a fitting emoji. Interpret": "emoji",
}
ONE_QUESTION = {
    "Please write a 5-10 word title for the following conversation:\n\nUser: x": "title",
    "Generate a concise, sentence-case title (3-7 words) that captures the main topic": "title",
    "Provide a concise, 5-word-or-less title for the conversation, using its same language": "title",
    "Analyze this conversation and provide:\n1. The detected language of the conversation\n2. A concise title in": "title",
    "Based on the chat history, give this conversation a name.\nKeep it short": "title",
}
SYSTEM = {
    "Analyze if this message indicates a new conversation topic. If it does, extract a 2-3 word title": "topic",
    "Generate a concise, sentence-case title (3-7 words) that captures the main topic": "title",
    "Summarize this coding conversation in under 50 characters.\nCapture the main task": "title",
    "You are a title generator. You output ONLY a thread title. Nothing else.\n\n<task>": "title",
    "Your task is to process Bash commands that an AI coding agent wants to run.\n\nThis": "command",
    "Extract any file paths that this command reads or modifies. For commands like": "command",
    "You are an expert software engineer that generates concise, one-line Git commit messages based on": "commit",
    "*Briefly* summarize this partial conversation about programming.\nInclude less detail": "summary",
}
LAST = {
    "[SUGGESTION MODE: Suggest what the user might naturally type next into Claude Code.]\n\nFIRST": "suggestion",
    "The user stepped away and is coming back. Recap in under 40 words": "recap",
    "Generate a concise 3-7 word title for this conversation, omitting punctuation. Go straight": "title",
}


def said(*texts: str, **fields: Any) -> dict[str, Any]:
    """A request of these messages, user and assistant in turn."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)], **fields}


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize(("prompt", "name"), OPEN_WEBUI.items())
def test_d7_open_webuis_prompts(prompt, name):
    assert chores.recognised(said(prompt + HISTORY)) == name
    assert chores.recognised(said(prompt + HISTORY, stream=True, tools=[])) == name


@pytest.mark.parametrize("prompt", OPEN_WEBUI)
def test_d7_the_same_words_of_a_person_are_a_chat(prompt):
    behind = said("hi", "hello", prompt + HISTORY)
    assert not chores.recognised(behind)
    assert not chores.recognised(said(prompt + HISTORY, "I see."))
    assert not chores.recognised(said(prompt + HISTORY, tools=TOOLS, stream=True))  # Open WebUI's chats have tools
    assert not chores.recognised(said("Explain this prompt: " + prompt + HISTORY))
    assert not chores.recognised(
        {"messages": [{"role": "system", "content": prompt}, {"role": "user", "content": "hi"}]}
    )


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("### Task:\nName this chat in Welsh." + HISTORY, "task"),
        ("### Task:\nName this chat in Welsh.", ""),
        ("### Task:\nWrite a function that parses dates.\n### Output:\nJSON format: {}", ""),
        ("### Task:\nGenerate a concise summary of the book.", ""),
        ("### Task: " + HISTORY, ""),
        ("### Task:\nRespond to the user query using the provided context, incorporating" + HISTORY, ""),
    ],
)
def test_d7_rewritten_prompts_are_known_by_the_history_they_are_about(prompt, name):
    """The last is Open WebUI's RAG: a chat whose documents may be anything."""
    assert chores.recognised(said(prompt)) == name


@pytest.mark.parametrize(("prompt", "name"), ONE_QUESTION.items())
def test_d7_titles_of_other_clients(prompt, name):
    assert chores.recognised(said(prompt)) == name
    assert chores.recognised({"messages": [{"role": "user", "content": parts(prompt)}]}) == name
    assert chores.recognised(said(prompt, tools=TOOLS)) == name  # LibreChat asks for a structured answer by a tool
    assert not chores.recognised(said("hi", "hello", prompt))
    assert not chores.recognised(said("What does this do? " + prompt))


@pytest.mark.parametrize(("prompt", "name"), SYSTEM.items())
def test_d7_chores_by_their_system_text(prompt, name):
    system = {"role": "system", "content": prompt}
    assert chores.recognised({"messages": [system, *said("hi")["messages"]]}) == name
    assert chores.recognised({"messages": [system | {"role": "developer"}, *said("hi")["messages"]]}) == name
    assert chores.recognised(said("hi", system=prompt)) == name
    assert chores.recognised(said("hi", system=parts(CLAUDE_CODE, prompt))) == name
    assert (
        chores.recognised(said("hi", "{", system=parts("x-anthropic-billing-header: cc", CLAUDE_CODE, prompt))) == name
    )
    assert chores.recognised(said("hi", system=f"{CLAUDE_CODE}\n\n{prompt}")) == name  # an adapter joined the blocks
    assert not chores.recognised(said("hi", system=prompt, tools=TOOLS))
    assert not chores.recognised(said("hi", system="You help people. " + prompt))
    assert not chores.recognised(said(prompt)) or prompt in ONE_QUESTION


@pytest.mark.parametrize(("prompt", "name"), LAST.items())
@pytest.mark.parametrize("turns", [0, 2, 50])
def test_d7_chores_that_come_with_the_conversation(prompt, name, turns):
    assert chores.recognised(said(*["word"] * turns, prompt, tools=TOOLS)) == name
    assert not chores.recognised(said(*["word"] * turns, prompt, "word", "and then?", tools=TOOLS))
    assert not chores.recognised(said(*["word"] * turns, prompt, "word"))
    assert not chores.recognised(said(*["word"] * turns, "word", prompt))  # a model's words


def test_d7_a_long_conversation_is_a_chat_whatever_it_begins_with():
    system = next(iter(SYSTEM))
    assert chores.recognised(said(*["word"] * 7, system=system)) == "topic"
    assert not chores.recognised(said(*["word"] * 9, system=system))


def test_d7_open_webuis_choice_of_tools():
    order = "Available Tools: [{...}]\n\nYour task is to choose and return the correct tool(s) from the list"
    asked = [{"role": "system", "content": order}, {"role": "user", "content": "Query: History:\nUSER: hi\nQuery: hi"}]
    assert chores.recognised({"messages": asked}) == "function_calling"
    asked[1]["content"] = "Which tools have you?"
    assert not chores.recognised({"messages": asked})
    asked[0]["content"] = "Available Tools: a hammer"
    asked[1]["content"] = "Query: hi"
    assert not chores.recognised({"messages": asked})


def test_d7_claude_codes_quota_check():
    assert chores.recognised(said("quota", max_tokens=1)) == "quota"
    assert chores.recognised(said("quota", max_completion_tokens=1)) == "quota"
    assert chores.recognised({"messages": [{"role": "user", "content": parts("count")}], "max_tokens": 1}) == "quota"
    assert not chores.recognised(said("quota", max_tokens=2))
    assert not chores.recognised(said("quota"))
    assert not chores.recognised(said("quota", "yes", "quota", max_tokens=1))
    assert not chores.recognised(said("my quota", max_tokens=1))


def test_d7_claude_codes_small_model():
    small = {"model": "claude-haiku-4-5-20251001", "metadata": {"user_id": CLAUDE_USER}}
    assert chores.recognised(said("Web page content:", **small)) == "small_model"
    assert chores.recognised(said("x", **small | {"metadata": {"user_id": '{"session_id":"u"}'}})) == "small_model"
    assert chores.recognised(said("x", model="local-Haiku", system=parts(CLAUDE_CODE, "Be brief."))) == "small_model"
    assert not chores.recognised(said("x", **small, tools=TOOLS))  # an agent of its own
    assert not chores.recognised(said("x", "y", "z", **small))
    assert not chores.recognised(said("x", **small | {"metadata": {"user_id": "anna"}}))  # anybody's chat with haiku
    assert not chores.recognised(said("x", **small | {"model": "claude-opus"}))
    assert not chores.recognised(said("Write a haiku.", model="qwen", metadata={"user_id": CLAUDE_USER}))


@pytest.mark.parametrize(
    ("task", "name"),
    [("title_generation", "title"), ("function_calling", "function_calling"), ("moa_response_generation", ""),
     ("summarize", ""), ("", ""), (3, ""), (None, "")],
)  # fmt: skip
def test_d7_metadata_in_open_webuis_words(task, name):
    assert chores.recognised(said("hi", "hello", "name it", metadata={"task": task})) == name


@pytest.mark.parametrize(
    "fields",
    [{}, {"messages": None}, {"messages": "### Task:\n"}, {"messages": []}, {"messages": ["### Task:\n", 3]},
     {"messages": [{"role": ["user"], "content": "x"}]}, {"messages": [{"role": {}, "content": [1, {"text": 3}, None]}]},
     {"messages": [{"role": "user"}], "system": 3, "metadata": [], "tools": 1},
     {"messages": [{"role": "user", "content": []}], "max_tokens": 1, "model": 3}],
)  # fmt: skip
def test_d7_whatever_json_is_no_task_and_no_error(fields):
    assert chores.recognised(fields) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["user", "system", "{", "quota"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "task", "user_id", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["messages", "system", "metadata", "tools", "max_tokens", "model"]), JSON))
def test_d7_nothing_that_a_client_sends_is_an_error(fields):
    assert chores.recognised(fields) in {"", *chores.NAMES}


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_d7_what_people_write_is_a_chat(texts):
    assert chores.recognised(said(*texts)) == ""


def test_d7_every_name_that_is_given_is_listed():
    given_names = {*OPEN_WEBUI.values(), *ONE_QUESTION.values(), *SYSTEM.values(), *LAST.values()}
    assert given_names <= set(chores.NAMES)


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, None),
        ({b"x-openwebui-task": b"title_generation"}, "title"),
        ({b"x-openwebui-task": b"follow_up_generation"}, "follow_up"),
        ({b"x-openwebui-task": b"function_calling"}, "function_calling"),
        ({b"x-openwebui-task": b""}, ""),
        ({b"x-openwebui-task": b" "}, ""),
        ({b"x-openwebui-task": b"{{TASK}}"}, None),
        ({b"x-openwebui-task": b"moa_response_generation"}, ""),
        ({b"x-roundhouse-task": b"Nightly Index"}, "nightly_index"),
        ({b"x-roundhouse-task": b"true"}, "task"),
        ({b"x-roundhouse-task": b"none"}, ""),
        ({b"x-roundhouse-task": b"Off"}, ""),
        ({b"x-roundhouse-task": b"none", b"x-openwebui-task": b"title_generation"}, ""),
        ({b"x-roundhouse-task": b"{{TASK}}", b"x-openwebui-task": b"tags_generation"}, "tags"),
        ({b"x-roundhouse-task": b"a" * 1000}, "a" * 32),
        ({b"x-roundhouse-task": "ünï".encode()}, "_n_"),
    ],
)
def test_d7_what_headers_say(headers, name):
    assert chores.stated(headers) == name
