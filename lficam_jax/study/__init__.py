"""The comparison of the paper by one command: train, measure, compare, write it up.

    lficam study --config study_cluttered_digits --workdir DIR

`plan` says which runs there are, `runs` trains and measures each, `summary` makes one record of all
of them, and `comparisons` corrects its differences for their number. `claims` (what the paper says,
and what was found), `tables` and `heads` (whose numbers `cells` writes), `plots` and `page` show
that record and nothing else; `formats` writes a table as Markdown, CSV, LaTeX or HTML. `headline`
lays the records of several studies side by side, and `document` fills a document with their tables.
"""
