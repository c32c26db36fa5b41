"""What a test session does where the lab cannot run."""

from __future__ import annotations

import pytest

from . import fixtures


def test_a_missing_prerequisite_skips_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without root the reason is in the report, and nothing fails."""
    monkeypatch.delenv("EDGELAB_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="the lab cannot run here: not root"):
        fixtures.require(["not root"])


def test_a_missing_prerequisite_fails_where_the_lab_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With EDGELAB_REQUIRE=1 a lab that cannot run is a failure."""
    monkeypatch.setenv("EDGELAB_REQUIRE", "1")
    with pytest.raises(pytest.fail.Exception, match="no mmdebstrap"):
        fixtures.require(["no mmdebstrap (Debian package mmdebstrap)"])


def test_nothing_missing_is_no_outcome() -> None:
    """A complete machine goes on."""
    fixtures.require([])
