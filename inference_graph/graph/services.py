"""From the name of an InferenceService to the address its steps are sent to."""

from __future__ import annotations

from collections.abc import Mapping

from foundation.addresses import split_address
from foundation.errors import ConfigurationError


class ServiceUrls:
    """A fixed mapping, callable as :class:`~inference_graph.graph.execute.GraphExecutor` asks.

    On a cluster KServe's controller writes the predict address of the service into the step. So
    an address without a path gets V1's, with the service's name as the model's.
    """

    def __init__(self, services: Mapping[str, str]) -> None:
        """Check the addresses.

        Args:
            services: by name, ``http://host:port`` or with the path to POST to.

        Raises:
            ConfigurationError: no http(s) address.
        """
        self._urls: dict[str, str] = {}
        for name, url in services.items():
            parts = split_address(url)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise ConfigurationError(
                    f"service {name!r}: {url!r} is no address such as http://127.0.0.1:8081"
                )
            bare = parts.path in ("", "/") and not parts.query
            self._urls[name] = f"{url.rstrip('/')}/v1/models/{name}:predict" if bare else url

    def __call__(self, name: str) -> str:
        """The address of a service.

        Raises:
            ConfigurationError: no service of that name.
        """
        if name not in self._urls:
            known = ", ".join(sorted(self._urls)) or "none"
            raise ConfigurationError(f"no address for service {name!r}; known are: {known}")
        return self._urls[name]
