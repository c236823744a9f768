from __future__ import annotations

import inspect
import re
from pathlib import Path

import grpc
import pytest

from foundation import errors
from foundation.errors import error_class

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("components", "dashboards", "inference_graph", "pipelines", "transformers")
STATUS = {
    "GearshiftError": (500, "INTERNAL"),
    "InvalidInput": (400, "INVALID_ARGUMENT"),
    "ImageError": (400, "INVALID_ARGUMENT"),
    "AnnotationError": (400, "INVALID_ARGUMENT"),
    "VideoError": (400, "INVALID_ARGUMENT"),
    "ConfigurationError": (400, "INVALID_ARGUMENT"),
    "NotFound": (404, "NOT_FOUND"),
    "RequestTimeout": (408, "INVALID_ARGUMENT"),
    "Conflict": (409, "FAILED_PRECONDITION"),
    "PayloadTooLarge": (413, "OUT_OF_RANGE"),
    "UnsupportedMedia": (415, "INVALID_ARGUMENT"),
    "ModelError": (422, "FAILED_PRECONDITION"),
    "SchemaMismatch": (409, "FAILED_PRECONDITION"),
    "AccessError": (401, "UNAUTHENTICATED"),
    "Forbidden": (403, "PERMISSION_DENIED"),
    "TooManyRequests": (429, "RESOURCE_EXHAUSTED"),
    "Unavailable": (503, "UNAVAILABLE"),
    "ConnectionLost": (503, "UNAVAILABLE"),
    "DeadlineExceeded": (504, "DEADLINE_EXCEEDED"),
    "StorageError": (507, "RESOURCE_EXHAUSTED"),
    "WebhookRefused": (500, "INTERNAL"),
    "PipelineError": (500, "INTERNAL"),
    "StepFailed": (500, "INTERNAL"),
    "GateRefused": (409, "FAILED_PRECONDITION"),
    "SealBroken": (409, "FAILED_PRECONDITION"),
}


def test_every_error_has_the_statuses_its_tree_states() -> None:
    found = {
        name: (cls.http_status, cls.grpc_status)
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }
    assert found == STATUS
    tree = (errors.__doc__ or "").splitlines()
    for name, (status, code) in STATUS.items():
        row = next(line.split() for line in tree if name in line.split())
        at = row.index(name)
        assert row[at + 1 : at + 3] == [str(status), code]
        assert grpc.StatusCode[code]


def test_no_room_has_errors_of_its_own() -> None:
    own = re.compile(rf"^ *class (\w+)\((?:{'|'.join(STATUS)})\b", re.MULTILINE)
    elsewhere = [
        f"{path.relative_to(ROOT)}: {name}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if path.name != "errors.py"
        for name in own.findall(path.read_text())
    ]
    assert elsewhere == []


def test_a_status_leads_back_to_its_error() -> None:
    for status in (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503, 504, 507):
        assert error_class(status).http_status == status
    assert error_class(418) is errors.InvalidInput
    assert error_class(500) is error_class(502) is errors.GearshiftError
    assert error_class(502, server_error=errors.Unavailable) is errors.Unavailable
    assert error_class(409, {409: errors.GateRefused}) is errors.GateRefused


@pytest.mark.parametrize("name", STATUS)
def test_one_root_catches_them_all(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.GearshiftError)


def test_a_schema_mismatch_is_a_model_error_and_a_failed_step_a_pipeline_error() -> None:
    assert issubclass(errors.SchemaMismatch, errors.ModelError)
    assert issubclass(errors.StepFailed, errors.PipelineError)
