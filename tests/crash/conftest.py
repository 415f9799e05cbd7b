"""As many fresh databases as a test wants, of each kind."""

import shutil
from contextlib import ExitStack
from itertools import count

import pytest
from conftest import fresh_postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request, tmp_path):
    """Give a function that makes a migrated database and returns its URL."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            template = request.getfixturevalue("sqlite_template")
            numbers = count(1)

            def new():
                file = tmp_path / f"world{next(numbers)}.db"
                shutil.copyfile(template, file)
                return f"sqlite:///{file}"
        else:
            server = request.getfixturevalue("postgres_server")
            template = request.getfixturevalue("postgres_template")

            def new():
                return stack.enter_context(fresh_postgres(server, template))

        yield new
