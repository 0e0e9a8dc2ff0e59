"""Stage 1 of 6: capture. `record` what a workflow does, as bytes that share nothing with the workflow's objects.

`node` wraps functions, `state` is the trace they record into, `place` is where in its tree the running code is.
`record` makes the bytes; `snapshot` makes them of values that do not encode as they are, by a `walk` within a `budget`;
`mask` makes them without what the settings say must not be kept.
Nothing here raises into the workflow, and nothing here waits.
"""
