"""From an object in S3 to validated batches, with the rejected rows and their reasons beside them.

`layout` knows the keys of the bucket, `bucket` talks to S3, `formats` turns bytes into raw rows, `validate` and
`labels` judge them, `read` puts the two together, `fetch` goes back for the texts of single rows. For the demo,
`sample` writes synthetic reviews, `corpus` reads somebody's own, `nights` plans and `deliveries` packs them. Nothing here knows of models or of PostgreSQL.
"""
