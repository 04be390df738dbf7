"""The REST API: what the champion makes of texts, over HTTP. Alone by `sentiment serve`, and in Airflow under /sentiment/api.

`app` has the routes, `bodies` reads what is asked, `answers` says what comes back and how errors do, `edge` is around all
of them, `metrics` counts, `docs` is the page for a person, `headers` what every answer carries (the pages of the plugin
too), `server` listens.
The model itself is `stages.serving`'s. It only reads: no database, no bucket, no logins of its own.
"""
