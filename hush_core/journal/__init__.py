"""Stage 2 of 6: the journal. `append` a record; whatever happens to the process then, the writer can `replay` it.

One journal per process, in segment files beside the database. `format` says what is in a file, `appender` writes it in
the app's process, `reader` reads it in the writer's.
"""
