"""What the spans of OpenTelemetry say, as fields of hush's nodes: pure, and the reverse of `hush_otel.mapping`.

`fields.py` goes through a span; `dialect.py` has the names; `content.py` and `conversation.py` find inputs and outputs.
"""
