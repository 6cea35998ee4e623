"""A process that reads a SQLite file for another one (`store.arrays`).

python -m artwork_bandit.store.arrow_reader FILE ROWS < query > stream of Arrow batches
"""

from __future__ import annotations

import sys
from contextlib import closing


def main() -> None:
    """Write what the query on standard input finds, so many rows a batch."""
    import pyarrow as pa
    from adbc_driver_sqlite import StatementOptions, dbapi

    path, rows = sys.argv[1:]
    with closing(dbapi.connect(path, autocommit=True)) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_ROWS.value: rows})
        cursor.execute(sys.stdin.read())
        batches = cursor.fetch_record_batch()
        with pa.ipc.new_stream(sys.stdout.buffer, batches.schema) as out:
            for batch in batches:
                out.write_batch(batch)


if __name__ == "__main__":
    main()
