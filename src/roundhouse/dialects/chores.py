"""Which requests are chores that a program sends for itself: titles, tags, follow-ups, quota checks (spec D7).

`stated` reads what a request's headers say, `recognised` looks at its shape. Pure: parsed fields in, a name out. Two
rules keep people's own requests out. A text must begin the way a program's template begins, down to words that nobody
types by chance; and with a conversation behind it, only the few chores count that are sent so.

Sources, read in 2026-12, of the programs' own code unless said otherwise:

- Open WebUI: `config.py` (`DEFAULT_*_PROMPT_TEMPLATE`), `routers/tasks.py` (one user message, no tools, not streamed;
  `metadata.task`), `constants.py` (`TASKS`), `utils/headers.py` (`{{TASK}}` in a connection's headers, since 0.10).
  Its `DEFAULT_RAG_TEMPLATE` begins with `### Task:`, too, and is an ordinary chat.
- Claude Code: its bundled program as published (`isNewTopic`, both title prompts, `SUGGESTION MODE`, the quota check),
  and captures by proxies' authors (recap, command prefix, file paths, `count`).
- LibreChat: `@librechat/agents` `utils/title.ts`; opencode: `agent/prompt/title.txt`; aider: `prompts.py`
  (`commit_system`, `summarize`); Zed: `agent/src/thread.rs`; Chatbox: the naming prompt as servers behind it saw it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

UNNAMED: Final = "task"
"""A chore of which nothing more is known."""
NAMES: Final = (
    "title", "tags", "follow_up", "query", "emoji", "autocomplete", "image_prompt", "function_calling",
    "document_suggestions", "topic", "suggestion", "recap", "command", "quota", "commit", "summary", "small_model",
    UNNAMED,
)  # fmt: skip
"""The names that `recognised` gives, and those of Open WebUI without their `_generation`."""

_HEADERS: Final = (b"x-roundhouse-task", b"x-openwebui-task")
_UNFILLED: Final = b"{{"  # an Open WebUI that does not know {{TASK}} sends it as it stands
# Open WebUI's merge of several models' answers runs under a task's name, but its user waits for it and reads it.
_NOT_A_CHORE: Final = frozenset({"", "none", "off", "no", "false", "0", "moa_response"})
_ODD: Final = re.compile(r"[^a-z0-9_.-]+")
_LONGEST_NAME: Final = 32

_MOST_MESSAGES: Final = 8
"""No chore but those of `_LAST` comes with more messages, so a long conversation is not looked through."""
_MOST_PARTS: Final = 8
_INTRODUCTIONS: Final = ("You are Claude Code", "x-anthropic-billing-header")
"""What Claude Code puts before a chore: blocks of their own, which adapters to OpenAI's API join to one text."""
_INTRODUCED: Final = 4096
"""Characters of such a text that are looked at."""

_TEMPLATE: Final = "### Task:\n"
_RAG: Final = "### Task:\nRespond to the user query"
_HISTORY: Final = "<chat_history>"
_FUNCTIONS: Final = ("Available Tools: ", "Your task is to choose and return the correct tool(s)", "Query: ")
_SYSTEM_ROLES: Final = ("system", "developer")  # a role may be anything, also what can't be hashed
_PROBES: Final = frozenset({"quota", "count"})


class _Openings:
    """Texts that chores begin with, and the chore of each."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._any = tuple(names)

    def find(self, texts: Iterable[str]) -> str:
        """The chore that one of the texts begins like, or ''."""
        for text in texts:
            if text.startswith(self._any):  # one call for all of them
                return next(name for opening, name in self._names.items() if text.startswith(opening))
        return ""


_TEMPLATES = _Openings(
    {
        _TEMPLATE + "Generate a concise title summarizing the chat": "title",
        _TEMPLATE + "Generate a concise, 3-5 word title": "title",
        _TEMPLATE + "Generate 1-3 broad tags categorizing": "tags",
        _TEMPLATE + "Suggest 3-5 relevant follow-up questions": "follow_up",
        _TEMPLATE + "Predict 3-5 useful messages": "follow_up",
        _TEMPLATE + "Analyze the chat history to determine the necessity of generating search queries": "query",
        _TEMPLATE + "You are an autocompletion system.": "autocomplete",
        _TEMPLATE + "Generate a detailed prompt for am image generation task": "image_prompt",  # sic
        _TEMPLATE + "Generate a detailed prompt for an image generation task": "image_prompt",
        "Your task is to reflect the speaker's likely facial expression through a fitting emoji.": "emoji",
    }
)
"""Open WebUI's: the one user message of a request without tools."""

_ONLY = _Openings(
    {
        "Please write a 5-10 word title for the following conversation": "title",
        "Generate a concise, sentence-case title (3-7 words)": "title",
        "Provide a concise, 5-word-or-less title for the conversation, using ": "title",
        "Analyze this conversation and provide:\n1. The detected language of the conversation\n2. A concise": "title",
        "Based on the chat history, give this conversation a name.": "title",
    }
)
"""The one user message of a request."""

_SYSTEM = _Openings(
    {
        "Analyze if this message indicates a new conversation topic.": "topic",
        "Generate a concise, sentence-case title (3-7 words)": "title",
        "Summarize this coding conversation in under 50 characters.": "title",
        "You are a title generator. You output ONLY a thread title.": "title",
        "Your task is to process Bash commands that an AI coding agent wants to run": "command",
        "Extract any file paths that this command reads or modifies": "command",
        "You are an expert software engineer that generates concise, one-line Git commit messages": "commit",
        "*Briefly* summarize this partial conversation about programming.": "summary",
    }
)
"""A system text of a request without tools, or what follows Claude Code's introduction in it."""

