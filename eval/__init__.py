"""The evaluation harness: questions, metrics, runs, reports, comparisons and gates.

It calls `Assistant` as every other front end does. Import names from the modules that define them: the bare name `eval`
would hide the builtin.
"""
