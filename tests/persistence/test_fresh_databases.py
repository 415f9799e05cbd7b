"""The tests' own databases: one test's leavings must not fail another."""

import psycopg
import pytest


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE bot_steps ADD CONSTRAINT planted CHECK (bot_id <> 7)",
        "CREATE INDEX planted ON orders (bot_id)",
        (
            "CREATE TRIGGER planted BEFORE INSERT ON orders FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ),
        "ALTER TABLE orders ALTER COLUMN side DROP NOT NULL",
        "ALTER TABLE trading_bots DISABLE TRIGGER USER",
    ],
)
def test_a_database_whose_schema_was_changed_is_not_used_again(request, postgres_url, change):
    (slate,) = request.getfixturevalue("postgres_slates")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(change)
    assert not slate.wipe()


def test_a_database_that_only_got_rows_is_wiped_and_used_again(request, postgres_url):
    (slate,) = request.getfixturevalue("postgres_slates")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("INSERT INTO configurations VALUES ('x', '{}')")
    assert slate.wipe()
    with psycopg.connect(slate.url) as connection:
        assert connection.execute("SELECT count(*) FROM configurations").fetchone() == (0,)
