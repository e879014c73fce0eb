"""The comparison of the paper by one command: train, measure, compare, write it up.

    python -m lficam_jax.study --config configs/study_cluttered_digits.py --workdir DIR

`plan` says which runs there are, `runs` trains and measures each, `summary` makes one record of all
of them, and `tables`, `plots` and `page` show that record and nothing else.
"""
