"""Every table of a database as plain values, without the columns that only say when something was done."""

from persistence.database import open_database
from persistence.schema.tables import OPERATIONAL_TABLES, TIMING_COLUMNS, metadata

Snapshot = dict[str, list[tuple]]


def snapshot(url: str) -> Snapshot:
    database = open_database(url)
    try:
        with database.read() as connection:
            return {
                table.name: sorted(
                    (tuple(row) for row in connection.execute(table.select().with_only_columns(*columns))),
                    key=repr,
                )
                for table in metadata.sorted_tables
                if table.name not in OPERATIONAL_TABLES and (columns := _lasting(table))
            }
    finally:
        database.close()


def _lasting(table):
    return [column for column in table.columns if column.name not in TIMING_COLUMNS.get(table.name, ())]


def differences(expected: Snapshot, found: Snapshot) -> list[str]:
    """Name each table that differs, with the first row that does."""
    report = []
    for table, rows in expected.items():
        other = found[table]
        if rows != other:
            pairs = zip(rows, other, strict=False)
            first = next(((left, right) for left, right in pairs if left != right), "one has more rows")
            report.append(
                f"{table}: {len(rows)} rows expected, {len(other)} found; first difference: {first}"
            )
    return report
