"""Drift: bounded samples of what was scored, what is compared, and what the comparison means.

`sketch` sums up an object's rows while they are scored, `columns` says how each column is compared and how much it
moves by chance, `accuracy` estimates accuracy without labels, `verdict` puts the findings into one word and one
sentence. All of it is pure: no server, no file, and no Evidently, which `reports` alone knows.
"""
