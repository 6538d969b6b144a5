"""The read side of an index: papers, passage vectors, sentence and token vectors, and BM25."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.encoders.protocols import Vectors
from rag.index import bm25, chroma
from rag.index.bm25 import BM25Index
from rag.index.chroma import ChromaReader, VectorStore
from rag.index.folder import PAPERS, corrupt
from rag.index.manifest import Manifest
from rag.index.papers_db import PapersDatabase, Record
from rag.index.tokens import TokenReader
from rag.index.upgrade import current_or_upgraded_version
from rag.settings import Settings
from rag.types import Paper

SENTENCES = "sentences.npy"


class Index:
    """An open version of an index. Read only; it may stay open while a new version is built.

    `folder` is the folder of the version. The constructor and every method raise IndexCorruptError if a file cannot
    be read.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._papers = PapersDatabase(folder / PAPERS)
        self.bm25 = BM25Index(folder / bm25.FOLDER, manifest.papers)
        self._tokens = TokenReader(folder)
        path = folder / SENTENCES
        try:
            self._sentences = np.load(path, mmap_mode="r")
        except (OSError, EOFError, ValueError) as error:
            raise corrupt(path, error) from error
        if self._sentences.shape != (manifest.sentences, manifest.dimension):
            raise corrupt(path, "its shape does not match the manifest")

    @classmethod
    def open(cls, settings: Settings) -> Index:
        """The index that the settings name; one of schema 5 is upgraded first.

        Raises IndexMissingError, IndexCorruptError, IndexMismatchError (it names what differs), or
        IndexLockedError if another process holds the write lock for too long.
        """
        version = current_or_upgraded_version(settings.index_path)
        manifest = Manifest.read(version)
        manifest.check(settings)
        return cls(version, manifest)

    @cached_property
    def vectors(self) -> VectorStore:
        """The vectors of the passages."""
        return ChromaReader(self.folder / chroma.FOLDER, self.manifest.dimension)

    @property
    def projection(self) -> Vectors:
        """The matrix from the encoder's space to that of `token_embeddings`, (dimension, p)."""
        return self._tokens.projection

    def __len__(self) -> int:
        return self.manifest.papers

    def papers(self) -> list[Paper]:
        """All papers, in the order of the corpus."""
        return [record.paper for record in self.records()]

    def records(self, rows: Sequence[int] | None = None) -> list[Record]:
        """Papers as indexed, by row number; all of them if `rows` is None."""
        return self._papers.records(rows)

    def find(self, paper_ids: Sequence[str]) -> list[Record]:
        """Papers as indexed, by id; unknown ids are left out."""
        return self._papers.find(paper_ids)

    def sentence_vectors(self, record: Record) -> Vectors:
        """Unit vectors of the sentences of `record`, shape (len(record.sentences), dimension), float32."""
        first = record.first_sentence
        return np.asarray(self._sentences[first : first + len(record.sentences)], dtype=np.float32)

    def token_embeddings(self, record: Record) -> Vectors:
        """Embeddings of a paper's tokens, title first, projected to p dimensions: unit rows (record.tokens, p).

        `project` brings other embeddings into the same space.
        """
        return self._tokens.embeddings(record.first_token, record.tokens)

    def token_sentences(self, record: Record) -> NDArray[np.int64]:
        """The sentence of the abstract of each row of `token_embeddings`, -1 for the title: (record.tokens,)."""
        return self._tokens.sentences(record.first_token, record.tokens)

    def quantised_tokens(self, record: Record) -> NDArray[np.int8]:
        """`token_embeddings` as they are stored: int8 rows, each scaled to its largest value."""
        return self._tokens.quantised(record.first_token, record.tokens)

    def project(self, vectors: Vectors) -> Vectors:
        """`vectors` (n, dimension) of the encoder in the space of `token_embeddings`: unit rows (n, p)."""
        return self._tokens.project(vectors)
