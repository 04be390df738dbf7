#!/bin/sh
# Logins and databases; the image of PostgreSQL runs this once, when its volume is still empty.
# The same as the embedded stack makes: three databases, each open only to its owner and to those it lets in.
set -eu

psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
\getenv owner_password SENTIMENT_OWNER_PASSWORD
\getenv reader_password SENTIMENT_READER_PASSWORD

create role airflow login password :'airflow_password';
create role mlflow login password :'mlflow_password';
create role sentiment_writer nologin;
create role sentiment_reader login password :'reader_password';
create role sentiment_owner login password :'owner_password' in role sentiment_writer;

create database airflow owner airflow;
create database mlflow owner mlflow;
create database reviews owner sentiment_owner;
revoke all on database airflow, mlflow, reviews from public;
grant connect on database reviews to sentiment_writer, sentiment_reader;
SQL
