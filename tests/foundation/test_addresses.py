from __future__ import annotations

import pytest

from foundation.addresses import split_address
from foundation.errors import ConfigurationError


@pytest.mark.parametrize(
    "url", ["http://[", "http://a]b", "http://x:99999", "http://x:y", "//[", "http://[a b]:80"]
)
def test_what_is_no_address_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read") as refused:
        split_address(url)
    assert "\n" not in str(refused.value)


def test_credentials_are_not_shown() -> None:
    with pytest.raises(ConfigurationError) as refused:
        split_address("http://user:secret@x:99999/path")
    assert "secret" not in str(refused.value)


def test_an_address_is_split() -> None:
    parts = split_address("https://[::1]:8600/a?b")
    assert (parts.hostname, parts.port, parts.path, parts.query) == ("::1", 8600, "/a", "b")
