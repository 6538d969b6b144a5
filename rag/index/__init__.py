"""The index: passages in Chroma, sentence vectors, BM25 and the passport that says how they were made.

On disk an index folder holds `current`, a file naming the generation in use, and `generations/NAME/`:

    passport.json      how this index was made
    chroma/            the passages and their vectors, in llama-index's layout
    papers.sqlite      the papers, their passages' and sentences' spans
    sentences.npy      one float16 unit vector per sentence, in the order of the papers
    tokens.int8        one int8 row of 128 per word piece of every passage: what verdicts are computed from
    projection.npy     the matrix that brought the word pieces' states to 128 dimensions
    lexical/           BM25 arrays

A new generation is built beside the one in use and takes its place by one atomic rename of `current`;
a failure before that leaves everything as it was.
"""

from rag.index.build import Report, build, indexed_paths
from rag.index.store import Index

__all__ = ["Index", "Report", "build", "indexed_paths"]
