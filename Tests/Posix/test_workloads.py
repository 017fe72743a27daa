"""A short choice of what `make soak` runs for long."""

import pytest

from .workloads import two_sqlite_writers, verify_with_fio

pytestmark = pytest.mark.content


def test_fio_verifies_what_eight_jobs_wrote_at_once(fs):
    verify_with_fio(fs.dir, "2m")


def test_sqlite_with_a_log_and_two_writers_loses_nothing(fs):
    two_sqlite_writers(fs / "base.sqlite", "wal", 40)
