"""junit.xml: a suite of gates, and one for each run, whose cases are its questions."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from eval.log import EvalLog, EvalRun, EvalSample

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(log: EvalLog) -> str:
    """JUnit XML. A hard failure or an error fails a question.

    A wrong answer is only in the output of its case: the gates decide how many wrong answers are too many.
    """
    root = ElementTree.Element("testsuites", name="rag eval")
    gates = ElementTree.SubElement(root, "testsuite", name="gates", tests=str(len(log.gates)))
    gates.set("failures", str(sum(1 for _ in log.breaches())))
    for gate in log.gates:
        case = _case(gates, f"gates.{gate.run}", gate.name, 0.0)
        if not gate.passed:
            ElementTree.SubElement(case, "failure", message=_xml(gate.detail))
    for run in log.runs:
        _add_run(root, run)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)


def _add_run(root: ElementTree.Element, run: EvalRun) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=_xml(run.name), tests=str(len(run.samples)))
    suite.set("failures", str(sum(bool(sample.failures) for sample in run.samples)))
    suite.set("errors", str(sum(bool(sample.error) for sample in run.samples)))
    for sample in run.samples:
        _add_sample(suite, sample)


def _add_sample(suite: ElementTree.Element, sample: EvalSample) -> None:
    answer = sample.answer
    case = _case(suite, sample.type, sample.id, (answer.latency_ms or 0.0) / 1000 if answer else 0.0)
    if sample.error:
        ElementTree.SubElement(case, "error", message=_xml(sample.error))
    elif sample.failures:
        ElementTree.SubElement(case, "failure", message=_xml("; ".join(sample.failures)))
    elif answer and not sample.good:
        ElementTree.SubElement(case, "system-out").text = _xml(f"wrong: {sample.question}\n{answer.text}")


def _case(suite: ElementTree.Element, classname: str, name: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_xml(classname), name=_xml(name), time=f"{seconds:.3f}")


def _xml(text: str) -> str:
    """`text` without the characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("", text)
