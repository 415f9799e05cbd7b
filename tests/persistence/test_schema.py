from persistence.schema import check, upgrade


def test_upgrade_twice(empty_url):
    upgrade(empty_url)
    upgrade(empty_url)
    assert check(empty_url) == ()


def test_db(database):
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").first()[0] == 1
