from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto import mock_aws

from tests.contract.http.surface import Surface
from tollgate import dynamo


@pytest.fixture(scope="module")
def surface() -> Iterator[Surface]:
    """Both functions over empty tables, with a catalogue and keys."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        dynamo.session.cache_clear()
        dynamo.client.cache_clear()
        yield Surface()
    dynamo.session.cache_clear()
    dynamo.client.cache_clear()
