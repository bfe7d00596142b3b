"""The index of findings' words, on PostgreSQL."""

from sqlalchemy import text

from coordinator.db.database import Database
from tests.support.databases import PostgresServer

MOST_BUFFERS = 40
"""Pages that a search for a rare word may read; it reads 82 where 4 MiB of words wait for the index, as by default."""


def test_a_search_reads_few_of_the_findings_that_came_lately(postgres: PostgresServer) -> None:
    words = "(select array_to_tsvector(array_agg('w' || n % 97 || '_' || m)) from generate_series(1, 60) as m)"
    search = (
        "explain (analyze, buffers, format json) select from search.texts where document @@ cast('rare' as tsquery)"
    )
    database = Database(address := postgres.create_migrated())
    with database.write() as session:
        session.execute(text(f"insert into search.texts select n, 1, {words} from generate_series(1, 1000) as n"))
        plan = session.execute(text(search)).scalar_one()[0]["Plan"]
    database.close()
    postgres.give_back(address)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < MOST_BUFFERS
