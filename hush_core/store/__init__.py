"""Stage 4 of 6: the store. `put` records, `claim` deliveries, `ack` or `release` them.

`trace_store` is what the app holds; it loads SQLite only to read. `sqlite` is the one implementation of the stage,
used by the writer process alone; `rows` makes rows of records; `queries` is every read.
"""
