"""Evaluation: every measure of the papers, on generated clips or on any videos.

`validation` is the short measure that the training loop takes; `evaluate` runs all of `measures`
over a data set or over folders of videos, and `report` makes tables of what it finds, beside the
rows that the papers have `published`.
"""
