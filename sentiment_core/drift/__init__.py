"""Drift: what is kept of a night while it is scored, what it is compared with, and what the comparison means.

`sketch` samples rows as they are scored; `reference` is what a model version compares them with. `measure` puts numbers
to a night: `places` on the axes of the reference, `baseline` what quiet nights have taught, `surprise` how unusual one night
is, `evidence` how unusual several are, `accuracy` what to expect without labels, `oddities` what nobody would have written.
`checks` names the tests, `verdict` makes one word and a few sentences of those that failed. `history` has the values in between, `loop`
and `rehearsal` what follows from verdicts, `page` and `charts` how they are shown. All of it is pure: no server, no file,
and no Evidently, which `reports` alone knows.
"""
