"""Stage 4 of 6: the store. `put` records, `claim` deliveries, `ack` or `release` them.

`SqliteStore` and its `ledger` are the stage as the writer process, which alone uses them, knows it: every call is one
transaction that does all it says, or raises and has done nothing. It is the one implementation so far; a fleet can put
another in its place. `trace_store` is what the app holds; it loads SQLite only to read. `rows` makes rows of records;
`queries` is every read.
"""
