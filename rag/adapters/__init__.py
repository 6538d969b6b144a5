"""The parts of rag behind the interfaces of other libraries."""
