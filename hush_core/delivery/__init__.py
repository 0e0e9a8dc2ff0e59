"""Stage 5 of 6: delivery. To come: a process per tracer takes what is due from the ledger and hands it to `flush`.

The ledger is in the store already (`hush_core.store.ledger`): `claim`, `ack`, `release`.
"""
