"""The index: passages in Chroma, sentence and token vectors, BM25, and the manifest that says how they were made.

An index folder holds `lock` (one writer at a time), `current` (the name of the version in use) and `versions/NAME/`:

    manifest.json          how this version was made (schema 6)
    papers.sqlite          the papers, and the spans of their passages and sentences
    chroma/                the passages and their vectors, in llama-index's layout
    sentences.npy          one float16 unit vector per sentence, in the order of the papers
    tokens.int8            one row of 128 int8 values per token of every passage; verification reads them
    tokens.sentence.int16  the sentence of each of these rows, -1 for a title
    projection.npy         the matrix that projected the token embeddings to 128 dimensions
    bm25/                  BM25 arrays, and the words of the corpus

A new version is written beside the one in use and replaces it by one atomic rename of `current`. A failure before
that leaves everything as it was. An index of schema 5 is upgraded the same way when it is opened or built.
"""
