"""Whether the cited papers support each sentence of an answer: claims, support score, guards, verdicts, judges."""
