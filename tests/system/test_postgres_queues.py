"""The queues of results and of look-ups on PostgreSQL: what is tried on SQLite, here too."""

import pytest
from tests.records import test_look_ups as look_ups_on_sqlite
from tests.records import test_results_out as results_on_sqlite
from tests.records.test_look_ups import look_ups, store
from tests.records.test_results_out import clock, outbox
from tests.system.test_postgres import database, same_tests, server, url

__all__ = ["clock", "database", "look_ups", "outbox", "server", "store", "url"]

pytestmark = pytest.mark.system

globals().update(same_tests(results_on_sqlite, without=()))
globals().update(same_tests(look_ups_on_sqlite, without=()))
