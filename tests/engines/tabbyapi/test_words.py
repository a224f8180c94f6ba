import pytest

from roundhouse.engines.tabbyapi import replies, words
from roundhouse.engines.tabbyapi.stream import LoadEvents
from tests.engines.tabbyapi.samples import capture, tabby_model


def error_of(name: str) -> str:
    events = LoadEvents()
    events.feed(capture(name)[1])
    return words.load_error(events.error)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "78-load-oom.txt",
            "not enough GPU memory (Insufficient VRAM in split for model and cache): give it a smaller",
        ),
        (
            "18-load-exl2.txt",
            "this TabbyAPI can't load EXL2: versions from 14 July 2026 on load no EXL2: take a checkout of",
        ),
        ("19-load-unknownarch.txt", "this TabbyAPI does not know the architecture 'NoSuchForCausalLM'"),
        ("88-load-draft-missing.txt", "the file /opt/models/nope/config.json does not exist"),
        ("17-load-emptydir.txt", "TabbyAPI says: Failed to load config.json from /opt/models/Empty-dir"),
        ("90-load-badcache.txt", "TabbyAPI says: max_num_tokens must be a multiple of 256"),
    ],
)
def test_d10_errors_of_the_real_server(name, said):
    assert error_of(name).startswith(said)
    assert not error_of(name).endswith(".")


def test_refusals_name_the_remedy():
    status, body = capture("15-load-missing.txt")
    told = words.refused(tabby_model(name="gone"), status, replies.text_of(body))
    assert told == "TabbyAPI finds no folder gone: `model_dir` in /srv/tabbyAPI/config.yml has to be /srv/models"
    status, body = capture("11-load-apikey.txt")
    assert "admin key" in words.refused(tabby_model(), status, replies.text_of(body))
    status, body = capture("22-load-missing-body-type.txt")
    assert "max_seq_len: Input should be a valid integer" in words.refused(tabby_model(), status, replies.text_of(body))


def test_a_key_that_may_not_load():
    assert "admin_key of /srv/tabbyAPI/api_tokens.yml" in words.no_admin(tabby_model(), "api")
    assert "no known kind" in words.no_admin(tabby_model(), None)


def test_already_loaded_is_no_error():
    assert words.is_loaded_already('Model "Fake-8B-exl3-4.0bpw" is already loaded! Aborting.')
