import pytest

from roundhouse.cli.exits import Failed, NotRunning, Refused, Usage, exit_code
from roundhouse.errors import ConfigError, LoadFailed


@pytest.mark.parametrize(
    ("error", "code"),
    [(Failed, 1), (LoadFailed, 1), (ConfigError, 2), (Usage, 2), (NotRunning, 3), (Refused, 4)],
)
def test_exit_codes_of_h(error, code):
    assert exit_code(error("x")) == code
