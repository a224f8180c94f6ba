import pytest

from roundhouse.config import addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8002", "127.0.0.1", 8002),
        ("[::1]:0", "::1", 0),
        ("localhost:80", "localhost", 80),
        (":8002", "", 8002),
    ],
)
def test_splits(text, host, port):
    assert addresses.split(text) == (host, port)


@pytest.mark.parametrize("text", ["", "8002", "::1:8002", "a:b", "a:70000", "a:", "a:-1", "a:٣"])
def test_what_is_no_address_is_refused_with_a_remedy(text):
    with pytest.raises(ValueError, match="write host:port"):
        addresses.split(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_f1_loopback(host):
    assert addresses.is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org"])
def test_f1_not_loopback(host):
    assert not addresses.is_loopback(host)
