"""Stage 5 of 6: delivery. What is due goes to its tracers, each in a process of its own, whatever happens to it there.

In the writer: `dispatcher` (what is attempted when), `schedule` (when again), `traffic` (the conversation with one
process), `process` (a process as the writer sees it), `environment` (whose variables it gets). In the delivery process:
`worker` (its life), `attempt` (its work), `flush_data` (what a tracer is given), `outcome` and `http` (what came of
it), `output` and `redaction` (its log). Between them: `protocol` and `channel`.
"""
