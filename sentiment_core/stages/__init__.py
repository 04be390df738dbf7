"""The composition root: what a night, a retrain and a label delivery consist of, step by step.

Every step is one function that takes `Services` and small values and returns a small JSON value, so that a DAG
task and a command call the same code. Decisions of substance live in the modules below (`store`, `drift`,
`model`, ...); nothing here knows Airflow.
"""
