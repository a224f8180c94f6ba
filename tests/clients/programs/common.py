"""What the Python programs share: each feature is tried, and told as a line of JSON."""

import json
import sys
import traceback

URL, MODEL, EMBEDDING = sys.argv[1:4]
ONLY = sys.argv[4:]
QUESTION = "What is the capital of France? Answer in one word."
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
PARAMETERS = SCHEMA


def run(features):
    """Tries them in their order."""
    for name, feature in features.items():
        if ONLY and name not in ONLY:
            continue
        try:
            said = feature()
            print(json.dumps({"feature": name, "ok": True, "said": str(said)[:200]}), flush=True)
        except Exception as error:
            said = "".join(traceback.format_exception(error))[-1500:]
            print(json.dumps({"feature": name, "ok": False, "said": said}), flush=True)


def clean(text):
    """An answer without anything of Roundhouse's own in it."""
    assert text.strip(), "nothing was said"
    assert "⏳" not in text, text
    assert "✓" not in text, text
    assert "[Performance" not in text, text
    return text


def refused(call, *kinds):
    """The error that a call ends with."""
    found = None
    try:
        call()
    except kinds as error:
        found = error
    assert found is not None, "it was answered"
    assert "nobody" in str(found), found
    return type(found).__name__