_LAST = _Openings(
    {
        "[SUGGESTION MODE: Suggest what the user might naturally type next": "suggestion",
        "The user stepped away and is coming back. Recap in under 40 words": "recap",
        "Generate a concise 3-7 word title for this conversation, omitting punctuation.": "title",
    }
)
"""The last user message, whatever is before it."""


def stated(headers: Mapping[bytes, bytes]) -> str | None:
    """What the headers say (names in lower case): a chore's name, '' for no chore, None if they say nothing.

    `X-Roundhouse-Task` goes before `X-OpenWebUI-Task`. An empty value is Open WebUI's `{{TASK}}` in a chat: no chore.
    """
    for header in _HEADERS:
        value = headers.get(header)
        if value is not None and not value.startswith(_UNFILLED):
            return _name(value.decode("latin-1"))
    return None


def _name(said: str) -> str:
    name = _ODD.sub("_", said.strip().lower()).removesuffix("_generation")[:_LONGEST_NAME]
    if name in _NOT_A_CHORE:
        return ""
    return UNNAMED if name in {"true", "yes", "1"} else name


def recognised(fields: Mapping[str, Any]) -> str:
    """The name of the chore that a chat request is by its shape (OpenAI's or Anthropic's fields), '' if it is none."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        return ""
    found = _in_metadata(fields.get("metadata")) or _LAST.find(_last_of_user(messages))
    if found or len(messages) > _MOST_MESSAGES:
        return found
    system, asked = _taken_apart(fields, messages)
    found = (_ONLY.find(asked) or _probe(fields, asked)) if asked else ""
    if found or fields.get("tools"):
        return found
    if asked and (found := _template(asked) or _small(fields, system)):
        return found
    return _chore_of_system(system, messages) if system else ""


def _in_metadata(metadata: object) -> str:
    """`metadata.task` in Open WebUI's words only: the field is everybody's, for anything (OpenAI's `metadata`)."""
    task = metadata.get("task") if isinstance(metadata, dict) else None
    if isinstance(task, str) and (task.endswith("_generation") or task == "function_calling"):
        return _name(task)
    return ""


def _texts(content: object) -> Sequence[str]:
    """The texts of a message's content: a string, or parts of which some are text."""
    if isinstance(content, str):
        return (content,)
    parts = content[:_MOST_PARTS] if isinstance(content, list) else ()
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return [text for text in texts if isinstance(text, str)]


def _last_of_user(messages: list[Any]) -> Sequence[str]:
    last = messages[-1]
    return _texts(last.get("content")) if isinstance(last, dict) and last.get("role") == "user" else ()


def _taken_apart(fields: Mapping[str, Any], messages: list[Any]) -> tuple[list[str], Sequence[str]]:
    """System texts, and the texts of the one user message: none if there are more, or answers beyond a first `{`."""
    system = [*_texts(fields["system"])] if "system" in fields else []
    asked: Sequence[str] | None = None
    alone = True
    for message in messages:
        if not isinstance(message, dict):
            continue
        role, texts = message.get("role"), _texts(message.get("content"))
        if role in _SYSTEM_ROLES:
            system += texts
        elif role == "user" and asked is None:
            asked = texts
        else:
            alone = alone and role == "assistant" and "".join(texts).strip() == "{"
    return system, (asked or ()) if alone else ()


def _introduced(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if text.startswith(_INTRODUCTIONS):
            yield from text[:_INTRODUCED].split("\n", _MOST_PARTS)
        else:
            yield text


def _template(asked: Sequence[str]) -> str:
    """Open WebUI's prompts; one that an administrator rewrote is known by the history that it is about."""
    if found := _TEMPLATES.find(asked):
        return found
    text = asked[0]
    rewritten = text.startswith(_TEMPLATE) and not text.startswith(_RAG) and _HISTORY in text
    return UNNAMED if rewritten else ""


def _probe(fields: Mapping[str, Any], asked: Sequence[str]) -> str:
    """Claude Code asks for one token to read the limits from the answer's head, or to count."""
    limit = fields.get("max_tokens", fields.get("max_completion_tokens"))
    return "quota" if limit == 1 and asked[0] in _PROBES else ""


def _small(fields: Mapping[str, Any], system: list[str]) -> str:
    """One question of Claude Code to its small model (a page's summary and the like); its agents have tools."""
    model = fields.get("model")
    if not isinstance(model, str) or "haiku" not in model.lower():
        return ""
    metadata = fields.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    from_it = isinstance(user, str) and ("_session_" in user or '"session_id"' in user)
    return "small_model" if from_it or any(text.startswith(_INTRODUCTIONS) for text in system) else ""


def _chore_of_system(system: list[str], messages: list[Any]) -> str:
    if found := _SYSTEM.find(_introduced(system)):
        return found
    # Open WebUI's choice of tools for models without native function calling.
    opening, order, query = _FUNCTIONS
    chooses = any(text.startswith(opening) and order in text for text in system)
    asks = any(text.startswith(query) for text in _last_of_user(messages))
    return "function_calling" if chooses and asks else ""
