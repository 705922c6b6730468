"""Changes to an engine's libraries are taken back, and the warnings of their import are not shown."""

import os
import warnings
from contextlib import suppress

import pytest

from ftm_jobs.quantize.awq.engines.offline import offline_libraries, without_import_warnings


def test_the_environment_is_put_back_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with suppress(InterruptedError), offline_libraries():
        assert (os.environ["HF_HUB_OFFLINE"], os.environ["TQDM_DISABLE"]) == ("1", "1")
        raise InterruptedError
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert "TQDM_DISABLE" not in os.environ


def test_warnings_of_an_import_are_dropped_and_its_filters_too() -> None:
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as shown:
        with without_import_warnings():
            warnings.simplefilter("default", DeprecationWarning)
            warnings.warn("no longer maintained", DeprecationWarning, stacklevel=1)
        assert not shown
    assert list(warnings.filters) == before
