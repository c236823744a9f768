"""Where a rung's detector service is: an address as gRPC names it, and the model's name there.

https://github.com/grpc/grpc/blob/master/doc/naming.md lists the forms. A port is always part of
the address: gRPC would take 443 in its place, where no detector listens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from foundation.errors import ConfigurationError

_PLACE = r"(?:\[[0-9A-Fa-f:.]+(?:%[^\]\s]+)?\]|[A-Za-z0-9._-]+):[0-9]{1,5}"
_FORMS = {
    "dns": rf"dns:(?://[^/\s]*/)?{_PLACE}",
    "ipv4": rf"ipv4:{_PLACE}(?:,{_PLACE})*",
    "ipv6": rf"ipv6:{_PLACE}(?:,{_PLACE})*",
}
_MODEL = r"(?:/(?P<model>[^/\s]+))?"
_SOCKET = re.compile(r"unix(?:-abstract)?:\S+")
"""Its path has slashes of its own, so no model can follow it."""
_PORT = re.compile(r":([0-9]+)(?=,|$)")


@dataclass(frozen=True)
class DetectorAddress:
    """A detector service.

    Attributes:
        address: as gRPC takes it.
        model: name of the model there; None where it is the rung's.
    """

    address: str
    model: str | None


def read_target(rung: str, text: str) -> DetectorAddress:
    """The service that a target names.

    Args:
        rung: whose, for the message.
        text: ``HOST:PORT``; ``dns:///HOST:PORT`` for every address of a name, each in turn;
            ``ipv4:`` or ``ipv6:`` and addresses; or ``unix:PATH``. All but the last may end with
            ``/MODEL``.

    Raises:
        ConfigurationError: it is none of these.
    """
    if _SOCKET.fullmatch(text):
        return DetectorAddress(text, None)
    form = _FORMS.get(text.partition(":")[0], _PLACE)
    found = re.fullmatch(f"(?P<address>{form}){_MODEL}", text)
    if found and all(0 < int(port) < 65536 for port in _PORT.findall(found["address"])):
        return DetectorAddress(found["address"], found["model"])
    raise ConfigurationError(
        f"the target of {rung} is {text!r}; give HOST:PORT or dns:///HOST:PORT of its service, "
        "or a rung's .onnx or .json file"
    )
