"""litellm, as a library."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch a list of prices
import litellm
from common import EMBEDDING, MODEL, PARAMETERS, QUESTION, SCHEMA, URL, clean, refused, run

litellm.telemetry = False
common = {"api_base": URL, "api_key": "any", "timeout": 120, "max_retries": 0}
chat = {**common, "model": f"openai/{MODEL}", "max_tokens": 96, "temperature": 0}
asked = [{"role": "user", "content": QUESTION}]


def stream():
    chunks = list(litellm.completion(**chat, messages=asked, stream=True, stream_options={"include_usage": True}))
    assert any(getattr(chunk, "usage", None) for chunk in chunks), "no usage"
    return clean("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))


def structured():
    schema = {"name": "city", "schema": SCHEMA, "strict": True}
    found = litellm.completion(**chat, messages=asked, response_format={"type": "json_schema", "json_schema": schema})
    text = found.choices[0].message.content
    assert text.startswith("{"), text
    return text


def tools():
    visit = {"type": "function", "function": {"name": "visit", "description": "x", "parameters": PARAMETERS}}
    found = litellm.completion(**chat, messages=asked, tools=[visit], tool_choice="required")
    return found.choices[0].message.tool_calls[0].function.arguments


run(
    {
        "stream": stream,
        "chat": lambda: clean(litellm.completion(**chat, messages=asked).choices[0].message.content),
        "structured output": structured,
        "tools": tools,
        "embeddings": lambda: len(
            litellm.embedding(model=f"openai/{EMBEDDING}", input=["one"], encoding_format="float", **common).data[0][
                "embedding"
            ]
        ),
        "unknown model": lambda: refused(
            lambda: litellm.completion(**{**chat, "model": "openai/nobody"}, messages=asked), litellm.NotFoundError
        ),
    }
)
