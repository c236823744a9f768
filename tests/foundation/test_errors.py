from __future__ import annotations

import inspect

import pytest

from foundation import errors

STATUS = {
    "GearshiftError": 500,
    "InvalidInput": 400,
    "ImageError": 400,
    "AnnotationError": 400,
    "VideoError": 400,
    "ConfigurationError": 400,
    "PayloadTooLarge": 413,
    "UnsupportedMedia": 415,
    "ModelError": 422,
    "SchemaMismatch": 409,
    "AccessError": 401,
    "Forbidden": 403,
    "TooManyRequests": 429,
    "Unavailable": 503,
    "DeadlineExceeded": 504,
    "StorageError": 507,
    "PipelineError": 500,
    "StepFailed": 500,
    "GateRefused": 409,
}


def test_every_error_has_the_status_its_tree_says() -> None:
    found = {
        name: cls.http_status
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }
    assert found == STATUS
    for name, status in STATUS.items():
        row = next(
            line for line in (errors.__doc__ or "").splitlines() if f" {name} " in f" {line} "
        )
        assert f" {status}" in row


@pytest.mark.parametrize("name", STATUS)
def test_one_root_catches_them_all(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.GearshiftError)


def test_a_schema_mismatch_is_a_model_error_and_a_failed_step_a_pipeline_error() -> None:
    assert issubclass(errors.SchemaMismatch, errors.ModelError)
    assert issubclass(errors.StepFailed, errors.PipelineError)
