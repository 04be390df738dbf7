"""The pages under /sentiment: nights, drift checks, drift reports, models; and under /sentiment/api the REST API. They only read.

`app` has the routes, `api` lets the API in, `login` keeps anonymous requests out, `connections` finds PostgreSQL and S3, `views` and `models`
say things in words and numbers, `charts` lays out what is drawn; `templates/` is what a browser gets. No SQL (that is
`sentiment_core.store`), no scripts, nothing loaded from elsewhere.
"""
