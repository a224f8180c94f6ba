"""LangChain's OpenAI integration."""

import json

import openai
from common import EMBEDDING, MODEL, QUESTION, SCHEMA, URL, clean, refused, run
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

common = {"base_url": URL, "api_key": "any", "timeout": 120, "max_retries": 0, "max_tokens": 96, "temperature": 0}
model = ChatOpenAI(model=MODEL, **common)


@tool
def visit(city: str) -> str:
    """Visits a city."""
    return city


def stream():
    pieces = list(model.stream(QUESTION, stream_usage=True))
    assert any(piece.usage_metadata for piece in pieces), "no usage"
    return clean("".join(piece.text for piece in pieces))


def structured():
    schema = {"title": "City", "description": "One city.", **SCHEMA}
    return json.dumps(model.with_structured_output(schema, method="json_schema").invoke(QUESTION))


def tools():
    (call,) = model.bind_tools([visit], tool_choice="required").invoke("Visit Paris.").tool_calls
    assert call["name"] == "visit"
    return call["args"]


def embeddings():
    made = OpenAIEmbeddings(model=EMBEDDING, base_url=URL, api_key="any", check_embedding_ctx_length=False)
    return len(made.embed_documents(["one", "two"])[1])


run(
    {
        "stream": stream,
        "chat": lambda: clean(model.invoke(QUESTION).text),
        "structured output": structured,
        "tools": tools,
        "embeddings": embeddings,
        "unknown model": lambda: refused(
            lambda: ChatOpenAI(model="nobody", **common).invoke("hi"), openai.NotFoundError
        ),
    }
)
