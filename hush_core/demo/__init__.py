"""The workflow of `hush demo`: retrieval over real text, with no network and no key.

`workflow` is the part to read: it shows everything that a traced workflow can do. `documents` finds the text, `bm25`
ranks it.
"""
