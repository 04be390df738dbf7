"""The queries that the README shows run, as the analyst."""

import re

import pytest
from sqlalchemy import create_engine, text

from sentiment_core.settings import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
QUERIES = [query for block in re.findall(r"```sql\n(.*?)```", README, re.DOTALL) for query in block.split(";") if query.strip()]


def test_the_readme_has_three_queries():
    assert len(QUERIES) == 3


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.strip().splitlines()[0])
def test_a_query_of_the_readme_runs(reader_url, query):
    engine = create_engine(reader_url)
    with engine.connect() as connection:
        assert connection.execute(text(query)).all() == []
    engine.dispose()
