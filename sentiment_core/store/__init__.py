"""All of PostgreSQL: migrations, the ledger of object versions, staging, publishing, runs, checks, labels, events.

The only package that imports SQLAlchemy and psycopg2. SQL stands in named statements under `sql/`; callers see
frozen values, Arrow tables and the two families of errors, never a driver's exception.
"""
