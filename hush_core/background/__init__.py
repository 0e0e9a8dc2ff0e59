"""Stage 3 of 6: the writer, one detached process per database, and the app's handle on it.

In the app, `supervisor` rings the writer, starts it when there is none, and waits for it when asked to. The process is
`writer`: it `drain`s every journal beside the database (`sources`, each a `source`) into the store, and listens on a
socket (`doorbell`) for rings and for what commands ask (`answers`).
"""
