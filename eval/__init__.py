"""The eval harness: questions, metrics, runs, reports, comparisons and gates.

It calls `Assistant` as every other face does and judges what comes back. Import from its modules
(`from eval.metrics import ...`): the bare name `eval` would hide the builtin.
"""
