"""Scorers: functions from a logged question and its answer to the values of metrics.

Each module has `score(sample, papers)`, which returns name -> value; None, or no entry, means that the metric does not
apply. `papers` are those that the sample refers to, by id.
"""
